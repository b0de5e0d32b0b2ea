//! Sets of addresses that go by themselves: the resolver fills them with what it answers.
use std::net::Ipv6Addr;
use std::time::Duration;

use nlink::netlink::MessageBuilder;
use nlink::netlink::nftables::{
    Family, NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM, NFTA_DATA_VALUE, NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_TIMEOUT, RawMessage,
    Set, SetKeyType, Transaction,
};
use sixgate_engine::firewall::METER_SIZE;
use sixgate_engine::firewall::ruleset::Ruleset;

use super::lower::create;
use super::{NftError, connect};

/// An address for a set, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The set.
    pub set: String,
    /// The address.
    pub address: Ipv6Addr,
    /// For how long it is there.
    pub lasts: Duration,
}

/// Puts addresses into their sets, or lets them stay for longer.
///
/// # Errors
/// nftables refused, or there is no such set.
pub async fn reach(table: &str, reached: &[Reached]) -> Result<(), NftError> {
    let fail = |error: nlink::Error| NftError::new("change", &error);
    let connection = connect().map_err(fail)?;
    let mut transaction = connection.transaction();
    for one in reached {
        // What is there already keeps its time unless it goes first, and only what is there can go.
        transaction = transaction
            .raw(message(NFT_MSG_NEWSETELEM, table, one))
            .raw(message(NFT_MSG_DELSETELEM, table, one))
            .raw(message(NFT_MSG_NEWSETELEM, table, one));
    }
    transaction.commit(&connection).await.map_err(fail)
}

/// What is in the sets of a table that is there, each for as long as it stays; what cannot be read is not there.
pub async fn held(table: &str, sets: &[String]) -> Vec<Reached> {
    let Ok(connection) = connect() else { return Vec::new() };
    let mut held = Vec::new();
    for set in sets {
        let Ok(elements) = connection.list_set_elements(table, set, Family::Inet).await else { continue };
        held.extend(elements.iter().filter_map(|element| {
            let address: [u8; 16] = element.key().try_into().ok()?;
            Some(Reached { set: set.clone(), address: address.into(), lasts: element.expiration()? })
        }));
    }
    held
}

/// Makes the sets, with what is known of them.
pub(super) fn make(mut transaction: Transaction, ruleset: &Ruleset, reached: &[Reached]) -> Transaction {
    for set in &ruleset.timed {
        let held = Set::new(&ruleset.table, set).family(Family::Inet).key_type(SetKeyType::Ipv6Addr);
        let held = held.timeout(Duration::from_secs(86_400));
        let held = if ruleset.remembers(set) { held.dynamic().size(METER_SIZE) } else { held };
        transaction = transaction.add_set(held);
    }
    for one in reached.iter().filter(|one| ruleset.timed.contains(&one.set)) {
        transaction = transaction.raw(message(NFT_MSG_NEWSETELEM, &ruleset.table, one));
    }
    transaction
}

fn message(kind: u8, table: &str, reached: &Reached) -> RawMessage {
    let mut attributes = MessageBuilder::new(0, 0);
    attributes.append_attr_str(NFTA_SET_ELEM_LIST_TABLE, table);
    attributes.append_attr_str(NFTA_SET_ELEM_LIST_SET, &reached.set);
    let list = attributes.nest_start(NFTA_SET_ELEM_LIST_ELEMENTS);
    let item = attributes.nest_start(NFTA_LIST_ELEM);
    let key = attributes.nest_start(NFTA_SET_ELEM_KEY);
    attributes.append_attr(NFTA_DATA_VALUE, &reached.address.octets());
    attributes.nest_end(key);
    let milliseconds = u64::try_from(reached.lasts.as_millis()).unwrap_or(u64::MAX).max(1);
    attributes.append_attr(NFTA_SET_ELEM_TIMEOUT, &milliseconds.to_be_bytes());
    attributes.nest_end(item);
    attributes.nest_end(list);
    create(kind, &attributes)
}
