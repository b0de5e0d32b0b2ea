//! An event as text: a syslog record with structured data (RFC 5424), an entry of the journal, a line for people. The
//! fields have the names of RFC 8158's information elements.
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use sixgate_engine::nat64::event::{Event, EventKind, PortBlock};
use sixgate_engine::nat64::tuple::Protocol;
use sixgate_engine::plan::LogPlan;
use sixgate_engine::status::Traffic;
use sixgate_engine::time::Instant;

/// RFC 5424 section 6.2.1: facility daemon, severity informational.
const PRIORITY: u8 = 3 * 8 + 6;
/// RFC 5424 section 7.2.2: whoever has no enterprise number of their own may only use that of the examples.
const STRUCTURE: &str = "nat64@32473";

/// The wall clock beside the engine's.
pub(super) struct Clock {
    wall: SystemTime,
    engine: Instant,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self { wall: SystemTime::now(), engine: crate::clock::now() }
    }

    /// RFC 3339, in UTC, with microseconds.
    fn stamp(&self, at: Instant) -> String {
        let then = self.wall.checked_sub(self.engine.saturating_since(at)).unwrap_or(UNIX_EPOCH);
        let since = then.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros) = (since.as_secs(), since.subsec_micros());
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Year, month and day of a count of days since 1970: years are counted from March on, so that the day that a leap year
/// has more is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    // From the first of March of the year 0 on; 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let first = (153 * month + 2) / 5;
    let (month_of_year, january) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + january, month_of_year, day - first + 1)
}

/// A syslog record, without framing.
pub(super) fn syslog(event: &Event, plan: &LogPlan, clock: &Clock) -> String {
    let stamp = clock.stamp(event.at);
    let (host, process, name) = (&plan.hostname, std::process::id(), event.kind.name());
    let mut record = format!("<{PRIORITY}>1 {stamp} {host} sixgate {process} {name} [{STRUCTURE}");
    for (name, value) in fields(&event.kind) {
        // Numbers, addresses and our own words hold nothing that is to be escaped (RFC 5424 section 6.3.3).
        let _ = write!(record, " {name}=\"{value}\"");
    }
    let _ = write!(record, "] {}", message(event));
    record
}

/// A syslog record of now without structured data.
pub(super) fn plain(message: &str, name: &str, hostname: &str) -> String {
    let stamp = Clock::now().stamp(crate::clock::now());
    format!("<{PRIORITY}>1 {stamp} {hostname} sixgate {} {name} - {message}", std::process::id())
}

/// An entry in the journal's own protocol: a field a line.
pub(super) fn journal(event: &Event) -> String {
    let mut entry = format!("MESSAGE={}\nPRIORITY=6\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=sixgate\n", message(event));
    let _ = writeln!(entry, "SIXGATE_EVENT={}", event.kind.name());
    for (name, value) in fields(&event.kind) {
        let _ = writeln!(entry, "NAT64_{}={value}", name.to_ascii_uppercase());
    }
    entry
}

/// A line for people.
pub(super) fn message(event: &Event) -> String {
    let name = event.kind.name();
    match &event.kind {
        EventKind::BindingCreated(bound, cause) | EventKind::BindingRemoved(bound, cause) => {
            let (client, mapped) = (bound.client, bound.mapped);
            let (protocol, cause) = (bound.protocol.name(), cause.name());
            format!(
                "nat64 {name} {protocol} [{}]:{} {}:{} {cause}",
                client.address, client.port, mapped.address, mapped.port
            )
        }
        EventKind::SessionCreated(bound, server, cause) | EventKind::SessionRemoved(bound, server, cause, _) => {
            let (client, mapped) = (bound.client, bound.mapped);
            let (protocol, cause) = (bound.protocol.name(), cause.name());
            format!(
                "nat64 {name} {protocol} [{}]:{} {}:{} {}:{} {cause}",
                client.address, client.port, mapped.address, mapped.port, server.address, server.port
            )
        }
        EventKind::BlockAssigned(block) | EventKind::BlockReleased(block) => {
            format!("nat64 {name} {} {}:{}-{}", block.client, block.address, block.port, last(block))
        }
        EventKind::Refused(protocol, client, reason) => {
            format!("nat64 {name} {} [{}]:{} {}", protocol.name(), client.address, client.port, reason.name())
        }
        EventKind::Unchecked(source, mapped) => {
            format!("nat64 {name} udp {}:{} {}:{}", source.address, source.port, mapped.address, mapped.port)
        }
    }
}

/// The last port of a block.
fn last(block: &PortBlock) -> u16 {
    block.port + (block.count - 1)
}

/// RFC 8158 section 5.6: which information elements belong to which event.
fn fields(kind: &EventKind) -> Vec<(&'static str, String)> {
    let mut fields: Vec<_> = kind.nat_event().map(|number| ("natEvent", number.to_string())).into_iter().collect();
    let mut put = |name, value: &dyn ToString| fields.push((name, value.to_string()));
    let number = |protocol: Protocol| match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Icmp => 1,
    };
    let (protocol, client) = match kind {
        EventKind::BindingCreated(bound, _)
        | EventKind::BindingRemoved(bound, _)
        | EventKind::SessionCreated(bound, ..)
        | EventKind::SessionRemoved(bound, ..) => (bound.protocol, bound.client),
        EventKind::Refused(protocol, client, _) => (*protocol, *client),
        EventKind::BlockAssigned(block) | EventKind::BlockReleased(block) => {
            put("sourceIPv6Address", &block.client.network());
            put("sourceIPv6PrefixLength", &block.client.prefix_len());
            put("postNATSourceIPv4Address", &block.address);
            put("portRangeStart", &block.port);
            put("portRangeEnd", &last(block));
            put("portRangeNumPorts", &block.count);
            return fields;
        }
        EventKind::Unchecked(source, mapped) => {
            put("protocolIdentifier", &number(Protocol::Udp));
            put("sourceIPv4Address", &source.address);
            put("sourceTransportPort", &source.port);
            put("destinationIPv4Address", &mapped.address);
            put("destinationTransportPort", &mapped.port);
            return fields;
        }
    };
    put("protocolIdentifier", &number(protocol));
    put("sourceIPv6Address", &client.address);
    put("sourceTransportPort", &client.port);
    match kind {
        EventKind::BindingCreated(bound, cause)
        | EventKind::BindingRemoved(bound, cause)
        | EventKind::SessionCreated(bound, _, cause)
        | EventKind::SessionRemoved(bound, _, cause, _) => {
            put("postNATSourceIPv4Address", &bound.mapped.address);
            put("postNAPTSourceTransportPort", &bound.mapped.port);
            put("cause", &cause.name());
        }
        EventKind::Refused(_, _, reason) => put("cause", &reason.name()),
        EventKind::BlockAssigned(_) | EventKind::BlockReleased(_) | EventKind::Unchecked(..) => {}
    }
    if let EventKind::SessionCreated(_, server, _) | EventKind::SessionRemoved(_, server, _, _) = kind {
        put("postNATDestinationIPv4Address", &server.address);
        put("postNAPTDestinationTransportPort", &server.port);
    }
    if let EventKind::SessionRemoved(_, _, _, [up, down]) = kind {
        let [Traffic { packets, bytes }, Traffic { packets: answered, bytes: answer }] = [*up, *down];
        put("initiatorPackets", &packets);
        put("initiatorOctets", &bytes);
        put("responderPackets", &answered);
        put("responderOctets", &answer);
    }
    fields
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use sixgate_engine::config::LogTo;
    use sixgate_engine::nat64::event::{BoundTo, Cause};
    use sixgate_engine::nat64::tuple::{TransportV4, TransportV6};

    use super::*;

    const BOUND: BoundTo = BoundTo {
        protocol: Protocol::Udp,
        client: TransportV6 { address: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2), port: 5000 },
        mapped: TransportV4 { address: std::net::Ipv4Addr::new(198, 51, 100, 1), port: 40_961 },
    };

    pub(crate) fn event() -> Event {
        Event { at: Instant::from_nanos(5_000_000_000), kind: EventKind::BindingCreated(BOUND, Cause::Inside) }
    }

    pub(crate) fn plan() -> LogPlan {
        LogPlan { to: LogTo::Journal, hostname: "sixgate".to_owned() }
    }

    /// RFC 5424 section 6: the record's parts in their order.
    #[test]
    fn a_record_has_priority_time_names_structure_and_message() {
        // Half a second after the event, on the last day of a leap year's February.
        let wall = UNIX_EPOCH + Duration::new(1_709_251_199, 500_000_000);
        let clock = Clock { wall, engine: Instant::from_nanos(5_500_000_000) };
        let expected = format!(
            "<30>1 2024-02-29T23:59:59.000000Z sixgate sixgate {} binding-created [nat64@32473 natEvent=\"10\" \
             protocolIdentifier=\"17\" sourceIPv6Address=\"2001:db8::2\" sourceTransportPort=\"5000\" \
             postNATSourceIPv4Address=\"198.51.100.1\" postNAPTSourceTransportPort=\"40961\" cause=\"inside\"] \
             nat64 binding-created udp [2001:db8::2]:5000 198.51.100.1:40961 inside",
            std::process::id()
        );
        assert_eq!(syslog(&event(), &plan(), &clock), expected);
    }

    #[test]
    fn a_session_is_told_with_the_server_and_at_its_end_with_what_has_passed() {
        let server = TransportV4 { address: std::net::Ipv4Addr::new(192, 0, 2, 7), port: 53 };
        let [up, down] = [(3, 300), (4, 4000)].map(|(packets, bytes)| Traffic { packets, bytes });
        let kind = EventKind::SessionRemoved(BOUND, server, Cause::Expired, [up, down]);
        let entry = journal(&Event { kind, ..event() });
        for line in [
            "MESSAGE=nat64 session-removed udp [2001:db8::2]:5000 198.51.100.1:40961 192.0.2.7:53 expired",
            "SIXGATE_EVENT=session-removed",
            "NAT64_NATEVENT=7",
            "NAT64_POSTNATDESTINATIONIPV4ADDRESS=192.0.2.7",
            "NAT64_INITIATOROCTETS=300",
            "NAT64_RESPONDERPACKETS=4",
        ] {
            assert!(entry.lines().any(|it| it == line), "{entry}");
        }
    }

    /// RFC 7915 section 4.5 asks for the addresses and port numbers; RFC 8158 has no number for this.
    #[test]
    fn a_datagram_that_was_dropped_for_its_checksum_is_told_with_addresses_and_ports() {
        let source = TransportV4 { address: std::net::Ipv4Addr::new(192, 0, 2, 7), port: 53 };
        let event = Event { kind: EventKind::Unchecked(source, BOUND.mapped), ..event() };
        let record = syslog(&event, &plan(), &Clock::now());
        let expected = "udp-without-checksum [nat64@32473 protocolIdentifier=\"17\" sourceIPv4Address=\"192.0.2.7\" \
                        sourceTransportPort=\"53\" destinationIPv4Address=\"198.51.100.1\" \
                        destinationTransportPort=\"40961\"] nat64 udp-without-checksum udp 192.0.2.7:53 198.51.100.1:40961";
        assert!(record.ends_with(expected), "{record}");
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (10_956, (1999, 12, 31)),
            (11_016, (2000, 2, 29)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected);
        }
    }
}
