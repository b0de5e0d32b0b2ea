//! Which configuration is in force, and what is on disk for it.
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnet::Ipv6Net;
use sixgate_engine::config::{Config, Difference};
use sixgate_engine::facts::Facts;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::firewall::admission::{Flow, Judgement};
use sixgate_engine::firewall::ruleset::Ruleset;
use sixgate_engine::plan::plan;
use sixgate_engine::why::{self, Live, Question, Step, Translator};
use sixgate_linux::conntrack::Occupancy;
use sixgate_linux::facts::Neighbour;
use sixgate_linux::netlink::Netlink;
use sixgate_linux::sysctl;
use tokio::time::Instant;

use super::history::{Entry, History, Origin};
use super::trial::Trial;
use super::{parse, read_text};
use crate::control::{PastConfiguration, Session};
use crate::durable::Written;
use crate::wiring::Configured;

/// A configuration with its text.
#[derive(Clone)]
struct Held {
    text: String,
    config: Arc<Config>,
}

/// What somebody has begun to change.
struct Begun {
    held: Held,
    before: Option<Held>,
    origin: Origin,
    trial: Option<Trial>,
    /// What is written meanwhile, where it is not on trial.
    writing: Option<Writing>,
}

/// The file and its place among the past ones, written while the kernel takes over what they say.
type Writing = JoinHandle<(io::Result<Written>, io::Result<Option<Written>>)>;

/// The configuration in force, and what an operator should know about it.
pub(super) struct Keeper {
    file: PathBuf,
    history: History,
    held: Option<Held>,
    begun: Option<Begun>,
    trial: Option<(Trial, Instant)>,
    /// What is wrong with the file.
    file_finding: Option<Finding>,
    /// What has become of a trial; it goes with the next change.
    trial_finding: Option<Finding>,
    /// Why configurations are not kept.
    history_finding: Option<Finding>,
}

impl Keeper {
    /// A trial that goes on, or the file, or the last good configuration.
    pub(super) fn start(file: PathBuf) -> Self {
        let history = History::of(&file);
        let mut keeper = Self {
            file,
            history,
            held: None,
            begun: None,
            trial: None,
            file_finding: None,
            trial_finding: None,
            history_finding: None,
        };
        let trial = Trial::read(&keeper.history).filter(|trial| {
            // Confirmed, but for the last step.
            read_text(&keeper.file).map_or(true, |text| text != trial.text)
        });
        let Some(trial) = trial else {
            keeper.forget_trial();
            keeper.read_file();
            return keeper;
        };
        match (trial.left(), keeper.parse(trial.text.clone())) {
            (Some(left), Ok(held)) => {
                tracing::warn!("the configuration on trial goes on for {} s, unless it is confirmed", left.as_secs());
                keeper.held = Some(held);
                keeper.trial = Some((trial, Instant::now() + left));
            }
            (Some(_), Err(_)) | (None, _) => {
                keeper.trial = Some((trial, Instant::now()));
                keeper.end_trial("the daemon or the machine was started again after its time, or with another boot");
            }
        }
        keeper
    }

    /// What the other tasks see.
    pub(super) fn configured(&self) -> Configured {
        let findings = [&self.trial_finding, &self.file_finding, &self.history_finding].into_iter().flatten();
        let on_trial = self.trial.as_ref().map(|(trial, _)| {
            Finding::new(
                Severity::Warning,
                "configuration-on-trial",
                "configuration",
                format!(
                    "the configuration is on trial and goes by itself in {} s",
                    trial.left().unwrap_or_default().as_secs()
                ),
                "`sixgate confirm` keeps it, `sixgate revert` takes it back at once",
            )
        });
        Configured {
            attempted: true,
            config: self.held.as_ref().map(|held| held.config.clone()),
            findings: on_trial.into_iter().chain(findings.cloned()).collect(),
            trial_until: self.trial.as_ref().map(|(_, until)| *until),
        }
    }

    /// When the trial is over.
    pub(super) fn trial_over(&self) -> Option<Instant> {
        self.trial.as_ref().map(|(_, until)| *until)
    }

    /// Reads the file again. A right one ends a trial, a wrong one changes nothing.
    pub(super) fn reload(&mut self) -> Result<(), String> {
        let outcome = read_text(&self.file).and_then(|text| self.parse(text));
        match outcome {
            Ok(held) => {
                self.forget_trial();
                self.trial_finding = None;
                self.take_file(held);
                Ok(())
            }
            Err(error) => {
                self.note_wrong_file(&error, None);
                Err(error)
            }
        }
    }

    /// The text of an earlier configuration by its number, or the one before; nothing where a trial is to be taken back.
    pub(super) fn earlier(&self, number: Option<u64>) -> Result<Option<String>, String> {
        if number.is_none() && self.trial.is_some() {
            return Ok(None);
        }
        let in_force = self.held.as_ref().map(|held| held.text.as_str());
        let entries = self.history.entries();
        let entry = match number {
            Some(number) => entries.iter().find(|entry| entry.number == number),
            None => entries.iter().rev().find(|entry| entry.read().is_ok_and(|text| Some(text.as_str()) != in_force)),
        };
        let Some(entry) = entry else {
            return Err(match number {
                Some(number) => format!("there is no configuration {number}; `sixgate history` lists what is kept"),
                None => "there is no earlier configuration".to_owned(),
            });
        };
        entry.read().map(Some).map_err(|error| format!("configuration {} cannot be read: {error}", entry.number))
    }

    /// Whether a session that is admitted now still is with another configuration; an error says how to go on.
    pub(super) fn spares(&self, text: &str, session: Session, facts: &Facts) -> Result<(), String> {
        const TCP: u8 = 6;
        let Session { peer, local, port } = session;
        let flow = Flow { source: peer, destination: local, protocol: TCP, port };
        let new = plan(&self.parse(text.to_owned())?.config, facts).admission.judge(&flow);
        let old = self.held.as_ref().map(|held| plan(&held.config, facts).admission.judge(&flow));
        if old.is_some_and(|old| matches!(old, Judgement::Admitted(_))) && !matches!(new, Judgement::Admitted(_)) {
            return Err(format!(
                "this would cut the session that you work in, from {peer} to {local} port {port}\ngive --confirm, so that it comes \
                 back by itself, or --force"
            ));
        }
        Ok(())
    }

    /// Puts a configuration into force, with a trial on disk first where there is to be one. [`Keeper::commit`] or
    /// [`Keeper::abandon`] follows.
    pub(super) fn begin(
        &mut self,
        text: String,
        origin: Origin,
        trial: Option<Duration>,
    ) -> Result<Arc<Config>, String> {
        if self.trial.is_some() {
            return Err("another configuration is on trial; `sixgate confirm` or `sixgate revert` ends that".to_owned());
        }
        let held = self.parse(text)?;
        let before = self.held.clone();
        let trial = match trial {
            None => None,
            Some(length) => {
                let before = before.as_ref().map(|held| held.text.clone());
                let trial = Trial::begin(held.text.clone(), before, origin, length);
                let written = trial.write(&self.history);
                written.map_err(|error| {
                    format!("the trial cannot be kept in {}: {error}", self.history.folder().display())
                })?;
                Some(trial)
            }
        };
        let config = held.config.clone();
        self.held = Some(held.clone());
        let writing = trial.is_none().then(|| self.write(held.text.clone(), origin));
        self.begun = Some(Begun { held, before, origin, trial, writing });
        Ok(config)
    }

    /// What was begun lasts, or begins its trial.
    pub(super) fn commit(&mut self) -> Result<(), String> {
        let Some(Begun { held, before, origin, trial, writing }) = self.begun.take() else { return Ok(()) };
        if let Some(trial) = trial {
            let left = trial.left().unwrap_or_default();
            tracing::warn!("a configuration is on trial for {} s", left.as_secs());
            self.trial = Some((trial, Instant::now() + left));
        } else if let Some(writing) = writing
            && let Err(error) = self.keep(writing, origin)
        {
            self.begun = Some(Begun { held, before, origin, trial: None, writing: None });
            return Err(error);
        }
        self.trial_finding = None;
        Ok(())
    }

    /// What was begun goes again.
    pub(super) fn abandon(&mut self) {
        let Some(begun) = self.begun.take() else { return };
        // What it has written goes before anything else is written there.
        begun.writing.map(JoinHandle::join);
        self.held = begun.before;
        self.forget_trial();
    }

    /// The configuration on trial lasts.
    pub(super) fn confirm(&mut self) -> Result<(), String> {
        let Some((trial, _)) = &self.trial else { return Err("no configuration is on trial".to_owned()) };
        let (text, origin) = (trial.text.clone(), trial.origin());
        self.keep(self.write(text, origin), origin)?;
        self.forget_trial();
        tracing::info!("the configuration on trial was confirmed");
        Ok(())
    }

    /// The configuration from before the trial is in force again.
    pub(super) fn end_trial(&mut self, why: &str) {
        let Some((trial, _)) = self.trial.take() else { return };
        self.forget_trial();
        // After another boot the file speaks; within one, what was in force before it.
        match trial.before.filter(|_| self.held.is_some()).and_then(|text| self.parse(text).ok()) {
            Some(held) => self.held = Some(held),
            None => self.read_file(),
        }
        tracing::warn!("the configuration on trial is taken back: {why}");
        self.trial_finding = Some(Finding::new(
            Severity::Warning,
            "configuration-reverted",
            "configuration",
            format!("a configuration on trial was taken back: {why}; the one from before is in force"),
            "apply it again and `sixgate confirm` it in time, or `sixgate reload` to forget it",
        ));
    }

    /// What becomes of a conversation, given as source, destination and service.
    pub(super) async fn why(
        &self,
        [from, to, service]: [&str; 3],
        facts: &Facts,
        ruleset: Option<&Ruleset>,
        translator: impl AsyncFnOnce(Ipv6Net) -> Option<Translator>,
    ) -> Result<Vec<Step>, String> {
        let Some(held) = &self.held else {
            return Err("there is no valid configuration: nothing is forwarded".to_owned());
        };
        let neighbours = match Netlink::connect() {
            Ok(netlink) => netlink.neighbours().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let address = |text: &str| match why::address(&held.config, text) {
            Some(address) => Ok(address),
            None => seen_address(&held.config, &neighbours, text),
        };
        let (from, to) = (address(from)?, address(to)?);
        let (protocol, port) = why::service(service, to).ok_or_else(|| {
            format!("\"{service}\" is no service; write tcp/443, udp/53, icmp or a protocol's number")
        })?;
        let plan = plan(&held.config, facts);
        let live = Live {
            loaded: ruleset == Some(&plan.firewall),
            forwarding: sysctl::forwarding(),
            connections: Occupancy::read().map(|table| (table.held, table.most)),
            neighbours: neighbours.iter().map(|known| (known.link, known.address, known.seen)).collect(),
            translator: match why::client(&plan, from) {
                Some(client) => translator(client).await,
                None => None,
            },
        };
        Ok(why::why(&held.config, &plan, &live, Question { from, to, protocol, port }))
    }

    /// The hash of the console's password.
    pub(super) fn password(&self) -> Option<String> {
        self.held.as_ref().and_then(|held| held.config.console.password.clone())
    }

    /// The text of the configuration in force.
    pub(super) fn text(&self) -> Result<String, String> {
        let held = self.held.as_ref().ok_or("there is no valid configuration")?;
        Ok(held.text.clone())
    }

    /// What is kept, newest first, each with its difference from the one before.
    pub(super) fn history(&self) -> Vec<PastConfiguration> {
        let entries = self.history.entries();
        let texts: Vec<String> = entries.iter().map(|entry| entry.read().unwrap_or_default()).collect();
        let in_force = self.held.as_ref().map(|held| held.text.as_str());
        let mut past: Vec<PastConfiguration> = Vec::new();
        for (index, (entry, text)) in entries.iter().zip(&texts).enumerate() {
            let before = index.checked_sub(1).and_then(|before| texts.get(before)).map_or("", String::as_str);
            let difference = if index == 0 { Difference::default() } else { Difference::between(before, text) };
            past.push(PastConfiguration {
                number: entry.number,
                time: entry.time,
                origin: entry.origin.word().to_owned(),
                in_force: Some(text.as_str()) == in_force && index + 1 == entries.len(),
                added: difference.added,
                removed: difference.removed,
                difference: difference.text,
            });
        }
        past.reverse();
        past
    }

    fn parse(&self, text: String) -> Result<Held, String> {
        let config = Arc::new(parse(&text, &self.file)?);
        Ok(Held { text, config })
    }

    /// The file, or the last good configuration where it is wrong.
    fn read_file(&mut self) {
        match read_text(&self.file).and_then(|text| self.parse(text)) {
            Ok(held) => self.take_file(held),
            Err(error) => {
                let good = self.history.entries().into_iter().rev().find_map(|entry| {
                    let held = self.parse(entry.read().ok()?).ok()?;
                    Some((entry, held))
                });
                if let Some((entry, held)) = good {
                    self.held = Some(held);
                    self.note_wrong_file(&error, Some(&entry));
                } else {
                    self.note_wrong_file(&error, None);
                }
            }
        }
    }

    fn take_file(&mut self, held: Held) {
        tracing::info!("configuration {} is in force", self.file.display());
        self.record(&held.text, Origin::File);
        self.held = Some(held);
        self.file_finding = None;
    }

    fn note_wrong_file(&mut self, error: &str, fallback: Option<&Entry>) {
        tracing::error!("configuration {} is not usable:\n{error}", self.file.display());
        let (severity, code, state) = match (fallback, &self.held) {
            (Some(entry), _) => {
                tracing::warn!("the last good configuration, number {}, is in force", entry.number);
                let state = format!("the last good one, number {} of `sixgate history`, is in force", entry.number);
                (Severity::Error, "configuration-fallback", state)
            }
            (None, Some(_)) => {
                (Severity::Warning, "configuration-rejected", "the previous one stays in force".to_owned())
            }
            (None, None) => {
                let state = "everything is denied, nothing is forwarded".to_owned();
                (Severity::Error, "configuration-invalid", state)
            }
        };
        self.file_finding = Some(Finding::new(
            severity,
            code,
            self.file.display().to_string(),
            format!("the configuration is not usable, {state}:\n{error}"),
            "correct the file (`sixgate check FILE` tells whether it is right), then send SIGHUP or `reload`",
        ));
    }

    /// Writes the file, and remembers the configuration.
    /// Begins to write.
    fn write(&self, text: String, origin: Origin) -> Writing {
        let (file, history) = (self.file.clone(), self.history.clone());
        thread::spawn(move || (Written::beside(&file, text.as_bytes()), history.write(&text, origin)))
    }

    fn keep(&mut self, writing: Writing, origin: Origin) -> Result<(), String> {
        let interrupted = || io::Error::other("writing was interrupted");
        let (file, past) = writing.join().unwrap_or_else(|_| (Err(interrupted()), Err(interrupted())));
        file.and_then(Written::replace)
            .map_err(|error| format!("{} cannot be written: {error}", self.file.display()))?;
        tracing::info!("configuration {} is in force, by {}", self.file.display(), origin.word());
        self.file_finding = None;
        self.note_record(past.and_then(|past| past.map_or(Ok(()), |past| self.history.keep(past))));
        Ok(())
    }

    fn record(&mut self, text: &str, origin: Origin) {
        self.note_record(self.history.record(text, origin));
    }

    fn note_record(&mut self, recorded: io::Result<()>) {
        let folder = self.history.folder().display().to_string();
        self.history_finding = recorded.err().map(|error| {
            tracing::warn!("{folder}: {error}");
            Finding::new(
                Severity::Note,
                "configuration-not-kept",
                folder.as_str(),
                format!("earlier configurations are not kept: {folder}: {error}"),
                "make the folder of the configuration file writable for sixgate",
            )
        });
    }

    fn forget_trial(&mut self) {
        self.trial = None;
        if let Err(error) = Trial::remove(&self.history) {
            tracing::error!("the trial of a configuration stays in {}: {error}", self.history.folder().display());
        }
    }
}

/// The address that a VM which goes by its hardware address was seen with.
fn seen_address(config: &Config, neighbours: &[Neighbour], name: &str) -> Result<IpAddr, String> {
    let Some(vm) = config.vms.iter().find(|vm| vm.name == name) else {
        return Err(format!(
            "\"{name}\" is neither an address nor a name that stands for one: write an address, router, a VM's name, or a suffix such as vm1/containers::5 or {}::5",
            config.lans.first().map_or("lan", |lan| &lan.name)
        ));
    };
    let is_its_own = |known: &&Neighbour| match known.address {
        IpAddr::V6(address) => vm.mac.is_some() && known.mac == vm.mac && !address.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    };
    let known = neighbours.iter().filter(is_its_own).max_by_key(|known| known.seen);
    known.map(|known| known.address).ok_or_else(|| format!("no address of {name} has been seen yet: write the address"))
}

#[cfg(test)]
mod tests;
