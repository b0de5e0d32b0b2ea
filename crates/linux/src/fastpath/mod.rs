//! The fast path in the kernel: the program at tc ingress, its maps, and where they are pinned.
//!
//! Maps and hooks outlive the process, and the next one adopts them. Nothing in here decides about sessions.
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::Path;

use aya::maps::{Array, HashMap, IterableMap as _, MapData, MapError, PerCpuArray};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError};
pub use sixgate_fastpath::layout::{self, Counters, Session, Settings, Usage};
pub use sixgate_fastpath::reason::Reason;
use sixgate_fastpath::{
    COUNTERS, LISTENING, MAPS, OBJECT, PROGRAM, REMEMBERING, ROUTES, SESSIONS_V4, SESSIONS_V6, SETTINGS, WATCH,
};

pub(crate) mod hook;
pub(crate) mod load;
pub(crate) mod pins;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod watch;

pub use hook::Hook;
use hook::Hooks;
use pins::{Owner, Pins};
pub(crate) use settings::fib_flags;
pub use settings::settings;
use watch::{Names, Watch};

/// Milliseconds for which a session knows its route unless routes change: longer than it takes
/// until each of many busy flows has its next packet. What the kernel does not tell of, as what it learns of a path's MTU, is
/// not older; and nothing is while a daemon that was killed is away.
const ROUTE_LASTS: u16 = 1000;

const NAMES: Names = Names { watch: WATCH, routes: ROUTES, listening: LISTENING, program: REMEMBERING };

/// Whose pins they are.
const OWNER: Owner = Owner { name: "sixgate", version: layout::VERSION };

/// The program, its maps and its hooks.
pub struct FastPath {
    program: Ebpf,
    v6: HashMap<MapData, [u8; layout::KEY_V6], [u8; layout::VALUE_V6]>,
    v4: HashMap<MapData, [u8; layout::KEY_V4], [u8; layout::VALUE_V4]>,
    settings: Array<MapData, [u8; layout::SETTINGS]>,
    counters: PerCpuArray<MapData, [u8; layout::COUNTERS]>,
    hooks: Hooks,
    watch: Option<Watch>,
    pins: Option<Pins>,
    /// What was counted for a former process.
    before: Counters,
    capacity: u32,
}

impl std::fmt::Debug for FastPath {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { hooks, pins, capacity, .. } = self;
        out.debug_struct("FastPath").field("hooks", hooks).field("pins", pins).field("capacity", capacity).finish()
    }
}

/// Why the fast path is not there.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {cause}")]
pub struct FastPathError {
    pub(crate) action: &'static str,
    pub(crate) cause: io::Error,
}

impl FastPathError {
    /// What to do about it.
    pub fn mend(&self) -> String {
        match self.cause.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "run sixgate as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; or set [nat64] fast_path = false"
            }
            Some(libc::ENOMEM) => "give the machine more memory, or set [nat64] fast_path = false",
            _ => "use a kernel from 6.1 on with BPF and its JIT compiler, or set [nat64] fast_path = false",
        }
        .to_owned()
    }

    /// What the kernel said.
    pub fn cause(&self) -> &io::Error {
        &self.cause
    }
}

/// Why a session could not be handed over.
#[derive(Debug)]
pub enum InsertError {
    /// The map holds as many as it can, or the kernel has no memory for more.
    Full,
    /// Anything else.
    Other(io::Error),
}

impl FastPath {
    /// Loads the program with maps for `capacity` sessions, or adopts the maps that a former process left below
    /// `bpffs`. Without such a file system there, what is made goes with the process.
    ///
    /// # Errors
    /// The kernel refused; see [`FastPathError::mend`].
    pub fn open(bpffs: &Path, capacity: u32) -> Result<Self, FastPathError> {
        let pins = Pins::open(bpffs, OWNER).inspect_err(|error| tracing::debug!("nothing is pinned: {error}")).ok();
        match Self::load(pins, capacity) {
            // What was left there may be of a shape that this release does not know, whatever its version says.
            Err(_) if Pins::open(bpffs, OWNER).is_ok_and(|pins| pins.discard().is_ok()) => {
                Self::load(Pins::open(bpffs, OWNER).ok(), capacity)
            }
            loaded => loaded,
        }
    }

    fn load(pins: Option<Pins>, capacity: u32) -> Result<Self, FastPathError> {
        let mut program = load::load(&OBJECT.0, |loader| {
            for map in [SESSIONS_V6, SESSIONS_V4] {
                loader.map_max_entries(map, capacity.max(1));
            }
            for map in MAPS {
                if let Some(pins) = &pins {
                    loader.map_pin_path(map, pins.map(map));
                }
            }
        })?;
        let loaded = classifier(&mut program).and_then(SchedClassifier::load);
        loaded.map_err(|error| refused_program("the program is not accepted", &error))?;
        let watch = Watch::begin(&mut program, NAMES)
            .inspect_err(|error| tracing::info!("routes are asked for packet by packet: {error}"))
            .ok();
        let mut map = |name| program.take_map(name).ok_or_else(|| missing(name));
        let wrong = |error| refused_map("the maps are others", &error);
        let v6 = HashMap::try_from(map(SESSIONS_V6)?).map_err(wrong)?;
        let v4 = HashMap::try_from(map(SESSIONS_V4)?).map_err(wrong)?;
        let settings = Array::try_from(map(SETTINGS)?).map_err(wrong)?;
        let counters = PerCpuArray::try_from(map(COUNTERS)?).map_err(wrong)?;
        let mut this = Self {
            program,
            v6,
            v4,
            settings,
            counters,
            hooks: Hooks::default(),
            watch,
            pins,
            before: Counters::default(),
            capacity,
        };
        this.capacity = this.size()?;
        this.before = this.counted()?;
        Ok(this)
    }

    /// How many sessions the maps hold; adopted maps are as large as they were made.
    fn size(&self) -> Result<u32, FastPathError> {
        let Some(pins) = &self.pins else { return Ok(self.capacity) };
        let wrong = |error| refused_map("the maps cannot be asked", &error);
        let info = MapData::from_pin(pins.map(SESSIONS_V4)).and_then(|map| map.info()).map_err(wrong)?;
        Ok(info.max_entries())
    }

    /// How many sessions the maps hold at most.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Whether everything outlives the process.
    pub const fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// The epoch and the rules that the program goes by now; a former process may have left them.
    pub fn epoch_and_rules(&self) -> (u32, u32) {
        self.settings.get(&0, 0).map_or((0, 0), |bytes| Settings::epoch_and_rules(&bytes))
    }

    /// Tells the program what to go by.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn configure(&mut self, settings: &Settings) -> Result<(), FastPathError> {
        let route_lasts = if self.watch.is_some() { ROUTE_LASTS } else { 0 };
        let settings = Settings { route_lasts, ..*settings };
        self.settings.set(0, settings.emit(), 0).map_err(|error| refused_map("settings cannot be written", &error))
    }

    /// Has the program run on packets that come in by these interfaces, and no others. What cannot be done comes back.
    pub fn attach(&mut self, interfaces: &[(u32, String)]) -> Vec<(String, FastPathError)> {
        let Self { program, hooks, pins, .. } = self;
        match classifier(program) {
            Ok(classifier) => hooks.attach(classifier, interfaces, pins.as_ref()),
            Err(error) => vec![(String::new(), refused_program("the program is gone", &error))],
        }
    }

    /// On which hook the program runs; none while it runs nowhere.
    pub fn hook(&self) -> Option<Hook> {
        self.hooks.kind()
    }

    /// Hands a session over, or again in another epoch.
    ///
    /// # Errors
    /// See [`InsertError`]. Neither direction is handed over then.
    pub fn insert(&mut self, session: &Session, epoch: u32, now: u64, identification: u16) -> Result<(), InsertError> {
        let (key_v6, key_v4) = (session.key_v6(), session.key_v4());
        self.v4.insert(key_v4, session.value_v4(epoch, now), 0).map_err(|error| insert_error(&error))?;
        self.v6.insert(key_v6, session.value_v6(epoch, now, identification), 0).map_err(|error| {
            // What was there in both directions before is gone as well.
            let _ = self.v4.remove(&key_v4);
            insert_error(&error)
        })
    }

    /// The use of a session, first of the packets from IPv6 and then of those from IPv4; nothing if it is not here.
    pub fn usage(&self, key: &[u8; layout::KEY_V4]) -> Option<[Usage; 2]> {
        let value = self.v4.get(key, 0).ok()?;
        let v6 = self.v6.get(&Session::parse_v4(key, &value).key_v6(), 0).ok();
        Some([v6.and_then(|value| Usage::parse(&value)).unwrap_or_default(), Usage::parse(&value)?])
    }

    /// Takes a session back; its use until now, as [`Self::usage`] gives it.
    pub fn remove(&mut self, key: &[u8; layout::KEY_V4]) -> Option<[Usage; 2]> {
        let value = self.v4.get(key, 0).ok()?;
        let key_v6 = Session::parse_v4(key, &value).key_v6();
        // The last packets before it goes count, too.
        let _ = self.v4.remove(key);
        let v6 = self.v6.get(&key_v6, 0).ok();
        let _ = self.v6.remove(&key_v6);
        Some([v6.and_then(|value| Usage::parse(&value)).unwrap_or_default(), Usage::parse(&value)?])
    }

    /// All sessions that are here, with their use as [`Self::usage`] gives it, and their epoch.
    pub fn sessions(&self) -> Vec<(Session, [Usage; 2], u32)> {
        let entries = self.v4.iter().filter_map(Result::ok);
        let entry = |(key, value): ([u8; layout::KEY_V4], [u8; layout::VALUE_V4])| {
            let session = Session::parse_v4(&key, &value);
            let v6 = self.v6.get(&session.key_v6(), 0).ok().and_then(|value| Usage::parse(&value));
            Some((session, [v6.unwrap_or_default(), Usage::parse(&value)?], layout::epoch(&value)?))
        };
        entries.filter_map(entry).collect()
    }

    /// Removes directions that have lost their other one, as when a process was killed between two steps.
    pub fn remove_orphans(&mut self) -> usize {
        let keys: std::collections::HashSet<_> = self
            .v4
            .iter()
            .filter_map(Result::ok)
            .map(|(key, value)| Session::parse_v4(&key, &value).key_v6())
            .collect();
        let orphans: Vec<_> = self.v6.keys().filter_map(Result::ok).filter(|key| !keys.contains(key)).collect();
        orphans.iter().filter(|key| self.v6.remove(key).is_ok()).count()
    }

    /// What the program has counted since this process began.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counted().unwrap_or(self.before);
        counters.subtract(&self.before);
        counters
    }

    /// The program, as the kernel tells of it.
    pub fn about(&mut self) -> About {
        let Ok(Ok(info)) = classifier(&mut self.program).map(|program| program.info()) else { return About::default() };
        About {
            // Eight bytes each.
            instructions: u64::from(info.size_translated().unwrap_or_default()) / 8,
            compiled: info.size_jitted().into(),
            runs: info.run_count(),
            nanoseconds: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Bytes of memory that the sessions' maps take, as far as the kernel tells: until Linux 6.3, those that they may take.
    pub fn memory(&self) -> u64 {
        let maps = [self.v6.map(), self.v4.map()];
        maps.iter().filter_map(|map| memory(map.fd().as_fd().as_raw_fd())).sum()
    }

    fn counted(&self) -> Result<Counters, FastPathError> {
        let values = self.counters.get(&0, 0).map_err(|error| refused_map("counters cannot be read", &error))?;
        let mut sum = Counters::default();
        values.iter().for_each(|one| sum.add(&Counters::parse(one)));
        Ok(sum)
    }

    /// Ends it: no packet is translated here any more, and nothing is left.
    pub fn end(mut self) {
        self.hooks.detach_all();
        if let Some(pins) = self.pins.take()
            && let Err(error) = pins.discard()
        {
            tracing::warn!("what the fast path has pinned cannot be removed: {error}");
        }
    }
}

/// What the kernel tells of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// BPF instructions.
    pub instructions: u64,
    /// Bytes that they were compiled to.
    pub compiled: u64,
    /// How often it ran while the kernel measured that.
    pub runs: u64,
    /// Nanoseconds that these took.
    pub nanoseconds: u64,
}

/// Bytes that a map takes.
fn memory(fd: RawFd) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

/// Removes what a process that had a fast path has left, for one that has none.
pub fn discard(bpffs: &Path) {
    let Ok(pins) = Pins::existing(bpffs, OWNER) else { return };
    hook::detach_classic(hook::Point::default());
    if let Err(error) = pins.discard() {
        tracing::warn!("what a former fast path has pinned cannot be removed: {error}");
    }
}

/// The index of an interface.
///
/// # Errors
/// There is none of that name.
pub fn interface(name: &str) -> Result<u32, FastPathError> {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None);
    let index = socket.and_then(|socket| Ok(rustix::net::netdevice::name_to_index(socket, name)?));
    index.map_err(|cause| FastPathError { action: "the translator's device is missing", cause })
}

fn classifier(program: &mut Ebpf) -> Result<&mut SchedClassifier, ProgramError> {
    program.program_mut(PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn insert_error(error: &MapError) -> InsertError {
    let cause = source(error);
    match cause.raw_os_error() {
        Some(libc::E2BIG | libc::ENOMEM) => InsertError::Full,
        _ => InsertError::Other(cause),
    }
}

pub(crate) fn refused(action: &'static str, error: &EbpfError) -> FastPathError {
    FastPathError { action, cause: source(error) }
}

pub(crate) fn refused_program(action: &'static str, error: &ProgramError) -> FastPathError {
    FastPathError { action, cause: source(error) }
}

pub(crate) fn refused_map(action: &'static str, error: &MapError) -> FastPathError {
    FastPathError { action, cause: source(error) }
}

pub(crate) fn missing(name: &str) -> FastPathError {
    FastPathError { action: "the maps are others", cause: io::Error::other(name.to_owned()) }
}

/// The kernel's own error at the bottom, or else the whole sentence.
pub(crate) fn source(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(errno);
        }
        next = error.source();
    }
    io::Error::other(error.to_string())
}
