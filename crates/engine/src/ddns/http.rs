//! Updates by HTTP: the dyndns2 form that most providers speak, and a URL with places for name and address.
use core::net::IpAddr;

use ct_codecs::{Base64, Encoder as _};
use hickory_proto::rr::Name;

use super::Outcome;

/// Longest answer that is looked at.
pub const LONGEST: usize = 16 << 10;

/// Whom to ask, and for what.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpPlan {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Over TLS; the server shows a certificate for its name or address.
    pub encrypted: bool,
    /// Path and query; `{name}` and `{address}` stand for what they say.
    pub target: String,
    /// Whether the answer is one of dyndns2's words.
    pub is_dyndns2: bool,
    /// User and password.
    pub credentials: Option<(String, String)>,
}

impl core::fmt::Debug for HttpPlan {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { host, port, encrypted, is_dyndns2, .. } = self;
        out.debug_struct("HttpPlan")
            .field("host", host)
            .field("port", port)
            .field("encrypted", encrypted)
            .field("is_dyndns2", is_dyndns2)
            .finish_non_exhaustive()
    }
}

/// The port of HTTP and of HTTPS.
pub const fn usual_port(encrypted: bool) -> u16 {
    if encrypted { 443 } else { 80 }
}

/// The request. HTTP/1.0, so that the answer ends with the connection.
pub fn request(plan: &HttpPlan, name: &Name, address: IpAddr) -> Vec<u8> {
    let name = name.to_ascii();
    let target = plan.target.replace("{name}", name.trim_end_matches('.')).replace("{address}", &address.to_string());
    let port = if plan.port == usual_port(plan.encrypted) { String::new() } else { format!(":{}", plan.port) };
    let authorization = plan.credentials.as_ref().map_or_else(String::new, |(user, password)| {
        let text = Base64::encode_to_string(format!("{user}:{password}")).unwrap_or_default();
        format!("Authorization: Basic {text}\r\n")
    });
    format!(
        "GET {target} HTTP/1.0\r\nHost: {}{port}\r\nUser-Agent: sixgate/{}\r\nAccept: */*\r\n{authorization}\r\n",
        plan.host,
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes()
}

/// What the server says.
pub fn answer(plan: &HttpPlan, bytes: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or_default();
    let code = status.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    let word: String = body.trim().chars().take(80).filter(|it| !it.is_control()).collect();
    match code {
        Some(200..=299) if plan.is_dyndns2 => dyndns2(&word),
        Some(code @ 200..=299) => Outcome::Done(format!("{code}")),
        Some(code @ (408 | 425 | 429 | 500..=599)) => Outcome::Failed(format!("HTTP {code}")),
        // What dyndns2 says with the code of an error is more telling than the code.
        Some(code) if plan.is_dyndns2 && !word.is_empty() => match dyndns2(&word) {
            Outcome::Refused(text) => Outcome::Refused(format!("HTTP {code}: {text}")),
            Outcome::Done(text) | Outcome::Failed(text) => Outcome::Refused(format!("HTTP {code}: {text}")),
        },
        Some(code) => Outcome::Refused(format!("HTTP {code}")),
        None => Outcome::Failed("no answer that is HTTP".to_owned()),
    }
}

fn dyndns2(body: &str) -> Outcome {
    let word = body.split_whitespace().next().unwrap_or_default();
    match word {
        "good" | "nochg" => Outcome::Done(word.to_owned()),
        "911" | "dnserr" => Outcome::Failed(word.to_owned()),
        "badauth" => Outcome::Refused("badauth: user or password are wrong".to_owned()),
        "nohost" => Outcome::Refused("nohost: this account has no such name".to_owned()),
        "notfqdn" => Outcome::Refused("notfqdn: the name is not taken for one".to_owned()),
        "abuse" => Outcome::Refused("abuse: the provider has blocked the name".to_owned()),
        "badagent" | "numhost" | "!donator" => Outcome::Refused(word.to_owned()),
        "" => Outcome::Failed("an empty answer".to_owned()),
        _ => Outcome::Refused(format!("an answer that is not dyndns2's: {body}")),
    }
}
