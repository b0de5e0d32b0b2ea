//! `[[lan]]`: a link with clients.
use ipnet::IpNet;
use toml::Spanned;

use super::claim::{Claims, Holder};
use super::door::Errors;
use super::raw::{self, SwitchOr};
use super::scalar::{self, At};
use super::{Advertise, Interface, Lan, advertise};

/// Checks a LAN. One with errors comes back as far as it could be read, so that references to it are not errors too.
pub(super) fn validate(raw: Spanned<raw::Lan>, claims: &mut Claims, errors: &mut Errors) -> Option<Lan> {
    let table = raw.span();
    let raw = raw.into_inner();
    if let Some(key) = &raw.prefix {
        scalar::later(key.span(), "`prefix` of a lan", errors);
    }
    let at = At("lan", "name");
    let name = scalar::required(at, &raw.name, &table, errors).and_then(|(text, span)| {
        let name = scalar::name(at, text, &span, errors)?;
        claims.name("lan", &name, span, errors);
        Some(name)
    });
    let owner = name.as_deref().unwrap_or("?").to_owned();
    let interface = scalar::interface("lan", &raw.interface, &raw.mac, &table, errors).map(|(interface, span)| {
        claims.interface(&interface, &owner, span, errors);
        interface
    });
    let mtu = scalar::mtu(At("lan", "mtu"), &raw.mtu, errors);
    let mut addresses = Vec::new();
    for (text, span) in scalar::items(raw.addresses) {
        if let Some(address) = scalar::interface6(At("lan", "addresses"), &text, &span, errors) {
            claims.address(address.addr().into(), &owner, Holder::Router(owner.clone()), span.clone(), errors);
            claims.on_link(IpNet::V6(address), &owner, span);
            addresses.push(address);
        }
    }
    let advertise = match scalar::spanned(raw.advertise) {
        None | Some((SwitchOr::Switch(true), _)) => Some(Advertise::default()),
        Some((SwitchOr::Switch(false), _)) => None,
        Some((SwitchOr::Table(table), span)) => Some(advertise::validate(&table, &span, mtu, errors)),
    };
    Some(Lan {
        name: name?,
        interface: interface.unwrap_or(Interface::Name(String::new())),
        addresses,
        prefixes: Vec::new(),
        lifetimes: Vec::new(),
        advertise,
        mtu,
    })
}
