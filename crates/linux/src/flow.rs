//! Established flows past rules and routing: the programs at tc on the uplink and the LANs.
//!
//! Nothing of it outlives the process: without it, every packet goes by rules and routing.
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType};
use sixgate_fastpath::flow::{self, OBJECT, WORDS};
pub use sixgate_fastpath::flow::{Counters, Reason};

use crate::fastpath::hook::{Hook, Hooks, Order, Point, detach_classic};
use crate::fastpath::load::load;
use crate::fastpath::watch::{Names, Watch};
use crate::fastpath::{FastPathError, missing, refused_map, refused_program};

#[cfg(test)]
mod tests;

/// What came in is seen behind prefix translation and the translator's fast path, what leaves before prefix translation.
const POINTS: [Point; 2] = [
    Point { program: flow::IN, pin: "in", direction: TcAttachType::Ingress, order: Order::Last },
    Point { program: flow::OUT, pin: "out", direction: TcAttachType::Egress, order: Order::First },
];

const NAMES: Names =
    Names { watch: flow::WATCH, routes: flow::ROUTES, listening: flow::LISTENING, program: flow::TAKE };

/// The programs, their maps and their hooks.
pub struct Flows {
    programs: Ebpf,
    settings: Array<MapData, u32>,
    counters: PerCpuArray<MapData, [u64; WORDS]>,
    hooks: [Hooks; 2],
    _watch: Watch,
    capacity: u32,
    epoch: u32,
}

impl std::fmt::Debug for Flows {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { hooks, capacity, epoch, .. } = self;
        out.debug_struct("Flows")
            .field("hooks", hooks)
            .field("capacity", capacity)
            .field("epoch", epoch)
            .finish_non_exhaustive()
    }
}

impl Flows {
    /// Loads the programs with room for so many directions of flows. What of them is used least gives way.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open(capacity: u32) -> Result<Self, FastPathError> {
        let mut programs = load(&OBJECT.0, |loader| {
            loader.map_max_entries(flow::FLOWS, capacity);
        })?;
        for point in POINTS {
            let program = classifier(&mut programs, point.program)?;
            program.load().map_err(|error| refused_program("a program is not accepted", &error))?;
        }
        let watch = Watch::begin(&mut programs, NAMES)
            .map_err(|cause| FastPathError { action: "changes of routes cannot be watched", cause })?;
        let mut map = |name| programs.take_map(name).ok_or_else(|| missing(name));
        let wrong = |error| refused_map("the maps are others", &error);
        let settings = map(flow::SETTINGS)?.try_into().map_err(wrong)?;
        let counters = map(flow::COUNTERS)?.try_into().map_err(wrong)?;
        let hooks = POINTS.map(Hooks::at);
        Ok(Self { programs, settings, counters, hooks, _watch: watch, capacity, epoch: 0 })
    }

    /// Whatever was learnt up to now may not be admitted any more: the next packet of each flow goes by rules and routing.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn begin_epoch(&mut self) -> Result<(), FastPathError> {
        // 0 is no epoch.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        self.settings.set(0, self.epoch, 0).map_err(|error| refused_map("settings cannot be written", &error))
    }

    /// Has the programs run on these interfaces and no others. What cannot be done comes back.
    pub fn attach(&mut self, interfaces: &[(u32, String)]) -> Vec<(String, FastPathError)> {
        let Self { programs, hooks, .. } = self;
        let mut failed = Vec::new();
        for (hooks, point) in hooks.iter_mut().zip(POINTS) {
            match classifier(programs, point.program) {
                Ok(program) => failed.extend(hooks.attach(program, interfaces, None)),
                Err(error) => failed.push((String::new(), error)),
            }
        }
        failed
    }

    /// On which hook the programs run; none while they run nowhere.
    pub fn hook(&self) -> Option<Hook> {
        self.hooks.first().and_then(Hooks::kind)
    }

    /// How many directions of flows it knows at most.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// What was counted since this process began.
    pub fn counters(&self) -> Counters {
        self.counters.get(&0, 0).map_or_else(|_| Counters::default(), |values| Counters::sum(values.iter()))
    }

    /// Ends it: every packet goes by rules and routing.
    pub fn end(mut self) {
        self.hooks.iter_mut().for_each(Hooks::detach_all);
    }
}

/// Removes what a process that was killed has left on interfaces: hooks of kernels before 6.6.
pub fn discard() {
    if Hook::best() == Hook::Clsact {
        POINTS.into_iter().for_each(detach_classic);
    }
}

fn classifier<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, FastPathError> {
    let program = programs.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|error| refused_program("a program is of another kind", &error))
}
