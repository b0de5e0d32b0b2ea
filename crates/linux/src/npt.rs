//! NPTv6 in the kernel: the programs at tc on the uplink and the LANs, the prefixes that they translate, what they count.
//!
//! Prefixes and hooks outlive the process, and the next one adopts them.
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::Path;

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType};
use ipnet::Ipv6Net;
use sixgate_engine::npt::{Mapping, NptPlan, Verdict};
use sixgate_fastpath::npt::{self, OBJECT, Target, VALUE, VERDICTS, value};

use crate::fastpath::hook::{Hook, Hooks, Order, Point, detach_classic};
use crate::fastpath::load::load;
use crate::fastpath::pins::{Owner, Pins};
use crate::fastpath::{FastPathError, missing, refused_map, refused_program};

#[cfg(test)]
mod tests;

const OWNER: Owner = Owner { name: "sixgate-npt", version: npt::VERSION };

/// What runs where: on the uplink, then on the LANs.
const POINTS: [Point; 4] = [
    Point { program: npt::IN, pin: "in", direction: TcAttachType::Ingress, order: Order::Middle },
    Point { program: npt::OUT, pin: "out", direction: TcAttachType::Egress, order: Order::Middle },
    Point { program: npt::LAN_IN, pin: "lan-in", direction: TcAttachType::Ingress, order: Order::Middle },
    Point { program: npt::LAN_OUT, pin: "lan-out", direction: TcAttachType::Egress, order: Order::Middle },
];

type Prefixes = LpmTrie<MapData, [u8; 16], [u8; VALUE]>;

/// The programs, their maps and their hooks.
pub struct Npt {
    programs: Ebpf,
    inside: Prefixes,
    outside: Prefixes,
    counters: PerCpuArray<MapData, [u64; VERDICTS]>,
    hooks: [Hooks; 4],
    pins: Option<Pins>,
}

impl std::fmt::Debug for Npt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Npt").field("hooks", &self.hooks).field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl Npt {
    /// Loads the programs, or adopts the maps that a former process left below `bpffs`. Without such a file system there,
    /// what is made goes with the process.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open(bpffs: &Path) -> Result<Self, FastPathError> {
        let pins = Pins::open(bpffs, OWNER).inspect_err(|error| tracing::debug!("nothing is pinned: {error}")).ok();
        match Self::load(pins) {
            // What was left there may be of a shape that this release does not know, whatever its version says.
            Err(_) if Pins::open(bpffs, OWNER).is_ok_and(|pins| pins.discard().is_ok()) => {
                Self::load(Pins::open(bpffs, OWNER).ok())
            }
            loaded => loaded,
        }
    }

    fn load(pins: Option<Pins>) -> Result<Self, FastPathError> {
        let mut programs = load(&OBJECT.0, |loader| {
            for map in npt::MAPS {
                if let Some(pins) = &pins {
                    loader.map_pin_path(map, pins.map(map));
                }
            }
        })?;
        for point in POINTS {
            let loaded = classifier(&mut programs, point).and_then(|program| {
                program.load().map_err(|error| refused_program("a program is not accepted", &error))
            });
            loaded?;
        }
        let mut map = |name| programs.take_map(name).ok_or_else(|| missing(name));
        let wrong = |error| refused_map("the maps are others", &error);
        let inside = LpmTrie::try_from(map(npt::INSIDE)?).map_err(wrong)?;
        let outside = LpmTrie::try_from(map(npt::OUTSIDE)?).map_err(wrong)?;
        let counters = PerCpuArray::try_from(map(npt::COUNTERS)?).map_err(wrong)?;
        Ok(Self { programs, inside, outside, counters, hooks: POINTS.map(Hooks::at), pins })
    }

    /// Translates what the plan says where it says so, and nothing else. What cannot be done comes back, with the
    /// interface where there is one.
    ///
    /// What is new comes before what is old goes, and a prefix inside changes what stands for it in one step.
    pub fn apply(&mut self, plan: &NptPlan) -> Vec<(String, FastPathError)> {
        let mut failed = Vec::new();
        let mut note = |done: Result<(), FastPathError>| failed.extend(done.err().map(|error| (String::new(), error)));
        let inbound = plan.pairs.iter().filter_map(|pair| Some((pair.outside?, pair.inbound())));
        let outbound = plan.pairs.iter().map(|pair| (pair.inside, pair.outbound()));
        let (inbound, outbound) = (values(inbound), values(outbound));
        note(add(&mut self.outside, &inbound));
        note(add(&mut self.inside, &outbound));
        note(remove_others(&mut self.outside, &inbound));
        note(remove_others(&mut self.inside, &outbound));
        let uplink = [plan.uplink.clone()];
        let Self { programs, hooks, pins, .. } = self;
        for (hooks, point) in hooks.iter_mut().zip(POINTS) {
            let links = if point.pin.starts_with("lan") { &plan.lans[..] } else { &uplink };
            match classifier(programs, point) {
                Ok(program) => failed.extend(hooks.attach(program, links, pins.as_ref())),
                Err(error) => failed.push((String::new(), error)),
            }
        }
        failed
    }

    /// On which hook the programs run; none while they run nowhere.
    pub fn hook(&self) -> Option<Hook> {
        self.hooks.first().and_then(Hooks::kind)
    }

    /// Packets by what became of them, since the maps were made.
    pub fn counters(&self) -> BTreeMap<Verdict, u64> {
        let Ok(values) = self.counters.get(&0, 0) else { return BTreeMap::new() };
        let sum = |at: usize| values.iter().filter_map(|one| one.get(at)).sum();
        Verdict::ALL.into_iter().enumerate().map(|(at, verdict)| (verdict, sum(at))).collect()
    }

    /// Ends it: nothing is translated any more, and nothing is left.
    pub fn end(mut self) {
        self.hooks.iter_mut().for_each(Hooks::detach_all);
        if let Some(pins) = self.pins.take()
            && let Err(error) = pins.discard()
        {
            tracing::warn!("what NPTv6 has pinned cannot be removed: {error}");
        }
    }
}

/// Removes what a process that had NPTv6 has left, for one that has none.
pub fn discard(bpffs: &Path) {
    let Ok(pins) = Pins::existing(bpffs, OWNER) else { return };
    POINTS.into_iter().for_each(detach_classic);
    if let Err(error) = pins.discard() {
        tracing::warn!("what a former NPTv6 has pinned cannot be removed: {error}");
    }
}

fn classifier(programs: &mut Ebpf, point: Point) -> Result<&mut SchedClassifier, FastPathError> {
    let program = programs.program_mut(point.program).ok_or_else(|| missing(point.program))?;
    program.try_into().map_err(|error| refused_program("a program is of another kind", &error))
}

fn values(mappings: impl Iterator<Item = (Ipv6Net, Option<Mapping>)>) -> BTreeMap<Ipv6Net, [u8; VALUE]> {
    let target = |mapping: &Mapping| Target {
        prefix: mapping.to().network(),
        host: Ipv6Addr::from(!u128::from(mapping.to().netmask())),
        adjustment: mapping.adjustment(),
        words: mapping.words(),
    };
    mappings.map(|(net, mapping)| (net.trunc(), value(mapping.as_ref().map(target).as_ref()))).collect()
}

fn key(net: &Ipv6Net) -> Key<[u8; 16]> {
    Key::new(net.prefix_len().into(), net.network().octets())
}

fn add(map: &mut Prefixes, wanted: &BTreeMap<Ipv6Net, [u8; VALUE]>) -> Result<(), FastPathError> {
    for (net, value) in wanted {
        map.insert(&key(net), value, 0).map_err(|error| refused_map("a prefix cannot be told", &error))?;
    }
    Ok(())
}

fn remove_others(map: &mut Prefixes, wanted: &BTreeMap<Ipv6Net, [u8; VALUE]>) -> Result<(), FastPathError> {
    let others: Vec<_> = map
        .keys()
        .filter_map(Result::ok)
        .filter(|key| {
            let length = u8::try_from(key.prefix_len()).ok();
            let net = length.and_then(|length| Ipv6Net::new(Ipv6Addr::from(key.data()), length).ok());
            net.is_none_or(|net| !wanted.contains_key(&net))
        })
        .collect();
    for other in others {
        map.remove(&other).map_err(|error| refused_map("a prefix cannot be taken back", &error))?;
    }
    Ok(())
}
