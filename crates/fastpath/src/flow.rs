//! The programs that have established flows pass routing and rules, and what their maps hold; `program/flow.c` has the same
//! in C.
use crate::Object;

/// The compiled programs, an ELF file.
pub static OBJECT: &Object<[u8]> = &Object(*include_bytes!(concat!(env!("OUT_DIR"), "/flow.o")));

/// Where packets come in.
pub const IN: &str = "flow_in";
/// Where they leave.
pub const OUT: &str = "flow_out";
/// The program that [`IN`] goes over to while [`LISTENING`] has it.
pub const TAKE: &str = "flow_take";
/// The program that notes when routes change.
pub const WATCH: &str = "flow_routes_change";
/// What is known of flows, one entry for each direction.
pub const FLOWS: &str = "flows";
/// What the programs are told.
pub const SETTINGS: &str = "flow_settings";
/// What they count.
pub const COUNTERS: &str = "flow_counters";
/// When routes changed.
pub const ROUTES: &str = "flow_routes";
/// Holds [`TAKE`] as long as its maker lives.
pub const LISTENING: &str = "flow_listening";

/// What an entry takes of memory, in bytes, with what the kernel needs to find it.
pub const FLOW_BYTES: u64 = 192;
/// Words of the counters of one processor.
pub const WORDS: usize = 3 + Reason::ALL.len() + 1;

macro_rules! reasons {
    ($($variant:ident $name:literal $text:literal)*) => {
        /// Why a packet went by rules and routing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $(#[doc = $text] $variant,)* }

        impl Reason {
            /// All reasons, in the program's order.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The stable kebab-case name, as in `status` and in the documentation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    Vlan "vlan-tag" "The frame carries a VLAN tag."
    Malformed "malformed" "A header does not fit its bytes."
    Protocol "protocol" "Neither TCP nor UDP follows the IPv6 header."
    TcpFlags "tcp-flags" "SYN, FIN or RST."
    HopLimit "hop-limit" "The hop limit ends here."
    Unknown "unknown" "Nothing was learnt of its flow."
    Changed "changed" "Rules, routes or senders have changed since."
    OtherSender "other-sender" "It comes from another interface or hardware address than what was admitted."
    Closing "closing" "Its connection was opening or closing lately."
    Due "due" "It is time for one to show itself."
    TooBig "too-big" "It is longer than all that were let through."
}

/// What the programs have counted on all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets on the wire that went past rules and routing.
    pub packets: u64,
    /// Their bytes, from the IPv6 header on.
    pub bytes: u64,
    /// How often a flow was learnt or learnt anew.
    pub learnt: u64,
    /// Packets that went by rules and routing, by reason.
    pub reasons: [u64; Reason::ALL.len()],
}

impl Counters {
    /// Adds up processors.
    pub fn sum<'a>(processors: impl Iterator<Item = &'a [u64; WORDS]>) -> Self {
        let mut sum = Self::default();
        for words in processors {
            let [packets, bytes, learnt, reasons @ .., _] = words;
            sum.packets += packets;
            sum.bytes += bytes;
            sum.learnt += learnt;
            sum.reasons.iter_mut().zip(reasons).for_each(|(sum, count)| *sum += count);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_counts_the_same_reasons_in_the_same_order() {
        let program = include_str!("../program/flow.c");
        let names = program.split("enum reason {").nth(1).unwrap().split("REASONS").next().unwrap();
        let names: Vec<String> = names.split(',').map(|name| name.trim().replace('_', "").to_lowercase()).collect();
        let ours: Vec<String> = Reason::ALL.iter().map(|reason| format!("{reason:?}").to_lowercase()).collect();
        assert_eq!(names[..ours.len()], ours);
        assert_eq!(names.len(), ours.len() + 1, "behind the last comma is nothing");
    }

    #[test]
    fn processors_are_added_up() {
        let mut words = [0; WORDS];
        (words[0], words[1], words[2], words[3], words[WORDS - 2]) = (1, 100, 1, 7, 9);
        words[WORDS - 1] = 1_000;
        let sum = Counters::sum([&words, &words].into_iter());
        assert_eq!((sum.packets, sum.bytes, sum.learnt), (2, 200, 2));
        assert_eq!((sum.reasons[0], sum.reasons[Reason::ALL.len() - 1]), (14, 18));
    }
}
