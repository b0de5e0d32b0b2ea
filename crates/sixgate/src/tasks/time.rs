//! Asks time servers by SNTP, sets the machine's clock where that is this router's to do, and says when the clock is wrong.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::prefix::Learnt;
use sixgate_engine::sntp::{Client, Correction};
use sixgate_engine::status;
use sixgate_engine::time::Instant;
use sixgate_linux::clock::{slew, step, wall};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::clock::{now, seed, sleep_until};
use crate::lifecycle::SUPERVISOR_VARIABLE;
use crate::wiring::{Configured, Resumed};

/// Where NTP servers listen (RFC 5905).
const PORT: u16 = 123;
/// Longer answers carry extensions that are not read.
const LONGEST: usize = 1024;
/// Asked where nobody names servers; anycast addresses of a public service, which need no name to be resolved.
const WELL_KNOWN: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(162, 159, 200, 1)),
    IpAddr::V4(Ipv4Addr::new(162, 159, 200, 123)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0xf1, 0, 0, 0, 0, 1)),
];

/// RFC 5905: STEPT, above which a clock is set by a jump, in nanoseconds.
const STEP: i64 = 128_000_000;
/// What an operator should know of.
const WRONG: i64 = 1_000_000_000;
/// What an operator should know of though it was set right.
const WAS_WRONG: i64 = 60 * 1_000_000_000;
/// Nobody answered for so long: that is worth saying.
const UNCHECKED: Duration = Duration::from_secs(600);
/// The corrections' pace, for the kernel's loop.
const PACE: Duration = Duration::from_secs(256);
/// 2026-01-01: this version is not older.
const MADE: i64 = 1_767_225_600 * 1_000_000_000;

/// This task's ends of the channels.
pub struct Ends {
    /// The configuration.
    pub configured: watch::Receiver<Configured>,
    /// What the uplink has told, its time servers among it.
    pub learnt: watch::Receiver<Option<Arc<Learnt>>>,
    /// The machine was put back or moved: whatever was known of the time is void.
    pub resumed: watch::Receiver<Resumed>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The clock; nothing where nobody looks at it.
    pub status: Option<status::Clock>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What is asked of whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    servers: Vec<IpAddr>,
    sets_clock: bool,
}

/// Runs until there is no configuration to come any more.
pub async fn run(mut ends: Ends) {
    let in_image = std::env::var_os(SUPERVISOR_VARIABLE).is_some_and(|name| name == "init");
    let mut client = Client::new(seed());
    let mut sockets = Sockets::default();
    let mut keeper = Keeper::new(now());
    let mut buffer = [0; LONGEST];
    loop {
        let configured = ends.configured.borrow_and_update().clone();
        let learnt = ends.learnt.borrow_and_update().clone().unwrap_or_default();
        let wanted = wanted(&configured, &learnt, in_image).unwrap_or_default();
        client.reconfigure(&wanted.servers, now());
        client.handle_timeout(now(), wall());
        sockets.send(&mut client).await;
        while let Some(correction) = client.poll_event() {
            keeper.correct(&correction, wanted.sets_clock, now());
        }
        let slice = if wanted.servers.is_empty() {
            Slice::default()
        } else {
            Slice { status: Some(keeper.status(&client)), findings: keeper.findings(wall(), now()) }
        };
        ends.slice.send_if_modified(|old| std::mem::replace(old, slice) != *old);
        tokio::select! {
            changed = ends.configured.changed() => if changed.is_err() { return },
            changed = ends.learnt.changed() => if changed.is_err() { return },
            changed = ends.resumed.changed() => {
                if changed.is_err() {
                    return;
                }
                client.ask_again(now());
            }
            (length, from) = sockets.receive(&mut buffer) => {
                client.handle_input(from, buffer.get(..length).unwrap_or_default(), now());
            }
            () = sleep_until(client.poll_timeout()) => {}
        }
    }
}

/// Whom to ask; nothing where the clock is somebody else's business.
fn wanted(configured: &Configured, learnt: &Learnt, in_image: bool) -> Option<Wanted> {
    let config = configured.config.as_ref()?;
    let told = config.time.as_ref();
    if told.is_none() && !in_image {
        return None;
    }
    let given = told.map_or(&[][..], |time| &time.servers);
    let servers = [given, &learnt.time_servers, &WELL_KNOWN].into_iter().find(|servers| !servers.is_empty());
    let sets_clock = told.and_then(|time| time.set_clock).unwrap_or(in_image);
    Some(Wanted { servers: servers.unwrap_or_default().to_vec(), sets_clock })
}

/// A socket for each family, new for each round: the port is another one, and lies in the range that the plan gives to the router itself.
#[derive(Default)]
struct Sockets {
    four: Option<UdpSocket>,
    six: Option<UdpSocket>,
}

impl Sockets {
    async fn send(&mut self, client: &mut Client) {
        let mut fresh = false;
        while let Some((server, message)) = client.poll_transmit() {
            if !std::mem::replace(&mut fresh, true) {
                self.four = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok();
                self.six = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await.ok();
            }
            let socket = if server.is_ipv4() { &self.four } else { &self.six };
            if let Some(socket) = socket
                && let Err(error) = socket.send_to(&message, (server, PORT)).await
            {
                // An uplink that has no such family yet; the next round tries again.
                tracing::debug!("time server {server}: {error}");
            }
        }
    }

    /// The next datagram. A socket that fails, for what an ICMP error said, waits for its next round.
    async fn receive(&self, buffer: &mut [u8; LONGEST]) -> (usize, IpAddr) {
        loop {
            let ready = tokio::select! {
                ready = readable(self.four.as_ref()) => ready,
                ready = readable(self.six.as_ref()) => ready,
            };
            if let Ok((length, from)) = ready.try_recv_from(buffer)
                && from.port() == PORT
            {
                return (length, from.ip().to_canonical());
            }
        }
    }
}

async fn readable(socket: Option<&UdpSocket>) -> &UdpSocket {
    match socket {
        Some(socket) if socket.readable().await.is_ok() => socket,
        Some(_) | None => std::future::pending().await,
    }
}

/// What was done to the clock.
struct Keeper {
    status: status::Clock,
    /// When somebody answered last, or when it was begun to ask.
    answered: Instant,
    /// By how much the clock was wrong when it was looked at first, where that was set right.
    first: Option<i64>,
    /// By how much it is wrong, and why that stays so.
    remaining: Option<(i64, String)>,
}

impl Keeper {
    fn new(now: Instant) -> Self {
        Self { status: status::Clock::default(), answered: now, first: None, remaining: None }
    }

    fn correct(&mut self, correction: &Correction, sets_clock: bool, now: Instant) {
        let Correction { offset, server, stratum, agreeing } = *correction;
        self.answered = now;
        self.status.server = Some(server);
        self.status.stratum = stratum;
        self.status.offset = milliseconds(offset);
        self.status.checked = now.as_nanos() / 1_000_000_000;
        self.status.answers += 1;
        let jump = offset.abs() > STEP;
        let outcome = match (sets_clock, jump) {
            (false, _) => Err("set_clock is not set".to_owned()),
            (true, true) => step(offset).map_err(|error: io::Error| error.to_string()),
            (true, false) => slew(offset, PACE).map_err(|error| error.to_string()),
        };
        match outcome {
            Ok(()) => {
                if jump {
                    self.status.steps += 1;
                    let seconds = self.status.offset / 1000.0;
                    tracing::info!("the clock is set {seconds:+.3} s, by {server} and {} more", agreeing - 1);
                }
                self.first.get_or_insert(offset);
                self.remaining = None;
            }
            Err(why) => self.remaining = (offset.abs() > WRONG).then_some((offset, why)),
        }
    }

    fn status(&self, client: &Client) -> status::Clock {
        status::Clock { servers: client.servers().to_vec(), ..self.status.clone() }
    }

    fn findings(&self, wall: i64, now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        let off = |offset: i64| {
            let seconds = milliseconds(offset).abs() / 1000.0;
            format!("{seconds:.0} s {}", if offset > 0 { "behind" } else { "ahead" })
        };
        if let Some((offset, why)) = &self.remaining {
            findings.push(wrong(
                Severity::Warning,
                format!("the machine's clock is {}, and stays so: {why}", off(*offset)),
                "let a time service set it (`timedatectl set-ntp true`), or write `set_clock = true` under [time] and give sixgate CAP_SYS_TIME",
            ));
        } else if let Some(offset) = self.first.filter(|offset| offset.abs() > WAS_WRONG) {
            findings.push(wrong(
                Severity::Note,
                format!("the machine's clock was {} at the start and was set right", off(offset)),
                "on the hypervisor: `timedatectl set-ntp true`, then `hwclock --systohc`; its clock is what this machine starts with",
            ));
        } else if wall < MADE {
            findings.push(wrong(
                Severity::Warning,
                "the machine's clock shows a year before this version was made, and nobody has said yet what time it is".to_owned(),
                "on the hypervisor: `timedatectl set-ntp true`; name time servers that this router reaches under [time]",
            ));
        }
        if now.saturating_since(self.answered) > UNCHECKED {
            findings.push(Finding::new(
                Severity::Warning,
                "clock-unchecked",
                "clock",
                "no time server has answered for ten minutes, so that nobody knows whether the machine's clock is right",
                "name servers that this router reaches under [time], as in servers = [\"192.0.2.123\"], and let UDP port 123 pass to them",
            ));
        }
        findings
    }
}

fn wrong(severity: Severity, text: String, mend: &str) -> Finding {
    Finding::new(severity, "clock-wrong", "clock", text, mend)
}

#[expect(clippy::cast_precision_loss, reason = "a number for reading")]
fn milliseconds(nanos: i64) -> f64 {
    (nanos as f64 / 1e6 * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use sixgate_engine::config;

    use super::*;

    fn configured(time: &str) -> Configured {
        let text = format!("[wan]\ninterface = \"w\"\n[dns64]\nenabled = false\n{time}");
        let config = config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors}"));
        Configured { config: Some(Arc::new(config)), ..Configured::default() }
    }

    #[test]
    fn the_file_goes_before_dhcp_and_dhcp_before_the_world() {
        let dhcp: IpAddr = "192.0.2.9".parse().unwrap();
        let learnt = Learnt { time_servers: vec![dhcp], ..Learnt::default() };
        let own = configured("[time]\nservers = \"2001:db8::123\"\n");
        let asked = |configured: &Configured, learnt: &Learnt| wanted(configured, learnt, true).unwrap().servers;
        assert_eq!(asked(&own, &learnt), ["2001:db8::123".parse::<IpAddr>().unwrap()]);
        assert_eq!(asked(&configured(""), &learnt), [dhcp]);
        assert_eq!(asked(&configured(""), &Learnt::default()), WELL_KNOWN);
    }

    #[test]
    fn a_hosts_clock_is_left_alone_unless_the_file_says_otherwise() {
        let sets = |time: &str, in_image| {
            wanted(&configured(time), &Learnt::default(), in_image).map(|wanted| wanted.sets_clock)
        };
        assert_eq!(sets("", false), None);
        assert_eq!(sets("[time]\n", false), Some(false));
        assert_eq!(sets("[time]\nset_clock = true\n", false), Some(true));
        assert_eq!(sets("", true), Some(true));
        assert_eq!(sets("[time]\nset_clock = false\n", true), Some(false));
    }

    #[test]
    fn a_clock_that_stays_wrong_and_one_that_nobody_checks_are_findings() {
        let start = Instant::from_nanos(1);
        let mut keeper = Keeper::new(start);
        let now = start + Duration::from_secs(1);
        let server = WELL_KNOWN[0];
        let correction = |offset| Correction { offset, server, stratum: 2, agreeing: 1 };
        let codes = |keeper: &Keeper, wall, now| {
            keeper.findings(wall, now).into_iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(&keeper, MADE - 1, now), ["clock-wrong"]);
        keeper.correct(&correction(3 * WRONG), false, now);
        assert_eq!(codes(&keeper, MADE, now), ["clock-wrong"]);
        assert!(keeper.findings(MADE, now)[0].text.contains("3 s behind"));
        keeper.correct(&correction(WRONG / 2), false, now);
        assert!(codes(&keeper, MADE, now).is_empty());
        assert_eq!(codes(&keeper, MADE, now + UNCHECKED * 2), ["clock-unchecked"]);
    }
}
