//! Other people's netfilter rules on the way through the router: they would not see what goes past them.
use std::fs;

use nlink::netlink::nftables::Family;

use super::{NftError, connect};

/// `NF_INET_PRE_ROUTING`, `NF_INET_FORWARD`, `NF_INET_POST_ROUTING`.
const ON_THE_WAY: [u32; 3] = [0, 2, 4];
/// Tables of iptables that have been used in this network namespace.
const LEGACY: [&str; 2] = ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"];

/// Whether chains of other tables than the `inet` one of that name are hooked in before, in or behind forwarding, or
/// iptables' own tables are in use.
///
/// # Errors
/// nftables cannot be reached.
pub async fn foreign(table: &str) -> Result<bool, NftError> {
    let fail = |error: nlink::Error| NftError::new("look beside", &error);
    let chains = connect().map_err(fail)?.list_chains().await.map_err(fail)?;
    let others = chains.iter().any(|chain| {
        let routed = matches!(chain.family, Family::Inet | Family::Ip | Family::Ip6);
        let ours = chain.family == Family::Inet && chain.table == table;
        routed && !ours && chain.hook.is_some_and(|hook| ON_THE_WAY.contains(&hook))
    });
    Ok(others || LEGACY.iter().any(|path| fs::read_to_string(path).is_ok_and(|names| !names.trim().is_empty())))
}
