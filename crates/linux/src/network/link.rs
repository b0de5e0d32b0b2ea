//! Links: up, with the MTU that the plan asks for.
use std::collections::BTreeMap;

use rtnetlink::LinkUnspec;
use sixgate_engine::facts::{Link, MacAddr};
use sixgate_engine::plan::LinkPlan;

use super::{ApplyError, Repairs};
use crate::netlink::{Netlink, NetlinkError};

/// Kernel names by interface index, for messages.
#[derive(Debug, Default)]
pub(super) struct LinkNames(BTreeMap<u32, String>);

impl LinkNames {
    pub(super) fn of(&self, link: u32) -> String {
        self.0.get(&link).cloned().unwrap_or_else(|| format!("interface {link}"))
    }
}

impl Netlink {
    pub(super) async fn link_names(&self) -> LinkNames {
        let facts = self.read_facts().await.unwrap_or_default();
        LinkNames(facts.links.into_iter().map(|link| (link.index, link.name)).collect())
    }

    pub(super) async fn apply_links(&self, plans: &[LinkPlan], repairs: &mut Repairs, errors: &mut Vec<ApplyError>) {
        if plans.is_empty() {
            return;
        }
        let links = match self.read_facts().await {
            Ok(facts) => facts.links,
            Err(error) => {
                errors.push(ApplyError::netlink("links".to_owned(), "read", &error));
                return;
            }
        };
        for plan in plans {
            let item = format!("interface {}", plan.name);
            let Some(link) = links.iter().find(|link| link.index == plan.index) else {
                let gone = std::io::Error::from_raw_os_error(libc::ENODEV);
                errors.push(ApplyError::io(item, "bring up".to_owned(), &gone));
                continue;
            };
            let is_changed =
                plan.mtu.is_some_and(|mtu| link.mtu != mtu) || plan.mac.is_some_and(|mac| link.mac != Some(mac));
            if is_changed || !link.up {
                repairs.note_link(plan);
            }
            // The MTU comes first: one below 1,280 would have taken IPv6 off the link.
            if let Some(mtu) = plan.mtu
                && link.mtu != mtu
                && let Err(error) = self.set_mtu(link, mtu).await
            {
                errors.push(ApplyError::netlink(item.clone(), &format!("set MTU {mtu} of"), &error));
            }
            let mac = plan.mac.filter(|mac| link.mac != Some(*mac));
            if let Some(mac) = mac
                && let Err(error) = self.set_mac(link, mac).await
            {
                errors.push(ApplyError::netlink(item.clone(), &format!("set hardware address {mac} of"), &error));
            }
            if !link.up
                && let Err(error) = self.set_up(link).await
            {
                errors.push(ApplyError::netlink(item, "bring up", &error));
            }
        }
    }

    /// Brings a link up by name, with an MTU if given; e.g. `lo` at boot, or the TUN device.
    ///
    /// # Errors
    /// The link does not exist, or the kernel refuses.
    pub async fn bring_up(&self, name: &str, mtu: Option<u32>) -> Result<(), ApplyError> {
        let item = format!("interface {name}");
        let facts = self.read_facts().await.map_err(|error| ApplyError::netlink(item.clone(), "read", &error))?;
        let Some(link) = facts.link(name) else {
            let gone = std::io::Error::from_raw_os_error(libc::ENODEV);
            return Err(ApplyError::io(item, "bring up".to_owned(), &gone));
        };
        let mut errors = Vec::new();
        let plan = LinkPlan { index: link.index, name: name.to_owned(), mtu, mac: None };
        self.apply_links(&[plan], &mut Repairs::default(), &mut errors).await;
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    async fn set_mtu(&self, link: &Link, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index).mtu(mtu).build();
        Ok(self.handle.link().set(message).execute().await?)
    }

    /// Some drivers change the address of a link only while it is down; routes by it come back with the next look.
    async fn set_mac(&self, link: &Link, mac: MacAddr) -> Result<(), NetlinkError> {
        let message = || LinkUnspec::new_with_index(link.index).address(mac.0.to_vec());
        let changed = self.handle.link().set(message().build()).execute().await;
        if changed.is_ok() || !link.up {
            return Ok(changed?);
        }
        self.handle.link().set(LinkUnspec::new_with_index(link.index).down().build()).execute().await?;
        let changed = self.handle.link().set(message().build()).execute().await;
        self.set_up(link).await?;
        Ok(changed?)
    }

    async fn set_up(&self, link: &Link) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        Ok(self.handle.link().set(message).execute().await?)
    }
}
