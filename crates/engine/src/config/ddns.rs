//! `[[ddns]]`: a name outside that follows an address inside.
use core::net::SocketAddr;
use core::ops::Range;

use ct_codecs::{Base64, Decoder as _};
use hickory_proto::rr::Name;
use toml::Spanned;

use super::door::Errors;
use super::scalar::{self, At};
use super::{Target, allow, keys, raw};
use crate::ddns::How;
use crate::ddns::http::{HttpPlan, usual_port};
use crate::ddns::tsig::{Algorithm, Key};
use crate::ddns::update::UpdatePlan;

const DNS_PORT: u16 = 53;
const DEFAULT_TTL: u32 = 60;

/// A name outside that follows an address inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ddns {
    /// The name, in lower case.
    pub name: Name,
    /// What it points to, one address.
    pub to: Target,
    /// Whether it gets an A record.
    pub ipv4: bool,
    /// Whether it gets an AAAA record.
    pub ipv6: bool,
    /// Who is told, and how.
    pub how: How,
}

/// Checks a name. What it can point to is known already.
pub(super) fn validate(raw: Spanned<raw::Ddns>, names: allow::Names<'_>, errors: &mut Errors) -> Option<Ddns> {
    let table = raw.span();
    let mut raw = raw.into_inner();
    let at = |key| At("ddns", key);
    let name = scalar::required(at("name"), &raw.name, &table, errors)
        .and_then(|(text, span)| domain("name", text, &span, errors));
    let to = scalar::required(at("to"), &raw.to, &table, errors).and_then(|(text, span)| {
        let to = allow::target(at("to"), text, &span, names, errors)?;
        let is_one = match &to {
            Target::Router | Target::Vm(_) | Target::Containers(_, Some(_)) | Target::Lan(_, Some(_)) => true,
            Target::Prefix(net) => net.prefix_len() == 128,
            Target::Containers(_, None) | Target::Lan(_, None) => false,
        };
        if !is_one {
            errors.note(span, format!("\"{text}\" is more than one address"), keys::describe("ddns", "to"));
        }
        is_one.then_some(to)
    });
    let (mut ipv4, mut ipv6) = (matches!(to, Some(Target::Router)), true);
    if let Some(list) = raw.records.take() {
        let span = list.span();
        let words = scalar::items(Some(list));
        (ipv4, ipv6) = (false, false);
        for (word, span) in &words {
            match word.as_str() {
                "A" => ipv4 = true,
                "AAAA" => ipv6 = true,
                _ => scalar::unknown(at("records"), word, span.clone(), errors),
            }
        }
        if ipv4 && to.as_ref().is_some_and(|to| *to != Target::Router) {
            errors.note(span, "only the router has an IPv4 address", "leave \"A\" out, or write to = \"router\"");
        }
    }
    let how = match (&raw.server, &raw.url) {
        (Some(server), None) => update(server, &raw, &table, errors).map(How::Update),
        (None, Some(url)) => http(url, &raw, errors).map(How::Http),
        (Some(_), Some(_)) | (None, None) => {
            errors.note(
                table,
                "a name is told either by `server` (RFC 2136) or by `url`",
                "write server = \"2001:db8::53\" and zone, or url = \"https://..\"",
            );
            None
        }
    };
    Some(Ddns { name: name?, to: to?, ipv4, ipv6, how: how? })
}

fn domain(key: &'static str, text: &str, span: &Range<usize>, errors: &mut Errors) -> Option<Name> {
    let name = Name::from_ascii(text).ok().filter(|name| !name.is_root() && !text.is_empty());
    let Some(mut name) = name else {
        errors.note(span.clone(), format!("\"{text}\" cannot be a name"), keys::describe("ddns", key));
        return None;
    };
    name.set_fqdn(true);
    Some(name.to_lowercase())
}

fn update(server: &Spanned<String>, raw: &raw::Ddns, table: &Range<usize>, errors: &mut Errors) -> Option<UpdatePlan> {
    let text = server.get_ref();
    let address =
        text.parse::<SocketAddr>().ok().or_else(|| text.parse().ok().map(|address| SocketAddr::new(address, DNS_PORT)));
    if address.is_none() {
        errors.note(server.span(), format!("`server` cannot be \"{text}\""), keys::describe("ddns", "server"));
    }
    let zone = scalar::required(At("ddns", "zone"), &raw.zone, table, errors)
        .and_then(|(text, span)| domain("zone", text, &span, errors));
    if let (Some(zone), Some(key)) = (&zone, &raw.name)
        && Name::from_ascii(key.get_ref()).is_ok_and(|name| !zone.zone_of(&name.to_lowercase()))
    {
        errors.note(
            key.span(),
            format!("the name is not in {zone}"),
            "write the whole name, and the zone that it is in",
        );
    }
    let ttl = scalar::number(At("ddns", "ttl"), &raw.ttl, 1..=604_800, errors).unwrap_or(DEFAULT_TTL);
    let algorithm = match &raw.algorithm {
        None => Algorithm::Sha256,
        Some(key) => match Algorithm::ALL.into_iter().find(|known| known.name() == key.get_ref()) {
            Some(known) => known,
            None => {
                scalar::unknown(At("ddns", "algorithm"), key.get_ref(), key.span(), errors);
                Algorithm::Sha256
            }
        },
    };
    let key = match (&raw.key, &raw.secret) {
        (None, None) => None,
        (Some(name), Some(secret)) => {
            let name = domain("key", name.get_ref(), &name.span(), errors);
            let bytes = Base64::decode_to_vec(secret.get_ref(), None).ok().filter(|bytes| !bytes.is_empty());
            if bytes.is_none() {
                errors.note(secret.span(), "`secret` is not in Base64", keys::describe("ddns", "secret"));
            }
            Some(Key { name: name?, algorithm, secret: bytes? })
        }
        (Some(key), None) | (None, Some(key)) => {
            errors.note(key.span(), "`key` and `secret` belong together", keys::describe("ddns", "key"));
            None
        }
    };
    Some(UpdatePlan { server: address?, zone: zone?, ttl, key })
}

fn http(url: &Spanned<String>, raw: &raw::Ddns, errors: &mut Errors) -> Option<HttpPlan> {
    let text = url.get_ref();
    let wrong = |errors: &mut Errors, what: &str, mend: String| {
        errors.note(url.span(), what, mend);
        None
    };
    let (rest, encrypted) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (Some(rest), true),
        (None, rest) => (rest, false),
    };
    let whole = rest.filter(|rest| rest.bytes().all(|byte| byte.is_ascii_graphic()));
    let Some(rest) = whole else {
        return wrong(errors, "this is no URL of HTTP or HTTPS", keys::describe("ddns", "url"));
    };
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, Some(usual_port(encrypted))),
    };
    let (Some(port), false) = (port, host.is_empty() || host.contains('@')) else {
        return wrong(errors, "this URL names no server", keys::describe("ddns", "url"));
    };
    let is_dyndns2 = !path.contains("{address}");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let target = if is_dyndns2 {
        let joint = if path.contains('?') { '&' } else { '?' };
        format!("{path}{joint}hostname={{name}}&myip={{address}}")
    } else {
        path
    };
    let credentials = match (&raw.user, &raw.password) {
        (Some(user), Some(password)) => Some((user.get_ref().clone(), password.get_ref().clone())),
        (None, None) => None,
        (Some(key), None) | (None, Some(key)) => {
            errors.note(key.span(), "`user` and `password` belong together", keys::describe("ddns", "user"));
            None
        }
    };
    Some(HttpPlan { host: host.to_owned(), port, encrypted, target, is_dyndns2, credentials })
}
