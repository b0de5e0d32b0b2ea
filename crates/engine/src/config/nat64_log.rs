//! `[nat64.log]`: where the translator's bindings are told.
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use toml::Spanned;

use super::door::Errors;
use super::raw;
use super::scalar::{self, At};
use super::{LogTo, Nat64Log};

const TO: At = At("nat64.log", "to");
/// RFC 5426 section 3.3.
const UDP_PORT: u16 = 514;
/// RFC 6587 has none of its own; this is what is registered for syslog over TCP (RFC 3195).
const TCP_PORT: u16 = 601;

/// Checks the log; nothing if it does not say where it goes.
pub(super) fn validate(raw: Spanned<raw::Log>, errors: &mut Errors) -> Option<Nat64Log> {
    let table = raw.span();
    let raw = raw.into_inner();
    let (text, span) = scalar::required(TO, &raw.to, &table, errors)?;
    let to = log_to(TO, text, &span, errors)?;
    Some(Nat64Log { to, sessions: raw.sessions.is_some_and(|key| *key.get_ref()) })
}

/// Where a log goes.
pub(super) fn log_to(at: At, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<LogTo> {
    match text.split_once("://") {
        Some(("udp", server)) => address(at, (server, UDP_PORT), text, span, errors).map(LogTo::Udp),
        Some(("tcp", server)) => address(at, (server, TCP_PORT), text, span, errors).map(LogTo::Tcp),
        None if text == "journal" => Some(LogTo::Journal),
        None | Some(_) => {
            errors.range(span.clone(), at.0, at.1, format_args!("\"{text}\""));
            None
        }
    }
}

/// An address with or without a port; one of IPv6 stands in brackets.
fn address(
    at: At,
    (server, port): (&str, u16),
    text: &str,
    span: &Range<usize>,
    errors: &mut Errors,
) -> Option<SocketAddr> {
    let bracketed = server.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = match bracketed {
        Some(inside) => inside.parse().map(IpAddr::V6).ok(),
        None => server.parse().map(IpAddr::V4).ok(),
    };
    let address = bare.map(|address| SocketAddr::new(address, port)).or_else(|| server.parse().ok());
    let Some(address) = address.filter(|address| address.port() != 0) else {
        errors.range(span.clone(), at.0, at.1, format_args!("\"{text}\""));
        return None;
    };
    // A collector on the machine itself is a normal one.
    let usable = address.ip().is_loopback()
        || match address.ip() {
            IpAddr::V4(address) => scalar::usable4(at, address, span, errors),
            IpAddr::V6(address) => scalar::usable6(at, address, span, errors),
        };
    if matches!(address.ip(), IpAddr::V6(address) if address.is_unicast_link_local()) {
        errors.note(
            span.clone(),
            format!("the link-local server {} does not say on which link", address.ip()),
            "give a global address of the server",
        );
        return None;
    }
    usable.then_some(address)
}

#[cfg(test)]
mod tests {
    use crate::config::{self, LogTo, Nat64Log};

    fn log(line: &str) -> Result<Option<Nat64Log>, String> {
        let text = format!("[wan]\ninterface = \"eth0\"\n[nat64.log]\n{line}\n");
        let config = config::parse(&text, "test").map_err(|errors| errors.to_string())?;
        Ok(config.nat64.unwrap().log)
    }

    #[test]
    fn a_log_goes_to_the_journal_or_to_a_server() {
        for (text, expected) in [
            ("journal", "journal"),
            ("udp://192.0.2.5", "udp://192.0.2.5:514"),
            ("udp://192.0.2.5:5514", "udp://192.0.2.5:5514"),
            ("tcp://[2001:db8::5]", "tcp://[2001:db8::5]:601"),
            ("tcp://[2001:db8::5]:6514", "tcp://[2001:db8::5]:6514"),
            ("udp://127.0.0.1", "udp://127.0.0.1:514"),
        ] {
            let log = log(&format!("to = \"{text}\"")).unwrap().unwrap();
            assert_eq!((log.to.to_string().as_str(), log.sessions), (expected, false));
        }
        let log = log("to = \"journal\"\nsessions = true").unwrap();
        assert_eq!(log, Some(Nat64Log { to: LogTo::Journal, sessions: true }));
    }

    #[test]
    fn what_is_no_place_for_a_log_is_refused_with_what_it_may_be() {
        for text in [
            "",
            "file",
            "udp://",
            "udp://name",
            "udp://2001:db8::5",
            "tls://192.0.2.5",
            "udp://192.0.2.5:0",
            "udp://0.0.0.0",
            "tcp://224.0.0.1",
            "udp://[fe80::1]",
        ] {
            let error = log(&format!("to = \"{text}\"")).unwrap_err();
            assert!(error.contains("4:6"), "{text}: {error}");
        }
        assert!(log("sessions = true").unwrap_err().contains("`to` is missing in [nat64.log]"));
    }
}
