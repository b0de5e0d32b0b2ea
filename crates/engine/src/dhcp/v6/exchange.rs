//! RFC 8415 section 15: when a message is sent again, and when the client gives up.
use core::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::time::Instant;

/// RFC 8415 section 7.6: SOL_MAX_RT.
pub(super) const SOL_MAX_RT: Duration = Duration::from_secs(3600);

/// The parameters of section 7.6 for one kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// IRT.
    initial: Duration,
    /// MRT.
    longest: Duration,
    /// MRC; none where there is no bound.
    count: Option<u32>,
    /// MRD; none where there is no bound.
    duration: Option<Duration>,
}

impl Timing {
    /// REQ_TIMEOUT, REQ_MAX_RT, REQ_MAX_RC.
    pub(super) const REQUEST: Self =
        Self { initial: Duration::from_secs(1), longest: Duration::from_secs(30), count: Some(10), duration: None };

    /// CNF_TIMEOUT, CNF_MAX_RT, CNF_MAX_RD.
    pub(super) const CONFIRM: Self = Self {
        initial: Duration::from_secs(1),
        longest: Duration::from_secs(4),
        count: None,
        duration: Some(Duration::from_secs(10)),
    };

    /// SOL_TIMEOUT, and SOL_MAX_RT as a server may have set it.
    pub(super) const fn solicit(longest: Duration) -> Self {
        Self { initial: Duration::from_secs(1), longest, count: None, duration: None }
    }

    /// REN_TIMEOUT, REN_MAX_RT, until T2.
    pub(super) fn renew(t2: Option<Instant>, now: Instant) -> Self {
        Self::extend(t2, now)
    }

    /// REB_TIMEOUT, REB_MAX_RT, until everything has ended.
    pub(super) fn rebind(end: Option<Instant>, now: Instant) -> Self {
        Self::extend(end, now)
    }

    fn extend(until: Option<Instant>, now: Instant) -> Self {
        Self {
            initial: Duration::from_secs(10),
            longest: Duration::from_secs(600),
            count: None,
            duration: until.map(|until| until.saturating_since(now)),
        }
    }
}

/// One message, sent until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) transaction: [u8; 3],
    /// How often it was sent.
    pub(super) sent: u32,
    /// When it was sent last: lifetimes count from there.
    pub(super) asked: Instant,
    timing: Timing,
    began: Instant,
    /// RT.
    pause: Duration,
    due: Instant,
}

impl Exchange {
    pub(super) fn new(transaction: [u8; 3], timing: Timing, when: Instant) -> Self {
        Self { transaction, sent: 0, asked: when, timing, began: when, pause: Duration::ZERO, due: when }
    }

    /// When the next step is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether the client gives up.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.timing.count.is_some_and(|count| self.sent >= count)
            || self.sent > 0 && self.timing.duration.is_some_and(|longest| self.began + longest <= now)
    }

    /// Hundredths of a second since the first one.
    pub(super) fn elapsed(&self, now: Instant) -> u16 {
        u16::try_from(now.saturating_since(self.began).as_millis() / 10).unwrap_or(u16::MAX)
    }

    /// It was sent: RT = 2 * RTprev + RAND * RTprev, RAND between -0.1 and 0.1; for the first Solicit not below zero, which
    /// does no harm to the others either.
    pub(super) fn retransmit(&mut self, now: Instant, rng: &mut ChaCha8Rng) {
        if self.sent == 0 {
            self.began = now;
        }
        self.sent += 1;
        self.asked = now;
        let mut scale = |pause: Duration, from: u32| pause * (from + rng.next_u32() % 200) / 1000;
        let mut pause = match self.pause {
            Duration::ZERO => scale(self.timing.initial, 1001),
            previous => scale(previous, 1900),
        };
        if pause > self.timing.longest {
            pause = scale(self.timing.longest, 900);
        }
        self.pause = pause;
        self.due = now + pause;
        if let Some(longest) = self.timing.duration {
            self.due = self.due.min((self.began + longest).max(now));
        }
    }
}
