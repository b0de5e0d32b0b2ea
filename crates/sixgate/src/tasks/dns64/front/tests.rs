//! Who is asked, how often, and who hears of it.
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use hickory_proto::op::{OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const PLACE: Place = (SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 53), Transport::Udp);

struct Bench {
    front: Front,
    seen: watch::Receiver<Slice>,
    rules: watch::Sender<Rules>,
}

fn bench(upstream: Vec<SocketAddr>) -> Bench {
    let plan = Dns64Plan { upstream, serve_stale: 3600, ..Dns64Plan::default() };
    let (rules, rules_seen) = watch::channel(Rules { plan: Arc::new(plan), ..Rules::default() });
    let (slice, seen) = watch::channel(Slice::default());
    let front = Front::new(rules_seen, Answers::new(1 << 20), Arc::default(), slice);
    Bench { front, seen, rules }
}

impl Bench {
    fn ask(&self, id: u16) -> oneshot::Receiver<Vec<u8>> {
        let (reply, response) = oneshot::channel();
        let peer = "[::1]:4711".parse().unwrap();
        self.front.take(Client { query: query(id), peer, reply: Reply::Stream(reply), worker: None, turn: None });
        response
    }

    async fn response(&self, id: u16) -> Message {
        let bytes = timeout(DEADLINE, self.ask(id)).await.unwrap().unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, id);
        message
    }
}

fn query(id: u16) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::AAAA));
    message.to_vec().unwrap()
}

fn answered(question: &[u8], ttl: u32) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    let name = question.queries[0].name().clone();
    answer.add_queries(question.queries);
    answer.add_answer(Record::from_rdata(name, ttl, RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))));
    answer.to_vec().unwrap()
}

async fn upstream() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn question(upstream: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 512];
    let (length, from) = timeout(DEADLINE, upstream.recv_from(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    (buffer, from)
}

#[test]
fn a_client_that_asks_too_much_at_a_time_is_counted_as_such_and_others_are_heard() {
    let bench = bench(vec![]);
    let held: Vec<Turn> =
        (1..).map_while(|port| bench.front.turn(([0xfd00, 0, 0, 0, 0, 0, 0, 1], port).into(), PLACE)).collect();
    assert_eq!(held.len(), 64);
    assert_eq!(bench.seen.borrow().refused, BTreeMap::from([("dns-client-overload", 1)]));
    assert!(bench.front.turn("[fd00::2]:1".parse().unwrap(), PLACE).is_some());
    assert_eq!(bench.seen.borrow().refused.len(), 1);
}

#[tokio::test]
async fn equal_questions_are_asked_once_and_remembered() {
    let (upstream, address) = upstream().await;
    let bench = bench(vec![address]);
    let waiting: Vec<_> = (1..=5).map(|id| bench.ask(id)).collect();
    let (asked, from) = question(&upstream).await;
    upstream.send_to(&answered(&asked, 60), from).await.unwrap();
    for (id, response) in (1..=5).zip(waiting) {
        let response = Message::from_vec(&timeout(DEADLINE, response).await.unwrap().unwrap()).unwrap();
        assert_eq!((response.metadata.id, response.answers.len()), (id, 1));
    }
    assert_eq!(bench.response(6).await.answers.len(), 1);
    assert!(upstream.try_recv(&mut [0; 512]).is_err(), "it was asked once");
    let status = bench.seen.borrow().counters.status(&Dns64Plan::default(), &[]);
    assert_eq!((status.queries, status.cached), (6, 1));
}

/// Has everything forgotten while a question is under way: whoever asked is answered, and whoever asks next has the upstream
/// asked anew.
async fn forget_meanwhile(forget: impl FnOnce(&Bench)) {
    let (upstream, address) = upstream().await;
    let bench = bench(vec![address]);
    let early = bench.ask(1);
    let (asked, from) = question(&upstream).await;
    forget(&bench);
    upstream.send_to(&answered(&asked, 60), from).await.unwrap();
    timeout(DEADLINE, early).await.unwrap().unwrap();

    let late = bench.ask(2);
    let (asked, from) = question(&upstream).await;
    upstream.send_to(&answered(&asked, 60), from).await.unwrap();
    timeout(DEADLINE, late).await.unwrap().unwrap();
    assert_eq!(bench.response(3).await.answers.len(), 1, "that answer is kept");
}

#[tokio::test]
async fn new_rules_forget_and_what_was_asked_under_the_old_ones_is_not_kept() {
    forget_meanwhile(|bench| {
        let rules = Rules { generation: 1, ..bench.rules.borrow().clone() };
        bench.front.answers.follow(&rules);
        bench.rules.send_replace(rules);
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_while_its_name_is_forgotten_is_not_kept() {
    forget_meanwhile(|bench| {
        bench.front.answers.flush(b"\x07example\x03com\0");
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_moment() {
    let (upstream, address) = upstream().await;
    drop(upstream);
    let bench = bench(vec![address]);
    assert_eq!(bench.response(1).await.metadata.response_code, ResponseCode::ServFail);
    let failures = |bench: &Bench| bench.seen.borrow().counters.status(&plan(address), &[]).upstreams[0].failures;
    let before = failures(&bench);
    assert_eq!(bench.response(2).await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(failures(&bench), before, "RFC 9520: the upstream was not asked again");
}

fn plan(address: SocketAddr) -> Dns64Plan {
    Dns64Plan { upstream: vec![address], ..Dns64Plan::default() }
}
