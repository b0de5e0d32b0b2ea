//! Routes of all tables: compared with the kernel's dump, and only those of our protocol are changed or removed.
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHopFlags, RouteProtocol,
    RouteScope, RouteType, RouteVia,
};
use sixgate_engine::plan::{Family, NextHop, ROUTE_PROTOCOL, RoutePlan};

use super::link::LinkNames;
use super::{ApplyError, Removed, Repairs};
use crate::netlink::{Netlink, NetlinkError, accept_errno};

/// The main table.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// What the kernel makes of metric 0 on an IPv6 route (IP6_RT_PRIO_USER).
const IPV6_DEFAULT_METRIC: u32 = 1024;
const OURS: RouteProtocol = RouteProtocol::Other(ROUTE_PROTOCOL);

/// A default route's next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// Kernel interface index.
    pub link: u32,
    /// Next hop.
    pub address: IpAddr,
}

impl Netlink {
    /// The gateways of the main table's default routes that are in force, whoever set them, sorted.
    ///
    /// # Errors
    /// The kernel refused the dump, or the connection is gone.
    pub async fn default_gateways(&self) -> Result<Vec<Gateway>, NetlinkError> {
        let mut gateways = Vec::new();
        for message in self.route_messages().await? {
            if message.header.destination_prefix_length == 0 && table(&message) == MAIN {
                gateways.extend(next_gateways(&message));
            }
        }
        gateways.sort();
        gateways.dedup();
        Ok(gateways)
    }

    /// The links of the main table's default routes of that family that are somebody else's and in force, best first.
    ///
    /// # Errors
    /// The kernel refused the dump, or the connection is gone.
    pub async fn default_links(&self, family: Family) -> Result<Vec<u32>, NetlinkError> {
        let wanted = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let messages = self.route_messages().await?;
        let mut links: Vec<(u32, u32)> = messages
            .iter()
            .filter(|message| {
                let header = &message.header;
                header.address_family == wanted && header.destination_prefix_length == 0 && header.protocol != OURS
            })
            .filter(|message| table(message) == MAIN && message.header.kind == RouteType::Unicast)
            .flat_map(|message| {
                let metric = route(message).metric;
                next_links(message).into_iter().map(move |link| (metric, link))
            })
            .collect();
        links.sort();
        Ok(links.into_iter().map(|(_, link)| link).collect())
    }

    /// Adds or changes what is wanted and returns what is ours but not wanted.
    pub(super) async fn add_routes(
        &self,
        plans: &[RoutePlan],
        names: &LinkNames,
        repairs: &mut Repairs,
        errors: &mut Vec<ApplyError>,
    ) -> Vec<RoutePlan> {
        let held: Vec<RoutePlan> = match self.route_messages().await {
            Ok(messages) => messages.iter().filter(|message| message.header.protocol == OURS).map(route).collect(),
            Err(error) => {
                errors.push(ApplyError::netlink("routes".to_owned(), "read", &error));
                return Vec::new();
            }
        };
        let mut wanted: Vec<RoutePlan> = plans.iter().cloned().map(normal).collect();
        // A next hop has to be reachable when a route over it is added: straight routes come first.
        wanted.sort_by_key(|plan| matches!(plan.next, NextHop::Gateway { .. }));
        for plan in &wanted {
            if held.contains(plan) {
                continue;
            }
            let was_there = repairs.had(|plan| &plan.routes, plan);
            repairs.note(was_there, "route", || item(plan, names));
            // Without a route of ours in this place a stranger's must not be replaced: EXCL makes the kernel say so.
            let replace = was_there || held.iter().any(|other| same_place(other, plan));
            let add = self.handle.route().add(message(plan));
            let request = if replace { add.replace() } else { add };
            if let Err(error) = request.execute().await.map_err(NetlinkError::from) {
                errors.push(ApplyError::netlink(item(plan, names), "add", &error));
            }
        }
        held.into_iter().filter(|plan| !wanted.iter().any(|other| same_place(other, plan))).collect()
    }

    pub(super) async fn remove_routes(
        &self,
        stale: Vec<RoutePlan>,
        names: &LinkNames,
        errors: &mut Vec<ApplyError>,
    ) -> Removed {
        let mut removed = Removed::Nothing;
        for plan in stale {
            let mut message = message(&plan);
            // The kernel matches an IPv4 route's scope unless it is "nowhere".
            message.header.scope = RouteScope::NoWhere;
            match accept_errno(self.handle.route().del(message).execute(), &[libc::ESRCH, libc::ENODEV]).await {
                Ok(()) => removed = Removed::Something,
                Err(error) => errors.push(ApplyError::netlink(item(&plan, names), "remove", &error)),
            }
        }
        removed
    }

    async fn route_messages(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut messages = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut all = RouteMessage::default();
            all.header.address_family = family;
            messages.extend(self.dump(|handle| handle.route().get(all).execute()).await?);
        }
        Ok(messages)
    }
}

/// Two routes in the same place of the routing tables: the kernel holds one or the other.
fn same_place(a: &RoutePlan, b: &RoutePlan) -> bool {
    (a.to, a.table, a.metric) == (b.to, b.table, b.metric)
}

/// The route as the kernel will show it.
fn normal(mut plan: RoutePlan) -> RoutePlan {
    if matches!(plan.to, IpNet::V6(_)) && plan.metric == 0 {
        plan.metric = IPV6_DEFAULT_METRIC;
    }
    plan.to = plan.to.trunc();
    plan
}

fn message(plan: &RoutePlan) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = match plan.to {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    header.destination_prefix_length = plan.to.prefix_len();
    header.protocol = OURS;
    header.scope = RouteScope::Universe;
    header.kind = RouteType::Unicast;
    header.table = u8::try_from(plan.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(plan.table));
    attributes.push(RouteAttribute::Priority(plan.metric));
    if let Some(source) = plan.source {
        attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    if let Some(mtu) = plan.mtu {
        attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    if plan.to.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(plan.to.addr().into()));
    }
    match plan.next {
        NextHop::Gateway { link, via, onlink } => {
            attributes.push(RouteAttribute::Oif(link));
            attributes.push(match (plan.to, via) {
                (IpNet::V4(_), IpAddr::V6(via)) => RouteAttribute::Via(RouteVia::Inet6(via)),
                (IpNet::V4(_), IpAddr::V4(_)) | (IpNet::V6(_), _) => RouteAttribute::Gateway(via.into()),
            });
            header.flags.set(RouteFlags::Onlink, onlink);
        }
        NextHop::Link { link } => {
            attributes.push(RouteAttribute::Oif(link));
            if matches!(plan.to, IpNet::V4(_)) {
                header.scope = RouteScope::Link;
            }
        }
        NextHop::Unreachable => header.kind = RouteType::Unreachable,
    }
    message
}

fn table(message: &RouteMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or_else(|| message.header.table.into())
}

/// The kernel's route in the plan's words.
fn route(message: &RouteMessage) -> RoutePlan {
    let v6 = message.header.address_family == AddressFamily::Inet6;
    let mut to: IpAddr = if v6 { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
    let (mut metric, mut source, mut mtu) = (0, None, None);
    let mut link = 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address).unwrap_or(to),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let next = if message.header.kind == RouteType::Unreachable {
        NextHop::Unreachable
    } else if let Some(via) = gateway(&message.attributes) {
        NextHop::Gateway { link, via, onlink: message.header.flags.contains(RouteFlags::Onlink) }
    } else {
        NextHop::Link { link }
    };
    let to = IpNet::new(to, message.header.destination_prefix_length).unwrap_or_else(|_| to.into());
    RoutePlan { to, next, table: table(message), metric, source, mtu }
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn next_gateways(message: &RouteMessage) -> Vec<Gateway> {
    if message.header.kind != RouteType::Unicast
        || message.header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown)
    {
        return Vec::new();
    }
    let mut gateways = Vec::new();
    let link = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(link) => Some(*link),
        _ => None,
    });
    if let (Some(link), Some(address)) = (link, gateway(&message.attributes)) {
        gateways.push(Gateway { link, address });
    }
    for attribute in &message.attributes {
        let RouteAttribute::MultiPath(hops) = attribute else { continue };
        for hop in hops {
            let down = hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown);
            if let (false, Some(address)) = (down, gateway(&hop.attributes)) {
                gateways.push(Gateway { link: hop.interface_index, address });
            }
        }
    }
    gateways
}

/// The links of a route whose next hops are in force.
fn next_links(message: &RouteMessage) -> Vec<u32> {
    if message.header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown) {
        return Vec::new();
    }
    let mut links = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(link) => links.push(*link),
            RouteAttribute::MultiPath(hops) => {
                let down = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                links.extend(hops.iter().filter(|hop| !hop.flags.intersects(down)).map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    links
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn item(plan: &RoutePlan, names: &LinkNames) -> String {
    let table = if plan.table == MAIN { String::new() } else { format!(" table {}", plan.table) };
    match plan.next {
        NextHop::Gateway { link, via, .. } => format!("route {} via {via} dev {}{table}", plan.to, names.of(link)),
        NextHop::Link { link } => format!("route {} dev {}{table}", plan.to, names.of(link)),
        NextHop::Unreachable => format!("unreachable route {}{table}", plan.to),
    }
}
