//! Source address validation at each LAN's ingress, before the translator's shortcuts and the IP stack: a `netdev` table with
//! sets of hardware and IPv6 addresses that belong together.
use std::net::Ipv6Addr;

use futures_util::StreamExt;
use nlink::OwnedEventStream;
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, FilterHook, LimitExpr, LimitUnit, LogExpr, LookupExpr, PayloadBase, Policy,
    Priority, RangeOp, Register, Rule, RuleSpec, Set, SetElement, SetFlags, SetKeyType, Stmt, Transaction, Verdict,
};
use nlink::netlink::{Connection, Nflog, Nftables};
use sixgate_engine::facts::MacAddr;
use sixgate_engine::plan::Family as IpFamily;
use sixgate_engine::savi::Sources;
use sixgate_engine::status::Traffic;

use super::shortcut::{other_families, table_if_missing};
use super::{NftError, connect};

/// Name of the table.
pub const TABLE: &str = "sixgate-sources";
/// NFLOG group in which packets are told that were not admitted.
const GROUP: u16 = 6464;
/// Of those, so many a second: their senders are asked who they are.
const TOLD_PER_SECOND: u64 = 50;
/// Ethernet header is not part of what is told; the IPv6 header is.
const TOLD_BYTES: u32 = 40;
/// Before the translator's shortcuts, which are at 0.
const PRIORITY: i32 = -10;
/// Elements of one message, and of one transaction: see [`super::sets`].
const PER_MESSAGE: usize = 256;
const PER_TRANSACTION: usize = 1024;

const KEY: Register = Register::R0;
/// A hardware address takes two words of the key.
const KEY_ADDRESS: Register = Register::Reg32_02;

fn hosts(link: usize) -> Set {
    set(&format!("hosts{link}"))
}

fn nets(link: usize) -> Set {
    set(&format!("nets{link}")).flags(SetFlags::INTERVAL)
}

fn set(name: &str) -> Set {
    let key = SetKeyType::Concat(vec![SetKeyType::EtherAddr, SetKeyType::Ipv6Addr]);
    Set::new(TABLE, name).family(Family::Netdev).key_type(key)
}

fn host((mac, address): &(MacAddr, Ipv6Addr)) -> nlink::Result<SetElement> {
    Ok(SetElement::concat([SetElement::ether(mac.0), SetElement::ipv6_prefix(*address, 128)?]))
}

/// Replaces the table with one for these sources, atomically.
///
/// # Errors
/// nftables refused, for a link that is not there any more or want of an expression; what was loaded before is in force.
pub async fn load(sources: &[Sources]) -> Result<(), NftError> {
    let fail = |error: nlink::Error| NftError::new("load", &error);
    let connection = connect().map_err(fail)?;
    let mut transaction = connection
        .transaction()
        .raw(table_if_missing(TABLE))
        .del_table(TABLE, Family::Netdev)
        .add_table(TABLE, Family::Netdev);
    for (index, link) in sources.iter().enumerate() {
        transaction = transaction.add_set(hosts(index)).add_set(nets(index));
        let hook = FilterHook::ingress([link.interface.as_str()]);
        let base = BaseChain::filter(hook, Priority::Custom(PRIORITY)).policy(Policy::Accept);
        let name = format!("link{index}");
        let chain = Chain::new(TABLE, name.as_str()).map_err(fail)?.family(Family::Netdev).base(base);
        transaction = transaction.add_chain(chain);
        for spec in rules(index) {
            transaction = transaction.add_rule(Rule::from_spec(TABLE, name.as_str(), spec).family(Family::Netdev));
        }
    }
    transaction.commit(&connection).await.map_err(fail)?;
    let empty: Vec<Sources> =
        sources.iter().map(|link| Sources { interface: link.interface.clone(), ..Sources::default() }).collect();
    fill(&connection, &empty, sources).await.map_err(fail)
}

/// Turns one state into another where the links are the same; says whether that was possible.
///
/// # Errors
/// nftables refused; a part of the change may be in force.
pub async fn change(old: &[Sources], new: &[Sources]) -> Result<bool, NftError> {
    let links = |sources: &[Sources]| sources.iter().map(|link| link.interface.clone()).collect::<Vec<_>>();
    if links(old) != links(new) {
        return Ok(false);
    }
    let fail = |error: nlink::Error| NftError::new("change", &error);
    fill(&connect().map_err(fail)?, old, new).await.map_err(fail)?;
    Ok(true)
}

/// What goes, goes first: an address that moves is never two hosts'.
async fn fill(connection: &Connection<Nftables>, old: &[Sources], new: &[Sources]) -> nlink::Result<()> {
    for (index, (old, new)) in old.iter().zip(new).enumerate() {
        let net = |(mac, net): &(MacAddr, ipnet::Ipv6Net)| {
            let prefix = SetElement::ipv6_prefix(net.network(), net.prefix_len())?;
            Ok(SetElement::concat([SetElement::ether(mac.0), prefix]))
        };
        let gone: nlink::Result<Vec<SetElement>> = old.hosts.difference(&new.hosts).map(host).collect();
        let come: nlink::Result<Vec<SetElement>> = new.hosts.difference(&old.hosts).map(host).collect();
        replace(connection, &hosts(index), &gone?, &come?).await?;
        let gone: nlink::Result<Vec<SetElement>> = old.nets.difference(&new.nets).map(net).collect();
        let come: nlink::Result<Vec<SetElement>> = new.nets.difference(&old.nets).map(net).collect();
        replace(connection, &nets(index), &gone?, &come?).await?;
    }
    Ok(())
}

async fn replace(
    connection: &Connection<Nftables>,
    set: &Set,
    gone: &[SetElement],
    come: &[SetElement],
) -> nlink::Result<()> {
    let edit = |mut transaction: Transaction, elements: &[SetElement], add: Edit| {
        for some in elements.chunks(PER_MESSAGE) {
            transaction = match add {
                Edit::Add => transaction.add_set_elements(set, some),
                Edit::Delete => transaction.del_set_elements(set, some),
            };
        }
        transaction
    };
    for (elements, way) in [(gone, Edit::Delete), (come, Edit::Add)] {
        for some in elements.chunks(PER_TRANSACTION) {
            edit(connection.transaction(), some, way).commit(connection).await?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Edit {
    Add,
    Delete,
}

/// The chain of a link, the most frequent first.
fn rules(index: usize) -> Vec<RuleSpec> {
    let listed = |set: &Set| {
        let mut spec = RuleSpec::new();
        spec.push(Expr::Payload { dreg: KEY, base: PayloadBase::LinkLayer, offset: 6, len: 6 });
        spec.push(Expr::Payload { dreg: KEY_ADDRESS, base: PayloadBase::Network, offset: 8, len: 16 });
        spec.push(Expr::from(LookupExpr::new(set.name(), KEY)));
        spec.push(Verdict::Accept);
        spec
    };
    let mut told = RuleSpec::new();
    told.push(Stmt::Limit(LimitExpr::packets(TOLD_PER_SECOND, LimitUnit::Second).burst(50)));
    told.push(Stmt::Log(LogExpr::new().group(GROUP).snaplen(TOLD_BYTES)));
    let mut dropped = RuleSpec::new();
    dropped.push(Stmt::Counter);
    dropped.push(Verdict::Drop);
    vec![
        other_families(IpFamily::V6),
        listed(&hosts(index)),
        listed(&nets(index)),
        discovery(),
        listeners(),
        told,
        dropped.comment("drop: source is not of this hardware address"),
    ]
}

fn byte(spec: &mut RuleSpec, offset: u32, value: u8) {
    spec.push(Expr::Payload { dreg: KEY, base: PayloadBase::Network, offset, len: 1 });
    spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Eq, data: vec![value] });
}

/// Neighbor Discovery, by which addresses become known: ICMPv6 types 133 to 136 right behind the IPv6 header.
fn discovery() -> RuleSpec {
    let mut spec = RuleSpec::new();
    byte(&mut spec, 6, 58);
    byte(&mut spec, 7, 255);
    spec.push(Expr::Payload { dreg: KEY, base: PayloadBase::Network, offset: 40, len: 1 });
    spec.push(Expr::Range { sreg: KEY, op: RangeOp::Eq, from: vec![133], to: vec![136] });
    spec.push(Verdict::Accept);
    spec
}

/// Reports of multicast listeners (RFC 3810 section 5), which come before the first address: hop limit 1, and ICMPv6 behind
/// hop-by-hop options. They are not forwarded.
fn listeners() -> RuleSpec {
    let mut spec = RuleSpec::new();
    byte(&mut spec, 6, 0);
    byte(&mut spec, 7, 1);
    byte(&mut spec, 40, 58);
    spec.push(Verdict::Accept);
    spec
}

/// Removes the table; fine when there is none.
///
/// # Errors
/// nftables refused, or cannot be reached.
pub async fn unload() -> Result<(), NftError> {
    let fail = |error: nlink::Error| NftError::new("remove", &error);
    connect().map_err(fail)?.del_table_if_exists(TABLE, Family::Netdev).await.map_err(fail)?;
    Ok(())
}

/// Whether the table is there.
///
/// # Errors
/// nftables cannot be reached.
pub async fn loaded() -> Result<bool, NftError> {
    super::shortcut::loaded(TABLE).await
}

/// Which host had which address when the table was changed last, by the link's name.
///
/// # Errors
/// nftables cannot be reached.
pub async fn held() -> Result<Vec<(String, Vec<(MacAddr, Ipv6Addr)>)>, NftError> {
    let fail = |error: nlink::Error| NftError::new("read", &error);
    let connection = connect().map_err(fail)?;
    let mut held = Vec::new();
    for chain in connection.list_chains().await.map_err(fail)? {
        let Some(index) = chain.name.strip_prefix("link").and_then(|index| index.parse::<usize>().ok()) else {
            continue;
        };
        let Some(device) = (chain.table == TABLE).then_some(chain.device).flatten() else { continue };
        let elements = connection.list_set_elements(TABLE, hosts(index).name(), Family::Netdev).await.map_err(fail)?;
        let pairs = elements.iter().filter_map(|element| {
            let key = element.key();
            let mac: [u8; 6] = key.get(..6)?.try_into().ok()?;
            let address: [u8; 16] = key.get(8..24)?.try_into().ok()?;
            Some((MacAddr(mac), Ipv6Addr::from(address)))
        });
        held.push((device, pairs.collect()));
    }
    Ok(held)
}

/// What was dropped since the table was loaded.
///
/// # Errors
/// nftables cannot be reached.
pub async fn dropped() -> Result<Traffic, NftError> {
    let fail = |error: nlink::Error| NftError::new("read", &error);
    let rules = connect().map_err(fail)?.list_rules(TABLE, Family::Netdev).await.map_err(fail)?;
    let mut sum = Traffic::default();
    for (packets, bytes) in rules.iter().filter(|rule| rule.table == TABLE).filter_map(|rule| rule.counter()) {
        sum.packets += packets;
        sum.bytes += bytes;
    }
    Ok(sum)
}

/// A packet whose source is nobody's yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Kernel interface index.
    pub link: u32,
    /// Hardware address that it came from.
    pub mac: MacAddr,
    /// Its source.
    pub source: Ipv6Addr,
}

/// Packets that were not admitted, some of them.
pub struct Unadmitted(OwnedEventStream<Nflog>);

impl Unadmitted {
    /// Listens, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Somebody else listens, or the kernel has no NFLOG.
    pub async fn open() -> Result<Self, NftError> {
        let fail = |error: nlink::Error| NftError::new("listen beside", &error);
        let connection = Connection::<Nflog>::new().map_err(fail)?;
        connection.bind_group(GROUP, TOLD_BYTES).await.map_err(fail)?;
        Ok(Self(connection.into_events().await))
    }

    /// Waits for the next one; nothing when the socket has failed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Unknown> {
        loop {
            let packet = match self.0.next().await? {
                Ok(packet) => packet,
                // Some were lost: whoever sends on is heard again.
                Err(error) if error.errno() == Some(libc::ENOBUFS) => continue,
                Err(_) => return None,
            };
            let (Some(link), Some(hardware)) = (packet.indev, packet.hwaddr.as_deref()) else { continue };
            let mac: Option<[u8; 6]> = hardware.get(..6).and_then(|mac| mac.try_into().ok());
            let source: Option<[u8; 16]> = packet.payload.get(8..24).and_then(|source| source.try_into().ok());
            if let (Some(mac), Some(source)) = (mac, source) {
                return Some(Unknown { link, mac: MacAddr(mac), source: Ipv6Addr::from(source) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
