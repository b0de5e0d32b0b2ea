//! Messages byte by byte, signatures, and when what is told.

use super::update::{answer, request};
use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn plan(key: Option<tsig::Key>) -> UpdatePlan {
    UpdatePlan { server: "[2001:db8::53]:53".parse().unwrap(), zone: name("example.net."), ttl: 60, key }
}

fn key() -> tsig::Key {
    tsig::Key { name: name("Router."), algorithm: tsig::Algorithm::Sha256, secret: b"secret secret secret".to_vec() }
}

fn record(address: Option<&str>) -> Record {
    let address = address.map(|address| address.parse().unwrap());
    Record { name: name("www.example.net."), address, is_ipv4: false, how: How::Update(plan(None)) }
}

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

#[test]
fn an_update_replaces_the_addresses_of_a_name() {
    let made = request(&plan(None), &name("WWW.example.net."), "2001:db8::5".parse().unwrap(), 0x1234, 0);
    let zone = b"\x07example\x03net\0";
    let www = [b"\x03www", &zone[..]].concat();
    let expected = [
        &[0x12, 0x34, 0x28, 0, 0, 1, 0, 0, 0, 2, 0, 0][..],
        zone,
        &[0, 6, 0, 1],
        &www,
        &[0, 28, 0, 255, 0, 0, 0, 0, 0, 0],
        &www,
        &[0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5],
    ]
    .concat();
    assert_eq!(made.message, expected);
}

/// A server's answer with that RCODE to a signed request, signed as RFC 8945 section 5.3 says.
fn signed_answer(id: u16, code: u8, key: &tsig::Key, request: &[u8], now: u64) -> Vec<u8> {
    // The same as a request's signature, but for the request's own in front of everything.
    let mut message = [&id.to_be_bytes()[..], &[0xa8, code], &[0; 8]].concat();
    tsig::sign_answer(&mut message, key, id, now, request);
    message
}

#[test]
fn an_answer_counts_only_with_the_signature_that_belongs_to_the_request() {
    let plan = plan(Some(key()));
    let address = "192.0.2.5".parse().unwrap();
    let asked = request(&plan, &name("www.example.net."), address, 7, 1000);
    let good = signed_answer(7, 0, &key(), asked.mac(), 1010);
    assert_eq!(answer(&plan, &asked, &good, 1010), Some(Outcome::Done("NOERROR".to_owned())));
    let refused = signed_answer(7, 5, &key(), asked.mac(), 1010);
    assert!(matches!(answer(&plan, &asked, &refused, 1010), Some(Outcome::Refused(_))));
    // Not for another request, not with another key, not bent, not unsigned, not much later.
    let other = request(&plan, &name("www.example.net."), address, 7, 1001);
    assert_eq!(answer(&plan, &other, &good, 1010), None);
    let stranger = tsig::Key { secret: b"other".to_vec(), ..key() };
    assert_eq!(answer(&plan, &asked, &signed_answer(7, 0, &stranger, asked.mac(), 1010), 1010), None);
    assert_eq!(answer(&plan, &asked, &good[..12], 1010), None);
    // Names are the same in upper and lower case.
    let is_case = |bit: usize| bit % 8 == 5 && good[bit / 8].is_ascii_alphabetic();
    for bit in (0..good.len() * 8).filter(|bit| !is_case(*bit)) {
        let mut bent = good.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(answer(&plan, &asked, &bent, 1010), Some(Outcome::Done(_))), "{bit}");
    }
    assert!(matches!(answer(&plan, &asked, &good, 5000), Some(Outcome::Failed(text)) if text.starts_with("BADTIME")));
}

#[test]
fn a_signature_is_what_rfc_4231_says_of_the_hash() {
    // RFC 4231 section 4.3: key "Jefe".
    let mac = tsig::Algorithm::Sha256.mac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
    let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

#[test]
fn nothing_is_told_twice_and_a_restart_tells_nothing() {
    let mut updater =
        Updater::new([(name("www.example.net."), "2001:db8::5".parse().unwrap(), "[2001:db8::53]:53".to_owned())]);
    updater.reconfigure(&[record(Some("2001:db8::5"))]);
    assert_eq!((updater.poll_attempt(NOW), updater.poll_timeout()), (None, None));
    updater.reconfigure(&[record(None)]);
    assert_eq!(updater.poll_attempt(NOW), None, "a lost address is not told");
    updater.reconfigure(&[record(Some("2001:db8::6"))]);
    let attempt = updater.poll_attempt(NOW).unwrap();
    assert_eq!(updater.poll_attempt(NOW), None, "one at a time");
    updater.handle_outcome(&attempt, Outcome::Done(String::new()), NOW, 1);
    assert_eq!((updater.poll_attempt(NOW), updater.poll_timeout()), (None, None));
    let (_, state) = updater.records().next().unwrap();
    assert_eq!(state.published.as_ref().map(|(address, _)| *address), "2001:db8::6".parse().ok());
}

#[test]
fn failures_are_tried_again_later_and_later_and_refusals_twice_a_day() {
    let mut updater = Updater::default();
    updater.reconfigure(&[record(Some("2001:db8::5"))]);
    let mut now = NOW;
    for wait in [5, 10, 20, 40] {
        let attempt = updater.poll_attempt(now).unwrap();
        updater.handle_outcome(&attempt, Outcome::Failed("x".to_owned()), now, 1);
        assert_eq!(updater.poll_timeout(), Some(now + Duration::from_secs(wait)));
        assert_eq!(updater.poll_attempt(now), None);
        now = now + Duration::from_secs(wait);
    }
    let attempt = updater.poll_attempt(now).unwrap();
    updater.handle_outcome(&attempt, Outcome::Refused("no".to_owned()), now, 1);
    assert_eq!(updater.poll_timeout(), Some(now + REFUSED_RETRY));
    // Another way to tell begins anew.
    let other = Record { how: How::Update(plan(Some(key()))), ..record(Some("2001:db8::5")) };
    updater.reconfigure(&[other]);
    assert!(updater.poll_attempt(now).is_some());
}

#[test]
fn an_address_that_changes_while_it_is_told_is_told_after() {
    let mut updater = Updater::default();
    updater.reconfigure(&[record(Some("2001:db8::5"))]);
    let attempt = updater.poll_attempt(NOW).unwrap();
    updater.reconfigure(&[record(Some("2001:db8::6"))]);
    assert_eq!(updater.poll_attempt(NOW), None);
    updater.handle_outcome(&attempt, Outcome::Done(String::new()), NOW, 1);
    assert_eq!(updater.poll_attempt(NOW).unwrap().address, "2001:db8::6".parse().ok());
}

#[test]
fn dyndns2_is_asked_and_understood() {
    let plan = HttpPlan {
        host: "dyn.example.net".to_owned(),
        port: 8080,
        encrypted: false,
        target: "/nic/update?hostname={name}&myip={address}".to_owned(),
        is_dyndns2: true,
        credentials: Some(("user".to_owned(), "pass".to_owned())),
    };
    let asked = http::request(&plan, &name("www.example.net."), "2001:db8::5".parse().unwrap());
    let text = String::from_utf8(asked).unwrap();
    assert!(text.starts_with("GET /nic/update?hostname=www.example.net&myip=2001:db8::5 HTTP/1.0\r\n"), "{text}");
    assert!(text.contains("\r\nHost: dyn.example.net:8080\r\n") && text.contains("Basic dXNlcjpwYXNz\r\n"), "{text}");
    let said = |text: &str| http::answer(&plan, text.as_bytes());
    assert_eq!(said("HTTP/1.1 200 OK\r\n\r\ngood 2001:db8::5\n"), Outcome::Done("good".to_owned()));
    assert_eq!(said("HTTP/1.1 200 OK\r\n\r\nnochg"), Outcome::Done("nochg".to_owned()));
    assert!(
        matches!(said("HTTP/1.1 401 Unauthorized\r\n\r\nbadauth"), Outcome::Refused(text) if text.contains("password"))
    );
    assert!(matches!(said("HTTP/1.1 200 OK\r\n\r\n911"), Outcome::Failed(_)));
    assert!(matches!(said("HTTP/1.1 503 Busy\r\n\r\n"), Outcome::Failed(_)));
    assert!(matches!(said("garbage"), Outcome::Failed(_)));
    let usual = HttpPlan { port: 443, encrypted: true, ..plan.clone() };
    let asked = http::request(&usual, &name("www.example.net."), "2001:db8::5".parse().unwrap());
    assert!(String::from_utf8(asked).unwrap().contains("\r\nHost: dyn.example.net\r\n"));
    let template = HttpPlan { is_dyndns2: false, credentials: None, ..plan.clone() };
    assert_eq!(http::answer(&template, b"HTTP/1.1 204 No Content\r\n\r\n"), Outcome::Done("204".to_owned()));
    assert!(matches!(http::answer(&template, b"HTTP/1.1 403 No\r\n\r\n"), Outcome::Refused(_)));
    assert!(!format!("{plan:?}").contains("pass"), "secrets are not shown");
}
