//! Sessions in a file, for the daemon that comes next.
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use sixgate_engine::nat64::{Nat64, Saving};
use sixgate_engine::plan::Nat64Plan;
use sixgate_engine::time::Instant;

/// Places of the table of sessions that are taken down between two batches of packets.
const SLICE: usize = 1024;
/// A daemon that is killed loses what was opened since the last of these.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// More than any number of sessions that can be configured takes.
const MAX_BYTES: u64 = 256 << 20;

/// The file, which stands beside the control socket.
#[derive(Debug)]
pub(super) struct Saved {
    path: PathBuf,
    /// Whether there may be sessions of a former daemon.
    waits: bool,
    due: Instant,
    /// What is being taken down.
    saving: Option<Saving>,
    /// Who is writing.
    writer: Option<JoinHandle<()>>,
}

impl Saved {
    /// Nothing is read yet.
    pub(super) fn new(path: &Path, now: Instant) -> Self {
        Self { path: path.to_owned(), waits: true, due: now + SAVE_EVERY, saving: None, writer: None }
    }

    /// When [`Self::save_if_due`] is due.
    pub(super) const fn due(&self) -> Instant {
        if self.saving.is_some() { Instant::ZERO } else { self.due }
    }

    /// Takes over what a former daemon left, as soon as there is an address to which it can belong.
    pub(super) fn restore(&mut self, engine: &mut Nat64, plan: &Nat64Plan, now: Instant) {
        if !self.waits || plan.pool4.is_empty() {
            return;
        }
        self.waits = false;
        let bytes = match read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return tracing::warn!("saved sessions cannot be read: {error}"),
        };
        match engine.restore(&bytes, now) {
            Ok(restored) => {
                tracing::info!("{} saved sessions go on, {} do not fit", restored.sessions, restored.left_out);
            }
            Err(error) => tracing::warn!("saved sessions are not used: {error}"),
        }
    }

    /// Saves every half minute, a slice of the table at each call, so that no packet waits for it.
    pub(super) fn save_if_due(&mut self, engine: &Nat64, now: Instant) {
        if self.saving.is_none() && self.due <= now {
            self.due = now + SAVE_EVERY;
            // What a former daemon left stays until it is taken over; and who is still writing has not come to an end.
            if self.waits || self.writer.as_ref().is_some_and(|writer| !writer.is_finished()) {
                return;
            }
            self.saving = Some(engine.begin_save());
        }
        let Some(mut saving) = self.saving.take() else { return };
        if engine.save_some(&mut saving, SLICE) {
            self.hand_over(saving);
        } else {
            self.saving = Some(saving);
        }
    }

    /// The plan is another: what is taken down already may be of no use, and is begun again.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        if self.saving.take().is_some() {
            self.due = now;
        }
    }

    /// Saves all sessions in place of those that were saved before.
    pub(super) fn save(&mut self, engine: &Nat64) {
        self.settle();
        if !self.waits {
            write(&self.path, &engine.save());
        }
    }

    /// There is nothing to go on with.
    pub(super) fn discard(&mut self) {
        self.settle();
        discard(&self.path);
    }

    /// A checksum over a million sessions and a file of their size take longer than packets may wait.
    fn hand_over(&mut self, saving: Saving) {
        let path = self.path.clone();
        let work = move || write(&path, &saving.seal());
        match std::thread::Builder::new().name("nat64-saving".to_owned()).spawn(work) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => tracing::warn!("sessions cannot be saved: {error}"),
        }
    }

    /// Nothing is under way any more.
    fn settle(&mut self) {
        self.saving = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has logged that.
            let _ = writer.join();
        }
    }
}

/// Removes the file.
pub(super) fn discard(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("saved sessions cannot be removed: {error}"),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = try_write(path, bytes) {
        tracing::warn!("sessions cannot be saved: {error}");
    }
}

/// Either the old file or the new one is there, whole. Who talks to whom is nobody else's business.
fn try_write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sixgate_engine::config;
    use sixgate_engine::nat64::Transmit;
    use sixgate_engine::plan::{plan as planned, preview_facts};

    use super::*;

    const CONFIG: &str = "[wan]\ninterface = \"eth0\"\nipv4 = { address = \"198.51.100.1/24\" }\n[nat64]\n";
    const START: Instant = Instant::from_nanos(1_000_000_000);

    fn plan() -> Nat64Plan {
        let config = config::parse(CONFIG, "test").unwrap();
        planned(&config, &preview_facts(&config)).nat64.unwrap()
    }

    /// An engine with a session, since a ping went through.
    fn busy() -> Nat64 {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        packet.extend("2001:db8:1::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend("64:ff9b::1.1.1.1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend([128, 0, 0, 0, 0, 7, 0, 1]);
        let mut engine = Nat64::new(&plan(), [1; 32]);
        engine.handle_input(&packet, &mut Transmit::new(), START);
        assert_eq!(engine.status().sessions.icmp, 1);
        engine
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("sixgate-saved-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn sessions_go_on_in_the_next_daemon_once_there_is_an_address() {
        let folder = folder("next");
        let path = folder.join("sessions");
        let mut saved = Saved::new(&path, START);
        let mut engine = busy();
        saved.restore(&mut Nat64::new(&plan(), [1; 32]), &plan(), START);
        saved.save_if_due(&engine, START);
        assert!(!path.exists(), "not before half a minute is over");
        saved.save_if_due(&engine, saved.due());
        saved.settle();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left there");

        let mut offline = plan();
        offline.pool4.clear();
        let mut saved = Saved::new(&path, START);
        engine = Nat64::new(&offline, [2; 32]);
        saved.restore(&mut engine, &offline, START);
        saved.save(&engine);
        engine.reconfigure(&plan(), START);
        saved.restore(&mut engine, &plan(), START);
        assert_eq!(engine.status().sessions.icmp, 1);
        saved.discard();
        assert!(!path.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn garbage_is_refused_and_replaced() {
        let folder = folder("garbage");
        let path = folder.join("sessions");
        fs::write(&path, b"garbage").unwrap();
        let mut saved = Saved::new(&path, START);
        let mut engine = Nat64::new(&plan(), [1; 32]);
        saved.restore(&mut engine, &plan(), START);
        assert_eq!(engine.status().sessions.icmp, 0);
        saved.save(&busy());
        engine.restore(&fs::read(&path).unwrap(), START).unwrap();
        assert_eq!(engine.status().sessions.icmp, 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
