//! Addresses: added with IFA_PROTO, so that a later run knows its own.
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol, CacheInfo};
use rtnetlink::AddressAddRequest;
use sixgate_engine::plan::{AddressPlan, ROUTE_PROTOCOL};

use super::link::LinkNames;
use super::{ApplyError, Removed, Repairs};
use crate::facts::{address_is_ours, address_net};
use crate::netlink::{Netlink, NetlinkError, accept_errno};

/// INFINITY_LIFE_TIME of the kernel: the daemon ends what it has put there.
const FOREVER: u32 = u32::MAX;

impl Netlink {
    /// Adds what is missing and returns what is ours but not wanted. Duplicate address detection is not waited for.
    pub(super) async fn add_addresses(
        &self,
        plans: &[AddressPlan],
        names: &LinkNames,
        repairs: &mut Repairs,
        errors: &mut Vec<ApplyError>,
    ) -> Vec<AddressMessage> {
        let held = match self.address_messages().await {
            Ok(held) => held,
            Err(error) => {
                errors.push(ApplyError::netlink("addresses".to_owned(), "read", &error));
                return Vec::new();
            }
        };
        let mut stale: Vec<AddressMessage> = held
            .iter()
            .filter(|message| address_is_ours(message) && !plans.iter().any(|plan| is(message, plan)))
            .cloned()
            .collect();
        for plan in plans {
            let was_there = repairs.had(|plan| &plan.addresses, plan);
            let present = held.iter().find(|message| is(message, plan));
            if present.is_some_and(|message| is_deprecated(message) == plan.deprecated) {
                continue;
            }
            repairs.note(was_there, "address", || item(plan.net, plan.link, names));
            if present.is_some() {
                if let Err(error) = self.change_address(plan).await {
                    errors.push(ApplyError::netlink(item(plan.net, plan.link, names), "change", &error));
                }
                continue;
            }
            // An interface holds an IPv6 address once, whatever the prefix length: the old one has to go first.
            if let Some(position) = stale.iter().position(|message| blocks(message, plan)) {
                let message = stale.swap_remove(position);
                self.remove_addresses(vec![message], names, errors).await;
            }
            if let Err(error) = self.add_address(plan).await {
                errors.push(ApplyError::netlink(item(plan.net, plan.link, names), "add", &error));
            }
        }
        stale
    }

    pub(super) async fn remove_addresses(
        &self,
        stale: Vec<AddressMessage>,
        names: &LinkNames,
        errors: &mut Vec<ApplyError>,
    ) -> Removed {
        let mut removed = Removed::Nothing;
        for message in stale {
            let Some(net) = address_net(&message) else { continue };
            let name = item(net, message.header.index, names);
            // Removing a primary IPv4 address may have taken this one along.
            match accept_errno(self.handle.address().del(message).execute(), &[libc::EADDRNOTAVAIL]).await {
                Ok(()) => removed = Removed::Something,
                Err(error) => errors.push(ApplyError::netlink(name, "remove", &error)),
            }
        }
        removed
    }

    async fn add_address(&self, plan: &AddressPlan) -> Result<(), NetlinkError> {
        Ok(self.address_request(plan).execute().await?)
    }

    /// Only the lifetimes change: the address itself is there, and what goes on with it goes on.
    async fn change_address(&self, plan: &AddressPlan) -> Result<(), NetlinkError> {
        Ok(self.address_request(plan).replace().execute().await?)
    }

    fn address_request(&self, plan: &AddressPlan) -> AddressAddRequest {
        let mut request = self.handle.address().add(plan.link, plan.net.addr(), plan.net.prefix_len());
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(ROUTE_PROTOCOL)));
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = if plan.deprecated { 0 } else { FOREVER };
        lifetimes.ifa_valid = FOREVER;
        attributes.push(AddressAttribute::CacheInfo(lifetimes));
        request
    }
}

fn is_deprecated(message: &AddressMessage) -> bool {
    message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, AddressAttribute::CacheInfo(lifetimes) if lifetimes.ifa_preferred == 0))
}

fn is(message: &AddressMessage, plan: &AddressPlan) -> bool {
    message.header.index == plan.link && address_net(message) == Some(plan.net)
}

fn blocks(message: &AddressMessage, plan: &AddressPlan) -> bool {
    matches!(plan.net.addr(), IpAddr::V6(_))
        && message.header.index == plan.link
        && address_net(message).is_some_and(|net| net.addr() == plan.net.addr())
}

fn item(net: IpNet, link: u32, names: &LinkNames) -> String {
    format!("address {net} dev {}", names.of(link))
}
