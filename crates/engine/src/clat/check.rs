//! Whether the PLAT answers: echo requests to IPv4 addresses by its prefix, through the translator's own device.
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use sixgate_wire::checksum::pseudo_v6;
use sixgate_wire::icmpv6;
use sixgate_wire::rfc6052::Pref64;

use crate::time::Instant;
use crate::xlat::siit::Translated;

/// Requests to each target before the PLAT counts as silent, and the time between them.
const ROUNDS: u8 = 3;
const ROUND: Duration = Duration::from_secs(1);
/// How often is looked whether answers still come.
const LOOK: Duration = Duration::from_secs(10);
/// How long nobody needs to have sent anything until it is asked again.
const IDLE: Duration = Duration::from_secs(60);
/// When it is tried again after it failed, and how far that grows.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const HOP_LIMIT: u8 = 64;

/// What came back of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// From an IPv4 address, translated: the PLAT works.
    Translated,
    /// An ICMPv6 error of a router on the way, with its code.
    Refused {
        /// Who sent it.
        from: Ipv6Addr,
        /// ICMPv6 type.
        kind: u8,
        /// ICMPv6 code.
        code: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Asking { round: u8, due: Instant },
    Answered { look: Instant, proven: Instant },
    Silent { again: Instant, pause: Duration },
}

/// What is known of a PLAT that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// Whether it did before.
    pub(super) answered_once: bool,
    /// Who refused, with type and code of the ICMPv6 error.
    pub(super) refused: Option<(Ipv6Addr, u8, u8)>,
}

/// The check of one prefix.
#[derive(Debug)]
pub(super) struct Check {
    targets: Vec<Ipv4Addr>,
    identifier: u16,
    sequence: u16,
    state: State,
    /// Whether the route may be there.
    passed: bool,
    /// Whether it ever passed.
    answered_once: bool,
    refused: Option<(Ipv6Addr, u8, u8)>,
    seen: Translated,
}

/// What [`Check::handle_timeout`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Requests to all targets are to be sent.
    Ask,
    /// All rounds stayed without an answer.
    Failed,
}

impl Check {
    /// Without targets nothing is checked.
    pub(super) fn new(targets: Vec<Ipv4Addr>, identifier: u16) -> Self {
        let (state, seen) = (State::Idle, Translated::default());
        Self { targets, identifier, sequence: 0, state, passed: false, answered_once: false, refused: None, seen }
    }

    /// Another prefix or another address: what is known does not count any more.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.passed, self.answered_once, self.refused) = (self.targets.is_empty(), false, None);
        self.state = if self.targets.is_empty() { State::Idle } else { State::Asking { round: 0, due: now } };
    }

    /// There is nothing to check.
    pub(super) fn stop(&mut self) {
        (self.passed, self.answered_once, self.refused, self.state) = (false, false, None, State::Idle);
    }

    pub(super) fn has_passed(&self) -> bool {
        self.passed
    }

    /// What is known of a PLAT that does not answer.
    pub(super) fn silence(&self) -> Option<Silence> {
        let Self { answered_once, refused, .. } = *self;
        matches!(self.state, State::Silent { .. }).then_some(Silence { answered_once, refused })
    }

    /// Whether the first answer is still waited for.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking { .. }) && !self.passed
    }

    pub(super) fn handle_answer(&mut self, answer: Answer, now: Instant) {
        match (answer, self.state) {
            (_, State::Idle) => {}
            (Answer::Translated, _) => {
                (self.passed, self.answered_once, self.refused) = (true, true, None);
                self.state = State::Answered { look: now + LOOK, proven: now };
            }
            (Answer::Refused { from, kind, code }, _) => self.refused = Some((from, kind, code)),
        }
    }

    /// Does what is due, given what was translated so far.
    pub(super) fn handle_timeout(&mut self, translated: Translated, now: Instant) -> Due {
        match self.state {
            State::Asking { round: ROUNDS, due } if due <= now => {
                self.passed = false;
                self.state = State::Silent { again: now + FIRST_PAUSE, pause: FIRST_PAUSE };
                Due::Failed
            }
            State::Asking { round, due } if due <= now => {
                self.state = State::Asking { round: round + 1, due: now + ROUND };
                Due::Ask
            }
            State::Answered { look, proven } if look <= now => {
                let before = core::mem::replace(&mut self.seen, translated);
                let (sent, came) = (translated.v4_to_v6 != before.v4_to_v6, translated.v6_to_v4 != before.v6_to_v4);
                if came {
                    self.state = State::Answered { look: now + LOOK, proven: now };
                } else if sent || now.saturating_since(proven) >= IDLE {
                    self.state = State::Asking { round: 1, due: now + ROUND };
                    return Due::Ask;
                } else {
                    self.state = State::Answered { look: now + LOOK, proven };
                }
                Due::Nothing
            }
            State::Silent { again, pause } if again <= now => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                // One round is enough to see that it is back; the finding stays until then.
                self.state = State::Silent { again: now + pause, pause };
                Due::Ask
            }
            State::Idle | State::Asking { .. } | State::Answered { .. } | State::Silent { .. } => Due::Nothing,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Asking { due, .. } => Some(due),
            State::Answered { look, .. } => Some(look),
            State::Silent { again, .. } => Some(again),
        }
    }

    /// Echo requests to all targets.
    pub(super) fn requests(&mut self, source: Ipv6Addr, pref64: Pref64) -> Vec<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let (identifier, sequence) = (self.identifier, self.sequence);
        self.targets.iter().map(|target| request(source, pref64.embed(*target), identifier, sequence)).collect()
    }
}

/// RFC 4443 section 4.1.
fn request(source: Ipv6Addr, destination: Ipv6Addr, identifier: u16, sequence: u16) -> Vec<u8> {
    let mut message = [0; icmpv6::HEADER];
    message[0] = icmpv6::ECHO_REQUEST;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..].copy_from_slice(&sequence.to_be_bytes());
    let sum = pseudo_v6(source, destination, icmpv6::PROTOCOL, message.len() as u32).bytes(&message);
    message[icmpv6::CHECKSUM..][..2].copy_from_slice(&sum.checksum().to_be_bytes());
    let header = sixgate_wire::ipv6::Ipv6Header {
        traffic_class: 0,
        payload_length: message.len() as u16,
        next_header: icmpv6::PROTOCOL,
        hop_limit: HOP_LIMIT,
        source,
        destination,
    };
    [&header.emit()[..], &message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Traffic;

    const START: Instant = Instant::from_nanos(1_000_000_000);
    const NOTHING: Translated =
        Translated { v4_to_v6: Traffic { packets: 0, bytes: 0 }, v6_to_v4: Traffic { packets: 0, bytes: 0 } };

    fn seconds(seconds: u64) -> Instant {
        START + Duration::from_secs(seconds)
    }

    fn begun() -> Check {
        let mut check = Check::new(vec![Ipv4Addr::new(192, 0, 2, 1)], 7);
        check.begin(START);
        check
    }

    fn packets(sent: u64, came: u64) -> Translated {
        let traffic = |packets| Traffic { packets, bytes: packets };
        Translated { v4_to_v6: traffic(sent), v6_to_v4: traffic(came) }
    }

    #[test]
    fn three_rounds_without_an_answer_fail_and_are_repeated_ever_more_rarely() {
        let mut check = begun();
        for second in 0..3 {
            assert_eq!(check.handle_timeout(NOTHING, seconds(second)), Due::Ask);
            assert_eq!(check.handle_timeout(NOTHING, seconds(second)), Due::Nothing);
        }
        assert!(check.is_asking() && !check.has_passed());
        let from = Ipv6Addr::LOCALHOST;
        check.handle_answer(Answer::Refused { from, kind: 1, code: 0 }, seconds(2));
        assert_eq!(check.handle_timeout(NOTHING, seconds(3)), Due::Failed);
        assert_eq!(check.silence(), Some(Silence { answered_once: false, refused: Some((from, 1, 0)) }));
        assert_eq!(check.poll_timeout(), Some(seconds(8)));
        assert_eq!(check.handle_timeout(NOTHING, seconds(8)), Due::Ask);
        assert_eq!(check.poll_timeout(), Some(seconds(18)));
        check.handle_answer(Answer::Translated, seconds(9));
        assert!(check.has_passed() && check.silence().is_none());
    }

    #[test]
    fn traffic_that_comes_back_spares_the_requests_and_traffic_that_does_not_brings_them() {
        let mut check = begun();
        check.handle_timeout(NOTHING, START);
        check.handle_answer(Answer::Translated, START);
        assert_eq!(check.handle_timeout(packets(5, 5), seconds(10)), Due::Nothing);
        assert_eq!(check.handle_timeout(packets(9, 5), seconds(20)), Due::Ask, "it is sent and nothing comes");
        assert!(check.has_passed(), "it is given the chance to answer");
        assert_eq!(check.handle_timeout(packets(9, 5), seconds(21)), Due::Ask);
        assert_eq!(check.handle_timeout(packets(9, 5), seconds(22)), Due::Ask);
        assert_eq!(check.handle_timeout(packets(9, 5), seconds(23)), Due::Failed);
        assert!(!check.has_passed());
        assert_eq!(check.silence(), Some(Silence { answered_once: true, refused: None }), "it has answered before");
    }

    #[test]
    fn an_idle_host_asks_once_a_minute() {
        let mut check = begun();
        check.handle_timeout(NOTHING, START);
        check.handle_answer(Answer::Translated, START);
        for second in [10, 20, 30, 40, 50] {
            assert_eq!(check.handle_timeout(NOTHING, seconds(second)), Due::Nothing);
        }
        assert_eq!(check.handle_timeout(NOTHING, seconds(60)), Due::Ask);
    }

    #[test]
    fn without_targets_nothing_is_checked() {
        let mut check = Check::new(Vec::new(), 7);
        assert!(!check.has_passed());
        check.begin(START);
        assert!(check.has_passed() && check.poll_timeout().is_none());
        check.stop();
        assert!(!check.has_passed());
    }

    #[test]
    fn a_request_is_an_intact_echo() {
        let mut check = begun();
        let requests = check.requests("2001:db8::1".parse().unwrap(), Pref64::WELL_KNOWN);
        let (delivery, message) = crate::ndp_proxy::icmpv6_message(&requests[0]).unwrap();
        assert_eq!(delivery.destination, Pref64::WELL_KNOWN.embed(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(message, [128, 0, message[2], message[3], 0, 7, 0, 1]);
    }
}
