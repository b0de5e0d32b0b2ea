//! Loads a [`Ruleset`] into nftables in one transaction, and reads its counters back. No other table is touched.
mod foreign;
mod lower;
mod meters;
mod sets;
pub mod shortcut;
pub mod sources;
mod timed;
mod watch;

use std::os::fd::{AsRawFd as _, BorrowedFd};

use nlink::netlink::nftables::{
    BaseChain, Chain, ChainName, Family, FilterHook, NFT_MSG_NEWTABLE, NFTA_TABLE_NAME, NatHook, Policy, Priority,
    RawMessage, Transaction,
};
use nlink::netlink::{Connection, MessageBuilder, Nftables};
use sixgate_engine::firewall::ruleset::{self, Hook, HookKind, HookPoint, Ruleset};
use sixgate_engine::status::Traffic;

use rustix::net::sockopt;

pub use foreign::{foreign, foreign_to_ipv6};
pub use sets::change;
pub use timed::{Reached, held, reach};
pub use watch::Watch;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// Bytes of a transaction; the kernel takes memory for what is sent alone.
const SEND_BUFFER: usize = 128 << 20;
/// Bytes of a comment that `nft` reads back.
const LONGEST_COMMENT: usize = 127;

/// What one rule has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCounter {
    /// Chain that holds the rule.
    pub chain: String,
    /// The rule's comment; empty when it has none.
    pub comment: String,
    /// Packets and bytes.
    pub traffic: Traffic,
}

/// nftables refused, or cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} the nftables table: {cause}")]
pub struct NftError {
    action: &'static str,
    cause: String,
    /// The kernel's error number, when it gave one.
    pub errno: Option<i32>,
}

impl NftError {
    fn new(action: &'static str, error: &nlink::Error) -> Self {
        Self { action, cause: error.to_string(), errno: error.errno() }
    }

    /// What to do about it, one sentence.
    pub fn mend(&self) -> &'static str {
        match self.errno {
            Some(libc::EPERM | libc::EACCES) => "Run sixgate as root, or with the capability CAP_NET_ADMIN.",
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT) => {
                "Load the kernel modules nf_tables, nft_connlimit, nft_ct, nft_fib_inet, nft_limit, nft_log and nft_reject_inet."
            }
            Some(libc::EMSGSIZE | libc::ENOBUFS) => {
                "The ruleset is too large for one transaction; raise net.core.wmem_max and wmem_default."
            }
            _ => "This should not happen; the rules in force are the ones from before. Please report it.",
        }
    }
}

/// Replaces the table of the ruleset's name with the ruleset, atomically: each packet meets the old rules or the new.
///
/// `reached` is what is known of the sets that the resolver fills. It opens its socket in the network namespace of the calling thread.
///
/// # Errors
/// nftables refused; the rules from before are still in force, or, where a set is too large for one transaction, the new
/// ones with a part of it.
pub async fn load(ruleset: &Ruleset, reached: &[Reached]) -> Result<(), NftError> {
    let fail = |error: nlink::Error| NftError::new("load", &error);
    let connection = connect().map_err(fail)?;
    // A table is deleted only if it exists, so it is created first; that is how "replace" is spelt to Linux before 6.3.
    let mut transaction = connection
        .transaction()
        .raw(table_if_missing(&ruleset.table))
        .del_table(&ruleset.table, Family::Inet)
        .add_table(&ruleset.table, Family::Inet);
    for chain in &ruleset.chains {
        transaction = transaction.add_chain(base(&ruleset.table, chain).map_err(fail)?);
    }
    transaction = meters::make(transaction, ruleset);
    transaction = timed::make(transaction, ruleset, reached);
    let (filled, left) = sets::make(transaction, ruleset, room(&connection)).map_err(fail)?;
    transaction = filled;
    let mut sets = lower::Sets::new(&ruleset.table);
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            transaction = add_rule(transaction, &mut sets, &chain.name, rule).map_err(fail)?;
        }
    }
    transaction.commit(&connection).await.map_err(fail)?;
    sets::fill(&connection, &ruleset.table, left).await.map_err(fail)
}

/// Removes the table; fine when there is none.
///
/// # Errors
/// nftables refused, or cannot be reached.
pub async fn unload(table: &str) -> Result<(), NftError> {
    let fail = |error: nlink::Error| NftError::new("remove", &error);
    connect().map_err(fail)?.del_table_if_exists(table, Family::Inet).await.map_err(fail)?;
    Ok(())
}

/// Whether the table is there.
///
/// # Errors
/// nftables cannot be reached.
pub async fn loaded(table: &str) -> Result<bool, NftError> {
    let fail = |error: nlink::Error| NftError::new("look for", &error);
    let tables = connect().map_err(fail)?.list_tables_in(Family::Inet).await.map_err(fail)?;
    Ok(tables.iter().any(|held| held.name == table))
}

/// What the rules and elements with a counter have counted since they were loaded.
///
/// # Errors
/// There is no such table, or nftables cannot be reached.
pub async fn counters(ruleset: &Ruleset) -> Result<Vec<RuleCounter>, NftError> {
    let fail = |error: nlink::Error| NftError::new("read", &error);
    let connection = connect().map_err(fail)?;
    let rules = connection.list_rules(&ruleset.table, Family::Inet).await.map_err(fail)?;
    let counters = rules.into_iter().filter(|rule| rule.table == ruleset.table).filter_map(|rule| {
        let (packets, bytes) = rule.counter()?;
        let comment = rule.comment_text.unwrap_or_default();
        Some(RuleCounter { chain: rule.chain, comment, traffic: Traffic { packets, bytes } })
    });
    let mut counters: Vec<RuleCounter> = counters.collect();
    counters.extend(sets::counters(&connection, ruleset).await.map_err(fail)?);
    Ok(counters)
}

/// A transaction is one datagram, and no longer than the socket's buffer: who may have one has a large one.
fn connect() -> nlink::Result<Connection<Nftables>> {
    let connection = Connection::<Nftables>::new()?;
    // SAFETY: the descriptor is open as long as the connection, which outlives this function.
    let socket = unsafe { BorrowedFd::borrow_raw(connection.socket().as_raw_fd()) };
    if let Err(error) = sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER) {
        tracing::debug!("large changes of the ruleset take several transactions: {error}");
    }
    Ok(connection)
}

/// How many elements of sets fit into one transaction.
fn room(connection: &Connection<Nftables>) -> usize {
    /// Bytes of an element with its comment, at most.
    const ELEMENT: usize = 512;
    // SAFETY: as above.
    let socket = unsafe { BorrowedFd::borrow_raw(connection.socket().as_raw_fd()) };
    let bytes = sockopt::socket_send_buffer_size(socket).unwrap_or_default();
    (bytes / ELEMENT).max(sets::PER_TRANSACTION)
}

fn table_if_missing(table: &str) -> RawMessage {
    let mut attributes = MessageBuilder::new(0, 0);
    attributes.append_attr_str(NFTA_TABLE_NAME, table);
    lower::create(NFT_MSG_NEWTABLE, &attributes)
}

fn base(table: &str, chain: &ruleset::Chain) -> nlink::Result<Chain> {
    let held = Chain::new(table, chain.name.as_str())?.family(Family::Inet);
    Ok(match &chain.hook {
        None => held,
        Some(hook) => held.base(hooked(hook)),
    })
}

fn hooked(hook: &Hook) -> BaseChain {
    let point = match hook.point {
        HookPoint::Prerouting => FilterHook::Prerouting,
        HookPoint::Input => FilterHook::Input,
        HookPoint::Forward => FilterHook::Forward,
        HookPoint::Output => FilterHook::Output,
        HookPoint::Postrouting => FilterHook::Postrouting,
    };
    let policy = match hook.policy {
        ruleset::Policy::Accept => Policy::Accept,
        ruleset::Policy::Drop => Policy::Drop,
    };
    let priority = Priority::Custom(hook.priority);
    let translates = |point| BaseChain::nat(point, priority);
    let base = match (hook.kind, hook.point) {
        (HookKind::Nat, HookPoint::Prerouting) => translates(NatHook::Prerouting),
        (HookKind::Nat, HookPoint::Input) => translates(NatHook::Input),
        (HookKind::Nat, HookPoint::Output) => translates(NatHook::Output),
        (HookKind::Nat, HookPoint::Postrouting) => translates(NatHook::Postrouting),
        // The kernel translates nowhere in between.
        (HookKind::Filter, _) | (HookKind::Nat, HookPoint::Forward) => BaseChain::filter(point, priority),
    };
    base.policy(policy)
}

fn add_rule(
    mut transaction: Transaction,
    sets: &mut lower::Sets,
    chain: &str,
    rule: &ruleset::Rule,
) -> nlink::Result<Transaction> {
    let Some(spec) = sets.lower(rule)? else { return Ok(transaction) };
    for anonymous in sets.take() {
        transaction = transaction.raw(anonymous.message());
        for some in anonymous.elements.chunks(lower::ELEMENTS_PER_MESSAGE) {
            transaction = transaction.add_set_elements(&anonymous.set, some);
        }
    }
    let spec = match comment(&rule.comment) {
        "" => spec,
        text => spec.comment(text),
    };
    let chain = ChainName::new(chain)?;
    let held = nlink::netlink::nftables::Rule::from_spec(sets.table(), chain.as_str(), spec);
    Ok(transaction.add_rule(held.family(Family::Inet)))
}

/// What fits of a comment: a long one must not keep the firewall from being loaded.
fn comment(text: &str) -> &str {
    let text = text.split('\0').next().unwrap_or_default();
    let fits = (0..=text.len().min(LONGEST_COMMENT)).rev().find(|length| text.is_char_boundary(*length));
    &text[..fits.unwrap_or_default()]
}
