//! `sixgate clat status`: the state as text for people, or as JSON for programs.
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use sixgate_engine::clat::prefixes::Origin;
use sixgate_engine::clat::status::{Stage, Status};
use sixgate_engine::finding::Severity;

/// How long the CLAT may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// There is nobody to ask.
#[derive(Debug, thiserror::Error)]
#[error("nobody answers on {socket}: {error}; is `sixgate clat` running, and are you root?", socket = socket.display())]
pub(crate) struct Silent {
    socket: PathBuf,
    error: io::Error,
}

/// Asks the CLAT and prints what it says.
pub(super) fn report(folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let socket = super::status_socket(folder);
    let mut stream = UnixStream::connect(&socket).map_err(|error| Silent { socket: socket.clone(), error })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("the clat does not answer")?;
    let status: Status = serde_json::from_str(&text).context("the clat answered something that is no status")?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", table(&status));
    }
    Ok(if status.stage == Stage::Translating { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(status: &Status) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing into a string does not fail.
        let _ = writeln!(out, "{name:<12} {value}");
    };
    let stage = match status.stage {
        Stage::WithoutIpv6 => "no IPv6",
        Stage::NativeIpv4 => "not needed: the host has IPv4",
        Stage::WithoutPrefix => "looking for a NAT64 prefix",
        Stage::Claiming => "looking whether the address is free",
        Stage::WithoutDevice => "no device",
        Stage::Checking => "asking the NAT64",
        Stage::PlatSilent => "the NAT64 does not answer",
        Stage::Translating => "translating",
    };
    line("clat", format!("{stage}, sixgate {}", status.sixgate));
    if let Some(interface) = &status.interface {
        line("interface", interface.clone());
    }
    if let Some(pref64) = &status.pref64 {
        let origin = match status.origin {
            Some(Origin::Configured) => " as configured",
            Some(Origin::Advertised) => " from a router (PREF64)",
            Some(Origin::Dns) => " from ipv4only.arpa",
            None => "",
        };
        line("prefix", format!("{pref64}{origin}"));
    }
    if let Some(address) = &status.address {
        line("address", format!("{address}{}", if status.shared { ", shared with the host" } else { "" }));
    }
    if let (Some(host), Some(mtu)) = (status.host_v4, status.mtu_v4) {
        line("ipv4", format!("{host}, MTU {mtu}"));
    }
    if let Some(hook) = &status.fast_path {
        line("fast path", format!("{hook}, {} packets of the following", status.by_fast_path.packets));
    }
    for (name, traffic) in [("to ipv6", status.v4_to_v6), ("to ipv4", status.v6_to_v4)] {
        line(name, format!("{} packets, {} bytes", traffic.packets, traffic.bytes));
    }
    for (reason, count) in &status.dropped {
        line("dropped", format!("{count} {reason}"));
    }
    for finding in &status.findings {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        line(severity, format!("{} ({}): {}", finding.text, finding.code, finding.mend));
    }
    out
}

#[cfg(test)]
mod tests {
    use sixgate_engine::finding::Finding;

    use super::*;

    #[test]
    fn the_table_says_what_is_and_what_is_missing() {
        let finding = Finding::new(Severity::Error, "clat-plat-silent", "64:ff9b::/96", "it is silent", "wake it");
        let status = Status {
            sixgate: "1.2.3".to_owned(),
            stage: Stage::PlatSilent,
            interface: Some("eth0".to_owned()),
            pref64: Some("64:ff9b::/96".parse().unwrap()),
            origin: Some(Origin::Dns),
            findings: vec![finding],
            ..Status::default()
        };
        let expected = "clat         the NAT64 does not answer, sixgate 1.2.3\n\
                        interface    eth0\n\
                        prefix       64:ff9b::/96 from ipv4only.arpa\n\
                        to ipv6      0 packets, 0 bytes\n\
                        to ipv4      0 packets, 0 bytes\n\
                        error        it is silent (clat-plat-silent): wake it\n";
        assert_eq!(table(&status), expected);
    }
}
