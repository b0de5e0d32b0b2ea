//! The engine's rules in nftables' expressions. A list of several values becomes an anonymous set.
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{Ipv4Net, Ipv6Net};
use nlink::netlink::nftables::{
    ByteorderOp, ChainName, CmpOp, CtState, CtStatus, DynsetExpr, DynsetOp, Expr, ExthdrOp, Family as NftFamily,
    FibFlags, FibResult, Field, IcmpxCode, Item, LimitExpr, LimitUnit, LogExpr, LookupExpr, Match as NftMatch, MetaKey,
    NFT_MSG_NEWSET, NFTA_SET_FLAGS, NFTA_SET_ID, NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE, NFTA_SET_NAME, NFTA_SET_TABLE,
    NFTA_SET_USERDATA, NatStatement, PacketField, PayloadBase, RangeOp, RawMessage, Register, Reject, RuleSpec, Set,
    SetElement, SetFlags, SetKeyType, Stmt, Value, Verdict,
};
use nlink::netlink::types::route::RouteType;
use nlink::netlink::{MessageBuilder, NLMSG_HDRLEN};
use sixgate_engine::firewall::ruleset::{
    ConntrackState, Element, HeaderBits, Holds, Match, NamedSet, Part, Rule, SetField, Statement,
};
use sixgate_engine::firewall::{LOG_BYTES, LOG_GROUP};
use sixgate_engine::plan::Family;

use super::meters;

/// A netlink attribute holds 64 KiB; an IPv6 prefix takes about 100 bytes of it.
pub(super) const ELEMENTS_PER_MESSAGE: usize = 256;

/// RFC 8200 section 4.4.
const ROUTING: u8 = 43;
/// Bytes of an interface name, terminating zero included (IFNAMSIZ).
const NAME_LENGTH: usize = 16;
pub(super) const KEY: Register = Register::R0;

// What `nft` notes with a set to print it; the kernel only stores it.
const UDATA_SET_KEY_BYTE_ORDER: u8 = 0;
const ORDER_HOST: u32 = 1;
const ORDER_NETWORK: u32 = 2;
const TYPE_ICMP: u32 = 14;
const TYPE_ICMPV6: u32 = 29;
const TYPE_INTERFACE_NAME: u32 = 41;

/// Lowers rules and collects the anonymous sets that they need.
pub(super) struct Sets {
    table: String,
    made: u32,
    pending: Vec<AnonymousSet>,
}

/// A set that lives and dies with the rule that looks into it; `nft` prints it in place.
pub(super) struct AnonymousSet {
    /// Where the elements go.
    pub(super) set: Set,
    pub(super) elements: Vec<SetElement>,
    id: u32,
    key_type: SetKeyType,
    flags: SetFlags,
}

impl AnonymousSet {
    /// The message that makes it. nlink's own lacks the key's byte order, without which `nft` cannot print names.
    pub(super) fn message(&self) -> RawMessage {
        let order: u32 = match self.key_type {
            SetKeyType::Other { type_id: TYPE_INTERFACE_NAME, .. } => ORDER_HOST,
            _ => ORDER_NETWORK,
        };
        let mut userdata = vec![UDATA_SET_KEY_BYTE_ORDER, 4];
        userdata.extend(order.to_ne_bytes());
        let mut attributes = MessageBuilder::new(0, 0);
        attributes.append_attr_str(NFTA_SET_TABLE, self.set.table());
        attributes.append_attr_str(NFTA_SET_NAME, self.set.name());
        attributes.append_attr_u32_be(NFTA_SET_FLAGS, self.flags.bits());
        attributes.append_attr_u32_be(NFTA_SET_KEY_TYPE, self.key_type.type_id());
        attributes.append_attr_u32_be(NFTA_SET_KEY_LEN, self.key_type.len());
        attributes.append_attr_u32_be(NFTA_SET_ID, self.id);
        attributes.append_attr(NFTA_SET_USERDATA, &userdata);
        create(NFT_MSG_NEWSET, &attributes)
    }
}

/// A message that creates something, of these attributes.
pub(super) fn create(kind: u8, attributes: &MessageBuilder) -> RawMessage {
    const NLM_F_CREATE: u16 = 0x400;
    let bytes = attributes.as_bytes().get(NLMSG_HDRLEN..).unwrap_or_default().to_vec();
    RawMessage::new(kind, NftFamily::Inet).flags(NLM_F_CREATE).attrs(bytes)
}

impl Sets {
    pub(super) fn new(table: &str) -> Self {
        Self { table: table.to_owned(), made: 0, pending: Vec::new() }
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The sets of the rule that was lowered last.
    pub(super) fn take(&mut self) -> Vec<AnonymousSet> {
        std::mem::take(&mut self.pending)
    }

    /// The rule for the kernel; nothing when it has an empty list, which no packet is "any of".
    pub(super) fn lower(&mut self, rule: &Rule) -> nlink::Result<Option<RuleSpec>> {
        let mut spec = RuleSpec::new();
        for condition in &rule.matches {
            if !self.condition(&mut spec, condition)? {
                self.pending.clear();
                return Ok(None);
            }
        }
        for statement in &rule.statements {
            add_statement(&mut spec, statement)?;
        }
        Ok(Some(spec))
    }

    /// Adds a condition; says whether it can hold at all.
    fn condition(&mut self, spec: &mut RuleSpec, condition: &Match) -> nlink::Result<bool> {
        match condition {
            Match::InputInterface(names) => return Ok(self.interface(spec, MetaKey::IifName, names)),
            Match::OutputInterface(names) => return Ok(self.interface(spec, MetaKey::OifName, names)),
            Match::Family(family) => spec.push(family_is(*family)),
            Match::Source4(nets) => return self.prefixes4(spec, &Field::Ip4Saddr, nets),
            Match::Destination4(nets) => return self.prefixes4(spec, &Field::Ip4Daddr, nets),
            Match::Source6(nets) => return self.prefixes6(spec, &Field::Ip6Saddr, nets),
            Match::Destination6(nets) => return self.prefixes6(spec, &Field::Ip6Daddr, nets),
            Match::Protocol(protocols) => {
                let load = Expr::Meta { dreg: KEY, key: MetaKey::L4Proto };
                return Ok(self.any_byte(spec, load, SetKeyType::InetProto, protocols));
            }
            Match::DestinationPort(ports) => return Ok(self.ports(spec, 2, ports)),
            Match::SourcePort(ports) => return Ok(self.ports(spec, 0, ports)),
            Match::InTimedSet(set) => spec.push(NftMatch::eq(Field::Ip6Daddr, Value::set(set.as_str()))),
            Match::IcmpType(types) => return Ok(self.icmp(spec, Icmp::V4, types)),
            Match::Icmpv6Type(types) => return Ok(self.icmp(spec, Icmp::V6, types)),
            Match::HopLimit(limit) => {
                spec.push(family_is(Family::V6));
                spec.push(Expr::Payload { dreg: KEY, base: PayloadBase::Network, offset: 7, len: 1 });
                spec.push(equal(vec![*limit]));
            }
            Match::HeaderBits(bits) => header_bits(spec, bits),
            Match::OpensNothing => {
                // RFC 9293 section 3.1: the flags SYN, RST and ACK in the header's 14th octet.
                const SYN: u8 = 2;
                spec.push(Expr::Payload { dreg: KEY, base: PayloadBase::Transport, offset: 13, len: 1 });
                spec.push(Expr::Bitwise { sreg: KEY, dreg: KEY, len: 1, mask: vec![SYN | 4 | 16], xor: vec![0] });
                spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Neq, data: vec![SYN] });
            }
            Match::SourceRouted => {
                spec.push(family_is(Family::V6));
                // Few packets have a header of that kind in front: the others are not walked through.
                let next = Expr::Payload { dreg: KEY, base: PayloadBase::Network, offset: 6, len: 1 };
                self.any_byte(spec, next, SetKeyType::InetProto, &[0, ROUTING, 60]);
                spec.push(Expr::Exthdr { dreg: KEY, op: ExthdrOp::Ipv6, exthdr_type: ROUTING, offset: 2, len: 1 });
                spec.push(equal(vec![0]));
            }
            Match::ConntrackState(states) => {
                if states.is_empty() {
                    return Ok(false);
                }
                let any = states.iter().fold(CtState::empty(), |any, state| any | conntrack(*state));
                spec.push(NftMatch::eq(Field::CtState, any));
            }
            Match::Mark { value, mask } => {
                let masked = Value::Masked { value: (*value).into(), mask: (*mask).into() };
                spec.push(NftMatch::eq(Field::Mark, masked));
            }
            Match::InSet { set, fields } => {
                let fields = Field::Concat(fields.iter().map(|field| packet_field(*field)).collect());
                spec.push(NftMatch::eq(fields, Value::set(set.as_str())));
            }
            Match::ConnectionMark { value, mask } => {
                let masked = Value::Masked { value: (*value).into(), mask: (*mask).into() };
                spec.push(NftMatch::eq(Field::CtMark, masked));
            }
            Match::ConnectionsUnder(most) => spec.push(Expr::Connlimit { count: *most, over: false }),
            Match::Over(meter) => meters::add(spec, meter),
            Match::Before(seconds) => {
                let nanoseconds = seconds.saturating_mul(1_000_000_000);
                spec.push(Expr::Meta { dreg: KEY, key: MetaKey::TimeNs });
                spec.push(Expr::Byteorder { sreg: KEY, dreg: KEY, op: ByteorderOp::Hton, len: 8, size: 8 });
                spec.push(Expr::Cmp { sreg: KEY, op: CmpOp::Lt, data: nanoseconds.to_be_bytes().to_vec() });
            }
            Match::Translated => spec.push(NftMatch::eq(Field::CtStatus, CtStatus::DST_NAT)),
            Match::DestinationIsLocal => {
                let field = Field::Fib { flags: FibFlags::DADDR, result: FibResult::AddrType };
                spec.push(NftMatch::eq(field, RouteType::Local));
            }
            Match::RateUnder { per_second, burst } => {
                spec.push(Stmt::Limit(LimitExpr::packets(*per_second, LimitUnit::Second).burst(*burst)));
            }
        }
        Ok(true)
    }

    fn interface(&mut self, spec: &mut RuleSpec, key: MetaKey, names: &[String]) -> bool {
        let load = Expr::Meta { dreg: KEY, key };
        let keys: Vec<Vec<u8>> = names.iter().filter_map(|name| interface_name(name)).collect();
        let key_type = SetKeyType::Other { type_id: TYPE_INTERFACE_NAME, len: NAME_LENGTH as u32 };
        self.any_key(spec, load, key_type, keys)
    }

    fn prefixes4(&mut self, spec: &mut RuleSpec, field: &Field, nets: &[Ipv4Net]) -> nlink::Result<bool> {
        // Overlapping or adjacent intervals are refused by the kernel.
        let nets = Ipv4Net::aggregate(&nets.to_vec());
        let prefixes: Vec<(IpAddr, u8)> = nets.iter().map(|net| (net.network().into(), net.prefix_len())).collect();
        self.prefixes(spec, field, Family::V4, &prefixes, |address, length| match address {
            IpAddr::V4(address) => SetElement::ipv4_prefix(address, length),
            IpAddr::V6(address) => SetElement::ipv6_prefix(address, length),
        })
    }

    fn prefixes6(&mut self, spec: &mut RuleSpec, field: &Field, nets: &[Ipv6Net]) -> nlink::Result<bool> {
        let nets = Ipv6Net::aggregate(&nets.to_vec());
        let prefixes: Vec<(IpAddr, u8)> = nets.iter().map(|net| (net.network().into(), net.prefix_len())).collect();
        self.prefixes(spec, field, Family::V6, &prefixes, |address, length| match address {
            IpAddr::V4(address) => SetElement::ipv4_prefix(address, length),
            IpAddr::V6(address) => SetElement::ipv6_prefix(address, length),
        })
    }

    fn prefixes(
        &mut self,
        spec: &mut RuleSpec,
        field: &Field,
        family: Family,
        prefixes: &[(IpAddr, u8)],
        element: impl Fn(IpAddr, u8) -> nlink::Result<SetElement>,
    ) -> nlink::Result<bool> {
        match prefixes {
            [] => return Ok(false),
            [(_, 0)] => spec.push(family_is(family)),
            [(address, length)] => spec.push(NftMatch::eq(field.clone(), Value::Prefix(*address, *length))),
            several => {
                let elements = several.iter().map(|(address, length)| element(*address, *length));
                let key_type = match family {
                    Family::V4 => SetKeyType::Ipv4Addr,
                    Family::V6 => SetKeyType::Ipv6Addr,
                };
                let set = self.add(key_type, SetFlags::INTERVAL, elements.collect::<nlink::Result<_>>()?);
                spec.push(NftMatch::eq(field.clone(), Value::IntervalSet(set)));
            }
        }
        Ok(true)
    }

    fn ports(&mut self, spec: &mut RuleSpec, offset: u32, ports: &[RangeInclusive<u16>]) -> bool {
        let load = Expr::Payload { dreg: KEY, base: PayloadBase::Transport, offset, len: 2 };
        let ports = merged(ports);
        match &ports[..] {
            [] => return false,
            [(first, last)] => {
                spec.push(load);
                if first == last {
                    spec.push(equal(first.to_be_bytes().to_vec()));
                } else {
                    let (from, to) = (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
                    spec.push(Expr::Range { sreg: KEY, op: RangeOp::Eq, from, to });
                }
            }
            several => {
                let elements = several.iter().map(|(first, last)| SetElement::port_range(*first, *last)).collect();
                let set = self.add(SetKeyType::InetService, SetFlags::INTERVAL, elements);
                spec.push(load);
                spec.push(Expr::from(LookupExpr::new(set, KEY)));
            }
        }
        true
    }

    fn icmp(&mut self, spec: &mut RuleSpec, icmp: Icmp, types: &[u8]) -> bool {
        let (protocol, type_id) = match icmp {
            Icmp::V4 => (1, TYPE_ICMP),
            Icmp::V6 => (58, TYPE_ICMPV6),
        };
        // A rule that forgot the protocol would look into any packet's first transport byte.
        let guard = [Item::from(Expr::Meta { dreg: KEY, key: MetaKey::L4Proto }), Item::from(equal(vec![protocol]))];
        if !spec.items().windows(guard.len()).any(|items| *items == guard) {
            spec.extend(guard);
        }
        let load = Expr::Payload { dreg: KEY, base: PayloadBase::Transport, offset: 0, len: 1 };
        self.any_byte(spec, load, SetKeyType::Other { type_id, len: 1 }, types)
    }

    fn any_byte(&mut self, spec: &mut RuleSpec, load: Expr, key_type: SetKeyType, values: &[u8]) -> bool {
        self.any_key(spec, load, key_type, values.iter().map(|value| vec![*value]).collect())
    }

    /// `load` gives one of `keys`; says whether there is any.
    fn any_key(&mut self, spec: &mut RuleSpec, load: Expr, key_type: SetKeyType, mut keys: Vec<Vec<u8>>) -> bool {
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            return false;
        }
        spec.push(load);
        if keys.len() == 1 {
            spec.push(equal(keys.remove(0)));
        } else {
            let set = self.add(key_type, SetFlags::empty(), keys.into_iter().map(SetElement::new).collect());
            spec.push(Expr::from(LookupExpr::new(set, KEY)));
        }
        true
    }

    /// Remembers a set and gives its name.
    fn add(&mut self, key_type: SetKeyType, flags: SetFlags, elements: Vec<SetElement>) -> String {
        self.made += 1;
        let name = format!("__set{}", self.made);
        let flags = flags | SetFlags::ANONYMOUS | SetFlags::CONSTANT;
        let set = Set::new(&self.table, &name).family(NftFamily::Inet).key_type(key_type.clone()).flags(flags);
        self.pending.push(AnonymousSet { set, elements, id: self.made, key_type, flags });
        name
    }
}

/// A set with a counter on each element.
pub(super) fn named(table: &str, set: &NamedSet) -> Set {
    let key = set.fields.iter().map(|field| packet_field(*field).key_type()).collect();
    let flags = match set.holds {
        Holds::Single => SetFlags::empty(),
        Holds::Ranges => SetFlags::INTERVAL,
    };
    Set::new(table, &set.name).family(NftFamily::Inet).key_type(SetKeyType::Concat(key)).flags(flags).counter()
}

/// An element for the kernel.
pub(super) fn element(element: &Element) -> nlink::Result<SetElement> {
    let parts = element.parts.iter().map(|part| match part {
        Part::Net(net) => SetElement::ipv6_prefix(net.network(), net.prefix_len()),
        Part::Ports(ports) => Ok(SetElement::port_range(*ports.start(), *ports.end())),
        Part::Protocol(protocol) => Ok(SetElement::inet_proto(*protocol)),
    });
    Ok(SetElement::concat(parts.collect::<nlink::Result<Vec<_>>>()?))
}

const fn packet_field(field: SetField) -> PacketField {
    match field {
        SetField::Source6 => PacketField::Ip6Saddr,
        SetField::Destination6 => PacketField::Ip6Daddr,
        SetField::TcpPort => PacketField::TcpDport,
        SetField::UdpPort => PacketField::UdpDport,
        SetField::Protocol => PacketField::L4Proto,
    }
}

#[derive(Clone, Copy)]
enum Icmp {
    V4,
    V6,
}

fn add_statement(spec: &mut RuleSpec, statement: &Statement) -> nlink::Result<()> {
    match statement {
        Statement::Counter => spec.push(Stmt::Counter),
        Statement::SetMark { value, mask: u32::MAX } => spec.push(Stmt::SetMark(*value)),
        Statement::SetMark { value, mask } => spec.push(Stmt::SetMarkMasked { value: *value, mask: *mask }),
        Statement::Notrack => spec.push(Stmt::Notrack),
        Statement::Jump(chain) => spec.push(Verdict::JumpTo(ChainName::new(chain.as_str())?)),
        Statement::Goto(chain) => spec.push(Verdict::GotoTo(ChainName::new(chain.as_str())?)),
        Statement::Log(prefix) => {
            let prefix = super::comment(prefix);
            spec.push(Stmt::Log(LogExpr::new().prefix(prefix).group(LOG_GROUP).snaplen(LOG_BYTES)));
        }
        Statement::Masquerade(ports) => {
            let masquerade = NatStatement::masquerade();
            spec.push(Stmt::Nat(match ports {
                Some(ports) => masquerade.ports(*ports.start(), *ports.end()),
                None => masquerade,
            }));
        }
        Statement::Destination(host, port) => {
            let to = NatStatement::dnat(*host);
            spec.push(Stmt::Nat(port.map_or(to.clone(), |port| to.port(port))));
        }
        Statement::Accept => spec.push(Verdict::Accept),
        Statement::Remember(set) => {
            spec.push(Expr::Payload { dreg: KEY, base: PayloadBase::Network, offset: 8, len: 16 });
            spec.push(Expr::Dynset(DynsetExpr::new(DynsetOp::Update, set, KEY)));
        }
        Statement::Drop => spec.push(Verdict::Drop),
        Statement::Reject => spec.push(Stmt::Reject(Reject::Icmpx(IcmpxCode::AdminProhibited))),
        Statement::Reset => spec.push(Stmt::Reject(Reject::TcpReset)),
        Statement::Return => spec.push(Verdict::Return),
    }
    Ok(())
}

fn header_bits(spec: &mut RuleSpec, bits: &HeaderBits) {
    // The value's last octets are those of the packet.
    let octets = |value: u32| value.to_be_bytes()[4 - usize::from(bits.octets)..].to_vec();
    let len = bits.octets.into();
    spec.push(Expr::Payload { dreg: KEY, base: PayloadBase::Network, offset: bits.offset.into(), len });
    if !bits.is_whole() {
        spec.push(Expr::Bitwise { sreg: KEY, dreg: KEY, len, mask: octets(bits.mask), xor: octets(0) });
    }
    let op = if bits.is_equal { CmpOp::Eq } else { CmpOp::Neq };
    spec.push(Expr::Cmp { sreg: KEY, op, data: octets(bits.value) });
}

fn equal(data: Vec<u8>) -> Expr {
    Expr::Cmp { sreg: KEY, op: CmpOp::Eq, data }
}

pub(super) fn family_is(family: Family) -> NftMatch {
    let number: u8 = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    NftMatch::eq(Field::NfProto, number)
}

fn conntrack(state: ConntrackState) -> CtState {
    match state {
        ConntrackState::Invalid => CtState::INVALID,
        ConntrackState::Established => CtState::ESTABLISHED,
        ConntrackState::Related => CtState::RELATED,
        ConntrackState::New => CtState::NEW,
        ConntrackState::Untracked => CtState::UNTRACKED,
    }
}

/// The name as the kernel compares it, padded with zeros; nothing for a name that no interface can have.
fn interface_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = name.as_bytes().to_vec();
    if bytes.is_empty() || bytes.len() >= NAME_LENGTH {
        return None;
    }
    bytes.resize(NAME_LENGTH, 0);
    Some(bytes)
}

/// Sorted ranges that neither overlap nor touch.
fn merged(ports: &[RangeInclusive<u16>]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> =
        ports.iter().filter(|range| !range.is_empty()).map(|range| (*range.start(), *range.end())).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}
