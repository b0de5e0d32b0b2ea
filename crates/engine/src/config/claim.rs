//! Who owns which name, interface, prefix and address: two owners in the same role are an error.
use core::net::{IpAddr, Ipv6Addr};
use core::ops::Range;
use std::collections::HashMap;

use ipnet::{IpNet, Ipv6Net};

use super::Interface;
use super::door::Errors;
use super::relative::Suffixes;

/// A prefix that somebody owns.
#[derive(Clone, Debug)]
struct Claim<N> {
    net: N,
    /// Link that it lies on: `wan` or a LAN's name; for a container prefix the VM's name.
    owner: String,
    span: Range<usize>,
}

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The router, on this link or as this VM's gateway.
    Router(String),
    /// A VM, or the uplink's gateway.
    Other(String),
}

impl core::fmt::Display for Holder {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Router(what) => write!(out, "the router ({what})"),
            Self::Other(what) => out.write_str(what),
        }
    }
}

/// Everything that is owned, noted while the file is being checked.
#[derive(Debug, Default)]
pub(super) struct Claims {
    names: HashMap<String, &'static str>,
    interfaces: Vec<(Interface, String)>,
    addresses: HashMap<(IpAddr, Option<String>), Holder>,
    on_link: Vec<Claim<IpNet>>,
    containers: Vec<Claim<Ipv6Net>>,
    routes: Vec<Claim<IpNet>>,
    /// What lies in the LANs' prefixes by its suffix.
    pub(super) suffixes: Suffixes,
}

impl Claims {
    /// A LAN's or VM's name, once each.
    pub(super) fn name(&mut self, kind: &'static str, name: &str, span: Range<usize>, errors: &mut Errors) {
        if let Some(first) = self.names.insert(name.to_owned(), kind) {
            errors.note(
                span,
                format!("the name \"{name}\" is given twice: there is a {first} of that name already"),
                "give each lan and each vm a name of its own",
            );
        }
    }

    /// An interface, once each.
    pub(super) fn interface(&mut self, interface: &Interface, owner: &str, span: Range<usize>, errors: &mut Errors) {
        if let Some((_, first)) = self.interfaces.iter().find(|(taken, _)| taken == interface) {
            errors.note(
                span,
                format!("this interface is named twice: {first} has it already"),
                "give each lan a link of its own, and the uplink another",
            );
        }
        self.interfaces.push((interface.clone(), owner.to_owned()));
    }

    /// Whether `%word` names an interface of this file: its kernel name, `wan`, or a LAN's name.
    pub(super) fn knows_interface(&self, word: &str) -> bool {
        self.interfaces.iter().any(|(interface, owner)| owner == word || *interface == Interface::Name(word.to_owned()))
    }

    /// An address that the router or a VM holds on a link, once each; a link-local one once on each link.
    pub(super) fn address(
        &mut self,
        address: IpAddr,
        link: &str,
        holder: Holder,
        span: Range<usize>,
        errors: &mut Errors,
    ) {
        let scope = is_link_local(address).then(|| link.to_owned());
        if let Some(first) = self.addresses.insert((address, scope), holder) {
            errors.note(
                span,
                format!("the address {address} is given twice: {first} has it already"),
                "give each its own; where the lan's address is the gateway, leave the vm's `gateway` out",
            );
        }
    }

    /// Whether the router itself holds this address.
    pub(super) fn is_router(&self, address: IpAddr) -> bool {
        matches!(self.addresses.get(&(address, None)), Some(Holder::Router(_)))
    }

    /// A prefix that is on-link at `link`.
    pub(super) fn on_link(&mut self, net: IpNet, link: &str, span: Range<usize>) {
        if !is_link_local(net.addr()) {
            self.on_link.push(Claim { net: net.trunc(), owner: link.to_owned(), span });
        }
    }

    /// Whether an address lies in a prefix that is on-link somewhere.
    pub(super) fn is_on_link(&self, address: IpAddr) -> bool {
        self.on_link.iter().any(|claim| claim.net.contains(&address))
    }

    /// A prefix that is routed to a VM.
    pub(super) fn container(&mut self, net: Ipv6Net, vm: &str, span: Range<usize>) {
        self.containers.push(Claim { net, owner: vm.to_owned(), span });
    }

    /// The destination of a static route.
    pub(super) fn route(&mut self, net: IpNet, span: Range<usize>) {
        self.routes.push(Claim { net, owner: "a static route".to_owned(), span });
    }

    /// Whether the prefix lies in this network: on-link, containers, or behind a static route.
    pub(super) fn is_inside(&self, net: Ipv6Net) -> bool {
        let net = IpNet::V6(net);
        let default_route = |claim: &&Claim<IpNet>| claim.net.prefix_len() > 0;
        self.on_link.iter().chain(&self.routes).filter(default_route).any(|claim| claim.net.contains(&net))
            || self.containers.iter().any(|claim| IpNet::V6(claim.net).contains(&net))
    }

    /// Checks all prefixes against each other.
    pub(super) fn check(&self, prefixes: &[(Ipv6Net, Range<usize>)], errors: &mut Errors) {
        self.check_links(errors);
        self.check_containers(errors);
        self.check_routes(errors);
        for (pref64, span) in prefixes {
            self.check_pref64(*pref64, span, errors);
        }
    }

    /// The same prefix on two links: the kernel would send to one of them only.
    fn check_links(&self, errors: &mut Errors) {
        let mut owners: HashMap<IpNet, &str> = HashMap::new();
        for claim in &self.on_link {
            let first = owners.entry(claim.net).or_insert(&claim.owner);
            if *first != claim.owner {
                errors.note(
                    claim.span.clone(),
                    format!("the prefix {} has two owners: {first} and {}", claim.net, claim.owner),
                    "give each link a prefix of its own; a longer one inside a wider one is allowed",
                );
            }
        }
    }

    /// Container prefixes do not overlap one another, are not on-link, and hold neither next hop nor router.
    fn check_containers(&self, errors: &mut Errors) {
        let mut sorted: Vec<&Claim<Ipv6Net>> = self.containers.iter().collect();
        sorted.sort_by_key(|claim| (claim.net.network(), claim.net.prefix_len(), claim.span.start));
        let mut widest: Option<&Claim<Ipv6Net>> = None;
        for claim in sorted {
            match widest {
                Some(first) if first.net.contains(&claim.net) => {
                    // The later one in the file is the one to mend.
                    let (first, second) =
                        if first.span.start < claim.span.start { (first, claim) } else { (claim, first) };
                    errors.note(
                        second.span.clone(),
                        format!(
                            "the container prefix {} of {} overlaps {} of {}",
                            second.net, second.owner, first.net, first.owner
                        ),
                        "give each vm container prefixes of its own",
                    );
                }
                Some(_) | None => widest = Some(claim),
            }
        }
        for claim in &self.containers {
            if let Some(link) = self.on_link.iter().find(|link| link.net == IpNet::V6(claim.net)) {
                errors.note(
                    claim.span.clone(),
                    format!(
                        "the prefix {} has two owners: on-link at {}, and containers of {}",
                        claim.net, link.owner, claim.owner
                    ),
                    "route a longer prefix out of it to the vm",
                );
            }
            let inside = self.addresses.iter().filter(|((address, _), _)| IpNet::V6(claim.net).contains(address));
            if let Some(((address, _), holder)) = inside.min_by_key(|((address, _), _)| *address) {
                errors.note(
                    claim.span.clone(),
                    format!("the container prefix {} contains {address}, the address of {holder}", claim.net),
                    "next hop and gateway lie outside what is routed to the vm; choose another prefix or address",
                );
            }
        }
    }

    /// A destination has one route; what is on-link or a VM's needs none.
    fn check_routes(&self, errors: &mut Errors) {
        let mut seen: HashMap<IpNet, String> = HashMap::new();
        for link in &self.on_link {
            seen.insert(link.net, format!("it is on-link at {}", link.owner));
        }
        for claim in &self.containers {
            seen.insert(IpNet::V6(claim.net), format!("it is routed to {}", claim.owner));
        }
        for route in &self.routes {
            if let Some(first) = seen.insert(route.net, "there is a route already".to_owned()) {
                errors.note(
                    route.span.clone(),
                    format!("the prefix {} has two owners: {first}", route.net),
                    "remove one of them; a longer or shorter prefix is allowed",
                );
            }
        }
    }

    /// Pref64::/n is the translator's alone.
    fn check_pref64(&self, pref64: Ipv6Net, span: &Range<usize>, errors: &mut Errors) {
        let overlaps = |net: &Ipv6Net| net.contains(&pref64) || pref64.contains(net);
        let on_link = self.on_link.iter().filter_map(|claim| match claim.net {
            IpNet::V6(net) => Some((net, claim.owner.as_str())),
            IpNet::V4(_) => None,
        });
        let containers = self.containers.iter().map(|claim| (claim.net, claim.owner.as_str()));
        for (net, owner) in on_link.chain(containers).filter(|(net, _)| overlaps(net)) {
            errors.note(
                span.clone(),
                format!("the NAT64 prefix {pref64} overlaps {net} of {owner}"),
                "Pref64::/n is used for translation alone (RFC 6052 section 2.2); choose another one",
            );
        }
        if self.routes.iter().any(|route| route.net == IpNet::V6(pref64)) {
            errors.note(
                span.clone(),
                format!("the NAT64 prefix {pref64} has a static route"),
                "remove the route: sixgate routes Pref64::/n to the translator itself",
            );
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if Ipv6Addr::is_unicast_link_local(&address))
}
