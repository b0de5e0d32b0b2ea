//! `[metrics]` and `[vm_prefixes]`: where the router answers on a LAN.
use toml::Spanned;

use super::door::Errors;
use super::scalar::{self, At};
use super::{Lan, raw};

/// Port of metrics unless configured otherwise.
pub(super) const METRICS: u16 = 9464;
/// Port where VMs ask for their prefixes unless configured otherwise.
pub(super) const VM_PREFIXES: u16 = 9465;

/// Where the router answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanPort {
    /// Name of the LAN on whose addresses it does.
    pub lan: String,
    /// TCP port.
    pub port: u16,
}

/// Checks where the router answers: on a LAN by name, so that no address of the uplink can be meant.
pub(super) fn validate(
    section: &'static str,
    default_port: u16,
    raw: &Spanned<raw::LanPort>,
    lans: &[Lan],
    errors: &mut Errors,
) -> Option<LanPort> {
    let table = raw.span();
    let raw = raw.get_ref();
    let lan = scalar::required(At(section, "lan"), &raw.lan, &table, errors).and_then(|(text, span)| {
        let known = lans.iter().any(|lan| lan.name == text);
        if !known {
            let names: Vec<&str> = lans.iter().map(|lan| lan.name.as_str()).collect();
            errors.note(span, format!("there is no lan \"{text}\""), format!("known lans: {}", names.join(", ")));
        }
        known.then(|| text.to_owned())
    });
    let port = match &raw.port {
        None => Some(default_port),
        Some(_) => scalar::number(At(section, "port"), &raw.port, 1024..=u16::MAX, errors),
    };
    Some(LanPort { lan: lan?, port: port? })
}
