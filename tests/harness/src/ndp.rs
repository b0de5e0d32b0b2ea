//! Any bytes as a message of Neighbor Discovery, with all its options.
use std::net::Ipv6Addr;

use sixgate_wire::ndp::NdpOption;
use sixgate_wire::ndp::{Delivery, HOP_LIMIT, Message};

pub(crate) fn run(bytes: &[u8]) {
    let sources = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)];
    for source in sources {
        let delivery =
            Delivery { source, destination: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), hop_limit: HOP_LIMIT };
        let Ok(message) = Message::parse(bytes, &delivery) else { continue };
        for option in message.options().iter() {
            match option {
                NdpOption::Rdnss { addresses, .. } => assert!(addresses.iter().count() >= 1),
                NdpOption::Dnssl { domains, .. } => {
                    for domain in domains.iter() {
                        let length: usize = domain.labels().map(|label| label.len() + 1).sum();
                        assert!(length <= 255, "{length}");
                    }
                }
                NdpOption::Pref64(pref64) => assert!([32, 40, 48, 56, 64, 96].contains(&pref64.length)),
                NdpOption::PrefixInformation(prefix) => assert!(prefix.length <= 128),
                NdpOption::RouteInformation(route) => assert!(route.length <= 128),
                _ => {}
            }
        }
    }
}
