//! Where the program runs: at tc ingress, by TCX from Linux 6.6 on and by a clsact qdisc before.
//!
//! Both let other programs run before and after ours.
use std::collections::BTreeMap;
use std::fs;

use aya::programs::links::{FdLink, LinkError, LinkOrder, PinnedLink};
use aya::programs::tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{ProgramError, ProgramId, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use sixgate_fastpath::{PROGRAM, flow, npt};

use super::pins::Pins;
use super::{FastPathError, refused_program, source};

/// What runs where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Name of the program, by which filters of clsact are known.
    pub(crate) program: &'static str,
    /// Name of the pins.
    pub(crate) pin: &'static str,
    /// Where packets come in, or where they leave.
    pub(crate) direction: TcAttachType,
    /// Among our own programs there.
    pub(crate) order: Order,
}

/// A program's place among our own on the same hook. Other people's stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before all others of ours.
    First,
    /// Before the last one.
    Middle,
    /// Behind all others of ours.
    Last,
}

/// Programs of the router that are [`Order::Middle`] where another one is [`Order::First`], and the one that is [`Order::Last`].
const MIDDLE: [&str; 2] = [npt::OUT, npt::LAN_OUT];
const LAST: &str = flow::IN;

impl Order {
    /// Where TCX is to put it: before the first one there that it comes before.
    fn among(self, name: &str, direction: TcAttachType) -> LinkOrder {
        let is_behind = |program: &str| match self {
            Self::First => program == LAST || MIDDLE.contains(&program),
            Self::Middle => program == LAST,
            Self::Last => false,
        };
        let there = SchedClassifier::query_tcx(name, direction).map(|(_, programs)| programs).unwrap_or_default();
        let next = there.iter().find(|program| program.name_as_str().is_some_and(is_behind));
        next.map_or_else(LinkOrder::default, |program| {
            // SAFETY: the kernel has just told the number; should the program be gone by now, it refuses the attachment.
            LinkOrder::before_program_id(unsafe { ProgramId::new(program.id()) })
        })
    }

    /// The priority of a filter of clsact. The kernel chooses from 49152 downwards.
    const fn priority(self) -> u16 {
        match self {
            Self::First => 16_384,
            Self::Middle => 0,
            Self::Last => 61_440,
        }
    }
}

impl Default for Point {
    fn default() -> Self {
        Self { program: PROGRAM, pin: "link", direction: TcAttachType::Ingress, order: Order::Middle }
    }
}

/// Which of the kernel's hooks is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCX.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl Hook {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    /// What the kernel offers.
    pub(crate) fn best() -> Self {
        let has_tcx = KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0));
        if has_tcx { Self::Tcx } else { Self::Clsact }
    }
}

/// The interfaces that the program runs on.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    point: Point,
    attached: BTreeMap<u32, Attached>,
    /// Overrides the kernel's best, for tests.
    pub(crate) wanted: Option<Hook>,
}

#[derive(Debug)]
struct Attached {
    name: String,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// It outlives the process.
    Pinned(PinnedLink),
    /// It goes with the process.
    Loose(FdLink),
    /// It outlives the process by itself.
    Classic,
}

impl Hooks {
    /// None yet, at that point.
    pub(crate) fn at(point: Point) -> Self {
        Self { point, ..Self::default() }
    }

    /// The program runs on these interfaces and no others; what could not be done comes back.
    pub(crate) fn attach(
        &mut self,
        program: &mut SchedClassifier,
        interfaces: &[(u32, String)],
        pins: Option<&Pins>,
    ) -> Vec<(String, FastPathError)> {
        let is_wanted = |index: u32| interfaces.iter().any(|(wanted, _)| *wanted == index);
        let gone: Vec<u32> = self.attached.keys().copied().filter(|index| !is_wanted(*index)).collect();
        let point = self.point;
        gone.iter().filter_map(|index| self.attached.remove(index)).for_each(|attached| attached.detach(point));
        // What a former process left on interfaces that are not ours any more.
        for index in pins.map(|pins| pins.links(point.pin)).unwrap_or_default() {
            if !is_wanted(index)
                && let Some(pins) = pins
            {
                let _ = fs::remove_file(pins.link(point.pin, index));
            }
        }
        let mut failed = Vec::new();
        for (index, name) in interfaces {
            if self.attached.contains_key(index) {
                continue;
            }
            match self.attach_one(program, *index, name, pins) {
                Ok(held) => {
                    tracing::info!("{} runs on {name}", point.program);
                    self.attached.insert(*index, Attached { name: name.clone(), held });
                }
                Err(error) => failed.push((name.clone(), refused_program("the hook refuses the program", &error))),
            }
        }
        failed
    }

    fn attach_one(
        &self,
        program: &mut SchedClassifier,
        index: u32,
        name: &str,
        pins: Option<&Pins>,
    ) -> Result<Held, ProgramError> {
        if self.wanted.unwrap_or_else(Hook::best) == Hook::Clsact {
            return attach_classic(program, name, self.point).map(|()| Held::Classic);
        }
        let path = pins.map(|pins| pins.link(self.point.pin, index));
        if let Some(path) = &path
            && let Ok(link) = PinnedLink::from_pin(path)
        {
            // The interface may be gone and another one have its number; then the hook is nobody's.
            let adopted = FdLink::from(link).try_into().map_err(|error| refused_link(&error));
            let adopted = adopted.and_then(|link| program.attach_to_link(link));
            match adopted.and_then(|id| loose(program, id)) {
                // The pin holds the same hook still; its path is known again by looking.
                Ok(_) => return PinnedLink::from_pin(path).map(Held::Pinned).map_err(|error| refused_link(&error)),
                Err(error) => {
                    tracing::debug!("the hook on {name} is not adopted: {error}");
                    let _ = fs::remove_file(path);
                }
            }
        }
        let options = TcAttachOptions::TcxOrder(self.point.order.among(name, self.point.direction));
        let id = program.attach_with_options(name, self.point.direction, options)?;
        let link = loose(program, id)?;
        match path {
            None => Ok(Held::Loose(link)),
            Some(path) => link.pin(&path).map(Held::Pinned).map_err(|error| ProgramError::IOError(source(&error))),
        }
    }

    /// The program runs nowhere.
    pub(crate) fn detach_all(&mut self) {
        let point = self.point;
        std::mem::take(&mut self.attached).into_values().for_each(|attached| attached.detach(point));
    }

    /// Which hook is taken; none while there is no interface.
    pub(crate) fn kind(&self) -> Option<Hook> {
        self.attached.values().next().map(|attached| match attached.held {
            Held::Pinned(_) | Held::Loose(_) => Hook::Tcx,
            Held::Classic => Hook::Clsact,
        })
    }
}

impl Attached {
    fn detach(self, point: Point) {
        match self.held {
            // Without its path, the hook goes when the last handle does.
            Held::Pinned(link) => drop(link.unpin()),
            Held::Loose(link) => drop(link),
            Held::Classic => detach_by_name(&self.name, point),
        }
    }
}

fn loose(program: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<FdLink, ProgramError> {
    program.take_link(id)?.try_into().map_err(|error| refused_link(&error))
}

fn refused_link(error: &LinkError) -> ProgramError {
    ProgramError::IOError(source(error))
}

/// Filters of clsact are known by their name; one that a former process left is replaced.
fn attach_classic(program: &mut SchedClassifier, name: &str, point: Point) -> Result<(), ProgramError> {
    // It may be there already, and others may use it.
    let _ = tc::qdisc_add_clsact(name);
    detach_by_name(name, point);
    let options = NlOptions { priority: point.order.priority(), ..NlOptions::default() };
    let id = program.attach_with_options(name, point.direction, TcAttachOptions::Netlink(options))?;
    // Dropping the handle would take the filter away, which is to outlive the process.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

fn detach_by_name(name: &str, point: Point) {
    let _ = tc::qdisc_detach_program(name, point.direction, point.program);
}

/// Takes filters of clsact away that a former process left, wherever they are.
pub(crate) fn detach_classic(point: Point) {
    let names = fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    names.filter_map(|name| name.file_name().into_string().ok()).for_each(|name| detach_by_name(&name, point));
}
