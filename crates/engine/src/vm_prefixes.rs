//! What a VM is told of its container prefixes, and who counts as that VM.
use core::net::{Ipv6Addr, SocketAddr};

use ipnet::Ipv6Net;
use sixgate_wire::mac::MacAddr;

/// Where VMs ask, and what each one is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmPrefixesPlan {
    /// Addresses on which the router answers. Link-local ones carry their scope.
    pub listen: Vec<SocketAddr>,
    /// Kernel interface index of their LAN.
    pub link: u32,
    /// The VMs of that LAN.
    pub vms: Vec<VmPrefixes>,
}

/// What a VM is told, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPrefixes {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: Option<MacAddr>,
    /// Prefixes that are routed to it and in use.
    pub containers: Vec<Ipv6Net>,
    /// Those that are on their way out.
    pub retired: Vec<Ipv6Net>,
}

impl VmPrefixesPlan {
    /// The VM that asks from this address, which the neighbour cache of its link has with this hardware address. A VM with
    /// a hardware address is known by that, whatever address it asks from; one without by its address. What asks from a
    /// prefix that is routed to a VM speaks for it: the VM itself, by its bridge's address, or one of its containers.
    pub fn vm(&self, peer: Ipv6Addr, mac: Option<MacAddr>) -> Option<&VmPrefixes> {
        let is_it = |vm: &VmPrefixes| match vm.mac {
            Some(known) => mac == Some(known),
            None => vm.address == Some(peer),
        };
        let routed = |vm: &VmPrefixes| vm.containers.iter().chain(&vm.retired).any(|net| net.contains(&peer));
        self.vms.iter().find(|vm| is_it(vm)).or_else(|| self.vms.iter().find(|vm| routed(vm)))
    }
}

impl VmPrefixes {
    /// A word that changes when anything does that the VM is told (FNV-1a).
    pub fn revision(&self) -> String {
        let text = format!("{:?} {:?}", self.containers, self.retired);
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str, address: Option<&str>, mac: Option<&str>) -> VmPrefixes {
        VmPrefixes {
            name: name.to_owned(),
            address: address.map(|address| address.parse().unwrap()),
            mac: mac.map(|mac| mac.parse().unwrap()),
            containers: vec![format!("2001:db8:1:2:{name}::/80").parse().unwrap()],
            retired: Vec::new(),
        }
    }

    #[test]
    fn a_vm_is_known_by_its_hardware_address_or_else_by_its_own() {
        let vms = vec![
            vm("a", Some("2001:db8::a"), Some("52:54:00:00:00:0a")),
            vm("b", Some("2001:db8::b"), None),
            vm("c", None, Some("52:54:00:00:00:0c")),
        ];
        let plan = VmPrefixesPlan { listen: Vec::new(), link: 1, vms };
        let known = |peer: &str, mac: Option<&str>| {
            let found = plan.vm(peer.parse().unwrap(), mac.map(|mac| mac.parse().unwrap()));
            found.map(|vm| vm.name.as_str())
        };
        assert_eq!(known("2001:db8::a", Some("52:54:00:00:00:0a")), Some("a"));
        assert_eq!(known("fe80::a", Some("52:54:00:00:00:0a")), Some("a"));
        assert_eq!(known("2001:db8::a", Some("52:54:00:00:00:0c")), Some("c"), "the sender, not who it says it is");
        assert_eq!(known("2001:db8::a", None), None);
        assert_eq!(known("2001:db8::b", Some("52:54:00:00:00:0d")), Some("b"));
        assert_eq!(known("2001:db8:1:2:c::5", None), Some("c"), "by what is routed to it");
        assert_eq!(known("2001:db8:1:2:d::5", None), None);
    }

    #[test]
    fn a_revision_changes_with_what_is_told_and_with_nothing_else() {
        let before = vm("a", None, None);
        let mut after = VmPrefixes { name: "b".to_owned(), ..vm("a", Some("2001:db8::b"), None) };
        assert_eq!(before.revision(), after.revision());
        after.retired = std::mem::take(&mut after.containers);
        assert_ne!(before.revision(), after.revision());
    }
}
