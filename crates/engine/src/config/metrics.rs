//! `[metrics]`: where a Prometheus server may ask.
use toml::Spanned;

use super::Lan;
use super::door::Errors;
use super::raw;
use super::scalar::{self, At};

/// Where metrics are served, for Prometheus and its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Name of the LAN on whose addresses the router answers.
    pub lan: String,
    /// TCP port.
    pub port: u16,
}

/// Port unless configured otherwise.
const DEFAULT_PORT: u16 = 9464;

/// Checks where metrics are served: on a LAN by name, so that no address of the uplink can be meant.
pub(super) fn validate(raw: &Spanned<raw::Metrics>, lans: &[Lan], errors: &mut Errors) -> Option<Metrics> {
    let table = raw.span();
    let raw = raw.get_ref();
    let lan = scalar::required(At("metrics", "lan"), &raw.lan, &table, errors).and_then(|(text, span)| {
        let known = lans.iter().any(|lan| lan.name == text);
        if !known {
            let names: Vec<&str> = lans.iter().map(|lan| lan.name.as_str()).collect();
            errors.note(span, format!("there is no lan \"{text}\""), format!("known lans: {}", names.join(", ")));
        }
        known.then(|| text.to_owned())
    });
    let port = match &raw.port {
        None => Some(DEFAULT_PORT),
        Some(_) => scalar::number(At("metrics", "port"), &raw.port, 1024..=u16::MAX, errors),
    };
    Some(Metrics { lan: lan?, port: port? })
}
