//! The client against a server that is written by hand.
use proptest::prelude::*;
use sixgate_wire::dhcpv6::{Lease, Writer};

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SERVER: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const ID: u32 = 9;

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn both() -> Wanted {
    Wanted { address: true, prefix: true, hint: Some(56) }
}

fn client(remembered: Bindings, now: Instant) -> Client {
    Client::new(both(), MAC, duid(MAC), remembered, 7, now)
}

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn prefix(text: &str, preferred: u32, valid: u32) -> Lease {
    let net = net(text);
    Lease { address: net.addr(), length: net.prefix_len(), preferred, valid }
}

/// What a server says to a message of the client.
struct Answer {
    kind: Kind,
    rapid: bool,
    preference: u8,
    addresses: Vec<Lease>,
    prefixes: Vec<Lease>,
    status: Option<u16>,
}

impl Answer {
    fn new(kind: Kind, prefixes: &[Lease]) -> Self {
        let addresses = vec![prefix("2001:db8::5/128", 3000, 6000)];
        Self { kind, rapid: false, preference: 0, addresses, prefixes: prefixes.to_vec(), status: None }
    }

    fn to(&self, message: &[u8]) -> Vec<u8> {
        let message = Message::parse(message).unwrap();
        let mut buffer = [0; 1000];
        let mut writer = Writer::new(&mut buffer, self.kind, message.transaction()).unwrap();
        writer.option(code::CLIENT_IDENTIFIER, message.options().find(code::CLIENT_IDENTIFIER).unwrap()).unwrap();
        writer.option(code::SERVER_IDENTIFIER, &SERVER).unwrap();
        writer.option(code::PREFERENCE, &[self.preference]).unwrap();
        if self.rapid {
            writer.option(code::RAPID_COMMIT, &[]).unwrap();
        }
        if let Some(status) = self.status {
            writer.option(code::STATUS_CODE, &status.to_be_bytes()).unwrap();
        }
        writer.association(code::IA_NA, ID, &self.addresses).unwrap();
        writer.association(code::IA_PD, ID, &self.prefixes).unwrap();
        writer.option(code::DNS_SERVERS, &[0x20; 16]).unwrap();
        writer.finish().to_vec()
    }
}

/// The next message of the client, after its timers.
fn said(client: &mut Client, until: Instant) -> Option<(Kind, Vec<u8>)> {
    loop {
        if let Some(message) = client.poll_transmit() {
            return Some((Message::parse(&message).unwrap().kind(), message));
        }
        let due = client.poll_timeout().filter(|due| *due <= until)?;
        client.handle_timeout(due);
    }
}

fn bound() -> Client {
    let mut client = client(Bindings::default(), at(1));
    let (_, solicit) = said(&mut client, at(1)).unwrap();
    let reply = Answer { rapid: true, ..Answer::new(Kind::Reply, &[prefix("2001:db8:0:ff00::/56", 4000, 8000)]) };
    assert_eq!(client.handle_input(&reply.to(&solicit), at(1)), Verdict::Taken);
    assert_eq!(client.state(), "bound");
    client
}

fn prefixes(client: &Client) -> Vec<Ipv6Net> {
    client.bindings().prefixes().map(|binding| binding.net).collect()
}

#[test]
fn four_messages_give_an_address_and_a_prefix() {
    let mut client = client(Bindings::default(), at(1));
    let (kind, solicit) = said(&mut client, at(1)).unwrap();
    assert_eq!(kind, Kind::Solicit);
    let options = Message::parse(&solicit).unwrap().options();
    assert!(options.find(code::RAPID_COMMIT).is_some());
    // The hint is a prefix of length 56 that is not named.
    assert_eq!(options.find(code::IA_PD).unwrap()[12..25], [0, 26, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 56]);
    let offer = Answer::new(Kind::Advertise, &[prefix("2001:db8:0:ff00::/56", 4000, 8000)]);
    assert_eq!(client.handle_input(&offer.to(&solicit), at(1)), Verdict::Taken);
    assert_eq!(client.poll_transmit(), None, "other servers have until the first retransmission");
    let (kind, request) = said(&mut client, at(3)).unwrap();
    assert_eq!(kind, Kind::Request);
    assert_eq!(Message::parse(&request).unwrap().options().find(code::SERVER_IDENTIFIER), Some(&SERVER[..]));
    let reply = Answer { kind: Kind::Reply, ..offer };
    assert_eq!(client.handle_input(&reply.to(&request), at(3)), Verdict::Taken);
    assert_eq!((client.state(), prefixes(&client)), ("bound", vec![net("2001:db8:0:ff00::/56")]));
    assert_eq!(client.bindings().addresses().next().unwrap().net, net("2001:db8::5/128"));
    assert_eq!(client.bindings().resolvers, [Ipv6Addr::from([0x20; 16])]);
}

#[test]
fn a_server_that_must_be_taken_is_taken_at_once() {
    let mut client = client(Bindings::default(), at(1));
    let (_, solicit) = said(&mut client, at(1)).unwrap();
    let offer = Answer { preference: 255, ..Answer::new(Kind::Advertise, &[prefix("2001:db8:0:ff00::/56", 40, 80)]) };
    client.handle_input(&offer.to(&solicit), at(1));
    assert_eq!(said(&mut client, at(1)).map(|(kind, _)| kind), Some(Kind::Request));
}

#[test]
fn lifetimes_are_renewed_then_any_server_is_asked_and_then_all_ends() {
    let mut client = bound();
    assert_eq!((client.bindings().t1, client.bindings().t2), (Some(at(1501)), Some(at(2401))));
    let (kind, renew) = said(&mut client, at(1501)).unwrap();
    assert_eq!((kind, client.state()), (Kind::Renew, "renewing"));
    let leases: Vec<Lease> =
        Message::parse(&renew).unwrap().options().associations(code::IA_PD).flat_map(|ia| ia.leases()).collect();
    assert_eq!(leases, [prefix("2001:db8:0:ff00::/56", 0, 0)]);
    let reply = Answer::new(Kind::Reply, &[prefix("2001:db8:0:ff00::/56", 4000, 8000)]);
    let mut renewed = bound();
    let (_, renew) = said(&mut renewed, at(1501)).unwrap();
    assert_eq!(renewed.handle_input(&reply.to(&renew), at(1502)), Verdict::Taken);
    assert_eq!((renewed.state(), renewed.bindings().t1), ("bound", Some(at(3001))));

    let mut last = Kind::Renew;
    while let Some((kind, _)) = said(&mut client, at(6000)) {
        last = kind;
    }
    assert_eq!((last, client.state()), (Kind::Rebind, "rebinding"));
    assert!(client.bindings().addresses().next().is_some());
    while said(&mut client, at(8001)).is_some_and(|(kind, _)| kind != Kind::Solicit) {}
    assert_eq!((client.state(), client.bindings().is_empty()), ("soliciting", true));
}

#[test]
fn a_renewal_may_bring_another_prefix_and_take_the_old_one_back() {
    let mut client = bound();
    let (_, renew) = said(&mut client, at(1501)).unwrap();
    let leases = [prefix("2001:db8:0:aa00::/56", 4000, 8000), prefix("2001:db8:0:ff00::/56", 0, 0)];
    client.handle_input(&Answer::new(Kind::Reply, &leases).to(&renew), at(1501));
    assert_eq!(prefixes(&client), [net("2001:db8:0:aa00::/56")]);
    let mut client = bound();
    let (_, renew) = said(&mut client, at(1501)).unwrap();
    client.handle_input(&Answer::new(Kind::Reply, &leases[..1]).to(&renew), at(1501));
    assert_eq!(prefixes(&client), [net("2001:db8:0:aa00::/56"), net("2001:db8:0:ff00::/56")], "the old one ages out");
}

#[test]
fn a_server_that_does_not_know_the_binding_is_requested_to_make_it() {
    let mut client = bound();
    let (_, renew) = said(&mut client, at(1501)).unwrap();
    let mut reply = Answer::new(Kind::Reply, &[]).to(&renew);
    // An IA_PD that holds nothing but the status NoBinding.
    let place = reply.windows(4).position(|window| window == [0, 25, 0, 12]).unwrap();
    reply[place + 3] = 18;
    reply.splice(place + 16..place + 16, [0, 13, 0, 2, 0, 3]);
    assert_eq!(client.handle_input(&reply, at(1501)), Verdict::Taken);
    let (kind, _) = said(&mut client, at(1501)).unwrap();
    assert_eq!((kind, prefixes(&client).len()), (Kind::Request, 1), "what is held stays meanwhile");
}

#[test]
fn what_is_remembered_is_held_at_once_and_confirmed_by_rebind() {
    let remembered = bound().bindings().clone();
    let mut restarted = client(remembered.clone(), at(100));
    assert_eq!(restarted.bindings().held, remembered.held);
    let (kind, rebind) = said(&mut restarted, at(100)).unwrap();
    assert_eq!(kind, Kind::Rebind);
    let reply = Answer::new(Kind::Reply, &[prefix("2001:db8:0:ff00::/56", 4000, 8000)]);
    assert_eq!(restarted.handle_input(&reply.to(&rebind), at(100)), Verdict::Taken);
    assert_eq!(restarted.bindings().prefixes().next().unwrap().valid_until, Some(at(8100)));

    let mut unheard = client(remembered.clone(), at(100));
    while said(&mut unheard, at(120)).is_some() {}
    assert_eq!((unheard.state(), &unheard.bindings().held), ("bound", &remembered.held));
    assert!(client(remembered, at(9000)).bindings().is_empty(), "what has ended is forgotten");
}

#[test]
fn what_is_no_longer_wanted_is_released() {
    let mut client = bound();
    client.reconfigure(&Wanted { prefix: false, hint: None, ..both() }, at(10));
    let (kind, release) = said(&mut client, at(10)).unwrap();
    assert_eq!(kind, Kind::Release);
    let given_back: Vec<Lease> =
        Message::parse(&release).unwrap().options().associations(code::IA_PD).flat_map(|ia| ia.leases()).collect();
    assert_eq!(given_back, [prefix("2001:db8:0:ff00::/56", 0, 0)]);
    assert!(prefixes(&client).is_empty() && client.bindings().addresses().next().is_some());
}

#[test]
fn answers_to_others_and_refusals_change_nothing() {
    let mut client = client(Bindings::default(), at(1));
    let (_, solicit) = said(&mut client, at(1)).unwrap();
    let reply = Answer::new(Kind::Reply, &[prefix("2001:db8:0:ff00::/56", 4000, 8000)]);
    assert_eq!(client.handle_input(&reply.to(&solicit), at(1)), Verdict::Unexpected, "no rapid commit");
    let mut other = reply.to(&solicit);
    other[3] ^= 1;
    assert_eq!(client.handle_input(&other, at(1)), Verdict::NotForUs);
    other = reply.to(&solicit);
    other[17] ^= 1;
    assert_eq!(client.handle_input(&other, at(1)), Verdict::NotForUs);
    assert_eq!(client.handle_input(&reply.to(&solicit)[..20], at(1)), Verdict::Malformed);
    let refusal = Answer { addresses: Vec::new(), ..Answer::new(Kind::Advertise, &[]) };
    assert_eq!(client.handle_input(&refusal.to(&solicit), at(1)), Verdict::Refused);
    let wrong = Answer { addresses: Vec::new(), ..Answer::new(Kind::Advertise, &[prefix("fe80::/56", 40, 80)]) };
    assert_eq!(client.handle_input(&wrong.to(&solicit), at(1)), Verdict::Refused, "link-local is nobody's to give");
    assert!(client.bindings().is_empty());
}

#[test]
fn solicits_are_repeated_with_doubled_pauses_up_to_an_hour() {
    let mut client = client(Bindings::default(), at(0));
    let mut times = Vec::new();
    for _ in 0..16 {
        let now = client.poll_timeout().unwrap();
        client.handle_timeout(now);
        assert!(client.poll_transmit().is_some());
        times.push(now);
    }
    let pauses: Vec<f64> = times.windows(2).map(|pair| pair[1].saturating_since(pair[0]).as_secs_f64()).collect();
    assert!((1.0..=1.2).contains(&pauses[0]), "{pauses:?}");
    for pair in pauses.windows(2).take(9) {
        assert!((1.9..=2.1).contains(&(pair[1] / pair[0])), "{pauses:?}");
    }
    assert!(pauses.iter().all(|pause| *pause <= 3600.0 * 1.1), "{pauses:?}");
}

proptest! {
    #[test]
    fn no_message_ends_the_client(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..20),
        options in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut client = client(Bindings::default(), at(1));
        let (_, solicit) = said(&mut client, at(1)).unwrap();
        for message in &noise {
            client.handle_input(message, at(1));
        }
        let mut reply = Answer { rapid: true, ..Answer::new(Kind::Reply, &[]) }.to(&solicit);
        reply.extend(&options);
        client.handle_input(&reply, at(1));
        while said(&mut client, at(100)).is_some() {}
        prop_assert!(client.poll_timeout().is_some());
    }
}

/// RFC 8415 section 20.4: the option with that replay value, kind, and key or digest.
fn authentication(replay: u64, kind: u8, value: [u8; 16]) -> Vec<u8> {
    [&[3, 1, 0][..], &replay.to_be_bytes(), &[kind], &value].concat()
}

const SECRET: [u8; 16] = [0x5a; 16];

/// A server's Reconfigure that asks for that message.
fn reconfigure_message(replay: u64, asked: u8, secret: &[u8]) -> Vec<u8> {
    use hmac::Mac as _;
    let unsigned = |digest: [u8; 16]| {
        let mut buffer = [0; 300];
        let mut writer = Writer::new(&mut buffer, Kind::Reconfigure, [0; 3]).unwrap();
        writer.option(code::CLIENT_IDENTIFIER, &duid(MAC)).unwrap();
        writer.option(code::SERVER_IDENTIFIER, &SERVER).unwrap();
        writer.option(code::RECONFIGURE_MESSAGE, &[asked]).unwrap();
        writer.option(code::AUTHENTICATION, &authentication(replay, 2, digest)).unwrap();
        writer.finish().to_vec()
    };
    let mut mac = hmac::Hmac::<md5::Md5>::new_from_slice(secret).unwrap();
    mac.update(&unsigned([0; 16]));
    unsigned(mac.finalize().into_bytes().into())
}

/// A client whose server has given it a key.
fn reconfigurable() -> Client {
    let mut client = client(Bindings::default(), at(1));
    let (_, solicit) = said(&mut client, at(1)).unwrap();
    assert!(Message::parse(&solicit).unwrap().options().find(code::RECONFIGURE_ACCEPT).is_some());
    let answer = Answer { rapid: true, ..Answer::new(Kind::Reply, &[prefix("2001:db8:0:ff00::/56", 4000, 8000)]) };
    let mut reply = answer.to(&solicit);
    let mut more = [0; 100];
    let mut writer = Writer::new(&mut more, Kind::Reply, [0; 3]).unwrap();
    writer.option(code::RECONFIGURE_ACCEPT, &[]).unwrap();
    writer.option(code::AUTHENTICATION, &authentication(7, 1, SECRET)).unwrap();
    reply.extend(&writer.finish()[4..]);
    assert_eq!(client.handle_input(&reply, at(1)), Verdict::Taken);
    client
}

#[test]
fn a_server_with_the_key_has_the_client_renew_or_rebind_at_once() {
    for (asked, kind) in [(5, Kind::Renew), (6, Kind::Rebind)] {
        let mut client = reconfigurable();
        assert_eq!(client.handle_input(&reconfigure_message(8, asked, &SECRET), at(100)), Verdict::Taken);
        let (said, message) = said(&mut client, at(100)).unwrap();
        assert_eq!(said, kind);
        // While that is under way the next one does not count; afterwards a new one does.
        assert_eq!(client.handle_input(&reconfigure_message(9, asked, &SECRET), at(100)), Verdict::Unexpected);
        let reply = Answer::new(Kind::Reply, &[prefix("2001:db8:0:ee00::/56", 4000, 8000)]);
        assert_eq!(client.handle_input(&reply.to(&message), at(101)), Verdict::Taken);
        assert!(prefixes(&client).contains(&net("2001:db8:0:ee00::/56")));
        assert_eq!(
            client.handle_input(&reconfigure_message(8, asked, &SECRET), at(102)),
            Verdict::Unproven,
            "a replay"
        );
        assert_eq!(client.handle_input(&reconfigure_message(9, asked, &SECRET), at(102)), Verdict::Taken);
    }
}

#[test]
fn nobody_without_the_key_has_the_client_do_anything() {
    let mut client = reconfigurable();
    for message in
        [reconfigure_message(8, 5, b"another"), reconfigure_message(7, 5, &SECRET), reconfigure_message(8, 11, &SECRET)]
    {
        assert_eq!(client.handle_input(&message, at(100)), Verdict::Unproven);
    }
    let good = reconfigure_message(9, 5, &SECRET);
    for bit in 0..good.len() * 8 {
        let mut bent = good.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(client.handle_input(&bent, at(100)), Verdict::Taken, "{bit}");
    }
    assert_eq!(client.state(), "bound");
    // A server that has given no key is none to be believed.
    let mut without = bound();
    assert_eq!(without.handle_input(&good, at(100)), Verdict::Unproven);
    // The key outlives the daemon.
    let bindings = client.bindings().clone();
    let text = serde_json::to_string(&bindings).unwrap();
    assert_eq!(serde_json::from_str::<Bindings>(&text).unwrap(), bindings);
}
