//! `sixgate sessions`: the translator's sessions with what has passed, as a table for people, or as JSON, one a line.
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use ipnet::Ipv6Net;
use sixgate_engine::status::{Session, Traffic};

use crate::control::Client;

/// Asks for part after part and prints each as it comes.
pub fn sessions(control: &Path, clients: Option<Ipv6Net>, json: bool) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(control)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut next = Some(0);
    while let Some(from) = next {
        let page = client.sessions(from, clients)?;
        let written = page.sessions.iter().try_for_each(|session| match json {
            true => writeln!(out, "{}", serde_json::to_string(session)?),
            false => writeln!(out, "{}", line(session)),
        });
        match written.and_then(|()| out.flush()) {
            Ok(()) => {}
            // `head` has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        }
        next = page.next;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(session: &Session) -> String {
    let Session { protocol, client, mapped, server, idle, .. } = session;
    let passed = |traffic: Traffic| format!("{} packets {} bytes", traffic.packets, traffic.bytes);
    let (up, down) = (passed(session.v6_to_v4), passed(session.v4_to_v6));
    let state = session.state.as_deref().map(|state| format!("  {state}")).unwrap_or_default();
    format!("{protocol:4}  {client}  as {mapped}  to {server}  sent {up}  received {down}  idle {idle} s{state}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_both_ends_what_stands_between_and_what_has_passed() {
        let session = Session {
            protocol: "tcp".to_owned(),
            state: Some("ESTABLISHED".to_owned()),
            client: "[2001:db8::2]:5000".parse().unwrap(),
            mapped: "198.51.100.1:40961".parse().unwrap(),
            server: "192.0.2.7:443".parse().unwrap(),
            idle: 3,
            v6_to_v4: Traffic { packets: 3, bytes: 300 },
            v4_to_v6: Traffic { packets: 4, bytes: 4000 },
        };
        let expected = "tcp   [2001:db8::2]:5000  as 198.51.100.1:40961  to 192.0.2.7:443  sent 3 packets 300 bytes  \
                        received 4 packets 4000 bytes  idle 3 s  ESTABLISHED";
        assert_eq!(line(&session), expected);
    }
}
