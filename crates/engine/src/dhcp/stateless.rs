//! DHCPv6 for hosts that have an address and ask for the rest: RFC 8415 section 18.3.6, which needs no state.
use core::net::Ipv6Addr;

use sixgate_wire::dhcpv6::{Kind, Message, Writer, code};
use sixgate_wire::mac::MacAddr;

use super::v6::duid;

/// Whole in a packet of the minimum MTU.
const ROOM: usize = 1280 - 40 - 8;
/// RFC 8415 section 21.23: seconds after which hosts ask again. A resolver's address changes with the prefix; what is not
/// told by advertisements is to be right again before long.
const REFRESH: u32 = 1800;

/// What hosts on a link are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatelessPlan {
    /// Name of the LAN.
    pub lan: String,
    /// Kernel interface index.
    pub link: u32,
    /// Kernel name.
    pub interface: String,
    /// The link's hardware address: who the server is.
    pub mac: MacAddr,
    /// Resolvers.
    pub resolvers: Vec<Ipv6Addr>,
    /// Search domains.
    pub domains: Vec<String>,
    /// Time servers.
    pub time_servers: Vec<Ipv6Addr>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was answered.
    Answered,
    /// It is no well-formed message.
    Malformed,
    /// It asks for addresses or prefixes, which are not given here.
    Stateful,
    /// It is for another server, or comes from nobody on the link.
    NotForUs,
}

impl Verdict {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "stateless-answered",
            Self::Malformed => "stateless-malformed",
            Self::Stateful => "stateless-asks-for-addresses",
            Self::NotForUs => "stateless-not-for-us",
        }
    }
}

/// The answer to a datagram.
///
/// # Errors
/// Why there is none.
pub fn answer(plan: &StatelessPlan, datagram: &[u8], from: Ipv6Addr) -> Result<Vec<u8>, Verdict> {
    let message = Message::parse(datagram).ok_or(Verdict::Malformed)?;
    let options = message.options();
    let own = duid(plan.mac);
    let elsewhere = options.find(code::SERVER_IDENTIFIER).is_some_and(|server| server != own);
    // RFC 8415 section 13.1: clients send from a link-local address.
    if elsewhere || !from.is_unicast_link_local() {
        return Err(Verdict::NotForUs);
    }
    // RFC 8415 section 16.12: who asks for an association is not answered.
    let associations = [code::IA_NA, code::IA_PD].iter().any(|kind| options.find(*kind).is_some());
    if message.kind() != Kind::InformationRequest || associations {
        return Err(Verdict::Stateful);
    }
    let wanted = options.find(code::OPTION_REQUEST).unwrap_or_default();
    let (wanted, _) = wanted.as_chunks::<2>();
    let wants = |code: u16| wanted.is_empty() || wanted.contains(&code.to_be_bytes());
    let mut buffer = [0; ROOM];
    // What finds no room is left out by nobody: the plan holds a handful of addresses and six domains.
    let written = (|| {
        let mut writer = Writer::new(&mut buffer, Kind::Reply, message.transaction())?;
        if let Some(client) = options.find(code::CLIENT_IDENTIFIER) {
            writer.option(code::CLIENT_IDENTIFIER, client)?;
        }
        writer.option(code::SERVER_IDENTIFIER, &own)?;
        if wants(code::DNS_SERVERS) && !plan.resolvers.is_empty() {
            writer.option(code::DNS_SERVERS, &octets(&plan.resolvers))?;
        }
        if wants(code::DOMAIN_LIST) && !plan.domains.is_empty() {
            writer.option(code::DOMAIN_LIST, &names(&plan.domains))?;
        }
        if wants(code::SNTP_SERVERS) && !plan.time_servers.is_empty() {
            writer.option(code::SNTP_SERVERS, &octets(&plan.time_servers))?;
        }
        if wants(code::NTP_SERVER) {
            // RFC 5908 section 4: one instance for each server.
            for server in &plan.time_servers {
                let [c0, c1] = code::NTP_SERVER_ADDRESS.to_be_bytes();
                writer.option(code::NTP_SERVER, &[&[c0, c1, 0, 16], server.octets().as_slice()].concat())?;
            }
        }
        if wants(code::INFORMATION_REFRESH_TIME) {
            writer.option(code::INFORMATION_REFRESH_TIME, &REFRESH.to_be_bytes())?;
        }
        Some(writer.finish().to_vec())
    })();
    written.ok_or(Verdict::Malformed)
}

fn octets(addresses: &[Ipv6Addr]) -> Vec<u8> {
    addresses.iter().flat_map(Ipv6Addr::octets).collect()
}

/// RFC 3646 section 4: as in DNS, without compression.
fn names(domains: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for domain in domains {
        for label in domain.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5);

    fn plan() -> StatelessPlan {
        StatelessPlan {
            lan: "vms".to_owned(),
            link: 3,
            interface: "eth1".to_owned(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            resolvers: vec!["2001:db8::1".parse().unwrap()],
            domains: vec!["lab.test".to_owned()],
            time_servers: vec!["2001:db8::123".parse().unwrap()],
        }
    }

    fn request(kind: Kind, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut buffer = [0; 300];
        let mut writer = Writer::new(&mut buffer, kind, [1, 2, 3]).unwrap();
        for (code, value) in options {
            writer.option(*code, value).unwrap();
        }
        writer.finish().to_vec()
    }

    #[test]
    fn a_request_is_answered_byte_for_byte_with_what_it_asks_for() {
        let asked = request(
            Kind::InformationRequest,
            &[(code::CLIENT_IDENTIFIER, &[0, 3, 0, 1, 9]), (code::OPTION_REQUEST, &[0, 23, 0, 24, 0, 31, 0, 32])],
        );
        assert_eq!(asked[0], 11);
        let reply = answer(&plan(), &asked, HOST).unwrap();
        #[rustfmt::skip]
        let expected = [
            7, 1, 2, 3,
            0, 1, 0, 5, 0, 3, 0, 1, 9,
            0, 2, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1,
            0, 23, 0, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            0, 24, 0, 10, 3, b'l', b'a', b'b', 4, b't', b'e', b's', b't', 0,
            0, 31, 0, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x23,
            0, 32, 0, 4, 0, 0, 0x07, 0x08,
        ];
        assert_eq!(reply, expected);
        let asked = request(Kind::InformationRequest, &[(code::OPTION_REQUEST, &[0, 56])]);
        let reply = answer(&plan(), &asked, HOST).unwrap();
        let message = Message::parse(&reply).unwrap();
        let codes: Vec<u16> = message.options().into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, [code::SERVER_IDENTIFIER, code::NTP_SERVER], "nothing that it did not ask for");
    }

    #[test]
    fn what_is_not_for_this_server_is_not_answered() {
        let server = (code::SERVER_IDENTIFIER, [0, 3, 0, 1, 7].as_slice());
        let association = (code::IA_NA, [0; 12].as_slice());
        for (asked, from, verdict) in [
            (request(Kind::InformationRequest, &[server]), HOST, Verdict::NotForUs),
            (request(Kind::InformationRequest, &[]), "2001:db8::5".parse().unwrap(), Verdict::NotForUs),
            (request(Kind::InformationRequest, &[association]), HOST, Verdict::Stateful),
            (request(Kind::Solicit, &[]), HOST, Verdict::Stateful),
            (request(Kind::Reply, &[]), HOST, Verdict::Stateful),
            (vec![11, 0], HOST, Verdict::Malformed),
            (vec![12, 0, 0, 0], HOST, Verdict::Malformed),
        ] {
            assert_eq!(answer(&plan(), &asked, from), Err(verdict));
        }
        let own = duid(plan().mac);
        assert!(answer(&plan(), &request(Kind::InformationRequest, &[(code::SERVER_IDENTIFIER, &own)]), HOST).is_ok());
    }

    proptest! {
        #[test]
        fn no_datagram_ends_the_server(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer(&plan(), &bytes, HOST);
            let mut asked = vec![11, 0, 0, 0];
            asked.extend(&bytes);
            let _ = answer(&plan(), &asked, HOST);
        }
    }
}
