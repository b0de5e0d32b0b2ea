//! Connection tracking: connections that an earlier ruleset admitted and the present one does not are marked as ended.
use nlink::netlink::netfilter::{ConntrackBuilder, ConntrackEntry};
use nlink::netlink::{Connection, Netfilter};
use sixgate_engine::firewall::ENDED;
use sixgate_engine::firewall::admission::{Admission, Flow};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Connection tracking cannot be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection tracking cannot be read: {0}")]
pub struct ConntrackError(String);

/// Marks every connection that is not admitted, and takes the mark from those that are again. Says how many were ended.
///
/// # Errors
/// The table cannot be read. A connection that is gone meanwhile is no error.
pub async fn judge(admission: &Admission) -> Result<usize, ConntrackError> {
    let fail = |error: nlink::Error| ConntrackError(error.to_string());
    let connection = Connection::<Netfilter>::new().map_err(fail)?;
    let mut entries = connection.get_conntrack_v6().await.map_err(fail)?;
    entries.extend(connection.get_conntrack().await.map_err(fail)?);
    let mut ended = 0;
    for entry in &entries {
        let mark = entry.mark.unwrap_or_default();
        let ends = flow(entry).is_some_and(|flow| admission.ends(&flow));
        if ends == (mark & ENDED != 0) {
            continue;
        }
        let changed = ConntrackBuilder::from_entry(entry).mark(if ends { mark | ENDED } else { mark & !ENDED });
        match connection.update_conntrack(changed).await {
            Ok(()) => ended += usize::from(ends),
            Err(error) => tracing::debug!("a connection went before it was marked: {error}"),
        }
    }
    Ok(ended)
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
