//! Ping and trace, from the router itself.
use std::time::Duration;

use sixgate_linux::clock;
use sixgate_linux::echo_socket::{EchoSocket, Heard, Outcome};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Desk;
use super::place::{self, Place};
use super::stream::Teller;
use crate::control::{ErrorKind, Probe, ProbeOutcome, Reply, refusal};

/// Between two pings, and how long an answer is waited for.
const PERIOD: Duration = Duration::from_secs(1);
/// Pings at most.
const MOST: u16 = 10_000;
/// Bytes of data, as ping sends them elsewhere.
const LENGTH: usize = 56;
/// Hops of a way at most.
const FARTHEST: u8 = 30;
/// Requests with the same hop limit before a router is taken for silent.
const TRIES: u16 = 2;
/// So many routers in a row that are silent end a trace.
const SILENT: usize = 8;

/// Sends so many requests, one a second.
pub(super) async fn ping(desk: &Desk, to: &str, count: u16, teller: &mut Teller) -> Result<(), Reply> {
    if count == 0 || count > MOST {
        return Err(refusal(ErrorKind::Refused, format!("1 to {MOST} requests can be sent")));
    }
    let place = place::find(desk, to).await?;
    let prober = Prober::open(place)?;
    for sequence in 1..=count {
        let next = Instant::now() + PERIOD;
        tokio::select! {
            probe = prober.probe(sequence, None) => teller.tell(Reply::Probe { probe }).await,
            () = teller.stopped() => return Ok(()),
        }
        if sequence < count {
            tokio::select! {
                () = sleep_until(next) => {}
                () = teller.stopped() => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Sends requests with a growing hop limit until the host answers.
pub(super) async fn trace(desk: &Desk, to: &str, teller: &mut Teller) -> Result<(), Reply> {
    let place = place::find(desk, to).await?;
    let prober = Prober::open(place)?;
    let mut sequence = 0;
    let mut silent = 0;
    for hops in 1..=FARTHEST {
        let mut probe;
        let mut tries = 0;
        loop {
            (sequence, tries) = (sequence + 1, tries + 1);
            tokio::select! {
                done = prober.probe(sequence, Some(hops)) => probe = done,
                () = teller.stopped() => return Ok(()),
            }
            if probe.outcome != ProbeOutcome::Silence || tries == TRIES {
                break;
            }
        }
        let outcome = probe.outcome.clone();
        probe.sequence = hops.into();
        teller.tell(Reply::Probe { probe }).await;
        match outcome {
            ProbeOutcome::HopLimit => silent = 0,
            ProbeOutcome::Silence if silent + 1 < SILENT => silent += 1,
            ProbeOutcome::Silence | ProbeOutcome::Reply | ProbeOutcome::Unreachable(_) | ProbeOutcome::NotSent(_) => {
                return Ok(());
            }
        }
    }
    Ok(())
}

struct Prober {
    socket: EchoSocket,
    place: Place,
    identifier: u16,
}

impl Prober {
    fn open(place: Place) -> Result<Self, Reply> {
        let unavailable = |error| refusal(ErrorKind::Unavailable, format!("no echo requests can be sent: {error}"));
        let socket = EchoSocket::open(place.0.is_ipv6()).map_err(unavailable)?;
        let [high, low, ..] = clock::seed().map_err(unavailable)?;
        Ok(Self { socket, place, identifier: u16::from_be_bytes([high, low]) })
    }

    /// Sends a request and waits for what comes of it.
    async fn probe(&self, sequence: u16, hops: Option<u8>) -> Probe {
        let to = self.place.0;
        let began = Instant::now();
        let told = |from, outcome| {
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            Probe { sequence, to, hops, from, micros: from.map(|_| micros), outcome }
        };
        let message = (self.identifier, sequence);
        if let Err(error) = self.socket.send(self.place, hops.unwrap_or(64), message, LENGTH).await {
            return told(None, ProbeOutcome::NotSent(error.to_string()));
        }
        loop {
            match timeout_at(began + PERIOD, self.socket.receive()).await {
                Err(_) => return told(None, ProbeOutcome::Silence),
                Ok(Err(error)) => return told(None, ProbeOutcome::NotSent(error.to_string())),
                Ok(Ok(heard)) if (heard.identifier, heard.sequence) == message => {
                    let Heard { from, outcome, .. } = heard;
                    return told(
                        Some(from),
                        match outcome {
                            Outcome::Reply => ProbeOutcome::Reply,
                            Outcome::HopLimit => ProbeOutcome::HopLimit,
                            Outcome::Unreachable(code) => ProbeOutcome::Unreachable(code),
                        },
                    );
                }
                // Somebody else's, or one that comes late.
                Ok(Ok(_)) => {}
            }
        }
    }
}
