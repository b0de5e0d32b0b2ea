//! `[vm_prefixes]`: where VMs ask for their container prefixes.
use toml::Spanned;

use super::door::Errors;
use super::scalar::{self, At};
use super::{Lan, raw};

/// Port unless configured otherwise.
const DEFAULT_PORT: u16 = 9465;

/// Where VMs ask for their prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPrefixes {
    /// Name of their LAN.
    pub lan: String,
    /// TCP port.
    pub port: u16,
}

/// Checks where VMs ask: on a LAN by name, so that no address of the uplink can be meant.
pub(super) fn validate(raw: &Spanned<raw::VmPrefixes>, lans: &[Lan], errors: &mut Errors) -> Option<VmPrefixes> {
    let table = raw.span();
    let raw = raw.get_ref();
    let lan = scalar::required(At("vm_prefixes", "lan"), &raw.lan, &table, errors).and_then(|(text, span)| {
        let known = lans.iter().any(|lan| lan.name == text);
        if !known {
            let names: Vec<&str> = lans.iter().map(|lan| lan.name.as_str()).collect();
            errors.note(span, format!("there is no lan \"{text}\""), format!("known lans: {}", names.join(", ")));
        }
        known.then(|| text.to_owned())
    });
    let port = match &raw.port {
        None => Some(DEFAULT_PORT),
        Some(_) => scalar::number(At("vm_prefixes", "port"), &raw.port, 1024..=u16::MAX, errors),
    };
    Some(VmPrefixes { lan: lan?, port: port? })
}
