//! Routing rules of our protocol, and the move of the local table's rule from preference 0 and back.
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::IpVersion;
use sixgate_engine::plan::{Family, ROUTE_PROTOCOL, RulePlan};

use super::{ApplyError, Removed, Repairs};
use crate::netlink::{Netlink, NetlinkError, accept_errno};

/// The local table, which holds the machine's own addresses.
const LOCAL: u32 = 255;
const OURS: RouteProtocol = RouteProtocol::Other(ROUTE_PROTOCOL);

/// A rule as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldRule {
    plan: RulePlan,
    protocol: RouteProtocol,
}

impl Netlink {
    /// Adds what is missing and returns what has to go: ours that are not wanted, and the kernel's own local rule at
    /// preference 0 once ours is in place. There is no moment without a rule for the local table.
    pub(super) async fn add_rules(
        &self,
        plans: &[RulePlan],
        repairs: &mut Repairs,
        errors: &mut Vec<ApplyError>,
    ) -> Vec<HeldRule> {
        let mut stale = Vec::new();
        for family in [Family::V4, Family::V6] {
            let held = match self.held_rules(family).await {
                Ok(held) => held,
                Err(error) => {
                    errors.push(ApplyError::netlink("routing rules".to_owned(), "read", &error));
                    continue;
                }
            };
            let wanted: Vec<&RulePlan> = plans.iter().filter(|plan| plan.family == family).collect();
            let mut local_moved = false;
            for plan in &wanted {
                let is_held = held.iter().any(|rule| rule.plan == **plan);
                let was_there = repairs.had(|plan| &plan.rules, *plan);
                repairs.note(was_there && !is_held, "rule", || item(plan));
                let in_place = is_held || self.add_rule(plan, OURS, errors).await;
                local_moved |= in_place && is_moved_local(plan);
            }
            let has_first_local = held.iter().any(|rule| rule.plan == first_local(family));
            let may_lose_ours = if local_moved || has_first_local {
                true
            } else {
                self.add_rule(&first_local(family), RouteProtocol::Kernel, errors).await
            };
            for rule in held {
                let ours = rule.protocol == OURS && !wanted.contains(&&rule.plan);
                let replaced = local_moved && rule.plan == first_local(family);
                if (ours && (may_lose_ours || rule.plan.table != LOCAL)) || replaced {
                    stale.push(rule);
                }
            }
        }
        stale
    }

    pub(super) async fn remove_rules(&self, stale: Vec<HeldRule>, errors: &mut Vec<ApplyError>) -> Removed {
        let mut removed = Removed::Nothing;
        for rule in stale {
            let request = self.handle.rule().del(message(&rule.plan, rule.protocol)).execute();
            match accept_errno(request, &[libc::ENOENT]).await {
                Ok(()) => removed = Removed::Something,
                Err(error) => errors.push(ApplyError::netlink(item(&rule.plan), "remove", &error)),
            }
        }
        removed
    }

    /// Whether the rule is there afterwards.
    async fn add_rule(&self, plan: &RulePlan, protocol: RouteProtocol, errors: &mut Vec<ApplyError>) -> bool {
        let mut request = self.handle.rule().add();
        *request.message_mut() = message(plan, protocol);
        match accept_errno(request.execute(), &[libc::EEXIST]).await {
            Ok(()) => true,
            Err(error) => {
                errors.push(ApplyError::netlink(item(plan), "add", &error));
                false
            }
        }
    }

    async fn held_rules(&self, family: Family) -> Result<Vec<HeldRule>, NetlinkError> {
        let version = match family {
            Family::V4 => IpVersion::V4,
            Family::V6 => IpVersion::V6,
        };
        let messages = self.dump(|handle| handle.rule().get(version).execute()).await?;
        Ok(messages.iter().filter_map(|message| held(message, family)).collect())
    }
}

/// The rule for the local table as the kernel starts with.
fn first_local(family: Family) -> RulePlan {
    RulePlan { family, preference: 0, fwmark: None, table: LOCAL }
}

fn is_moved_local(plan: &RulePlan) -> bool {
    plan.table == LOCAL && plan.fwmark.is_none() && plan.preference > 0
}

fn message(plan: &RulePlan, protocol: RouteProtocol) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match plan.family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message.header.action = RuleAction::ToTable;
    message.header.table = u8::try_from(plan.table).unwrap_or(0);
    message.attributes = vec![
        RuleAttribute::Priority(plan.preference),
        RuleAttribute::Table(plan.table),
        RuleAttribute::Protocol(protocol),
    ];
    if let Some((mark, mask)) = plan.fwmark {
        message.attributes.push(RuleAttribute::FwMark(mark));
        message.attributes.push(RuleAttribute::FwMask(mask));
    }
    message
}

/// The kernel's rule in the plan's words; nothing for a rule with selectors that a plan cannot express.
fn held(message: &RuleMessage, family: Family) -> Option<HeldRule> {
    let mut plan = RulePlan { family, preference: 0, fwmark: None, table: message.header.table.into() };
    let mut protocol = RouteProtocol::Unspec;
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(preference) => plan.preference = *preference,
            RuleAttribute::Table(table) => plan.table = *table,
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Protocol(value) => protocol = *value,
            RuleAttribute::Source(_)
            | RuleAttribute::Destination(_)
            | RuleAttribute::Iifname(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_) => return None,
            _ => {}
        }
    }
    plan.fwmark = mark.map(|mark| (mark, mask));
    let plain = message.header.action == RuleAction::ToTable && !message.header.flags.contains(RuleFlags::Invert);
    plain.then_some(HeldRule { plan, protocol })
}

fn item(plan: &RulePlan) -> String {
    let family = match plan.family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let mark = plan.fwmark.map(|(mark, mask)| format!(" fwmark {mark:#x}/{mask:#x}")).unwrap_or_default();
    format!("{family} rule {}{mark} lookup {}", plan.preference, plan.table)
}
