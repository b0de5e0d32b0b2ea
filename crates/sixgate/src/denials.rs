//! `sixgate denials`: what was refused lately, and the entries that would admit it.
use std::path::Path;
use std::process::ExitCode;

use sixgate_engine::firewall::denial::Denial;

use crate::change::utc;
use crate::control::{Client, Reply, emit_reply};
use crate::table::{Side, Table};

/// Prints the latest denials, the last one first.
pub fn list(control: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let denials = Client::connect(control)?.denials()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&denials)?);
    } else if denials.is_empty() {
        println!("nothing was refused lately");
    } else {
        print!("{}", table(&denials));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the entry that would admit a denial.
pub fn propose(control: &Path, number: u64, json: bool) -> anyhow::Result<ExitCode> {
    let (entry, text) = Client::connect(control)?.propose(number)?;
    print!("{}", if json { emit_reply(&Reply::Proposal { entry, text }) } else { entry });
    Ok(ExitCode::SUCCESS)
}

fn table(denials: &[Denial]) -> String {
    let mut table = Table::new([
        ("NUMBER", Side::Right),
        ("LAST", Side::Left),
        ("PACKETS", Side::Right),
        ("LINK", Side::Left),
        ("FROM", Side::Left),
        ("TO", Side::Left),
        ("SERVICE", Side::Left),
        ("WHY", Side::Left),
    ]);
    for Denial { number, time, packets, reason, link, from, to, service, .. } in denials {
        let link = if link.is_empty() { "-" } else { link };
        let [number, packets] = [number, packets].map(ToString::to_string);
        let [link, from, to, service, reason] = [link, from, to, service, reason].map(str::to_owned);
        table.row([number, utc(*time), packets, link, from, to, service, reason]);
    }
    table.emit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_a_row_with_names_and_reason() {
        let denial = Denial {
            number: 3,
            time: 0,
            packets: 2,
            reason: "inbound, no allow entry".to_owned(),
            link: "eth0".to_owned(),
            source: "2001:db8::1".parse().unwrap(),
            from: "2001:db8::1".to_owned(),
            destination: "2001:db8:1::5".parse().unwrap(),
            to: "vm1/containers::5".to_owned(),
            service: "tcp/443".to_owned(),
        };
        let expected = "\
NUMBER  LAST                     PACKETS  LINK  FROM         TO                 SERVICE  WHY
     3  1970-01-01 00:00:00 UTC        2  eth0  2001:db8::1  vm1/containers::5  tcp/443  inbound, no allow entry
";
        assert_eq!(table(&[denial]), expected);
    }
}
