//! Named sets: filled when a ruleset is loaded, changed by as little as possible, and read for their counters.
use std::collections::{HashMap, HashSet};

use nlink::netlink::nftables::{
    Family, NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM, NFTA_DATA_VALUE, NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE,
    NFTA_SET_ELEM_USERDATA, RawMessage, Transaction,
};
use nlink::netlink::{Connection, MessageBuilder, Nftables};
use sixgate_engine::firewall::ruleset::{Element, Holds, NamedSet, Part, Ruleset};
use sixgate_engine::status::Traffic;

use super::lower::{create, element, named};
use super::{NftError, RuleCounter, connect};

/// A netlink attribute holds 64 KiB; an element with its comment takes up to 300 bytes of it.
const PER_MESSAGE: usize = 128;
/// What fits into one transaction at least: a datagram is no longer than the socket's buffer, 208 KiB unless it may be larger.
pub(super) const PER_TRANSACTION: usize = 1024;

/// Elements that are still to be added.
pub(super) type Left<'a> = Vec<(&'a NamedSet, &'a [Element])>;

/// Makes the sets and fills them as far as that fits into the transaction that makes their rules. What is left over is
/// returned, to be added right after: until then its packets are refused.
pub(super) fn make(
    mut transaction: Transaction,
    ruleset: &Ruleset,
    mut room: usize,
) -> nlink::Result<(Transaction, Left<'_>)> {
    let mut left = Vec::new();
    for set in &ruleset.sets {
        transaction = transaction.add_set(named(&ruleset.table, set));
        let (now, later) = set.elements.split_at(set.elements.len().min(room));
        room -= now.len();
        transaction = add(transaction, &ruleset.table, set, now)?;
        if !later.is_empty() {
            left.push((set, later));
        }
    }
    Ok((transaction, left))
}

/// Adds what was left over.
pub(super) async fn fill(connection: &Connection<Nftables>, table: &str, left: Left<'_>) -> nlink::Result<()> {
    for (set, elements) in left {
        for some in elements.chunks(PER_TRANSACTION) {
            add(connection.transaction(), table, set, some)?.commit(connection).await?;
        }
    }
    Ok(())
}

fn add(mut transaction: Transaction, table: &str, set: &NamedSet, elements: &[Element]) -> nlink::Result<Transaction> {
    for some in elements.chunks(PER_MESSAGE) {
        transaction = transaction.raw(message(NFT_MSG_NEWSETELEM, table, set, some)?);
    }
    Ok(transaction)
}

/// A message about elements. nlink leaves out an end that is the beginning, and `nft` then lists two elements as the ends of
/// one.
fn message(kind: u8, table: &str, set: &NamedSet, elements: &[Element]) -> nlink::Result<RawMessage> {
    let mut attributes = MessageBuilder::new(0, 0);
    attributes.append_attr_str(NFTA_SET_ELEM_LIST_TABLE, table);
    attributes.append_attr_str(NFTA_SET_ELEM_LIST_SET, &set.name);
    let list = attributes.nest_start(NFTA_SET_ELEM_LIST_ELEMENTS);
    for held in elements {
        let lowered = element(held)?;
        let item = attributes.nest_start(NFTA_LIST_ELEM);
        let end = match set.holds {
            Holds::Single => None,
            Holds::Ranges => Some((NFTA_SET_ELEM_KEY_END, lowered.key_end().unwrap_or(lowered.key()))),
        };
        for (attribute, key) in [(NFTA_SET_ELEM_KEY, lowered.key())].into_iter().chain(end) {
            let nested = attributes.nest_start(attribute);
            attributes.append_attr(NFTA_DATA_VALUE, key);
            attributes.nest_end(nested);
        }
        attributes.append_attr(NFTA_SET_ELEM_USERDATA, &userdata(&held.comment));
        attributes.nest_end(item);
    }
    attributes.nest_end(list);
    Ok(create(kind, &attributes))
}

/// What `nft` shows as an element's comment: type, length, text with its final zero.
fn userdata(text: &str) -> Vec<u8> {
    const COMMENT: u8 = 0;
    let text = super::comment(text);
    let mut userdata = vec![COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    userdata.extend(text.as_bytes());
    userdata.push(0);
    userdata
}

/// Whether two rulesets differ in the elements of their sets alone.
fn is_small(old: &Ruleset, new: &Ruleset) -> bool {
    let shape = |ruleset: &Ruleset| -> Vec<_> {
        ruleset.sets.iter().map(|set| (set.name.clone(), set.fields.clone(), set.holds)).collect()
    };
    old.table == new.table && old.timed == new.timed && old.chains == new.chains && shape(old) == shape(new)
}

/// Turns one ruleset into another where only elements of sets come and go; the counters of all that stays go on counting.
/// Says whether that was possible.
///
/// # Errors
/// nftables refused; the old ruleset is in force, or a part of the new one where there were many changes.
pub async fn change(old: &Ruleset, new: &Ruleset) -> Result<bool, NftError> {
    if !is_small(old, new) {
        return Ok(false);
    }
    let fail = |error: nlink::Error| NftError::new("change", &error);
    let mut gone: Vec<(&NamedSet, Element)> = Vec::new();
    let mut come: Vec<(&NamedSet, Element)> = Vec::new();
    for (old, new) in old.sets.iter().zip(&new.sets) {
        let (before, after) = differing(&old.elements, &new.elements);
        let held: HashSet<&[Part]> = before.iter().map(key).collect();
        let wanted: HashSet<&[Part]> = after.iter().map(key).collect();
        gone.extend(before.iter().filter(|one| !wanted.contains(key(one))).map(|one| (old, one.clone())));
        come.extend(after.iter().filter(|one| !held.contains(key(one))).map(|one| (new, one.clone())));
    }
    if gone.is_empty() && come.is_empty() {
        return Ok(true);
    }
    let connection = connect().map_err(fail)?;
    if gone.len() + come.len() > super::room(&connection) {
        return Ok(false);
    }
    let mut transaction = connection.transaction();
    for (set, gone) in &gone {
        let gone = core::slice::from_ref(gone);
        transaction = transaction.raw(message(NFT_MSG_DELSETELEM, &new.table, set, gone).map_err(fail)?);
    }
    for (set, come) in come {
        transaction = add(transaction, &new.table, set, &[come]).map_err(fail)?;
    }
    transaction.commit(&connection).await.map_err(fail)?;
    Ok(true)
}

/// What is left of two lists without the elements that both begin with and both end with.
fn differing<'a>(old: &'a [Element], new: &'a [Element]) -> (&'a [Element], &'a [Element]) {
    let same = |(one, other): &(&Element, &Element)| key(one) == key(other);
    let begin = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[begin..], &new[begin..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
    (&old[..old.len() - end], &new[..new.len() - end])
}

/// What an element is found by; its comment is for people.
fn key(element: &Element) -> &[Part] {
    &element.parts
}

/// What the elements have counted, by their comments as the ruleset has them now.
pub(super) async fn counters(connection: &Connection<Nftables>, ruleset: &Ruleset) -> nlink::Result<Vec<RuleCounter>> {
    let mut counters = Vec::new();
    for set in ruleset.sets.iter().filter(|set| !set.elements.is_empty()) {
        let mut comments = HashMap::new();
        for held in &set.elements {
            let lowered = element(held)?;
            comments.insert((lowered.key().to_vec(), lowered.key_end().map(<[u8]>::to_vec)), &held.comment);
        }
        for held in connection.list_set_elements(&ruleset.table, &set.name, Family::Inet).await? {
            let key = (held.key().to_vec(), held.key_end().filter(|end| *end != held.key()).map(<[u8]>::to_vec));
            let (Some(comment), Some((packets, bytes))) = (comments.get(&key), held.counter()) else { continue };
            let traffic = Traffic { packets, bytes };
            counters.push(RuleCounter { chain: set.name.clone(), comment: (*comment).clone(), traffic });
        }
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use sixgate_engine::firewall::ruleset::{
        Chain, Hook, HookKind, HookPoint, Match, Part, Policy, Rule, SetField, Statement,
    };

    use super::super::{load, loaded};
    use super::*;
    use crate::testing::{in_namespace, run};

    const FIELDS: [SetField; 3] = [SetField::Source6, SetField::Destination6, SetField::UdpPort];

    fn opening(net: &str, port: u16) -> Element {
        let source = Part::Net("::1/128".parse().unwrap());
        let parts = vec![source, Part::Net(net.parse().unwrap()), Part::Ports(port..=port + 1)];
        Element { parts, comment: format!("allow line {port}: {net}") }
    }

    fn ruleset(elements: Vec<Element>) -> Ruleset {
        let found = Match::InSet { set: "allowed".to_owned(), fields: FIELDS.to_vec() };
        let rule = |matches, statements, comment: &str| Rule { matches, statements, comment: comment.to_owned() };
        let rules = vec![
            rule(vec![found], vec![Statement::Accept], "allowed"),
            rule(vec![Match::Protocol(vec![17])], vec![Statement::Counter, Statement::Drop], "drop: rest"),
        ];
        let hook = Some(Hook { point: HookPoint::Input, priority: 0, policy: Policy::Accept, kind: HookKind::Filter });
        Ruleset {
            table: "sixgate".to_owned(),
            sets: vec![NamedSet {
                name: "allowed".to_owned(),
                fields: FIELDS.to_vec(),
                holds: Holds::Ranges,
                elements,
            }],
            timed: Vec::new(),
            chains: vec![Chain { name: "input".to_owned(), hook, rules }],
        }
    }

    fn send(port: u16) {
        let socket = std::net::UdpSocket::bind("[::1]:0").unwrap();
        // Nobody listens there.
        let _ = socket.send_to(b"1234", ("::1", port));
    }

    async fn counted(ruleset: &Ruleset) -> Vec<(String, u64)> {
        let counters = super::super::counters(ruleset).await.unwrap();
        let mut counted: Vec<_> = counters.into_iter().map(|held| (held.comment, held.traffic.packets)).collect();
        counted.sort();
        counted
    }

    #[test]
    fn elements_come_and_go_and_what_stays_goes_on_counting() {
        in_namespace(|| async {
            let old = ruleset(vec![opening("::1/128", 9), opening("2001:db8::/64", 9)]);
            load(&old, &[]).await.unwrap();
            send(10);
            send(20);
            let name = |net: &str, port: u16| format!("allow line {port}: {net}");
            let expected = [(name("2001:db8::/64", 9), 0), (name("::1/128", 9), 1), ("drop: rest".to_owned(), 1)];
            assert_eq!(counted(&old).await, expected);

            // The line has changed, the entry has not.
            let mut stays = opening("::1/128", 9);
            stays.comment = "allow line 99: moved".to_owned();
            let new = ruleset(vec![stays, opening("::1/128", 20)]);
            assert!(change(&old, &new).await.unwrap());
            send(10);
            send(20);
            let expected =
                [(name("::1/128", 20), 1), ("allow line 99: moved".to_owned(), 2), ("drop: rest".to_owned(), 1)];
            assert_eq!(counted(&new).await, expected);
            let listed = run("nft list table inet sixgate");
            assert!(listed.contains("type ipv6_addr . ipv6_addr . inet_service"), "{listed}");
            assert!(listed.contains("ip6 saddr . ip6 daddr . udp dport @allowed accept"), "{listed}");
            assert!(listed.contains("::1 . ::1 . 20-21"), "{listed}");

            let mut other = new.clone();
            other.chains[0].rules.pop();
            assert!(!change(&new, &other).await.unwrap(), "rules are not changed that way");
        });
    }

    #[test]
    fn ten_thousand_elements_are_loaded_and_one_is_changed() {
        in_namespace(|| async {
            let many =
                |count: u32| (0..count).map(|n| opening(&format!("2001:db8:{:x}:{:x}::/64", n >> 16, n & 0xffff), 80));
            let old = ruleset(many(10_000).collect());
            assert!(super::super::room(&connect().unwrap()) >= 10_000, "in one transaction");
            load(&old, &[]).await.unwrap();
            let new = ruleset(many(10_001).collect());
            assert!(change(&old, &new).await.unwrap());
            assert!(loaded("sixgate").await.unwrap());
            assert_eq!(counted(&new).await.len(), 10_002);
        });
    }
}
