//! The translator's shortcuts: a `netdev` table with a chain at each link's ingress, loaded in one transaction.
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, FilterHook, MetaKey, NFT_MSG_NEWTABLE, NFTA_TABLE_NAME, PayloadBase, Policy,
    Priority, RangeOp, RawMessage, Register, Rule, RuleSpec, Stmt, Verdict,
};
use nlink::netlink::{MessageBuilder, NLMSG_HDRLEN};
use sixgate_engine::firewall::shortcut::{NEXT_HOP_V4, NEXT_HOP_V6, Shortcut, Way};
use sixgate_engine::plan::Family as IpFamily;

use super::{NftError, connect};

const KEY: Register = Register::R0;
/// `PACKET_HOST` of linux/if_packet.h: addressed to this host on its link.
const PACKET_HOST: u8 = 0;
/// More Fragments and the offset.
const FRAGMENT: [u8; 2] = [0x3f, 0xff];

/// Replaces the table of the shortcuts' name with them, atomically.
///
/// # Errors
/// nftables refused, for a link that is not there any more or want of the expression `fwd`; what was loaded before is
/// still in force.
pub async fn load(shortcut: &Shortcut) -> Result<(), NftError> {
    let fail = |error: nlink::Error| NftError::new("load", &error);
    let connection = connect().map_err(fail)?;
    let table = shortcut.table.as_str();
    let mut transaction = connection
        .transaction()
        .raw(table_if_missing(table))
        .del_table(table, Family::Netdev)
        .add_table(table, Family::Netdev);
    for gate in &shortcut.gates {
        let hook = FilterHook::ingress([gate.link.as_str()]);
        let base = BaseChain::filter(hook, Priority::Custom(0)).policy(Policy::Accept);
        let chain = Chain::new(table, gate.link.as_str()).map_err(fail)?.family(Family::Netdev).base(base);
        transaction = transaction.add_chain(chain);
        let ways = gate.ways.iter().map(|way| lower(way, shortcut.device));
        for spec in std::iter::once(other_families(gate.family)).chain(ways) {
            let rule = Rule::from_spec(table, gate.link.as_str(), spec);
            transaction = transaction.add_rule(rule.family(Family::Netdev));
        }
    }
    transaction.commit(&connection).await.map_err(fail)
}

/// Removes the table; fine when there is none.
///
/// # Errors
/// nftables refused, or cannot be reached.
pub async fn unload(table: &str) -> Result<(), NftError> {
    let fail = |error: nlink::Error| NftError::new("remove", &error);
    connect().map_err(fail)?.del_table_if_exists(table, Family::Netdev).await.map_err(fail)?;
    Ok(())
}

/// Whether the table is there.
///
/// # Errors
/// nftables cannot be reached.
pub async fn loaded(table: &str) -> Result<bool, NftError> {
    let fail = |error: nlink::Error| NftError::new("look for", &error);
    let tables = connect().map_err(fail)?.list_tables_in(Family::Netdev).await.map_err(fail)?;
    Ok(tables.iter().any(|held| held.name == table))
}

pub(super) fn table_if_missing(table: &str) -> RawMessage {
    const NLM_F_CREATE: u16 = 0x400;
    let mut attributes = MessageBuilder::new(0, 0);
    attributes.append_attr_str(NFTA_TABLE_NAME, table);
    let bytes = attributes.as_bytes().get(NLMSG_HDRLEN..).unwrap_or_default().to_vec();
    RawMessage::new(NFT_MSG_NEWTABLE, Family::Netdev).flags(NLM_F_CREATE).attrs(bytes)
}

/// Before anything is looked at beyond the Ethernet header, of which a tag is part.
pub(super) fn other_families(family: IpFamily) -> RuleSpec {
    let ethertype = match family {
        IpFamily::V4 => [0x08, 0x00],
        IpFamily::V6 => [0x86, 0xdd],
    };
    let mut spec = RuleSpec::new();
    spec.push(Expr::Payload { dreg: KEY, base: PayloadBase::LinkLayer, offset: 12, len: 2 });
    spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Neq, data: ethertype.to_vec() });
    spec.push(Verdict::Accept);
    spec
}

/// The cheapest conditions that most packets fail come first.
fn lower(way: &Way, device: u32) -> RuleSpec {
    let mut spec = RuleSpec::new();
    match way {
        Way::Left(source) => {
            prefix(&mut spec, 12, &IpNet::V4(*source));
            spec.push(Verdict::Accept);
        }
        Way::FromIpv6 { source, pref64 } => {
            prefix(&mut spec, 24, &IpNet::V6(*pref64));
            prefix(&mut spec, 8, &IpNet::V6(*source));
            for_this_host(&mut spec);
            // TCP, UDP, and between them nothing that is an extension header.
            spec.push(network(6, 1));
            spec.push(Expr::Range { sreg: KEY, op: RangeOp::Eq, from: vec![6], to: vec![17] });
            spec.push(network(7, 1));
            spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Gt, data: vec![1] });
            spec.push(Stmt::Fwd { dev: device, addr: Some(IpAddr::V6(NEXT_HOP_V6)) });
        }
        Way::FromIpv4 { protocol, mapped, ports } => {
            prefix(&mut spec, 16, &IpNet::V4(Ipv4Net::from(*mapped)));
            payload_is(&mut spec, 9, &[*protocol]);
            // Version 4 and no options, so that the ports are where they are looked for.
            payload_is(&mut spec, 0, &[0x45]);
            spec.push(network(22, 2));
            let (from, to) = (ports.start().to_be_bytes().to_vec(), ports.end().to_be_bytes().to_vec());
            spec.push(Expr::Range { sreg: KEY, op: RangeOp::Eq, from, to });
            spec.push(network(6, 2));
            masked_is(&mut spec, FRAGMENT.to_vec(), vec![0, 0]);
            for_this_host(&mut spec);
            spec.push(network(8, 1));
            spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Gt, data: vec![1] });
            spec.push(Stmt::Fwd { dev: device, addr: Some(IpAddr::V4(NEXT_HOP_V4)) });
        }
    }
    spec
}

fn for_this_host(spec: &mut RuleSpec) {
    spec.push(Expr::Meta { dreg: KEY, key: MetaKey::PktType });
    spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Eq, data: vec![PACKET_HOST] });
}

fn network(offset: u32, len: u32) -> Expr {
    Expr::Payload { dreg: KEY, base: PayloadBase::Network, offset, len }
}

fn payload_is(spec: &mut RuleSpec, offset: u32, data: &[u8]) {
    spec.push(network(offset, data.len() as u32));
    spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Eq, data: data.to_vec() });
}

fn masked_is(spec: &mut RuleSpec, mask: Vec<u8>, data: Vec<u8>) {
    let (len, xor) = (mask.len() as u32, vec![0; mask.len()]);
    spec.push(Expr::Bitwise { sreg: KEY, dreg: KEY, len, mask, xor });
    spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Eq, data });
}

/// The address at this offset of the IP header lies in that prefix.
fn prefix(spec: &mut RuleSpec, offset: u32, net: &IpNet) {
    let (mask, data) = match net {
        IpNet::V4(net) => (net.netmask().octets().to_vec(), net.network().octets().to_vec()),
        IpNet::V6(net) => (net.netmask().octets().to_vec(), net.network().octets().to_vec()),
    };
    let whole = usize::from(net.prefix_len() / 8);
    if net.prefix_len().is_multiple_of(8) && whole > 0 {
        return payload_is(spec, offset, &data[..whole]);
    }
    spec.push(network(offset, mask.len() as u32));
    masked_is(spec, mask, data);
}

#[cfg(test)]
mod tests;
