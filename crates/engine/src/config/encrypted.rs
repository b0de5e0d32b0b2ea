//! Upstreams over TLS: `tls://` (RFC 7858) and `https://` (RFC 8484), and whose certificates are believed.
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use ct_codecs::{Base64, Decoder as _};

use super::dns64::is_label;
use super::door::Errors;
use super::keys;
use super::scalar::At;

/// RFC 7858 section 3.1.
const PORT_TLS: u16 = 853;
const PORT_HTTPS: u16 = 443;
/// What most operators call it.
const PATH: &str = "/dns-query";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// An upstream that is asked over TLS, and never otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encrypted {
    /// Where it is.
    pub address: SocketAddr,
    /// Whose certificate it has to show: a name, or else its address.
    pub name: String,
    /// The path on it, where it is asked by HTTP.
    pub path: Option<String>,
}

/// Who the resolver itself is over TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its certificate in DER, and those up to its authority.
    pub certificates: Vec<Vec<u8>>,
    /// The private key in PEM.
    pub key: String,
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Identity({} certificates)", self.certificates.len())
    }
}

/// Reads a certificate and its key; one of them alone is an error.
pub(super) fn identity(
    certificate: Option<(String, Range<usize>)>,
    key: Option<(String, Range<usize>)>,
    errors: &mut Errors,
) -> Option<Identity> {
    let at = At("dns64", "certificate");
    match (certificate, key) {
        (Some((text, span)), Some((key, of_key))) => {
            if !key.contains("PRIVATE KEY-----") {
                errors.note(of_key, "this is no private key in PEM", keys::describe("dns64", "key"));
            }
            let certificates = certificates(at, &text, &span, errors);
            (!certificates.is_empty()).then_some(Identity { certificates, key })
        }
        (Some((_, span)), None) => {
            errors.note(span, "`certificate` without `key` in [dns64]", keys::describe("dns64", "key"));
            None
        }
        (None, Some((_, span))) => {
            errors.note(span, "`key` without `certificate` in [dns64]", keys::describe(at.0, at.1));
            None
        }
        (None, None) => None,
    }
}

impl fmt::Display for Encrypted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(out, "https://{}{path}#{}", self.address, self.name),
            None => write!(out, "tls://{}#{}", self.address, self.name),
        }
    }
}

/// Reads `tls://ADDRESS[:PORT][#NAME]` or `https://ADDRESS[:PORT][/PATH][#NAME]`; nothing where the text is neither.
pub(super) fn parse(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Encrypted> {
    let read = || {
        let (scheme, rest) = text.split_once("://")?;
        let (place, name) = match rest.split_once('#') {
            Some((place, name)) => (place, Some(name)),
            None => (rest, None),
        };
        let (host, path, port) = match (scheme, place.split_once('/')) {
            ("tls", None) => (place, None, PORT_TLS),
            ("https", None) => (place, Some(PATH.to_owned()), PORT_HTTPS),
            ("https", Some((host, path))) => (host, Some(format!("/{path}")), PORT_HTTPS),
            _ => return None,
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let address =
            bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, port)).or_else(|_| host.parse()).ok()?;
        let name = name.map_or_else(|| address.ip().to_string(), str::to_ascii_lowercase);
        let valid = name.len() <= 253 && name.split('.').all(is_label) || name.parse::<IpAddr>().is_ok();
        let printable = path.iter().flat_map(|path| path.bytes()).all(|byte| byte.is_ascii_graphic());
        (valid && printable && address.port() != 0).then_some(Encrypted { address, name, path })
    };
    let encrypted = read();
    if encrypted.is_none() {
        errors.note(span.clone(), format!("\"{text}\" is no upstream"), keys::describe(at.0, at.1));
    }
    encrypted
}

/// Certificates in PEM (RFC 7468), as DER.
pub(super) fn certificates(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Vec<Vec<u8>> {
    let certificate = |part: &str| {
        let body: String = part.split_once(END)?.0.split_whitespace().collect();
        // A sequence, whose length takes two octets (X.690 sections 8.1.3 and 8.9).
        Base64::decode_to_vec(body, None)
            .ok()
            .filter(|der| der.starts_with(&[0x30, 0x82]) || der.starts_with(&[0x30, 0x81]))
    };
    let found: Option<Vec<_>> = text.split(BEGIN).skip(1).map(certificate).collect();
    match found {
        Some(found) if !found.is_empty() => found,
        _ => {
            errors.note(span.clone(), "this is no certificate in PEM", keys::describe(at.0, at.1));
            Vec::new()
        }
    }
}
