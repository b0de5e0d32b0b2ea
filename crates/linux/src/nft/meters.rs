//! Sets that rules fill by themselves, with a limit for each element.
use std::time::Duration;

use nlink::netlink::nftables::{
    DynsetExpr, DynsetOp, ElementStatement, Expr, Family as NftFamily, LimitExpr, LimitUnit, PayloadBase, RuleSpec,
    Set, SetKeyType, Transaction,
};
use sixgate_engine::firewall::METER_SIZE;
use sixgate_engine::firewall::ruleset::{Meter, MeterKey, MeterLimit, Ruleset};
use sixgate_engine::plan::Family;

use super::lower::{KEY, family_is};

/// How long a rate is remembered of somebody who does not come back.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Makes the sets, before the rules that look into them.
pub(super) fn make(transaction: Transaction, ruleset: &Ruleset) -> Transaction {
    ruleset.meters().fold(transaction, |transaction, meter| transaction.add_set(set(&ruleset.table, meter)))
}

fn set(table: &str, meter: &Meter) -> Set {
    let key = match meter.key {
        MeterKey::Hardware => SetKeyType::EtherAddr,
        MeterKey::Source6 => SetKeyType::Ipv6Addr,
        MeterKey::Source4 => SetKeyType::Ipv4Addr,
    };
    let set = Set::new(table, &meter.set).family(NftFamily::Inet).key_type(key).dynamic().size(METER_SIZE);
    match meter.limit {
        // An element goes with its last connection.
        MeterLimit::Connections(_) => set,
        MeterLimit::PerSecond { .. } => set.timeout(REMEMBERED),
    }
}

/// Adds the condition that a packet's source is over its limit.
pub(super) fn add(spec: &mut RuleSpec, meter: &Meter) {
    let (base, offset, len) = match meter.key {
        MeterKey::Hardware => (PayloadBase::LinkLayer, 6, 6),
        MeterKey::Source6 => (PayloadBase::Network, 8, 16),
        MeterKey::Source4 => (PayloadBase::Network, 12, 4),
    };
    match meter.key {
        MeterKey::Hardware => {}
        MeterKey::Source6 => spec.push(family_is(Family::V6)),
        MeterKey::Source4 => spec.push(family_is(Family::V4)),
    }
    spec.push(Expr::Payload { dreg: KEY, base, offset, len });
    if meter.key == MeterKey::Source6 {
        let mask = [[0xff; 8], [0; 8]].concat();
        spec.push(Expr::Bitwise { sreg: KEY, dreg: KEY, len, mask, xor: vec![0; 16] });
    }
    let (op, limit) = match meter.limit {
        MeterLimit::Connections(count) => (DynsetOp::Add, ElementStatement::Connlimit { count, over: true }),
        MeterLimit::PerSecond { rate, burst } => {
            let rate = LimitExpr::packets(rate.into(), LimitUnit::Second).burst(burst).over();
            (DynsetOp::Update, ElementStatement::Limit(rate))
        }
    };
    spec.push(Expr::Dynset(DynsetExpr::new(op, &meter.set, KEY).statement(limit)));
}
