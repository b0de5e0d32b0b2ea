//! The CLAT's fast path in the kernel: a program where IPv4 leaves by the TUN device, and one where the uplink's packets come in.
//!
//! Nothing of it outlives the process where the kernel has TCX. Where it has not, [`discard`] removes what a killed one left.
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType};
use sixgate_engine::clat::address::HOST_V4;
use sixgate_engine::clat::plan::{ClatPlan, DEVICE, SHARE};
use sixgate_engine::status::Traffic;
use sixgate_engine::xlat::siit::Translated;
use sixgate_engine::xlat::{Mtus, Policy};
use sixgate_fastpath::clat::{self, COUNTER_WORDS, Counters, OBJECT, SETTINGS_LENGTH, Settings};

use crate::fastpath::hook::{Hook, Hooks, Order, Point, detach_classic};
use crate::fastpath::load::load;
use crate::fastpath::{FastPathError, fib_flags, missing, refused_map, refused_program};

#[cfg(test)]
mod tests;

/// What runs where: at the device, then at the uplink.
const POINTS: [Point; 2] = [
    Point { program: clat::OUT, pin: "clat-out", direction: TcAttachType::Egress, order: Order::Middle },
    Point { program: clat::IN, pin: "clat-in", direction: TcAttachType::Ingress, order: Order::Middle },
];
/// The translator counts as one hop and the kernel, which forwards between device and uplink, as another.
const HOPS: u8 = 2;

/// The programs, their maps and their hooks.
pub struct ClatPath {
    programs: Ebpf,
    settings: Array<MapData, [u8; SETTINGS_LENGTH]>,
    counters: PerCpuArray<MapData, [u64; COUNTER_WORDS]>,
    hooks: [Hooks; 2],
}

impl std::fmt::Debug for ClatPath {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ClatPath").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

impl ClatPath {
    /// Loads the programs; they run nowhere yet.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open() -> Result<Self, FastPathError> {
        let mut programs = load(&OBJECT.0, |_| {})?;
        for point in POINTS {
            let loaded = classifier(&mut programs, point)?.load();
            loaded.map_err(|error| refused_program("a program is not accepted", &error))?;
        }
        let mut map = |name| programs.take_map(name).ok_or_else(|| missing(name));
        let wrong = |error| refused_map("the maps are others", &error);
        let settings = Array::try_from(map(clat::SETTINGS)?).map_err(wrong)?;
        let counters = PerCpuArray::try_from(map(clat::COUNTERS)?).map_err(wrong)?;
        Ok(Self { programs, settings, counters, hooks: POINTS.map(Hooks::at) })
    }

    /// Translates by this plan from now on; `identifier` is that of the translator's own echo requests.
    ///
    /// # Errors
    /// The kernel refused; nothing is translated then.
    pub fn follow(&mut self, plan: &ClatPlan, identifier: u16) -> Result<(), FastPathError> {
        self.configure(&settings(plan, identifier))?;
        let places = [(plan.device, DEVICE.to_owned()), (plan.link, plan.interface.clone())];
        for ((hooks, point), place) in self.hooks.iter_mut().zip(POINTS).zip(places) {
            let attached = hooks.attach(classifier(&mut self.programs, point)?, &[place], None);
            if let Some((_, error)) = attached.into_iter().next() {
                self.rest();
                return Err(error);
            }
        }
        Ok(())
    }

    fn configure(&mut self, settings: &Settings) -> Result<(), FastPathError> {
        self.settings.set(0, settings.emit(), 0).map_err(|error| refused_map("settings cannot be written", &error))
    }

    /// Translates nothing any more.
    pub fn rest(&mut self) {
        if let Err(error) = self.settings.set(0, [0; SETTINGS_LENGTH], 0) {
            tracing::debug!("settings cannot be written: {error}");
        }
        self.hooks.iter_mut().for_each(Hooks::detach_all);
    }

    /// On which hook the programs run; none while they run nowhere.
    pub fn hook(&self) -> Option<Hook> {
        self.hooks.iter().find_map(Hooks::kind)
    }

    /// What was translated here.
    pub fn translated(&self) -> Translated {
        let Counters { v4_to_v6, v6_to_v4, .. } = self.counters();
        let traffic = |traffic: clat::Traffic| Traffic { packets: traffic.packets, bytes: traffic.bytes };
        Translated { v4_to_v6: traffic(v4_to_v6), v6_to_v4: traffic(v6_to_v4) }
    }

    /// Packets that were lost, since the kernel refused in the middle of the translation.
    pub fn failed(&self) -> u64 {
        self.counters().failed
    }

    fn counters(&self) -> Counters {
        self.counters.get(&0, 0).map(|values| Counters::sum(values.iter())).unwrap_or_default()
    }
}

/// Removes what a killed process has left where the kernel has no TCX.
pub fn discard() {
    if Hook::best() == Hook::Clsact {
        POINTS.into_iter().for_each(detach_classic);
    }
}

/// What the programs are told of a plan.
fn settings(plan: &ClatPlan, identifier: u16) -> Settings {
    let Mtus { v4, v6 } = plan.translation().mtus;
    let mtu = |mtu: u32| u16::try_from(mtu).unwrap_or(u16::MAX);
    Settings {
        address: plan.address,
        pref64: plan.pref64,
        host: HOST_V4,
        device: plan.device,
        uplink: plan.link,
        fib_flags: fib_flags(),
        mtu_v4: mtu(v4),
        mtu_v6: mtu(v6),
        mtu_v6_without_df: mtu(v6.min(Policy::DEFAULT.lowest_ipv6_mtu)),
        hops: HOPS,
        least_hops: HOPS + 1,
        identifier,
        first_port: plan.shared.then_some(*SHARE.start()),
        link_header: 0,
    }
}

fn classifier(programs: &mut Ebpf, point: Point) -> Result<&mut SchedClassifier, FastPathError> {
    let program = programs.program_mut(point.program).ok_or_else(|| missing(point.program))?;
    program.try_into().map_err(|error| refused_program("a program is of another kind", &error))
}
