//! What people call hosts, as addresses: an address, a VM of the configuration, a name that the resolver knows.
use std::net::{IpAddr, Ipv6Addr};

use sixgate_engine::status::Status;
use sixgate_linux::echo_socket::{is_link_local, link_index};

use super::{Desk, resolve};
use crate::control::{ErrorKind, Reply, refusal};

/// An address, and the link on which it means something.
pub(super) type Place = (IpAddr, u32);

/// Finds a host. A link-local address needs its link: `fe80::1%eth0`.
pub(super) async fn find(desk: &Desk, text: &str) -> Result<Place, Reply> {
    let (address, link) = text.split_once('%').map_or((text, None), |(address, link)| (address, Some(link)));
    if let Ok(address) = address.parse() {
        return scoped(address, link);
    }
    let status = desk.status().await?;
    if let Some((address, link)) = named(&status, text) {
        return scoped(address, Some(&link));
    }
    let resolved = resolve::ask(&status, text, true).await?;
    // IPv6 first, as a host does; synthesized addresses are translated for hosts, not for the router itself.
    let pref64 = |address: &IpAddr| match address {
        IpAddr::V6(address) => {
            status.nat64.as_ref().and_then(|nat64| nat64.pref64).is_some_and(|net| net.contains(address))
        }
        IpAddr::V4(_) => false,
    };
    let mut addresses: Vec<_> = resolved.addresses.into_iter().filter(|address| !pref64(address)).collect();
    addresses.sort_by_key(IpAddr::is_ipv4);
    match addresses.first() {
        Some(address) => scoped(*address, None),
        None => {
            Err(refusal(ErrorKind::Refused, format!("\"{text}\" is no address, no VM and no name that has an address")))
        }
    }
}

/// A VM, or a suffix in its container prefix (`vm1/containers::5`), with the link that it lives on.
fn named(status: &Status, text: &str) -> Option<(IpAddr, String)> {
    let link = |name: &str| status.lans.iter().find(|lan| lan.name == name).map(|lan| lan.interface.name.clone());
    if let Some(vm) = status.vms.iter().find(|vm| vm.name == text) {
        return Some((vm.next_hop?.into(), link(&vm.lan)?));
    }
    let (name, suffix) = text.split_once("/containers::")?;
    let vm = status.vms.iter().find(|vm| vm.name == name)?;
    let suffix: Ipv6Addr = format!("::{suffix}").parse().ok()?;
    let prefix = vm.containers.first()?;
    let address = Ipv6Addr::from_bits(prefix.network().to_bits() | (suffix.to_bits() & !prefix.netmask().to_bits()));
    Some((address.into(), link(&vm.lan)?))
}

fn scoped(address: IpAddr, link: Option<&str>) -> Result<Place, Reply> {
    let refused = |text: String| Err(refusal(ErrorKind::Refused, text));
    match link {
        None if is_link_local(address) && address.is_ipv6() => {
            refused(format!("{address} lies on one link: say on which, as in {address}%eth0"))
        }
        Some(link) if is_link_local(address) => match link_index(link) {
            Ok(index) => Ok((address, index)),
            Err(error) => refused(format!("the interface {link} cannot be used: {error}")),
        },
        None | Some(_) => Ok((address, 0)),
    }
}

#[cfg(test)]
mod tests {
    use sixgate_engine::status::{Interface, Lan, Vm};

    use super::*;

    #[test]
    fn vms_and_their_containers_have_names() {
        let interface = Interface { name: "eth1".to_owned(), ..Interface::default() };
        let lan = Lan { name: "vms".to_owned(), interface, ..Lan::default() };
        let vm = Vm {
            name: "vm1".to_owned(),
            lan: "vms".to_owned(),
            next_hop: Some("fe80::2".parse().unwrap()),
            containers: vec!["2001:db8:0:0:21::/80".parse().unwrap()],
            ..Vm::default()
        };
        let status = Status { lans: vec![lan], vms: vec![vm], ..Status::default() };
        let on = |address: &str| Some((address.parse().unwrap(), "eth1".to_owned()));
        assert_eq!(named(&status, "vm1"), on("fe80::2"));
        assert_eq!(named(&status, "vm1/containers::5"), on("2001:db8::21:0:0:5"));
        assert_eq!(named(&status, "vm2"), None);
        assert!(scoped("fe80::2".parse().unwrap(), None).is_err());
        assert!(scoped("2001:db8::2".parse().unwrap(), Some("eth1")).is_ok());
    }
}
