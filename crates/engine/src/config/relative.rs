//! What is named by its suffix: it lies in every prefix of its LAN, whatever that prefix is at the time.
use core::net::Ipv6Addr;
use core::ops::Range;

use ipnet::Ipv6Net;

use super::door::Errors;
use super::scalar::Placed;
use super::{Lan, LanPrefix, PrefixOrigin};

/// A LAN's prefix has this length where suffixes are put into it.
const LENGTH: u8 = 64;

/// Whether an address or prefix stands for itself in each prefix of its LAN: its first 64 bits are zero.
pub(super) fn is_relative(net: Ipv6Net) -> bool {
    net.prefix_len() > LENGTH && u128::from(net.addr()) >> 64 == 0
}

/// Suffixes of all VMs, noted while the file is being checked.
#[derive(Debug, Default)]
pub(super) struct Suffixes(Vec<Suffix>);

#[derive(Debug)]
struct Suffix {
    lan: String,
    /// A prefix for containers, or an address with 128 bits.
    net: Ipv6Net,
    owner: String,
    span: Range<usize>,
}

impl Suffixes {
    /// A container prefix.
    pub(super) fn containers(&mut self, lan: &str, net: Ipv6Net, owner: &str, span: Range<usize>) {
        self.0.push(Suffix { lan: lan.to_owned(), net, owner: owner.to_owned(), span });
    }

    /// An address of the router or of a VM.
    pub(super) fn address(&mut self, lan: &str, address: Ipv6Addr, owner: &str, span: Range<usize>) {
        self.containers(lan, Ipv6Net::from(address), owner, span);
    }

    /// Each suffix has a prefix to lie in, and no two overlap.
    pub(super) fn check(mut self, lans: &[Lan], errors: &mut Errors) {
        for lan in lans {
            for prefix in &lan.prefixes {
                self.address(&lan.name, prefix.router, &format!("the router ({})", lan.name), 0..0);
            }
        }
        for (index, one) in self.0.iter().enumerate().filter(|(_, suffix)| !suffix.span.is_empty()) {
            let lan = lans.iter().find(|lan| lan.name == one.lan);
            let wide = |lan: &Lan| {
                lan.prefixes.iter().any(|prefix| prefix.length <= LENGTH)
                    || lan.addresses.iter().any(|net| net.prefix_len() <= LENGTH && !net.addr().is_unicast_link_local())
            };
            if lan.is_some_and(|lan| !wide(lan)) {
                errors.note(
                    one.span.clone(),
                    format!("{} begins with 64 zero bits, and {} has no prefix to put it into", one.net, one.lan),
                    "give the lan a `prefix` or a /64 among its `addresses`, or write the whole address",
                );
            }
            let others =
                self.0.iter().enumerate().filter(|(other, _)| *other < index || self.0[*other].span.is_empty());
            let overlap = others
                .map(|(_, other)| other)
                .find(|other| other.lan == one.lan && (other.net.contains(&one.net) || one.net.contains(&other.net)));
            if let Some(other) = overlap {
                errors.note(
                    one.span.clone(),
                    format!("{} of {} overlaps {} of {}", one.net, one.owner, other.net, other.owner),
                    "give each suffix of a lan to one owner",
                );
            }
        }
    }
}

/// Two LANs do not carve the same subnet, and none of them two of one kind with one number.
pub(super) fn check_subnets(lans: &[(String, Vec<Placed<LanPrefix>>)], errors: &mut Errors) {
    let mut taken: Vec<(&str, LanPrefix)> = Vec::new();
    for (name, prefixes) in lans {
        for (prefix, span) in prefixes {
            let number = |prefix: &LanPrefix| u128::from(prefix.subnet) << (128 - prefix.length);
            let overlap = taken.iter().find(|(_, other)| {
                let shift = 128 - other.length.min(prefix.length);
                other.origin == prefix.origin && number(other) >> shift == number(prefix) >> shift
            });
            if let Some((owner, other)) = overlap {
                let origin = match other.origin {
                    PrefixOrigin::Delegated => "delegated",
                    PrefixOrigin::Learnt => "learnt",
                    PrefixOrigin::Ula => "unique local",
                };
                errors.note(
                    span.clone(),
                    format!(
                        "subnet {} with length {} has two owners: {owner} has subnet {} with length {} of the {origin} prefix",
                        prefix.subnet, prefix.length, other.subnet, other.length
                    ),
                    "give each lan a `subnet` of its own",
                );
            }
            taken.push((name, *prefix));
        }
    }
}
