//! What VMs are told of their container prefixes.
use ipnet::Ipv6Net;

use super::listen;
use super::topology::Topology;
use crate::vm_prefixes::{VmPrefixes, VmPrefixesPlan};

/// The VMs of one LAN with their prefixes, those in use before those on their way out.
pub(super) fn plan(topology: &Topology<'_>) -> Option<VmPrefixesPlan> {
    let config = topology.config.vm_prefixes.as_ref()?;
    let lan = topology.lan(&config.lan)?;
    let retired =
        |net: &Ipv6Net| lan.lan.lifetimes.iter().any(|lifetime| lifetime.retired && lifetime.prefix.contains(net));
    let vms = lan.vms.iter().map(|vm| {
        let (retired, containers) = vm.containers.iter().copied().partition(retired);
        VmPrefixes { name: vm.name.clone(), address: vm.address, mac: vm.mac, containers, retired }
    });
    Some(VmPrefixesPlan {
        listen: listen::addresses(topology, lan, config.port),
        link: lan.link.index,
        vms: vms.collect(),
    })
}
