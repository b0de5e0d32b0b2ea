//! Tests of the log against servers that behave, and servers that do not.
use std::sync::Arc;

use sixgate_engine::config;
use sixgate_engine::plan::{plan as planned, preview_facts};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket};

use super::*;

struct Others {
    desired: watch::Sender<Desired>,
    events: mpsc::Sender<Vec<Event>>,
    slice: watch::Receiver<Slice>,
}

/// The task, on a plan that says `to`.
fn start(to: &str) -> Others {
    let (desired, desired_seen) = watch::channel(Desired::Unknown);
    let (events, told) = mpsc::channel(4);
    let (slice, seen) = watch::channel(Slice::default());
    tokio::spawn(run(Ends { desired: desired_seen, events: told, slice }));
    let others = Others { desired, events, slice: seen };
    others.follow(to);
    others
}

impl Others {
    fn follow(&self, to: &str) {
        let text = format!(
            "[wan]\ninterface = \"eth0\"\nipv4 = {{ address = \"198.51.100.1/24\" }}\n[nat64]\n{}",
            if to.is_empty() { String::new() } else { format!("[nat64.log]\nto = \"{to}\"\n") }
        );
        let config = config::parse(&text, "test").unwrap();
        self.desired.send_replace(Desired::Open(Arc::new(planned(&config, &preview_facts(&config)))));
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Slice) -> bool) -> Slice {
        let within = tokio::time::timeout(Duration::from_secs(30), self.slice.wait_for(|slice| holds(slice)));
        within.await.unwrap_or_else(|_| panic!("never {what}")).unwrap().clone()
    }
}

fn events(count: usize) -> Vec<Event> {
    vec![record::tests::event(); count]
}

fn written(slice: &Slice) -> u64 {
    slice.status.as_ref().map_or(0, |log| log.written)
}

#[tokio::test]
async fn a_server_over_udp_gets_a_record_a_datagram() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut others = start(&format!("udp://{}", server.local_addr().unwrap()));
    others.events.send(events(3)).await.unwrap();
    let mut record = [0; 2048];
    for _ in 0..3 {
        let length = server.recv(&mut record).await.unwrap();
        let record = str::from_utf8(&record[..length]).unwrap();
        assert!(record.starts_with("<30>1 ") && record.contains("[nat64@32473 natEvent=\"10\""), "{record}");
    }
    let slice = others.until("told", |slice| written(slice) == 3).await;
    assert_eq!(slice.findings, []);
}

#[tokio::test]
async fn a_server_over_tcp_gets_counted_records_and_a_new_connection_after_it_has_closed_one() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut others = start(&format!("tcp://{}", server.local_addr().unwrap()));
    for _ in 0..2 {
        let (mut stream, _) = server.accept().await.unwrap();
        others.events.send(events(2)).await.unwrap();
        for _ in 0..2 {
            let mut length = 0;
            while let digit @ b'0'..=b'9' = stream.read_u8().await.unwrap() {
                length = length * 10 + usize::from(digit - b'0');
            }
            let mut record = vec![0; length];
            stream.read_exact(&mut record).await.unwrap();
            assert!(record.starts_with(b"<30>1 ") && record.ends_with(b" inside"));
        }
        others.until("told", |slice| written(slice) > 0).await;
    }
    others.until("all told", |slice| written(slice) == 4).await;
}

/// RFC 6888 REQ-12 asks for logs that reach somebody; a packet is worth more than its log.
#[tokio::test]
async fn a_dead_server_is_a_finding_keeps_events_waiting_and_gets_them_when_it_is_back() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut others = start(&format!("tcp://{address}"));
    let slice = others.until("a finding", |slice| !slice.findings.is_empty()).await;
    assert_eq!(slice.findings[0].code, "nat64-log-not-written");
    for _ in 0..4 {
        others.events.try_send(events(1)).unwrap();
    }
    assert!(others.events.try_send(events(1)).is_err(), "they wait where the translator sees it");
    let server = TcpListener::bind(address).await.unwrap();
    let (_stream, _) = server.accept().await.unwrap();
    let slice = others.until("told", |slice| written(slice) == 4).await;
    assert_eq!(slice.findings, []);
}

#[tokio::test]
async fn nobody_at_a_udp_port_is_a_finding() {
    let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut others = start(&format!("udp://{address}"));
    others.events.send(events(1)).await.unwrap();
    others.until("a finding", |slice| !slice.findings.is_empty()).await;
}

#[tokio::test]
async fn a_log_that_is_switched_off_takes_events_and_tells_nobody() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut others = start(&format!("udp://{}", server.local_addr().unwrap()));
    others.events.send(events(1)).await.unwrap();
    others.until("told", |slice| written(slice) == 1).await;
    others.follow("");
    others.until("off", |slice| slice.status.is_none()).await;
    for _ in 0..20 {
        others.events.send(events(1)).await.unwrap();
    }
}
