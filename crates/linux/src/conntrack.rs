//! Connection tracking: connections that an earlier ruleset admitted and the present one does not are marked as ended.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nlink::netlink::netfilter::{ConntrackBuilder, ConntrackEntry};
use nlink::netlink::{Connection, Netfilter};
use sixgate_engine::firewall::ENDED;
use sixgate_engine::firewall::admission::{Admission, Flow};

/// Values of connection tracking below `/proc/sys`.
const COUNT: &str = "net/netfilter/nf_conntrack_count";
const MOST: &str = "net/netfilter/nf_conntrack_max";
/// A line for each processor, in hexadecimal, below their names.
const STATISTICS: &str = "/proc/self/net/stat/nf_conntrack";

/// How full the table of connections is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections that are tracked.
    pub held: u64,
    /// Most that there can be.
    pub most: u64,
    /// Packets that were dropped because there was no room, since the network namespace was made.
    pub refused: u64,
    /// Unanswered connections that made room for others.
    pub evicted: u64,
}

impl Occupancy {
    /// Reads it; nothing while there is no connection tracking.
    pub fn read() -> Option<Self> {
        let number = |path: &str| crate::sysctl::read(path).ok()?.parse().ok();
        let (held, most) = (number(COUNT)?, number(MOST)?);
        let text = fs::read_to_string(STATISTICS).unwrap_or_default();
        Some(Self { held, most, refused: sum(&text, "drop"), evicted: sum(&text, "early_drop") })
    }
}

fn sum(statistics: &str, column: &str) -> u64 {
    let mut lines = statistics.lines().map(str::split_whitespace);
    let Some(place) = lines.next().and_then(|mut names| names.position(|name| name == column)) else { return 0 };
    lines.filter_map(|mut line| u64::from_str_radix(line.nth(place)?, 16).ok()).sum()
}

/// Whether this network namespace says how large the table is. Others see the value and cannot write it.
pub fn is_sized_here() -> bool {
    fs::metadata(format!("/proc/sys/{MOST}")).is_ok_and(|file| file.permissions().mode() & 0o200 != 0)
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Connection tracking cannot be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection tracking cannot be read: {0}")]
pub struct ConntrackError(String);

/// What has become of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Connections that end now.
    pub ended: usize,
    /// All that have ended and are still remembered.
    pub marked: usize,
}

/// Marks every connection that is not admitted, and takes the mark from those that are again.
///
/// # Errors
/// The table cannot be read. A connection that is gone meanwhile is no error.
pub async fn judge(admission: &Admission) -> Result<Judged, ConntrackError> {
    let fail = |error: nlink::Error| ConntrackError(error.to_string());
    let connection = Connection::<Netfilter>::new().map_err(fail)?;
    let mut entries = connection.get_conntrack_v6().await.map_err(fail)?;
    entries.extend(connection.get_conntrack().await.map_err(fail)?);
    let mut judged = Judged::default();
    for entry in &entries {
        let mark = entry.mark.unwrap_or_default();
        let ends = flow(entry).is_some_and(|flow| admission.ends(&flow));
        judged.marked += usize::from(ends);
        if ends == (mark & ENDED != 0) {
            continue;
        }
        let changed = ConntrackBuilder::from_entry(entry).mark(if ends { mark | ENDED } else { mark & !ENDED });
        match connection.update_conntrack(changed).await {
            Ok(()) => judged.ended += usize::from(ends),
            Err(error) => tracing::debug!("a connection went before it was marked: {error}"),
        }
    }
    Ok(judged)
}

/// The conversation behind an entry. Where its destination was translated, replies tell the real one.
fn flow(entry: &ConntrackEntry) -> Option<Flow> {
    let protocol = entry.proto.number();
    let port = match protocol {
        TCP | UDP => entry.reply.src_port.or(entry.orig.dst_port)?,
        ICMP | ICMPV6 => entry.orig.icmp_type?.into(),
        _ => 0,
    };
    let destination = entry.reply.src_ip.or(entry.orig.dst_ip)?;
    Some(Flow { source: entry.orig.src_ip?, destination, protocol, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_names_and_added_over_processors() {
        let text = "entries clashres found drop early_drop\n0000 0 0 00000010 1\n0000 0 0 00000002 a\n";
        assert_eq!((sum(text, "drop"), sum(text, "early_drop"), sum(text, "other")), (18, 11, 0));
        assert_eq!(sum("", "drop"), 0);
    }
}
