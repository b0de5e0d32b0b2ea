//! `sixgate prepare`, which process 1 runs before the router: state, first boot, the loader's environment. It is a process of
//! its own, because it parses what comes from outside; whatever becomes of it, the router starts.
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::symlink;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sixgate_engine::config;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_linux::pid1;

use super::entropy;
use super::loader::{self, Slot};
use super::seed::{self, Seed};
use super::starter;
use super::state::{self, keep, read_text};
use super::supervisor::CONFIG;

/// What was found and done, for the daemon.
pub(crate) const REPORT: &str = "/run/sixgate/prepared.json";
const FOLDER: &str = "/etc/sixgate";
/// A longer file is no configuration.
const MOST: u64 = 1 << 20;

/// What was found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The slot that this machine runs from.
    pub(crate) slot: Option<String>,
    /// It is on trial.
    pub(crate) trial: bool,
    /// There is somewhere to keep things.
    pub(crate) state: bool,
    /// Where the configuration comes from.
    pub(crate) configuration: String,
    /// Digest of the configuration where this machine made it by itself.
    #[serde(default)]
    pub(crate) made: Option<String>,
    /// What an operator should know.
    pub(crate) findings: Vec<Finding>,
}

/// What the last seed was made into.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    instance: String,
    /// Digest of the configuration that was made of it.
    made: String,
    /// There was none: the configuration was made out of the network cards.
    #[serde(default)]
    alone: bool,
}

/// Prepares the machine.
pub(crate) fn run() -> ExitCode {
    let mut report = Report { trial: pid1::kernel_argument("sixgate.trial").is_some(), ..Report::default() };
    report.slot = pid1::kernel_argument("sixgate.slot").filter(|letter| Slot::of_letter(letter).is_some());
    let opened = state::open();
    report.state = opened.writable;
    report.findings = opened.findings;
    if report.state
        && let Err(error) = entropy::hand_over()
    {
        println!("the seed of the last start does not count: {error}\r");
    }
    if Path::new(CONFIG).exists() {
        // An initramfs may carry a configuration; it is what somebody put there for this very boot.
        "the initramfs".clone_into(&mut report.configuration);
    } else {
        place(&mut report);
        configure(&mut report);
    }
    report.findings.extend(judge_slot(report.slot.as_deref(), report.trial));
    for finding in &report.findings {
        println!("{}: {}\r", finding.code, finding.text);
    }
    println!("configuration: {}\r", report.configuration);
    let text = serde_json::to_string(&report).unwrap_or_default();
    match fs::create_dir_all("/run/sixgate").and_then(|()| fs::write(REPORT, text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The configuration's folder is on the state partition, or in memory where there is none.
fn place(report: &mut Report) {
    let made = if report.state {
        fs::create_dir_all(state::CONFIGURATION).and_then(|()| Ok(symlink(state::CONFIGURATION, FOLDER)?))
    } else {
        fs::create_dir_all(FOLDER)
    };
    if let Err(error) = made {
        report.findings.push(Finding::new(
            Severity::Error,
            "state-unavailable",
            FOLDER,
            format!("the configuration's folder cannot be made: {error}"),
            "restart the machine; if that does not help, attach a new copy of the image",
        ));
    }
}

/// Sees to it that there is a configuration: the kept one, the last good one, one from outside, or one out of the cards.
fn configure(report: &mut Report) {
    let path = Path::new(CONFIG);
    let kept = read_text(path, MOST);
    let seed = seed::look();
    if let Some(seed) = &seed {
        report.findings.extend(complaints(seed));
    }
    let remembered_at = Path::new(state::HOME).join("seed.json");
    let remembered: Remembered =
        read_text(&remembered_at, MOST).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    if let Some(kept) = &kept {
        let untouched = remembered.made == digest(kept);
        let is_new = seed.as_ref().is_some_and(|seed| seed.instance != remembered.instance);
        if !(is_new && untouched) {
            "as it was kept".clone_into(&mut report.configuration);
            if untouched && remembered.alone {
                note_made(report, path, kept);
            }
            if is_new && seed.as_ref().is_some_and(|seed| seed.user.toml.is_some() || seed.network.is_some()) {
                report.findings.push(ignored(seed.as_ref().map_or("", |seed| seed.source)));
            }
            return fall_back(report, path, kept);
        }
    }
    let made = seed.as_ref().and_then(make).or_else(|| starter::write(None, None, &starter::cards()));
    let Some(made) = made else {
        "none: this machine has no network card".clone_into(&mut report.configuration);
        return;
    };
    report.configuration = match seed.as_ref().filter(|seed| seed.user.toml.is_some() || seed.network.is_some()) {
        Some(seed) => format!("from {}", seed.source),
        None => "made out of the network cards".to_owned(),
    };
    if let Err(error) = keep(path, made.as_bytes()) {
        report.findings.push(not_kept(&error));
    }
    if let Some(backup) = seed.as_ref().and_then(|seed| seed.user.backup.as_ref()).filter(|_| report.state)
        && let Err(error) = backup.leave_memory(Path::new(state::HOME))
    {
        report.findings.push(not_kept(&error));
    }
    let instance = seed.map(|seed| seed.instance).unwrap_or_default();
    let alone = report.configuration.starts_with("made");
    let remembered = Remembered { instance, made: digest(&made), alone };
    if report.state {
        let text = serde_json::to_string(&remembered).unwrap_or_default();
        if let Err(error) = keep(&remembered_at, text.as_bytes()) {
            report.findings.push(not_kept(&error));
        }
    }
    if alone {
        note_made(report, path, &made);
    }
}

/// Nobody has said anything yet about how this router is to be configured.
fn note_made(report: &mut Report, path: &Path, made: &str) {
    report.made = Some(digest(made));
    report.findings.push(Finding::new(
        Severity::Note,
        "configuration-made",
        path.display().to_string(),
        "nothing said how this router is to be configured: it asks for IPv4, IPv6 and a prefix on the first card with a link, and serves the next one",
        "answer the three questions on the console (W), or give it a cloud-init drive or a configuration of your own",
    ));
}

/// The configuration out of a seed: its own, or one that follows from its network configuration.
fn make(seed: &Seed) -> Option<String> {
    if let Some(toml) = &seed.user.toml {
        return Some(toml.clone());
    }
    starter::write(seed.user.hostname.as_deref(), Some(seed.network.as_ref()?), &starter::cards())
}

/// A configuration that this version cannot read, while the slot has one that it ran well with: going back a slot must
/// not meet a newer format.
fn fall_back(report: &mut Report, path: &Path, kept: &str) {
    let Err(errors) = config::parse(kept, CONFIG) else { return };
    let Some(slot) = report.slot.as_deref() else { return };
    let good = last_good(slot).filter(|text| config::parse(text, "the last good one").is_ok());
    let Some(good) = good else { return };
    let refused = path.with_extension("toml.refused");
    let replaced = keep(&refused, kept.as_bytes()).and_then(|()| keep(path, good.as_bytes()));
    "the last good one of this slot".clone_into(&mut report.configuration);
    report.findings.push(match replaced {
        Ok(()) => Finding::new(
            Severity::Warning,
            "configuration-last-good",
            path.display().to_string(),
            format!("this version cannot use the configuration, so the last one that it ran well with is in force:\n{errors}"),
            format!("correct it; it was kept as {}", refused.display()),
        ),
        Err(error) => not_kept(&error),
    });
}

/// The last configuration that a slot's system ran well with.
fn last_good(slot: &str) -> Option<String> {
    read_text(&last_good_path(slot), MOST)
}

/// Where that is kept.
pub(crate) fn last_good_path(slot: &str) -> std::path::PathBuf {
    Path::new(state::HOME).join(format!("slot-{slot}/sixgate.toml"))
}

fn complaints(seed: &Seed) -> impl Iterator<Item = Finding> {
    seed.complaints.iter().map(|complaint| {
        Finding::new(
            Severity::Warning,
            "seed-not-understood",
            seed.source,
            format!("a part of it is not usable: {complaint}"),
            "correct it and restart the machine",
        )
    })
}

fn ignored(source: &str) -> Finding {
    Finding::new(
        Severity::Note,
        "seed-ignored",
        source,
        "it changed, but the configuration was edited on this machine since and stays as it is",
        "edit the configuration, or reset the machine (request `factory-reset`) to start from the drive",
    )
}

fn not_kept(error: &std::io::Error) -> Finding {
    Finding::new(
        Severity::Warning,
        "state-full",
        "state",
        format!("the configuration cannot be kept: {error}"),
        "reset the machine to its defaults after a backup of the configuration (request `factory-reset`)",
    )
}

pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the loader's environment says about the last boots.
fn judge_slot(slot: Option<&str>, trial: bool) -> Option<Finding> {
    let running = Slot::of_letter(slot?)?;
    let environment = loader::read().ok()?;
    if trial || environment.on_trial.is_none_or(|tried| tried == running || environment.untried) {
        return None;
    }
    Some(Finding::new(
        Severity::Warning,
        "update-not-kept",
        format!("slot {}", running.other().letter()),
        "the update did not prove healthy, so the machine went back to the version before",
        "look at its findings on the console while it is tried; install it again to try it once more",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_file() {
        let report = Report { slot: Some("a".into()), findings: vec![ignored("x")], ..Report::default() };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn a_seed_with_a_configuration_is_that_configuration() {
        let mut seed = Seed::default();
        assert_eq!(make(&seed), None);
        seed.user.toml = Some("[wan]\ninterface = \"eth0\"\n".into());
        assert_eq!(make(&seed), seed.user.toml);
    }
}
