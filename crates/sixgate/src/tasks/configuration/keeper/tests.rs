//! What is in force after each step, with the disk as it would be found by the next daemon.
use std::fs;

use super::*;

fn text(name: &str) -> String {
    format!("hostname = \"{name}\"\n[wan]\ninterface = \"eth0\"\n")
}

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn with(content: &str) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(disk.file(), content).unwrap();
        disk
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("sixgate.toml")
    }

    fn start(&self) -> Keeper {
        Keeper::start(self.file())
    }

    /// As after a power cut: another boot finds what is on the disk.
    fn reboot(&self) -> Keeper {
        let trial = self.folder.path().join("sixgate.history/trial.json");
        if let Ok(held) = fs::read_to_string(&trial) {
            fs::write(&trial, held.replace(&sixgate_linux::clock::boot_id(), "another")).unwrap();
        }
        self.start()
    }
}

fn name(keeper: &Keeper) -> String {
    keeper.configured().config.map_or_else(|| "closed".to_owned(), |config| config.hostname.clone())
}

fn codes(keeper: &Keeper) -> Vec<String> {
    keeper.configured().findings.into_iter().map(|finding| finding.code).collect()
}

fn apply(keeper: &mut Keeper, to: &str, trial: Option<Duration>) {
    keeper.begin(text(to), Origin::Apply, trial).unwrap();
    keeper.commit().unwrap();
}

#[test]
fn what_is_applied_is_in_the_file_and_in_the_history() {
    let disk = Disk::with(&text("one"));
    let mut keeper = disk.start();
    apply(&mut keeper, "two", None);
    assert_eq!((name(&keeper).as_str(), codes(&keeper).len()), ("two", 0));
    assert_eq!(fs::read_to_string(disk.file()).unwrap(), text("two"));
    assert_eq!(name(&disk.reboot()), "two");
    let past = keeper.history();
    assert_eq!(past.iter().map(|past| past.origin.as_str()).collect::<Vec<_>>(), ["apply", "file"]);
    assert_eq!(past[0].difference, "line 1:\n- hostname = \"one\"\n+ hostname = \"two\"\n");
    assert!(past[0].in_force && !past[1].in_force);
}

#[test]
fn a_wrong_configuration_is_refused_with_all_its_errors_and_changes_nothing() {
    let disk = Disk::with(&text("one"));
    let mut keeper = disk.start();
    let wrong = "hostname = 3\n[wan]\ninterface = \"eth0\"\nmtu = 5\n".to_owned();
    let errors = keeper.begin(wrong, Origin::Apply, MINUTE).unwrap_err();
    assert!(errors.contains("hostname") && errors.contains("mtu") && errors.contains("2 errors"), "{errors}");
    assert_eq!((name(&keeper).as_str(), name(&disk.reboot()).as_str()), ("one", "one"));
    assert_eq!(keeper.history().len(), 1);
}

#[test]
fn a_trial_that_nobody_confirms_goes_back_by_itself() {
    let disk = Disk::with(&text("one"));
    let mut keeper = disk.start();
    apply(&mut keeper, "two", MINUTE);
    assert_eq!((name(&keeper).as_str(), codes(&keeper)), ("two", vec!["configuration-on-trial".to_owned()]));
    assert!(keeper.trial_over().is_some());
    assert_eq!(fs::read_to_string(disk.file()).unwrap(), text("one"), "the file holds what is meant to last");
    keeper.end_trial("time");
    assert_eq!((name(&keeper).as_str(), codes(&keeper)), ("one", vec!["configuration-reverted".to_owned()]));
    assert_eq!(keeper.trial_over(), None);
    assert_eq!(keeper.history().len(), 1, "a trial that failed is no past");
    apply(&mut keeper, "three", None);
    assert!(codes(&keeper).is_empty());
}

#[test]
fn a_trial_goes_on_when_the_daemon_is_killed_and_ends_when_the_machine_is() {
    let disk = Disk::with(&text("one"));
    let mut keeper = disk.start();
    apply(&mut keeper, "two", MINUTE);
    let mut killed = disk.start();
    assert_eq!((name(&killed).as_str(), codes(&killed)), ("two", vec!["configuration-on-trial".to_owned()]));
    killed.end_trial("time");
    assert_eq!(name(&killed), "one");

    apply(&mut disk.start(), "two", MINUTE);
    let rebooted = disk.reboot();
    assert_eq!((name(&rebooted).as_str(), codes(&rebooted)), ("one", vec!["configuration-reverted".to_owned()]));
    assert_eq!((name(&disk.start()).as_str(), codes(&disk.start()).len()), ("one", 0), "it is said once");
}

#[test]
fn a_trial_whose_time_ran_out_without_a_daemon_is_over_at_the_next_start() {
    let disk = Disk::with(&text("one"));
    let mut keeper = disk.start();
    apply(&mut keeper, "two", Some(Duration::ZERO));
    assert_eq!(name(&disk.start()), "one");
}

#[test]
fn a_confirmed_trial_lasts() {
    let disk = Disk::with(&text("one"));
    let mut keeper = disk.start();
    assert!(keeper.confirm().is_err());
    apply(&mut keeper, "two", MINUTE);
    assert!(keeper.begin(text("three"), Origin::Apply, None).is_err(), "one thing after the other");
    keeper.confirm().unwrap();
    assert_eq!((name(&keeper).as_str(), codes(&keeper).len(), keeper.trial_over()), ("two", 0, None));
    assert_eq!((name(&disk.reboot()).as_str(), name(&disk.start()).as_str()), ("two", "two"));
    // A power cut between the file and the end of the trial.
    apply(&mut keeper, "three", MINUTE);
    fs::write(disk.file(), text("three")).unwrap();
    assert_eq!((name(&disk.reboot()).as_str(), codes(&disk.start()).len()), ("three", 0));
}

#[test]
fn one_goes_back_by_one_or_by_number_and_from_a_trial() {
    let disk = Disk::with(&text("one"));
    let mut keeper = disk.start();
    assert!(keeper.earlier(None).is_err());
    for to in ["two", "three"] {
        apply(&mut keeper, to, None);
    }
    assert_eq!(keeper.earlier(None).unwrap(), Some(text("two")));
    assert_eq!(keeper.earlier(Some(1)).unwrap(), Some(text("one")));
    assert!(keeper.earlier(Some(9)).unwrap_err().contains("no configuration 9"));
    keeper.begin(text("one"), Origin::Revert, None).unwrap();
    keeper.commit().unwrap();
    assert_eq!((name(&keeper).as_str(), keeper.history()[0].origin.as_str()), ("one", "revert"));
    apply(&mut keeper, "four", MINUTE);
    assert_eq!(keeper.earlier(None).unwrap(), None);
}

#[test]
fn what_the_kernel_refuses_leaves_no_trace() {
    let disk = Disk::with(&text("one"));
    let mut keeper = disk.start();
    for trial in [None, MINUTE] {
        keeper.begin(text("two"), Origin::Apply, trial).unwrap();
        assert_eq!(name(&keeper), "two");
        keeper.abandon();
        assert_eq!((name(&keeper).as_str(), codes(&keeper).len()), ("one", 0));
        assert_eq!((name(&disk.start()).as_str(), codes(&disk.start()).len()), ("one", 0));
    }
}

#[test]
fn a_wrong_file_at_start_gives_way_to_the_last_good_one_and_at_reload_to_the_one_in_force() {
    let disk = Disk::with("[wan]\ninterfaec = \"eth0\"\n");
    assert_eq!((name(&disk.start()).as_str(), codes(&disk.start())[0].as_str()), ("closed", "configuration-invalid"));
    fs::write(disk.file(), text("one")).unwrap();
    let mut keeper = disk.start();
    fs::write(disk.file(), "[wan]\ninterfaec = \"eth0\"\n").unwrap();
    let errors = keeper.reload().unwrap_err();
    assert!(errors.contains("interfaec"), "{errors}");
    assert_eq!((name(&keeper).as_str(), codes(&keeper)[0].as_str()), ("one", "configuration-rejected"));

    let mut fallen = disk.reboot();
    assert_eq!((name(&fallen).as_str(), codes(&fallen)[0].as_str()), ("one", "configuration-fallback"));
    assert!(fallen.configured().findings[0].text.contains("interfaec"));
    apply(&mut fallen, "two", MINUTE);
    fallen.end_trial("time");
    assert_eq!(name(&fallen), "one", "what was in force, not what is in the file");
    fs::write(disk.file(), text("three")).unwrap();
    fallen.reload().unwrap();
    assert_eq!((name(&fallen).as_str(), codes(&fallen).len()), ("three", 0));
}

#[test]
fn where_nothing_can_be_kept_a_file_works_and_a_change_is_refused() {
    // A folder in the place of the history's, which nobody can write to, not even root.
    let disk = Disk::with(&text("one"));
    fs::write(disk.folder.path().join("sixgate.history"), "in the way").unwrap();
    let mut keeper = disk.start();
    assert_eq!((name(&keeper).as_str(), codes(&keeper)), ("one", vec!["configuration-not-kept".to_owned()]));
    assert!(keeper.begin(text("two"), Origin::Apply, MINUTE).unwrap_err().contains("sixgate.history"));
    assert_eq!(name(&keeper), "one");
}

#[test]
fn a_change_that_would_cut_the_session_that_makes_it_is_pointed_out() {
    let open =
        "[wan]\ninterface = \"w\"\nipv6 = { address = \"2001:db8::2/64\" }\n[[allow]]\nto = \"router\"\ntcp = 22\n";
    let disk = Disk::with(open);
    let keeper = disk.start();
    let facts = sixgate_engine::plan::preview_facts(&keeper.configured().config.unwrap());
    let session =
        |port| Session { peer: "2001:db8:9::9".parse().unwrap(), local: "2001:db8::2".parse().unwrap(), port };
    let closed = open.replace("tcp = 22", "tcp = 23");
    let why = keeper.spares(&closed, session(22), &facts).unwrap_err();
    assert!(why.contains("2001:db8:9::9") && why.contains("--confirm"), "{why}");
    // Another address of the router cuts as well.
    assert!(keeper.spares(&open.replace("2001:db8::2/64", "2001:db8::3/64"), session(22), &facts).is_err());
    assert_eq!(keeper.spares(open, session(22), &facts), Ok(()));
    assert_eq!(keeper.spares(&closed, session(24), &facts), Ok(()), "it was not admitted before");
}
