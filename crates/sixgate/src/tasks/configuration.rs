//! Keeps the configuration: reads the file, takes new ones on request and on trial, and goes back to earlier ones.
//!
//! The file holds what is meant to last. A configuration on trial is on disk beside it, so that a daemon that is killed goes on
//! with the trial, and another boot of the machine begins with the file.
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv6Net;
use rustix::fs::OFlags;
use sixgate_engine::config::{self, Config};
use sixgate_engine::facts::Facts;
use sixgate_engine::plan::plan;
use sixgate_engine::prefix::Learnt;
use sixgate_engine::why::Translator;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::control::Session;
use crate::tasks::{nat64, network};
use crate::wiring::{ConfigurationCommand as Command, Configured, ListSessions};

pub mod history;
mod keeper;
mod trial;

use keeper::Keeper;

/// A longer file is not a configuration.
const MAX_FILE: u64 = 1 << 20;
/// How long the kernel may take to have a ruleset in force or to refuse it.
const LOADED_WITHIN: Duration = Duration::from_secs(5);

/// This task's ends of the channels.
pub struct Ends {
    /// Requests.
    pub commands: mpsc::Receiver<Command>,
    /// The configuration.
    pub configured: watch::Sender<Configured>,
    /// The facts, to tell which ruleset a configuration leads to.
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    /// What is learnt on the uplink.
    pub learnt: watch::Receiver<Option<Arc<Learnt>>>,
    /// Whether that ruleset is in force.
    pub network: watch::Receiver<network::Slice>,
    /// The translator's sessions.
    pub sessions: mpsc::Sender<ListSessions>,
    /// Its fast path.
    pub nat64: watch::Receiver<nat64::Slice>,
}

/// Runs until nobody can ask any more.
pub async fn run(mut ends: Ends, file: std::path::PathBuf) {
    let mut keeper = Keeper::start(file);
    loop {
        ends.configured.send_replace(keeper.configured());
        let over = keeper.trial_over();
        let command = tokio::select! {
            command = ends.commands.recv() => command,
            () = wait(over) => {
                keeper.end_trial("it was not confirmed in time");
                continue;
            }
        };
        match command {
            None => return,
            Some(Command::Reload(answer)) => {
                let outcome = keeper.reload();
                ends.configured.send_replace(keeper.configured());
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(outcome);
            }
            Some(Command::Apply { text, trial, session, answer }) => {
                let wanted = Wanted { text, origin: history::Origin::Apply, trial, session };
                let outcome = change(&mut keeper, &mut ends, wanted).await;
                let _ = answer.send(outcome);
            }
            Some(Command::Revert { to, trial, session, answer }) => {
                let outcome = match keeper.earlier(to) {
                    Ok(Some(text)) => {
                        let wanted = Wanted { text, origin: history::Origin::Revert, trial, session };
                        change(&mut keeper, &mut ends, wanted).await
                    }
                    Ok(None) => {
                        keeper.end_trial("it was taken back");
                        ends.configured.send_replace(keeper.configured());
                        Ok(())
                    }
                    Err(why) => Err(why),
                };
                let _ = answer.send(outcome);
            }
            Some(Command::Confirm(answer)) => {
                let outcome = keeper.confirm();
                ends.configured.send_replace(keeper.configured());
                let _ = answer.send(outcome);
            }
            Some(Command::Why { from, to, service, answer }) => {
                let facts = facts(&ends).unwrap_or_default();
                let ruleset = ends.network.borrow().ruleset.clone();
                let asked = [from.as_str(), &to, &service];
                let live = async |client| translator(&ends, client).await;
                let _ = answer.send(keeper.why(asked, &facts, ruleset.as_deref(), live).await);
            }
            Some(Command::Text(answer)) => {
                let _ = answer.send(keeper.text());
            }
            Some(Command::Unlock { password, answer }) => {
                let hash = keeper.password();
                tokio::spawn(async move { answer.send(unlock(hash, password).await) });
            }
            Some(Command::History(answer)) => {
                let _ = answer.send(Ok(keeper.history()));
            }
        }
    }
}

/// A wrong password is answered late, so that many take long.
const WRONG: Duration = Duration::from_secs(2);

/// Compares a password with what the configuration has of it.
async fn unlock(hash: Option<String>, password: String) -> Result<(), String> {
    let Some(hash) = hash else { return Ok(()) };
    let compared = tokio::task::spawn_blocking(move || matches_hash(&password, &hash));
    if compared.await.unwrap_or(false) {
        return Ok(());
    }
    tokio::time::sleep(WRONG).await;
    tracing::warn!("a wrong password was typed on the console");
    Err("the password is wrong".to_owned())
}

/// Whether a password is that of a hash as crypt(3) writes it, which the configuration has checked.
fn matches_hash(password: &str, hash: &str) -> bool {
    let parts: Vec<&str> = hash.split('$').collect();
    let (rounds, salt, digest) = match parts[..] {
        ["", "6", salt, digest] => (sha_crypt::ROUNDS_DEFAULT, salt, digest),
        ["", "6", rounds, salt, digest] => {
            let rounds = rounds.strip_prefix("rounds=").and_then(|number| number.parse().ok());
            (rounds.unwrap_or(sha_crypt::ROUNDS_DEFAULT), salt, digest)
        }
        _ => return false,
    };
    let Ok(parameters) = sha_crypt::Sha512Params::new(rounds) else { return false };
    sha_crypt::sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &parameters).is_ok_and(|own| own == digest)
}

/// A configuration that is to come into force.
struct Wanted {
    text: String,
    origin: history::Origin,
    trial: Option<Duration>,
    session: Option<Session>,
}

/// All or nothing: a configuration that the kernel refuses goes again, and so does one that cannot be kept on disk.
async fn change(keeper: &mut Keeper, ends: &mut Ends, wanted: Wanted) -> Result<(), String> {
    if let (Some(session), None) = (wanted.session, wanted.trial) {
        keeper.spares(&wanted.text, session, &facts(ends).unwrap_or_default())?;
    }
    let config = keeper.begin(wanted.text, wanted.origin, wanted.trial)?;
    ends.network.mark_unchanged();
    ends.configured.send_replace(keeper.configured());
    match accepted(ends, &config).await.and_then(|()| keeper.commit()) {
        Ok(()) => Ok(()),
        Err(why) => {
            keeper.abandon();
            ends.configured.send_replace(keeper.configured());
            Err(format!("{why}\nthe configuration from before is in force"))
        }
    }
}

/// What the planner makes its plan of.
fn facts(ends: &Ends) -> Option<Facts> {
    let facts = ends.facts.borrow().clone()?;
    let learnt = ends.learnt.borrow().clone().unwrap_or_default();
    Some(Facts { learnt: Learnt::clone(&learnt), ..Facts::clone(&facts) })
}

/// Waits until the configuration's ruleset is in force. Where nothing can be told in time nothing is wrong that is known.
async fn accepted(ends: &mut Ends, config: &Config) -> Result<(), String> {
    let Some(facts) = facts(ends) else { return Ok(()) };
    let expected = plan(config, &facts).firewall;
    let deadline = Instant::now() + LOADED_WITHIN;
    loop {
        if ends.network.borrow().ruleset.as_deref() == Some(&expected) {
            return Ok(());
        }
        let late = !matches!(timeout_at(deadline, ends.network.changed()).await, Ok(Ok(())));
        let refusal = {
            let slice = ends.network.borrow();
            let refused = slice.findings.iter().find(|finding| finding.code == "firewall-not-loaded");
            refused.map(|finding| format!("{}\n{}", finding.text, finding.mend))
        };
        match refusal {
            Some(refusal) => return Err(refusal),
            None if late => return Ok(()),
            None => {}
        }
    }
}

/// What the translator has of a client; nothing while it does not run.
async fn translator(ends: &Ends, client: Ipv6Net) -> Option<Translator> {
    let fast_path = ends.nat64.borrow().status.as_ref()?.fast_path.clone();
    let (mut sessions, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let (answer, answered) = oneshot::channel();
        ends.sessions.send(ListSessions { from, clients: Some(client), answer }).await.ok()?;
        let page = answered.await.ok()?;
        sessions.extend(page.sessions);
        next = page.next;
    }
    Some(Translator { sessions, fast_path })
}

async fn wait(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// Reads and validates a file; the error is text for people, with excerpts.
pub fn read(file: &Path) -> Result<Config, String> {
    parse(&read_text(file)?, file)
}

fn parse(text: &str, file: &Path) -> Result<Config, String> {
    if text.len() as u64 > MAX_FILE {
        return Err(format!("{}: longer than {MAX_FILE} bytes", file.display()));
    }
    config::parse(text, &file.display().to_string()).map_err(|errors| errors.to_string())
}

/// Reads a file that could be a configuration.
pub fn read_text(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let readable = open(file).and_then(|opened| opened.take(MAX_FILE + 1).read_to_string(&mut text));
    readable.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text)
}

/// A pipe or a device could keep the daemon waiting for ever, with nothing denied yet.
fn open(file: &Path) -> io::Result<File> {
    // Opening a pipe waits for whoever writes to it, unless told otherwise.
    let opened = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(file)?;
    if opened.metadata()?.is_file() { Ok(opened) } else { Err(io::Error::other("it is not a regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "[wan]\ninterface = \"eth0\"\n";
    const WRONG: &str = "[wan]\ninterfaec = \"eth0\"\n";

    #[tokio::test(start_paused = true)]
    async fn a_password_is_compared_as_crypt_does_and_a_wrong_one_is_told_late() {
        // `openssl passwd -6 -salt sixgate sesame`
        let hash = "$6$sixgate$kOjc7Xe9LRnUEy/fRBXBoA.X8Avw8VHUIWIszppdniDX.PDGFEEpFkzhgsghGx/S3t.Cv5qdhX/Q37gICNImW.";
        assert_eq!(unlock(Some(hash.to_owned()), "sesame".to_owned()).await, Ok(()));
        assert_eq!(unlock(None, String::new()).await, Ok(()));
        let began = Instant::now();
        assert!(unlock(Some(hash.to_owned()), "Sesame".to_owned()).await.is_err());
        assert!(began.elapsed() >= super::WRONG);
    }

    #[test]
    fn a_missing_or_oversized_file_is_an_error_with_its_name() {
        let error = read(Path::new("/nonexistent/sixgate.toml")).unwrap_err();
        assert!(error.contains("/nonexistent/sixgate.toml"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#".repeat(MAX_FILE as usize + 1)).unwrap();
        assert!(read(file.path()).unwrap_err().contains("longer than"));
    }

    #[test]
    fn a_pipe_a_folder_and_bytes_that_are_no_text_are_errors_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(read(&pipe).unwrap_err().contains("not a regular file"));
        assert!(read(folder.path()).unwrap_err().contains("not a regular file"));
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("not a regular file"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"hostname = \"\xff\"\n").unwrap();
        assert!(read(file.path()).unwrap_err().contains("UTF-8"));
    }

    struct Others {
        commands: mpsc::Sender<Command>,
        configured: watch::Receiver<Configured>,
        facts: watch::Sender<Option<Arc<Facts>>>,
        network: watch::Sender<network::Slice>,
    }

    fn wired() -> (Ends, Others) {
        let (commands, received) = mpsc::channel(1);
        let (configured, seen) = watch::channel(Configured::default());
        let (facts, facts_seen) = watch::channel(None);
        let (network, network_seen) = watch::channel(network::Slice::default());
        let ends = Ends {
            commands: received,
            configured,
            facts: facts_seen,
            learnt: watch::channel(None).1,
            network: network_seen,
            sessions: mpsc::channel(1).0,
            nat64: watch::channel(nat64::Slice::default()).1,
        };
        (ends, Others { commands, configured: seen, facts, network })
    }

    #[tokio::test]
    async fn a_reload_is_answered_after_the_new_configuration_is_visible() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sixgate.toml");
        std::fs::write(&file, WRONG).unwrap();
        let (ends, mut others) = wired();
        let task = tokio::spawn(run(ends, file.clone()));
        others.configured.wait_for(|configured| configured.attempted).await.unwrap();
        assert!(others.configured.borrow().config.is_none());

        std::fs::write(&file, VALID).unwrap();
        let (asked, answer) = oneshot::channel();
        others.commands.send(Command::Reload(asked)).await.unwrap();
        assert_eq!(answer.await.unwrap(), Ok(()));
        assert!(others.configured.borrow().config.is_some() && others.configured.borrow().findings.is_empty());
        drop(others.commands);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_configuration_whose_ruleset_the_kernel_refuses_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sixgate.toml");
        std::fs::write(&file, VALID).unwrap();
        let (ends, mut others) = wired();
        others.facts.send_replace(Some(Arc::default()));
        tokio::spawn(run(ends, file.clone()));
        let before = others.configured.wait_for(|configured| configured.config.is_some()).await.unwrap().clone();
        let (asked, answer) = oneshot::channel();
        let text = VALID.replace("eth0", "eth7");
        others.commands.send(Command::Apply { text, trial: None, session: None, answer: asked }).await.unwrap();
        others.configured.wait_for(|now| now.config != before.config).await.unwrap();
        let refusal = sixgate_engine::finding::Finding::new(
            sixgate_engine::finding::Severity::Error,
            "firewall-not-loaded",
            "table",
            "no such module",
            "load it",
        );
        others.network.send_modify(|slice| slice.findings = vec![refusal]);
        let refused = answer.await.unwrap().unwrap_err();
        assert!(refused.contains("no such module") && refused.contains("from before"), "{refused}");
        assert_eq!(others.configured.borrow().config, before.config);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), VALID);
    }
}
