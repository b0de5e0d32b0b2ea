//! The program in the kernel, question by question, side by side with what the resolver's sockets say.
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use sixgate_engine::dns64::{Answer, Plain, Reason, Transport, View};
use sixgate_engine::time::Instant;

use super::*;
use crate::clock::now;
use crate::testing::{Told, in_namespace, run, test_run, wire};

const ROUTER: &str = "2001:db8:1::1";
const CLIENT: &str = "2001:db8:1::77";
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const HEADERS: usize = 62;
const REDIRECT: u32 = 7;
const SHOT: u32 = 2;
const UNSPEC: u32 = u32::MAX;

struct Rig {
    answers: DnsAnswers,
    link: u32,
    settings: Settings,
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn client() -> Client {
    Client { until: u64::MAX, epoch: 1, mac: Some([2, 0, 0, 0, 0, 2]), ..Client::default() }
}

impl Rig {
    fn new() -> Self {
        let [link, _] = wire(["lan0", "lan1"]);
        run("ip link set lan0 address 02:00:00:00:00:01");
        let mut answers = DnsAnswers::open(64, 64).unwrap();
        assert!(answers.attach(&[(link, "lan0".to_owned())]).is_empty());
        let settings = Settings { attended_until: u64::MAX, interval: 0, epoch: 1 };
        answers.configure(&settings).unwrap();
        answers.listen(&[place(address(ROUTER), link)].into()).unwrap();
        answers.admit(&place(address(CLIENT), link), &client()).unwrap();
        Self { answers, link, settings }
    }

    fn program(&self) -> RawFd {
        let program: &SchedClassifier = self.answers.program.program(dns::PROGRAM).unwrap().try_into().unwrap();
        program.fd().unwrap().as_fd().as_raw_fd()
    }

    /// What becomes of a question: the verdict, and the answer's message where there is one.
    fn ask_from(&self, (source, macs, link): (&str, [u8; 12], u32), message: &[u8]) -> (u32, Vec<u8>) {
        let frame = frame(&macs, address(source), message);
        let told = Told { link, ..Told::default() };
        let (verdict, out, _) = test_run(self.program(), &frame, told, 0);
        if verdict == REDIRECT {
            assert_eq!(out[..6], macs[6..]);
            assert_eq!(out[6..12], macs[..6]);
            assert_eq!(out[14..18], [0x60, 0, 0, 0]);
            assert_eq!(usize::from(u16::from_be_bytes([out[18], out[19]])), out.len() - 54);
            assert_eq!(out[18..20], out[58..60]);
            assert_eq!(out[20..22], [17, 64]);
            assert_eq!(out[22..38], address(ROUTER).octets());
            assert_eq!(out[38..54], address(source).octets());
            assert_eq!(out[54..58], [0, 53, 0x12, 0x67]);
            assert_eq!(sum(&out), 0xffff, "the checksum is wrong");
            return (verdict, out[HEADERS..].to_vec());
        }
        if verdict == UNSPEC {
            assert_eq!(out, frame, "what goes on is what came");
        }
        (verdict, Vec::new())
    }

    fn ask(&self, message: &[u8]) -> (u32, Vec<u8>) {
        self.ask_from((CLIENT, MACS, self.link), message)
    }

    /// The program says what the sockets would say.
    fn agrees(&self, answer: &Answer, query: &[u8]) {
        let plain = Plain::parse(query, Transport::Udp).unwrap();
        let mut expected = Vec::new();
        // The second may change between the two.
        for _ in 0..3 {
            let (verdict, message) = self.ask(query);
            assert_eq!(verdict, REDIRECT, "{query:x?}");
            answer.write(&plain, now(), &mut expected);
            if message == expected {
                return;
            }
        }
        panic!("{:x?} instead of {expected:x?}", self.ask(query));
    }
}

/// Over pseudo-header, UDP header and message, the checksum included.
fn sum(frame: &[u8]) -> u16 {
    let mut sum = u32::from(u16::from_be_bytes([frame[18], frame[19]])) + 17;
    for pair in frame[22..].chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn frame(macs: &[u8; 12], source: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + message.len()).unwrap().to_be_bytes();
    let mut frame = [&macs[..], &[0x86, 0xdd, 0x60, 3, 2, 1], &length, &[17, 63]].concat();
    frame.extend(source.octets());
    frame.extend(address(ROUTER).octets());
    frame.extend([0x12, 0x67, 0, 53]);
    frame.extend(length);
    frame.extend([0, 0]);
    frame.extend(message);
    let missing = (!sum(&frame)).to_be_bytes();
    frame[60..62].copy_from_slice(&missing);
    frame
}

fn query(name: &Name, kind: RecordType, flags: u16, opt: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd];
    bytes.extend(flags.to_be_bytes());
    bytes.extend([0, 1, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())]);
    for label in name {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label);
    }
    bytes.push(0);
    bytes.extend(u16::from(kind).to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(opt);
    bytes
}

const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

fn aaaa(owner: &Name, last: u16, ttl: u32) -> Record {
    let rdata = RData::AAAA(AAAA(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x808, last)));
    Record::from_rdata(owner.clone(), ttl, rdata)
}

fn answer(owner: &Name, kind: RecordType, reason: Reason, fill: impl FnOnce(&mut Message)) -> Answer {
    let mut message = Message::response(0, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(Query::query(owner.clone(), kind));
    fill(&mut message);
    let asked = query(owner, kind, 0x0100, &[]);
    let key = Plain::parse(&asked, Transport::Udp).unwrap().key(View::Translated);
    // Some of its time has passed.
    let made = Instant::from_nanos(now().as_nanos() - 5_000_000_000);
    Answer::build(&key, message, reason, 0, made).unwrap()
}

/// Answers of all shapes: lengths that are odd and even, aliases, none, authentic ones, with records beside.
fn shapes() -> Vec<(Name, RecordType, Answer)> {
    let mut shapes = Vec::new();
    for owner in ["a.example.", "ab.example.", "www.some-longer-name.with.several.labels.example.com."].map(name) {
        let synthesized = |message: &mut Message| {
            message.add_answer(aaaa(&owner, 8, 600));
        };
        let kind = RecordType::AAAA;
        shapes.push((owner.clone(), kind, answer(&owner, kind, Reason::Synthesized, synthesized)));
        let alias = |message: &mut Message| {
            let target = name("target.example.net.");
            message.metadata.authentic_data = true;
            message.add_answer(Record::from_rdata(owner.clone(), 70, RData::CNAME(CNAME(target.clone()))));
            for last in 1..9 {
                message.add_answer(Record::from_rdata(target.clone(), 60 + last, RData::A(A::new(9, 9, 9, 9))));
            }
        };
        shapes.push((owner.clone(), RecordType::A, answer(&owner, RecordType::A, Reason::Forwarded, alias)));
        let nothing = |message: &mut Message| {
            let soa = SOA::new(name("ns.example."), name("x.example."), 1, 2, 3, 4, 300);
            message.metadata.response_code = ResponseCode::NXDomain;
            message.add_authority(Record::from_rdata(name("example."), 300, RData::SOA(soa)));
        };
        let kind = RecordType::HTTPS;
        shapes.push((owner.clone(), kind, answer(&owner, kind, Reason::Forwarded, nothing)));
    }
    shapes
}

#[test]
fn the_kernel_says_what_the_sockets_say() {
    in_namespace(|| async {
        let mut rig = Rig::new();
        let shapes = shapes();
        for (_, _, answer) in &shapes {
            rig.answers.put(&answer.finished().unwrap(), 1).unwrap();
        }
        let mut asked = 0;
        for (owner, kind, answer) in &shapes {
            let shouted = Name::from_ascii(owner.to_ascii().to_uppercase()).unwrap();
            for spelled in [owner, &shouted] {
                for (flags, opt) in [(0x0100, &[][..]), (0x0120, &[]), (0x0100, &OPT), (0x0120, &OPT)] {
                    rig.agrees(answer, &query(spelled, *kind, flags, opt));
                    asked += 1;
                }
            }
        }
        let counters = rig.answers.counters();
        assert!(counters.answered >= asked && counters.synthesized >= asked / 3, "{counters:?}");
        assert_eq!((counters.refused, counters.failed), (0, 0));
        assert!(rig.answers.asked(&place(address(CLIENT), rig.link)) >= Some(asked));
        let key = rig.answers.put(&shapes[0].2.finished().unwrap(), 1).unwrap();
        assert_eq!(rig.answers.given(&key), Some(0));
    });
}

#[test]
fn what_is_unusual_goes_on_as_it_came() {
    in_namespace(|| async {
        let mut rig = Rig::new();
        let owner = name("a.example.");
        let known = answer(&owner, RecordType::AAAA, Reason::Synthesized, |message| {
            message.add_answer(aaaa(&owner, 8, 600));
        });
        rig.answers.put(&known.finished().unwrap(), 1).unwrap();
        let plain = query(&owner, RecordType::AAAA, 0x0100, &[]);
        assert_eq!(rig.ask(&plain).0, REDIRECT);
        // Other flags, DO, a version, options, no OPT behind a count, something behind the question, another type or class.
        let with = |flags, opt: &[u8]| query(&owner, RecordType::AAAA, flags, opt);
        let mut unusual: Vec<Vec<u8>> =
            [0x0000, 0x0110, 0x0180, 0x0140, 0x0900, 0x8100, 0x0300].map(|flags| with(flags, &[])).into();
        let mut opt = OPT;
        opt[7] = 0x80;
        unusual.push(with(0x0100, &opt));
        opt = OPT;
        opt[6] = 1;
        unusual.push(with(0x0100, &opt));
        unusual.push(with(0x0100, &[&OPT[..10], &[4], &[0, 10, 0, 0]].concat()));
        unusual.push(with(0x0100, &[0; 11]));
        unusual.push([&plain[..], &[0]].concat());
        unusual.push(query(&owner, RecordType::A, 0x0100, &[]));
        unusual.push(query(&name("b.example."), RecordType::AAAA, 0x0100, &[]));
        unusual.push(query(&name(&format!("{}.example.", "x".repeat(63))), RecordType::AAAA, 0x0100, &[]));
        let end = plain.len();
        unusual.push([&plain[..end - 1], &[3]].concat());
        unusual.push([&plain[..11], &[1], &plain[12..]].concat());
        unusual.push(plain[..12].to_vec());
        for message in unusual {
            assert_eq!(rig.ask(&message).0, UNSPEC, "{message:x?}");
        }
        for length in 0..plain.len() {
            assert_eq!(rig.ask(&plain[..length]).0, UNSPEC, "{length}");
        }
    });
}

#[test]
fn nobody_else_and_nothing_out_of_date_is_answered() {
    in_namespace(|| async {
        let mut rig = Rig::new();
        let owner = name("a.example.");
        let known = answer(&owner, RecordType::AAAA, Reason::Synthesized, |message| {
            message.add_answer(aaaa(&owner, 8, 600));
        });
        rig.answers.put(&known.finished().unwrap(), 1).unwrap();
        let plain = query(&owner, RecordType::AAAA, 0x0100, &[]);
        let mut forged = MACS;
        forged[11] = 9;
        let at = place(address(CLIENT), rig.link);
        assert_eq!(rig.ask_from((CLIENT, forged, rig.link), &plain).0, UNSPEC, "another hardware address");
        assert_eq!(rig.ask_from(("2001:db8:1::78", MACS, rig.link), &plain).0, UNSPEC, "another client");
        run("ip link add other0 address 02:00:00:00:00:01 type veth peer name other1");
        let other = run("ip -o link show dev other0").split(':').next().unwrap().parse().unwrap();
        assert_eq!(rig.ask_from((CLIENT, MACS, other), &plain).0, UNSPEC, "another link");
        rig.answers.admit(&at, &Client { mac: None, ..client() }).unwrap();
        assert_eq!(rig.ask_from((CLIENT, forged, rig.link), &plain).0, REDIRECT, "any may send");
        for changed in [
            Client { until: 1, ..client() },
            Client { epoch: 2, ..client() },
            Client { view: View::Untranslated.number(), ..client() },
        ] {
            rig.answers.admit(&at, &changed).unwrap();
            assert_eq!(rig.ask(&plain).0, UNSPEC, "{changed:?}");
        }
        rig.answers.admit(&at, &client()).unwrap();
        assert_eq!(rig.ask(&plain).0, REDIRECT);
        for changed in [Settings { attended_until: 1, ..rig.settings }, Settings { epoch: 2, ..rig.settings }] {
            rig.answers.configure(&changed).unwrap();
            assert_eq!(rig.ask(&plain).0, UNSPEC, "{changed:?}");
        }
        rig.answers.configure(&rig.settings).unwrap();
        rig.answers.listen(&BTreeSet::new()).unwrap();
        assert_eq!(rig.ask(&plain).0, UNSPEC, "nobody listens there");
        rig.answers.listen(&[place(address(ROUTER), rig.link)].into()).unwrap();
        let old = answer(&owner, RecordType::AAAA, Reason::Synthesized, |message| {
            message.add_answer(aaaa(&owner, 8, 5));
        });
        let key = rig.answers.put(&old.finished().unwrap(), 1).unwrap();
        assert_eq!(rig.ask(&plain).0, UNSPEC, "its time is nearly over");
        rig.answers.put(&known.finished().unwrap(), 1).unwrap();
        assert_eq!(rig.ask(&plain).0, REDIRECT);
        rig.answers.take(&key);
        assert_eq!(rig.ask(&plain).0, UNSPEC);
        rig.answers.dismiss(&at);
        assert_eq!(rig.answers.asked(&at), None);
    });
}

#[test]
fn who_asks_too_often_is_told_to_come_by_tcp_or_nothing() {
    in_namespace(|| async {
        let mut rig = Rig::new();
        let owner = name("ab.Example.");
        let slow = Settings { interval: 400_000_000, ..rig.settings };
        rig.answers.configure(&slow).unwrap();
        let (plain, edns) =
            (query(&owner, RecordType::AAAA, 0x0100, &[]), query(&owner, RecordType::AAAA, 0x0120, &OPT));
        // A second's worth at once; it counts what is not answered here, too.
        let unusual = query(&owner, RecordType::AAAA, 0x0110, &[]);
        let granted = (0..100).take_while(|_| rig.ask(&unusual).0 == UNSPEC).count();
        assert!((3..=5).contains(&granted), "{granted}");
        let mut expected = Vec::new();
        for message in [&plain, &edns] {
            let fates: Vec<(u32, Vec<u8>)> = (0..4).map(|_| rig.ask(message)).collect();
            Plain::parse(message, Transport::Udp).unwrap().write_truncated(&mut expected);
            assert_eq!(fates.iter().filter(|(verdict, _)| *verdict == SHOT).count(), 2, "{fates:?}");
            assert_eq!(fates.iter().filter(|fate| **fate == (REDIRECT, expected.clone())).count(), 2, "{fates:x?}");
        }
        assert_eq!(rig.ask(&unusual).0, SHOT);
        assert!(rig.answers.counters().refused >= 9);
    });
}
