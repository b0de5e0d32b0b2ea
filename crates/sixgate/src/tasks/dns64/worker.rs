//! A worker: a thread that answers by UDP what it knows, and hands the rest to the front.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self as std_mpsc, TrySendError};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sixgate_engine::dns64::{Admission, Answer, Cache, Lookup, Plain, Transport};
use sixgate_engine::time::Instant;
use sixgate_linux::confine;
use sixgate_linux::dns_batch::{BATCH, Batch};
use sixgate_linux::poll::{Poll, Waker};
use tokio::sync::{mpsc, watch};

use super::Slice;
use super::answers::{Era, Rules};
use super::asked::Asked;
use super::fast_path::Offers;
use super::listener::Place;
use crate::clock::{now, seed};

/// Answers that may wait to be kept; one that finds no room is asked for again.
const ANSWERS: usize = 4096;
/// Batches of one socket before the others have their turn.
const ROUNDS: usize = 16;
/// A worker that has more queries than this in a millisecond takes a breath between batches: more of them come to a system
/// call then, and clients are woken less often.
const BUSY: u64 = 40;
/// Whoever got as many as this at once needs none.
const PLENTY: u64 = 16;
/// The breath.
const BREATH: Duration = Duration::from_micros(20);
/// Over how long it is found out.
const WINDOW: Duration = Duration::from_millis(5);
/// How often the counts are handed over while queries keep coming.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Clients that are remembered as offered, and how often one is.
const INTRODUCED: usize = 256;
const INTRODUCED_EVERY: Duration = Duration::from_secs(1);

/// A query that a worker has no answer to.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) query: Vec<u8>,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
    /// Where the response leaves; nothing where the client has its answer and the name is only to be asked for again.
    pub(super) socket: Option<Weak<UdpSocket>>,
    /// Who wants to know the answer.
    pub(super) worker: usize,
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Answer by these rules from now on; what was kept under the ones before is forgotten.
    Follow(Rules),
    /// Answer there as well. Whoever holds the other end of the channel hears when the socket fails.
    Open(Place, UdpSocket, mpsc::Sender<io::Error>),
    /// No longer answer there.
    Close(Place),
    /// Forget a name and all names below it, for another era; the sender is dropped when that is done.
    Flush(Arc<[u8]>, Era, mpsc::Sender<Infallible>),
    /// End.
    End,
}

/// A worker's handle.
#[derive(Debug)]
pub(super) struct Worker {
    thread: Option<JoinHandle<()>>,
    orders: std_mpsc::Sender<Order>,
    answers: std_mpsc::SyncSender<(Era, Answer)>,
    waker: Waker,
}

impl Worker {
    /// Starts the thread. `capacity` is in bytes.
    pub(super) fn start(
        number: usize,
        capacity: usize,
        missed: mpsc::Sender<Missed>,
        offers: Offers,
        slice: watch::Sender<Slice>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = poll.waker();
        let (orders, ordered) = std_mpsc::channel();
        let (answers, answered) = std_mpsc::sync_channel(ANSWERS);
        let desk = Desk {
            number,
            cache: Cache::new(capacity, (seed(), seed())),
            rules: Rules::default(),
            forgotten: 0,
            seats: BTreeMap::new(),
            free: 0,
            poll,
            answered,
            missed,
            counts: Counts { tally: Tally::default(), asked: Asked::new(), introduced: Introduced::default() },
            offers,
            seen: 0,
            reported: Instant::ZERO,
            pace: Pace::default(),
            slice,
        };
        let thread = thread::Builder::new().name(format!("dns64-{number}")).spawn(move || {
            // It was given its sockets and needs nothing else; whoever breaks into it finds nothing to open.
            if let Err(error) = confine::only_datagrams() {
                tracing::warn!("a thread of the resolver may do more than it needs: {error}");
            }
            desk.work(&ordered);
        })?;
        Ok(Self { thread: Some(thread), orders, answers, waker })
    }

    /// Gives an order. A worker that is gone has taken the daemon along.
    pub(super) fn order(&self, order: Order) {
        drop(self.orders.send(order));
        self.waker.wake();
    }

    /// Has an answer kept, if there is room to tell of it. The worker sees it with its next query.
    pub(super) fn keep(&self, era: Era, answer: Answer) {
        match self.answers.try_send((era, answer)) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Drop for Worker {
    /// Returns when the sockets are closed.
    fn drop(&mut self) {
        self.order(Order::End);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What a worker counts before it hands it over.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Queries that were answered from the cache, and of which nobody else knows.
    pub(super) hits: u64,
    /// Those of them whose answer was synthesized.
    pub(super) synthesized: u64,
    /// Queries that were handed on, which the front counts.
    pub(super) missed: u64,
    /// Queries that were dropped, by reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    fn is_empty(&self) -> bool {
        self.hits == 0 && self.missed == 0 && self.refused.is_empty()
    }
}

/// A socket that is answered on.
struct Seat {
    place: Place,
    socket: Arc<UdpSocket>,
    failed: mpsc::Sender<io::Error>,
}

struct Desk {
    number: usize,
    cache: Cache,
    rules: Rules,
    /// How often answers were forgotten by order.
    forgotten: u64,
    seats: BTreeMap<u32, Seat>,
    /// The next seat's number.
    free: u32,
    poll: Poll,
    answered: std_mpsc::Receiver<(Era, Answer)>,
    missed: mpsc::Sender<Missed>,
    counts: Counts,
    offers: Offers,
    /// Datagrams that came.
    seen: u64,
    reported: Instant,
    pace: Pace,
    slice: watch::Sender<Slice>,
}

/// What is noted of each query.
struct Counts {
    tally: Tally,
    asked: Asked,
    introduced: Introduced,
}

/// Clients that were offered to the kernel a short while ago.
struct Introduced(Vec<Option<(IpAddr, u32, Instant)>>);

impl Default for Introduced {
    fn default() -> Self {
        Self(vec![None; INTRODUCED])
    }
}

impl Introduced {
    /// Whether it is time to offer a client; who is in the kernel already is hardly ever seen here.
    fn is_due(&mut self, client: SocketAddr, now: Instant) -> bool {
        let (low, scope) = match client {
            SocketAddr::V6(client) => (client.ip().octets()[15], client.scope_id()),
            SocketAddr::V4(_) => return false,
        };
        let Some(slot) = self.0.get_mut(usize::from(low) % INTRODUCED) else { return false };
        let known = slot.filter(|(address, link, _)| (*address, *link) == (client.ip(), scope));
        let is_due = known.is_none_or(|(_, _, at)| now.saturating_since(at) >= INTRODUCED_EVERY);
        if is_due {
            *slot = Some((client.ip(), scope, now));
        }
        is_due
    }
}

/// How many queries come.
#[derive(Default)]
struct Pace {
    since: Instant,
    served: u64,
    busy: bool,
}

impl Pace {
    /// Counts queries; true where a breath is worth it.
    fn is_busy(&mut self, served: u64, now: Instant) -> bool {
        self.served += served;
        let passed = now.saturating_since(self.since);
        if passed >= WINDOW {
            self.busy = u128::from(self.served) > u128::from(BUSY) * passed.as_millis();
            (self.since, self.served) = (now, 0);
        }
        self.busy
    }
}

impl Desk {
    fn work(mut self, ordered: &std_mpsc::Receiver<Order>) {
        let mut batch = Batch::new();
        let mut ready: Vec<u32> = Vec::new();
        loop {
            if let Err(error) = self.poll.wait(&mut ready) {
                return tracing::error!("a worker of the resolver ended: {error}");
            }
            loop {
                match ordered.try_recv() {
                    Ok(Order::End) | Err(std_mpsc::TryRecvError::Disconnected) => return,
                    Ok(order) => self.obey(order),
                    Err(std_mpsc::TryRecvError::Empty) => break,
                }
            }
            let (mut quiet, before) = (true, self.seen);
            for token in &ready {
                quiet &= self.serve(*token, &mut batch);
            }
            let now = now();
            let served = self.seen - before;
            self.counts.asked.is_busy = self.pace.is_busy(served, now);
            if self.counts.asked.is_busy && served < PLENTY {
                thread::sleep(BREATH);
            }
            if !self.counts.tally.is_empty() && (quiet || now.saturating_since(self.reported) >= REPORT_EVERY) {
                self.report(now);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Follow(rules) => {
                self.rules = rules;
                self.cache.clear();
            }
            Order::Open(place, socket, failed) => {
                let token = self.free;
                self.free = self.free.wrapping_add(1);
                match self.poll.add(&socket, token) {
                    Ok(()) => drop(self.seats.insert(token, Seat { place, socket: Arc::new(socket), failed })),
                    Err(error) => drop(failed.try_send(error)),
                }
            }
            Order::Close(place) => {
                let poll = &self.poll;
                self.seats.retain(|_, seat| {
                    let stays = seat.place != place;
                    if !stays {
                        drop(poll.remove(&*seat.socket));
                    }
                    stays
                });
            }
            Order::Flush(name, era, done) => {
                self.forgotten = era.forgotten;
                self.cache.flush(&name);
                drop(done);
            }
            Order::End => {}
        }
    }

    /// Answers what has come to one socket. False while more may be waiting.
    fn serve(&mut self, token: u32, batch: &mut Batch) -> bool {
        let Some(seat) = self.seats.get(&token) else { return true };
        for _ in 0..ROUNDS {
            let now = now();
            let present = Era { rules: self.rules.generation, forgotten: self.forgotten };
            while let Ok((era, answer)) = self.answered.try_recv() {
                if era == present {
                    self.cache.insert(answer, now);
                }
            }
            let (cache, rules, counts) = (&mut self.cache, &self.rules, &mut self.counts);
            let (missed, offers, number) = (&self.missed, &self.offers, self.number);
            let served = batch.serve(&*seat.socket, |query, peer, response| {
                answer((cache, rules, counts, offers), (query, peer), now, response, |tally, refresh| {
                    let socket = (!refresh).then(|| Arc::downgrade(&seat.socket));
                    let query = query.to_vec();
                    let missed = missed.try_send(Missed { query, peer, place: seat.place, socket, worker: number });
                    if missed.is_err() && !refresh {
                        tally.refuse("dns-overload");
                    }
                });
            });
            match served {
                Ok(BATCH) => self.seen += BATCH as u64,
                Ok(count) => {
                    self.seen += count as u64;
                    return true;
                }
                // An ICMP error about an earlier response.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) => {
                    drop(seat.failed.try_send(error));
                    drop(self.poll.remove(&*seat.socket));
                    self.seats.remove(&token);
                    return true;
                }
            }
        }
        false
    }

    fn report(&mut self, now: Instant) {
        self.reported = now;
        let (tally, holding) = (std::mem::take(&mut self.counts.tally), self.cache.holding());
        let most = self.counts.asked.most();
        self.slice.send_modify(|slice| {
            slice.take_tally(tally);
            slice.holdings.insert(self.number + 1, holding);
            slice.asked.insert(self.number + 1, most);
        });
    }
}

/// One query: answered, or handed on by `miss`, which is told whether the client has its answer already.
fn answer(
    (cache, rules, Counts { tally, asked, introduced }, offers): (&mut Cache, &Rules, &mut Counts, &Offers),
    (query, peer): (&[u8], SocketAddr),
    now: Instant,
    response: &mut Vec<u8>,
    miss: impl FnOnce(&mut Tally, bool),
) {
    if !can_be_answered(peer) {
        return tally.refuse("dns-source");
    }
    match rules.rate.admit(peer, now) {
        Admission::Granted => {}
        Admission::Truncated => {
            tally.refuse("dns-rate");
            return truncated(query, response);
        }
        Admission::Dropped => return tally.refuse("dns-rate"),
    }
    let Some(plain) = Plain::parse(query, Transport::Udp) else { return miss(tally, false) };
    let key = plain.key(rules.plan.view(peer));
    asked.count(key.name(), peer.ip(), now);
    match cache.answer(&key, &plain, now, response) {
        Lookup::Miss => {
            tally.missed += 1;
            miss(tally, false);
        }
        Lookup::Hit { synthesized, refresh, offer } => {
            tally.hits += 1;
            tally.synthesized += u64::from(synthesized);
            if offers.are_wanted() {
                if introduced.is_due(peer, now) {
                    offers.client(peer);
                }
                if let Some(answer) = offer.then(|| cache.peek(&key, now)).flatten() {
                    offers.answer(answer.clone(), rules.generation);
                }
            }
            if refresh {
                miss(tally, true);
            }
        }
    }
}

/// No more than what was asked, with TC: no longer than the query, and nothing where that is not one.
fn truncated(query: &[u8], response: &mut Vec<u8>) {
    let Some(plain) = Plain::parse(query, Transport::Udp) else { return };
    plain.write_truncated(response);
}

fn can_be_answered(peer: SocketAddr) -> bool {
    let address = match peer.ip() {
        IpAddr::V4(address) => !address.is_broadcast() && !address.is_multicast() && !address.is_unspecified(),
        IpAddr::V6(address) => !address.is_multicast() && !address.is_unspecified(),
    };
    address && peer.port() != 0
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use hickory_proto::op::{Message, OpCode, Query};
    use hickory_proto::rr::rdata::AAAA;
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use sixgate_engine::dns64::{Reason, View};
    use tokio::time::timeout;

    use super::*;

    const PLACE: Place = (SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 53), Transport::Udp);

    fn query() -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::AAAA));
        message
    }

    fn answer(query: &[u8]) -> Answer {
        let key = Plain::parse(query, Transport::Udp).unwrap().key(View::Translated);
        let question = Message::from_vec(query).unwrap().queries.remove(0);
        let mut message = Message::response(0, OpCode::Query);
        message.add_answer(Record::from_rdata(
            question.name().clone(),
            60,
            RData::AAAA(AAAA("64:ff9b::808:808".parse().unwrap())),
        ));
        message.add_query(question);
        Answer::build(&key, message, Reason::Synthesized, 0, now()).unwrap()
    }

    #[tokio::test]
    async fn what_a_worker_knows_it_answers_and_the_rest_it_hands_on() {
        let (missed, mut missed_seen) = mpsc::channel(8);
        let (slice, mut seen) = watch::channel(Slice::default());
        let worker = Worker::start(3, 1 << 20, missed, Offers::new().0, slice).unwrap();
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        let (failed, _failed) = mpsc::channel(1);
        worker.order(Order::Open(PLACE, socket, failed));
        let query = query().to_vec().unwrap();

        client.send(&query).unwrap();
        let first = missed_seen.recv().await.unwrap();
        assert_eq!((first.query.as_slice(), first.worker, first.place), (query.as_slice(), 3, PLACE));
        worker.keep(Era { rules: 7, ..Era::default() }, answer(&query));
        client.send(&query).unwrap();
        assert!(missed_seen.recv().await.is_some(), "an answer by other rules is not kept");

        worker.keep(Era::default(), answer(&query));
        client.send(&query).unwrap();
        let mut buffer = [0; 512];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(Message::from_vec(&buffer[..length]).unwrap().answers.len(), 1);
        seen.wait_for(|slice| slice.holdings.get(&4).is_some_and(|holding| holding.answers == 1)).await.unwrap();

        let name = b"\x07example\x03com\0";
        let (done, mut ends) = mpsc::channel(1);
        worker.keep(Era::default(), answer(&query));
        worker.order(Order::Flush(name[..].into(), Era { forgotten: 1, ..Era::default() }, done));
        assert!(ends.recv().await.is_none(), "the worker says when it is done");
        client.send(&query).unwrap();
        let missed = timeout(Duration::from_secs(20), missed_seen.recv()).await;
        assert!(
            missed.is_ok(),
            "a flushed name is asked for again, also where its answer had come and was not yet seen"
        );
        worker.order(Order::Close(PLACE));
        drop(worker);
        assert!(first.socket.unwrap().upgrade().is_none(), "the socket is closed");
    }

    #[test]
    fn a_worker_with_many_queries_takes_a_breath_until_they_are_few_again() {
        let mut pace = Pace::default();
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        assert!(!pace.is_busy(100, at(1)));
        assert!(pace.is_busy(150, at(6)));
        assert!(pace.is_busy(10, at(8)));
        assert!(!pace.is_busy(10, at(12)));
    }

    #[test]
    fn nobody_is_answered_at_an_address_that_cannot_be_a_clients() {
        for peer in ["[::1]:0", "[::]:53", "0.0.0.0:53", "255.255.255.255:53", "[ff02::1]:53", "224.0.0.1:53"] {
            assert!(!can_be_answered(peer.parse().unwrap()), "{peer}");
        }
        assert!(can_be_answered("[fe80::1%7]:4711".parse().unwrap()));
    }
}
