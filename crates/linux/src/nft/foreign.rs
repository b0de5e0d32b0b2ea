//! Other people's netfilter rules on the way through the router: they would not see what goes past them.
use std::fs;

use nlink::netlink::nftables::Family;

use super::{NftError, connect};

/// `NF_INET_PRE_ROUTING`, `NF_INET_FORWARD`, `NF_INET_POST_ROUTING`.
const ON_THE_WAY: [u32; 3] = [0, 2, 4];
/// Tables of iptables that have been used in this network namespace, of IPv4 and then of IPv6.
const LEGACY: [&str; 2] = ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"];

/// Whether chains of other tables than the `inet` one of that name are hooked in before, in or behind forwarding, or
/// iptables' own tables are in use.
///
/// # Errors
/// nftables cannot be reached.
pub async fn foreign(table: &str) -> Result<bool, NftError> {
    Ok(hooked(table, &[Family::Inet, Family::Ip, Family::Ip6]).await? || LEGACY.iter().any(is_used))
}

/// As [`foreign`], of those alone that see IPv6.
///
/// # Errors
/// nftables cannot be reached.
pub async fn foreign_to_ipv6(table: &str) -> Result<bool, NftError> {
    Ok(hooked(table, &[Family::Inet, Family::Ip6]).await? || LEGACY.iter().skip(1).any(is_used))
}

async fn hooked(table: &str, families: &[Family]) -> Result<bool, NftError> {
    let fail = |error: nlink::Error| NftError::new("look beside", &error);
    let chains = connect().map_err(fail)?.list_chains().await.map_err(fail)?;
    Ok(chains.iter().any(|chain| {
        let ours = chain.family == Family::Inet && chain.table == table;
        families.contains(&chain.family) && !ours && chain.hook.is_some_and(|hook| ON_THE_WAY.contains(&hook))
    }))
}

fn is_used(names: &&str) -> bool {
    fs::read_to_string(names).is_ok_and(|names| !names.trim().is_empty())
}
