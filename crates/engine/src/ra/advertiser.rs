//! When a link's advertisements are sent: RFC 4861 sections 6.2.4 to 6.2.6 as a state machine for one link.
use core::net::Ipv6Addr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sixgate_wire::ndp::{ALL_NODES, ALL_ROUTERS, Delivery, Message};

use super::content::{self, Phase};
use super::other_router::OtherRouters;
use super::solicitor::{Solicitors, Turn};
use super::verdict::{Reason, Verdict};
use super::withdrawn::{Known, Withdrawn};
use crate::plan::RaPlan;
use crate::status::{Advertised, AdvertisedPrefix};
use crate::time::Instant;

/// RFC 4861 section 10: advertisements that are sent at short intervals after a start or a change.
pub const MAX_INITIAL_RTR_ADVERTISEMENTS: u8 = 3;
/// RFC 4861 section 10: the longest of those short intervals.
pub const MAX_INITIAL_RTR_ADVERT_INTERVAL: Duration = Duration::from_secs(16);
/// RFC 4861 section 10: advertisements with router lifetime 0 when the link stops being advertised on.
pub const MAX_FINAL_RTR_ADVERTISEMENTS: u8 = 3;
/// RFC 4861 section 10: the shortest time between two multicast advertisements.
pub const MIN_DELAY_BETWEEN_RAS: Duration = Duration::from_secs(3);
/// RFC 4861 section 10: the longest random delay of an answer to a solicitation.
pub const MAX_RA_DELAY_TIME: Duration = Duration::from_millis(500);

/// A message that is to be sent with hop limit 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Link-local address that it comes from.
    pub source: Ipv6Addr,
    /// Where it goes.
    pub destination: Ipv6Addr,
    /// ICMPv6 from its type on, the checksum zero.
    pub message: Vec<u8>,
}

/// The advertiser of one link.
///
/// It is driven like every state machine of the engine: input and timeouts in, then [`Advertiser::poll_transmit`] until
/// it has nothing more, then sleep until [`Advertiser::poll_timeout`].
#[derive(Debug)]
pub struct Advertiser {
    plan: RaPlan,
    phase: Phase,
    rng: ChaCha8Rng,
    /// When the next unsolicited advertisement is due; nothing once all final ones are sent.
    unsolicited: Option<Instant>,
    /// When the answer to a solicitation that all hear is due.
    solicited: Option<Instant>,
    solicitors: Solicitors,
    others: OtherRouters,
    withdrawn: Withdrawn,
    last_sent: Option<Instant>,
    /// How many more advertisements are sent at short intervals, or at all when ceasing.
    burst: u8,
    outgoing: VecDeque<Transmit>,
    sent: u64,
    unicast: u64,
    packets: usize,
    solicitations: u64,
    other_routers: u64,
    dropped: BTreeMap<Reason, u64>,
    omitted: u64,
}

impl Advertiser {
    /// Starts to advertise; the first advertisement is due at once.
    pub fn new(plan: &RaPlan, seed: u64, now: Instant) -> Self {
        Self {
            plan: plan.clone(),
            phase: Phase::Advertising,
            rng: ChaCha8Rng::seed_from_u64(seed),
            unsolicited: Some(now),
            solicited: None,
            solicitors: Solicitors::default(),
            others: OtherRouters::default(),
            withdrawn: Withdrawn::default(),
            last_sent: None,
            burst: MAX_INITIAL_RTR_ADVERTISEMENTS,
            outgoing: VecDeque::new(),
            sent: 0,
            unicast: 0,
            packets: 0,
            solicitations: 0,
            other_routers: 0,
            dropped: BTreeMap::new(),
            omitted: 0,
        }
    }

    /// Goes on where a former daemon has left: what it told hosts and is not to be advertised any more is taken back.
    #[must_use]
    pub fn knowing(mut self, known: &Known, now: Instant, unix: u64) -> Self {
        self.withdrawn = Withdrawn::recall(known, &self.plan.advertisement, now, unix);
        self
    }

    /// What hosts know, for the next daemon.
    pub fn known(&self, now: Instant, unix: u64) -> Known {
        self.withdrawn.known(&self.plan.advertisement, now, unix)
    }

    /// What is advertised now.
    pub fn plan(&self) -> &RaPlan {
        &self.plan
    }

    /// Takes a new plan. One that differs is advertised promptly and repeated like a start (RFC 4861 section 6.2.4), and so is
    /// one after the link was without carrier; an equal one changes nothing, unless advertising had ceased.
    pub fn reconfigure(&mut self, plan: &RaPlan, now: Instant) {
        if self.plan == *plan && self.phase == Phase::Advertising {
            return;
        }
        let news = plan.advertisement.is_news_after(&self.plan.advertisement) || {
            let advertisement = self.plan.advertisement.clone();
            self.plan != RaPlan { advertisement, ..plan.clone() }
        };
        if self.plan.source != plan.source && self.phase == Phase::Advertising {
            // RFC 4861 section 6.2.8: whoever knows the router by its old address is told that it is none there.
            let message = content::farewell(&self.plan.advertisement);
            let source = self.plan.source;
            self.outgoing.push_back(Transmit { source, destination: ALL_NODES, message });
        }
        self.withdrawn.note(&self.plan.advertisement, &plan.advertisement, now);
        self.plan = plan.clone();
        if !news && self.phase == Phase::Advertising {
            return;
        }
        self.phase = Phase::Advertising;
        self.burst = MAX_INITIAL_RTR_ADVERTISEMENTS;
        self.solicited = None;
        self.unsolicited = Some(self.not_before(now));
    }

    /// The machine goes on from another time: hosts hear of the router as after a start.
    pub fn handle_resume(&mut self, now: Instant) {
        if self.phase == Phase::Advertising {
            self.burst = MAX_INITIAL_RTR_ADVERTISEMENTS;
            self.unsolicited = Some(self.not_before(now));
        }
    }

    /// Stops advertising: final advertisements with router lifetime 0, the first at once (RFC 4861 section 6.2.5).
    ///
    /// The first does not wait for [`MIN_DELAY_BETWEEN_RAS`], a deviation: whoever stops the router waits for it, and the
    /// message replaces what the preceding one said. The repetitions, [`MIN_DELAY_BETWEEN_RAS`] apart, are for lossy
    /// links; a caller in a hurry leaves them out.
    pub fn cease(&mut self, now: Instant) {
        if self.phase == Phase::Final {
            return;
        }
        self.phase = Phase::Final;
        self.burst = MAX_FINAL_RTR_ADVERTISEMENTS;
        self.solicited = None;
        self.unsolicited = Some(now);
    }

    /// Whether [`Advertiser::cease`] was called and its last advertisement is out.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Final && self.unsolicited.is_none() && self.outgoing.is_empty()
    }

    /// Takes an ICMPv6 message, `message` beginning with its type, that the kernel found to have a good checksum.
    pub fn handle_input(&mut self, message: &[u8], source: Ipv6Addr, hop_limit: u8, now: Instant) -> Verdict {
        let verdict = self.judge(message, source, hop_limit, now);
        match verdict {
            Verdict::Solicited => self.solicitations += 1,
            Verdict::OtherRouter => self.other_routers += 1,
            Verdict::Dropped(reason) => *self.dropped.entry(reason).or_default() += 1,
        }
        verdict
    }

    fn judge(&mut self, message: &[u8], source: Ipv6Addr, hop_limit: u8, now: Instant) -> Verdict {
        // The validity of solicitations and advertisements does not depend on where they were sent to.
        let delivery = Delivery { source, destination: ALL_ROUTERS, hop_limit };
        match Message::parse(message, &delivery) {
            Err(error) => Verdict::Dropped(Reason::Invalid(error)),
            Ok(Message::RouterSolicitation { .. }) if self.phase == Phase::Final => Verdict::Dropped(Reason::Ceased),
            Ok(Message::RouterSolicitation { .. }) => self.solicited(source, now),
            // A raw socket hears its own multicasts.
            Ok(Message::RouterAdvertisement { .. }) if source == self.plan.source => Verdict::Dropped(Reason::Own),
            Ok(Message::RouterAdvertisement { header, options }) => {
                self.others.heard(source, &header, options, &self.plan.advertisement, now);
                Verdict::OtherRouter
            }
            Ok(Message::NeighborSolicitation { .. } | Message::NeighborAdvertisement { .. }) => {
                Verdict::Dropped(Reason::NotRouterDiscovery)
            }
        }
    }

    fn solicited(&mut self, host: Ipv6Addr, now: Instant) -> Verdict {
        let variables = &self.plan.advertisement.variables;
        let (only, keep) = (variables.unicast_only, self.keep());
        if host.is_unspecified() || !(variables.unicast_answers || only) {
            if only {
                return Verdict::Dropped(Reason::NobodyToAnswer);
            }
            self.schedule_answer(now);
            return Verdict::Solicited;
        }
        // RFC 4861 section 6.2.6: the delay is for answers to one host as well.
        let due = now + self.random(Duration::ZERO, MAX_RA_DELAY_TIME);
        match self.solicitors.solicit(host, due, keep, now) {
            Turn::Answered | Turn::Waiting => Verdict::Solicited,
            Turn::TooOften => Verdict::Dropped(Reason::TooOften),
            Turn::Full if only => Verdict::Dropped(Reason::NobodyToAnswer),
            Turn::Full => {
                self.schedule_answer(now);
                Verdict::Solicited
            }
        }
    }

    /// For how long a host that has solicited is told of everything, where nothing is multicast: as long as it may count on
    /// the router.
    fn keep(&self) -> Duration {
        let variables = &self.plan.advertisement.variables;
        if variables.unicast_only {
            variables.adv_default_lifetime.max(variables.max_rtr_adv_interval.saturating_mul(3))
        } else {
            Duration::ZERO
        }
    }

    /// RFC 4861 section 6.2.6: one multicast answers all who ask within the delay.
    fn schedule_answer(&mut self, now: Instant) {
        if self.solicited.is_some() {
            return;
        }
        let delay = self.random(Duration::ZERO, MAX_RA_DELAY_TIME);
        // RFC 4861 section 6.2.6: where the next unsolicited advertisement comes earlier, it is the answer; sending it clears
        // this time.
        self.solicited = Some(self.not_before(now) + delay);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.others.forget(now);
        self.withdrawn.forget(now);
        if self.is_silent() {
            return;
        }
        if self.to_all().is_some_and(|due| due <= now) {
            return self.advertise_to_all(now);
        }
        let hosts = self.solicitors.take_due(now);
        if !hosts.is_empty() {
            self.unicast += hosts.len() as u64;
            self.send(&hosts, now);
        }
    }

    fn advertise_to_all(&mut self, now: Instant) {
        let hosts = if self.plan.advertisement.variables.unicast_only {
            self.solicitors.heard(self.keep(), now)
        } else {
            vec![ALL_NODES]
        };
        self.send(&hosts, now);
        self.solicitors.answered();
        self.last_sent = Some(now);
        self.solicited = None;
        self.burst = self.burst.saturating_sub(1);
        // RFC 4861 section 6.2.4: every multicast, solicited or not, starts the interval anew.
        self.unsolicited = match self.phase {
            Phase::Advertising => Some(now + self.interval()),
            Phase::Final if self.burst == 0 => None,
            Phase::Final => Some(now + MIN_DELAY_BETWEEN_RAS),
        };
    }

    fn send(&mut self, destinations: &[Ipv6Addr], now: Instant) {
        let (messages, omitted) = content::build(&self.plan.advertisement, &self.withdrawn, self.phase, now);
        (self.packets, self.omitted) = (messages.len(), omitted);
        self.sent += destinations.len() as u64;
        let source = self.plan.source;
        for destination in destinations.iter().copied() {
            let packets = messages.iter().cloned().map(|message| Transmit { source, destination, message });
            self.outgoing.extend(packets);
        }
    }

    /// Without carrier nobody would hear it; the last words are tried all the same.
    fn is_silent(&self) -> bool {
        !self.plan.carrier && self.phase == Phase::Advertising
    }

    /// When all are told next.
    fn to_all(&self) -> Option<Instant> {
        [self.unsolicited, self.solicited].into_iter().flatten().min()
    }

    /// When [`Advertiser::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sending =
            if self.is_silent() { None } else { self.to_all().into_iter().chain(self.solicitors.due()).min() };
        sending.into_iter().chain(self.others.expires()).min()
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// What an operator sees.
    pub fn status(&self) -> Advertised {
        let advertisement = &self.plan.advertisement;
        let advertised = |prefix: &super::PrefixPlan| AdvertisedPrefix {
            prefix: prefix.prefix,
            on_link: prefix.on_link,
            autonomous: prefix.autonomous,
        };
        let mut dropped: BTreeMap<String, u64> =
            self.dropped.iter().map(|(reason, count)| (reason.name().to_owned(), *count)).collect();
        if self.other_routers > 0 {
            dropped.insert(Verdict::OtherRouter.name().to_owned(), self.other_routers);
        }
        if self.omitted > 0 {
            dropped.insert("ra-option-omitted".to_owned(), self.omitted);
        }
        Advertised {
            prefixes: advertisement.prefixes.iter().map(advertised).collect(),
            rdnss: advertisement.rdnss.clone(),
            pref64: advertisement.pref64,
            router_lifetime: content::router_lifetime(advertisement, self.phase),
            sent: self.sent,
            unicast: self.unicast,
            packets: self.packets,
            withdrawn: self.withdrawn.names(),
            other_routers: self.others.list(),
            solicitations: self.solicitations,
            dropped,
        }
    }

    /// `now`, or later where the last multicast was less than [`MIN_DELAY_BETWEEN_RAS`] ago.
    fn not_before(&self, now: Instant) -> Instant {
        self.last_sent.map_or(now, |last| now.max(last + MIN_DELAY_BETWEEN_RAS))
    }

    /// RFC 4861 section 6.2.4: a random time between MinRtrAdvInterval and MaxRtrAdvInterval, shorter at first.
    fn interval(&mut self) -> Duration {
        let variables = &self.plan.advertisement.variables;
        let (min, max) = (variables.min_rtr_adv_interval, variables.max_rtr_adv_interval);
        let chosen = self.random(min, max).max(MIN_DELAY_BETWEEN_RAS);
        if self.burst > 0 { chosen.min(MAX_INITIAL_RTR_ADVERT_INTERVAL) } else { chosen }
    }

    /// Uniform between the two, both included.
    fn random(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_nanos()).unwrap_or(u64::MAX);
        // The bias of the remainder is far below what a clock can tell.
        let drawn = self.rng.next_u64();
        from + Duration::from_nanos(span.checked_add(1).map_or(drawn, |values| drawn % values))
    }
}

#[cfg(test)]
mod tests;
