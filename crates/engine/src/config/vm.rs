//! `[[vm]]`: a virtual machine with its gateway and its container prefixes.
use core::net::Ipv6Addr;

use ipnet::IpNet;
use sixgate_wire::mac::MacAddr;
use toml::Spanned;

use super::claim::{Claims, Holder};
use super::door::Errors;
use super::raw;
use super::relative::is_relative;
use super::scalar::{self, At};
use super::{Lan, Relative, Vm};

/// Checks a VM. One with errors comes back as far as it could be read, so that references to it are not errors too.
pub(super) fn validate(raw: Spanned<raw::Vm>, lans: &[Lan], claims: &mut Claims, errors: &mut Errors) -> Option<Vm> {
    let table = raw.span();
    let raw = raw.into_inner();
    let at = At("vm", "name");
    let name = scalar::required(at, &raw.name, &table, errors).and_then(|(text, span)| {
        let name = scalar::name(at, text, &span, errors)?;
        claims.name("vm", &name, span, errors);
        Some(name)
    });
    let owner = name.as_deref().unwrap_or("?").to_owned();
    let lan = scalar::required(At("vm", "lan"), &raw.lan, &table, errors).map(|(text, span)| {
        if !lans.iter().any(|lan| lan.name == text) {
            let known: Vec<&str> = lans.iter().map(|lan| lan.name.as_str()).collect();
            errors.note(span, format!("there is no lan \"{text}\""), format!("known lans: {}", known.join(", ")));
        }
        text.to_owned()
    });
    let lan = lan.unwrap_or_default();

    let mut relative = Relative::default();
    let gateway = raw.gateway.as_ref().and_then(|key| {
        let gateway = scalar::interface6(At("vm", "gateway"), key.get_ref(), &key.span(), errors)?;
        if gateway.addr().is_unicast_link_local() {
            errors.note(
                key.span(),
                "the router has a link-local address on every link already",
                "leave `gateway` out: the vm uses the router's link-local address, which the lan's `addresses` may name",
            );
            return None;
        }
        if is_relative(gateway) {
            claims.suffixes.address(&lan, gateway.addr(), &format!("the router (gateway of {owner})"), key.span());
            relative.gateway = Some(gateway);
            return None;
        }
        claims.address(gateway.addr().into(), &lan, Holder::Router(format!("gateway of {owner}")), key.span(), errors);
        claims.on_link(IpNet::V6(gateway), &lan, key.span());
        Some(gateway)
    });
    let at = At("vm", "address");
    let address = raw.address.as_ref().and_then(|key| {
        let address: Ipv6Addr = scalar::read(at, key.get_ref(), &key.span(), errors)?;
        if is_relative(address.into()) && !address.is_unspecified() {
            claims.suffixes.address(&lan, address, &owner, key.span());
            relative.address = Some(address);
            return None;
        }
        scalar::usable6(at, address, &key.span(), errors).then(|| {
            claims.address(address.into(), &lan, Holder::Other(owner.clone()), key.span(), errors);
            address
        })
    });
    let mac = raw.mac.as_ref().and_then(|key| {
        let mac: MacAddr = scalar::read(At("vm", "mac"), key.get_ref(), &key.span(), errors)?;
        scalar::unicast_mac(mac, &key.span(), errors).then_some(mac)
    });
    let mut containers = Vec::new();
    for (text, span) in scalar::items(raw.containers) {
        let at = At("vm", "containers");
        let Some(net) = scalar::prefix6(at, &text, &span, errors) else { continue };
        if is_relative(net) {
            claims.suffixes.containers(&lan, net, &owner, span);
            relative.containers.push(net);
            continue;
        }
        if net.prefix_len() < 16 || !scalar::usable6(at, net.addr(), &span, errors) {
            if net.prefix_len() < 16 {
                errors.note(
                    span,
                    format!("{net} is too wide to be routed to a vm"),
                    "a container prefix has 16 bits or more",
                );
            }
            continue;
        }
        if net.addr().is_unicast_link_local() {
            errors.note(
                span,
                format!("{net} is link-local and cannot be routed"),
                "choose a global or unique local prefix",
            );
            continue;
        }
        claims.container(net, &owner, span);
        containers.push(net);
    }
    Some(Vm { name: name?, lan, gateway, address, mac, containers, relative })
}
