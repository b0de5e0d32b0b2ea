//! `sixgate sessions`: the translator's sessions with what has passed, as a table for people, or as JSON, one a line.
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use ipnet::Ipv6Net;
use sixgate_engine::status::Session;

use crate::control::Client;
use crate::table::{Side, Table};

/// Asks for part after part and prints each as it comes.
pub fn sessions(control: &Path, clients: Option<Ipv6Net>, json: bool) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(control)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut table = Table::new(COLUMNS);
    let mut next = Some(0);
    while let Some(from) = next {
        let page = client.sessions(from, clients)?;
        let written = if json {
            page.sessions.iter().try_for_each(|session| writeln!(out, "{}", serde_json::to_string(session)?))
        } else {
            page.sessions.iter().for_each(|session| table.row(row(session)));
            out.write_all(table.emit().as_bytes())
        };
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

const COLUMNS: [(&str, Side); 10] = [
    ("PROTOCOL", Side::Left),
    ("CLIENT", Side::Left),
    ("AS", Side::Left),
    ("SERVER", Side::Left),
    ("SENT", Side::Right),
    ("BYTES", Side::Right),
    ("RECEIVED", Side::Right),
    ("BYTES", Side::Right),
    ("IDLE", Side::Right),
    ("STATE", Side::Left),
];

fn row(session: &Session) -> [String; 10] {
    let Session { protocol, client, mapped, server, idle, state, v6_to_v4: up, v4_to_v6: down } = session;
    [
        protocol.clone(),
        client.to_string(),
        mapped.to_string(),
        server.to_string(),
        up.packets.to_string(),
        up.bytes.to_string(),
        down.packets.to_string(),
        down.bytes.to_string(),
        format!("{idle} s"),
        state.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use sixgate_engine::status::Traffic;

    use super::*;

    #[test]
    fn a_row_has_both_ends_what_stands_between_and_what_has_passed() {
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
        let mut table = Table::new(COLUMNS);
        table.row(row(&session));
        let expected = "PROTOCOL  CLIENT              AS                  SERVER         SENT  BYTES  RECEIVED  BYTES  IDLE  STATE\n\
                        tcp       [2001:db8::2]:5000  198.51.100.1:40961  192.0.2.7:443     3    300         4   4000   3 s  ESTABLISHED\n";
        assert_eq!(table.emit(), expected);
    }
}
