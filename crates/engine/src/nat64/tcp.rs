//! TCP sessions and their state machine: RFC 6146 section 3.5.2.
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::tcp::TcpSegment;

use super::expiry::TimerClass;
use super::filter;
use super::tables::{Passage, Tables};
use super::tuple::{Protocol, TupleV4, TupleV6};
use super::verdict::Reason;
use crate::time::Instant;

/// RFC 6146 section 3.5.2.2: the state of a session; CLOSED is the absence of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// V4 INIT: a SYN came from IPv4.
    V4Init,
    /// V6 INIT: a SYN came from IPv6.
    V6Init,
    /// ESTABLISHED: a SYN came from both sides.
    Established,
    /// V4 FIN RCV: a FIN came from IPv4.
    V4FinRcv,
    /// V6 FIN RCV: a FIN came from IPv6.
    V6FinRcv,
    /// V6 FIN + V4 FIN RCV: a FIN came from both sides.
    V6FinV4FinRcv,
    /// TRANS: an RST came.
    Trans,
}

/// What the state machine looks at in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// SYN flag.
    Syn,
    /// FIN flag.
    Fin,
    /// RST flag.
    Rst,
    /// None of them.
    Other,
}

/// From where a segment came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    V6,
    V4,
}

impl Segment {
    /// Classifies a segment; RST ends whatever else is set.
    pub(super) fn parse(upper: &[u8]) -> Result<Self, Reason> {
        let segment = TcpSegment::parse(upper).ok_or(Reason::Malformed)?;
        Ok(match (segment.rst(), segment.fin(), segment.syn()) {
            (true, _, _) => Self::Rst,
            (false, true, _) => Self::Fin,
            (false, false, true) => Self::Syn,
            (false, false, false) => Self::Other,
        })
    }
}

impl State {
    /// All states, in the order of their declaration.
    pub(super) const ALL: [Self; 7] = [
        Self::V4Init,
        Self::V6Init,
        Self::Established,
        Self::V4FinRcv,
        Self::V6FinRcv,
        Self::V6FinV4FinRcv,
        Self::Trans,
    ];

    /// As printed in the RFC.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4Init => "V4 INIT",
            Self::V6Init => "V6 INIT",
            Self::Established => "ESTABLISHED",
            Self::V4FinRcv => "V4 FIN RCV",
            Self::V6FinRcv => "V6 FIN RCV",
            Self::V6FinV4FinRcv => "V6 FIN + V4 FIN RCV",
            Self::Trans => "TRANS",
        }
    }

    /// The timer that a session in this state is under.
    pub(super) const fn class(self, protocol: Protocol) -> TimerClass {
        match (protocol, self) {
            (Protocol::Udp, _) => TimerClass::UdpDefault,
            (Protocol::Icmp, _) => TimerClass::IcmpDefault,
            (Protocol::Tcp, Self::Established | Self::V4FinRcv | Self::V6FinRcv) => TimerClass::TcpEst,
            (Protocol::Tcp, Self::V4Init | Self::V6Init | Self::V6FinV4FinRcv | Self::Trans) => TimerClass::TcpTrans,
        }
    }

    /// RFC 6146 section 3.5.2.2: the next state, and the timer that starts anew, if one does.
    pub(super) const fn after(self, side: Side, segment: Segment) -> (Self, Option<TimerClass>) {
        const EST: Option<TimerClass> = Some(TimerClass::TcpEst);
        const TRANS: Option<TimerClass> = Some(TimerClass::TcpTrans);
        match (self, side, segment) {
            (Self::V4Init, Side::V6, Segment::Syn) | (Self::V6Init, Side::V4, Segment::Syn) => (Self::Established, EST),
            // A repeated SYN keeps the attempt alive.
            (Self::V6Init, Side::V6, Segment::Syn) | (Self::V4Init, Side::V4, Segment::Syn) => (self, TRANS),
            (Self::V4Init | Self::V6Init, _, _) => (self, None),

            (Self::Established, Side::V4, Segment::Fin) => (Self::V4FinRcv, EST),
            (Self::Established, Side::V6, Segment::Fin) => (Self::V6FinRcv, EST),
            (Self::Established, _, Segment::Rst) => (Self::Trans, TRANS),
            (Self::Established, _, Segment::Syn | Segment::Other) => (self, EST),

            (Self::V4FinRcv, Side::V6, Segment::Fin) | (Self::V6FinRcv, Side::V4, Segment::Fin) => {
                (Self::V6FinV4FinRcv, TRANS)
            }
            (Self::V4FinRcv | Self::V6FinRcv, _, _) => (self, EST),

            // Segments pass, and nothing keeps the session alive.
            (Self::V6FinV4FinRcv, _, _) => (self, None),

            // A connection that goes on after an RST was not ended by it: the RST may have been forged.
            (Self::Trans, _, Segment::Rst) => (self, None),
            (Self::Trans, _, Segment::Syn | Segment::Fin | Segment::Other) => (Self::Established, EST),
        }
    }
}

/// A segment from IPv6.
pub(super) fn update_v6(
    tables: &mut Tables,
    tuple: &TupleV6,
    segment: Segment,
    now: Instant,
) -> Result<Passage, Reason> {
    if let Some(index) = tables.sessions.find_v6(tuple) {
        return Ok(update(tables, index, Side::V6, segment, now));
    }
    match segment {
        Segment::Syn => {
            let passage = tables.open_v6(tuple, State::V6Init, TimerClass::TcpTrans, now)?;
            // RFC 6146 section 3.5.2.2, V4 INIT: the SYN of the other side is there already. RFC 5382 REQ-4: that one is
            // dropped silently, its sender repeats it.
            if tables.syns.take(passage.binding.mapped, tuple.server)
                && let Some(index) = passage.session
            {
                tables.sessions.update(index, State::Established, Some(TimerClass::TcpEst), now);
            }
            Ok(passage)
        }
        // RFC 6146 section 3.5.2.2, CLOSED: with a binding it SHOULD pass, without one it is discarded.
        Segment::Fin | Segment::Rst | Segment::Other => {
            let binding = tables.bib.find_client(tuple.protocol, tuple.client).ok_or(Reason::NoSession)?;
            Ok(Passage { binding: tables.bib[binding], session: None })
        }
    }
}

/// A segment from IPv4; nothing comes back for a SYN that waits for that of the other side.
pub(super) fn update_v4(
    tables: &mut Tables,
    tuple: &TupleV4,
    packet: &Ipv4Packet<'_>,
    now: Instant,
) -> Result<Option<Passage>, Reason> {
    let segment = Segment::parse(packet.upper())?;
    if let Some(index) = tables.sessions.find_v4(tuple) {
        return Ok(Some(update(tables, index, Side::V4, segment, now)));
    }
    let admitted = match tables.bib.find_mapped(tuple.protocol, tuple.mapped) {
        None => Err(Reason::NoBinding),
        Some(binding) if filter::admits(tables, binding, tuple.server.address) => Ok(binding),
        Some(_) => Err(Reason::Filtered),
    };
    match (admitted, segment) {
        (Ok(binding), Segment::Syn) => {
            tables.syns.take(tuple.mapped, tuple.server);
            tables.open_v4(binding, tuple.server, State::V4Init, TimerClass::TcpTrans, now).map(Some)
        }
        // RFC 6146 section 3.5.2.2, CLOSED: it is stored for TCP_INCOMING_SYN, in case the connection is opened from both
        // sides; neither a binding nor a session comes of it.
        (Err(reason), Segment::Syn) => tables.syns.insert(tuple, packet, reason, now).map(|()| None),
        (Ok(_), Segment::Fin | Segment::Rst | Segment::Other) => Err(Reason::NoSession),
        (Err(reason), Segment::Fin | Segment::Rst | Segment::Other) => Err(reason),
    }
}

fn update(tables: &mut Tables, index: u32, side: Side, segment: Segment, now: Instant) -> Passage {
    let (state, class) = tables.sessions[index].state.after(side, segment);
    tables.sessions.update(index, state, class, now);
    tables.passage(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Segment::{Fin, Other, Rst, Syn};
    use Side::{V4, V6};
    use State::{Established, Trans, V4FinRcv, V4Init, V6FinRcv, V6FinV4FinRcv, V6Init};

    const EST: Option<TimerClass> = Some(TimerClass::TcpEst);
    const TRANS: Option<TimerClass> = Some(TimerClass::TcpTrans);

    #[test]
    fn a_connection_from_inside_opens_and_closes() {
        let mut state = V6Init;
        for (side, segment, next, class) in [
            (V6, Syn, V6Init, TRANS),
            (V4, Syn, Established, EST),
            (V6, Other, Established, EST),
            (V4, Other, Established, EST),
            (V6, Fin, V6FinRcv, EST),
            (V4, Other, V6FinRcv, EST),
            (V4, Fin, V6FinV4FinRcv, TRANS),
            (V6, Other, V6FinV4FinRcv, None),
        ] {
            assert_eq!(state.after(side, segment), (next, class), "{state:?} {side:?} {segment:?}");
            state = next;
        }
    }

    /// Saved sessions have no timer beside their state.
    #[test]
    fn the_state_says_which_timer_a_connection_is_under() {
        for state in State::ALL {
            for side in [V4, V6] {
                for segment in [Syn, Fin, Rst, Other] {
                    if let (next, Some(class)) = state.after(side, segment) {
                        assert_eq!(next.class(Protocol::Tcp), class, "{state:?} {side:?} {segment:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_simultaneous_open_is_established_from_either_side() {
        assert_eq!(V4Init.after(V6, Syn), (Established, EST));
        assert_eq!(V6Init.after(V4, Syn), (Established, EST));
    }

    #[test]
    fn a_half_open_connection_is_not_kept_alive_by_other_segments() {
        for (state, side) in [(V6Init, V4), (V6Init, V6), (V4Init, V4), (V4Init, V6)] {
            for segment in [Fin, Rst, Other] {
                assert_eq!(state.after(side, segment), (state, None), "{state:?} {side:?} {segment:?}");
            }
        }
    }

    #[test]
    fn a_reset_shortens_the_lifetime_until_the_connection_goes_on() {
        for side in [V4, V6] {
            assert_eq!(Established.after(side, Rst), (Trans, TRANS));
            assert_eq!(Trans.after(side, Rst), (Trans, None));
            for segment in [Syn, Fin, Other] {
                assert_eq!(Trans.after(side, segment), (Established, EST));
            }
        }
    }

    #[test]
    fn a_half_closed_connection_lives_on() {
        for (state, side) in [(V4FinRcv, V4), (V6FinRcv, V6)] {
            for segment in [Syn, Fin, Rst, Other] {
                assert_eq!(state.after(side, segment), (state, EST), "{state:?} {side:?} {segment:?}");
            }
        }
        assert_eq!(V4FinRcv.after(V6, Fin), (V6FinV4FinRcv, TRANS));
    }
}
