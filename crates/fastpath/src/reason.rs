//! Why a packet was left to the kernel and the translator: the program counts each.

macro_rules! reasons {
    ($($variant:ident $name:literal $text:literal)*) => {
        /// Why a packet was not translated by the fast path.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $(#[doc = $text] $variant,)* }

        impl Reason {
            /// All reasons, in the program's order.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The stable kebab-case name, as in `status` and in the documentation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for the documentation.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    Vlan "vlan-tag" "The frame carries a VLAN tag: it is for another interface, whose own program sees it without."
    Malformed "malformed" "A header does not fit its bytes, or the checksum of the IPv4 header is wrong."
    ExtensionHeader "extension-header" "The packet from IPv6 has an extension header or is a fragment, or is neither TCP, UDP nor ICMPv6."
    Options "ipv4-options" "The packet from IPv4 has options."
    Fragment "fragment" "The packet from IPv4 is a fragment."
    Protocol "protocol" "The packet from IPv4 is neither TCP, UDP nor ICMP."
    TcpFlags "tcp-flags" "SYN, FIN or RST: the translator's state machine has to see it."
    IcmpType "icmp-type" "The ICMP message is no echo."
    HopLimit "hop-limit" "The hop limit or TTL may end here."
    UdpWithoutChecksum "udp-without-checksum" "The UDP checksum is zero: one has to be computed."
    NoSession "no-session" "The packet belongs to no session that is here; all IPv4 packets to the router itself are among them."
    StaleEpoch "stale-epoch" "The session was handed over before rules, prefix, pool or limits changed: it is judged again."
    Idle "idle" "The session was idle for its lifetime: whether it goes on is the translator's decision."
    Unattended "unattended" "The daemon has been away for too long."
    OtherInterface "other-interface" "The packet came from, or would leave by, another interface than the rules have admitted the session for."
    OtherSender "other-sender" "The packet comes from another hardware address than the session's client: whether that may send from there is seen next."
    PacketList "packet-list" "Packets that the card or the kernel has gathered into a list, each with headers of its own (`rx-gro-list`)."
    TooBig "too-big" "The translated packet would not fit the next link, or has to be fragmented."
    NoRoute "no-route" "The kernel has no route for the translated packet, or does not forward."
    Failed "failed" "The kernel refused in the middle of the translation, mostly for lack of memory: the packet was dropped."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_counts_the_same_reasons_in_the_same_order() {
        let layout = include_str!("../program/layout.h");
        let names = layout.split("enum reason {").nth(1).unwrap().split("REASONS").next().unwrap();
        let names: Vec<String> = names.split(',').map(|name| name.trim().replace('_', "").to_lowercase()).collect();
        let ours: Vec<String> = Reason::ALL.iter().map(|reason| format!("{reason:?}").to_lowercase()).collect();
        assert_eq!(names[..ours.len()], ours);
        assert_eq!(names.len(), ours.len() + 1, "behind the last comma is nothing");
    }

    #[test]
    fn every_reason_has_its_own_name_and_a_sentence() {
        let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|reason| reason.text().ends_with('.')));
    }
}
