//! What is published on IPv4, as the translator's static bindings.
use core::net::Ipv4Addr;

use super::{PublishedEcho, StaticBinding};
use crate::config::{Config, Outside, Publish, Service};
use crate::firewall;
use crate::nat64::tuple::{Protocol, TransportV4, TransportV6};

/// Ports and echo; nothing while the uplink has no address.
pub(super) fn plan(config: &Config, uplink: Option<Ipv4Addr>) -> (Vec<StaticBinding>, Vec<PublishedEcho>) {
    let (mut bindings, mut echo) = (Vec::new(), Vec::new());
    let Some(uplink) = uplink else { return (bindings, echo) };
    for publish in &config.publish {
        let Some(client) = host(config, publish) else { continue };
        let line = u32::try_from(publish.line).unwrap_or(u32::MAX);
        for listen in &publish.listen {
            let address = match listen.at {
                Outside::UplinkV4 => uplink,
                Outside::PoolV4(address) => address,
            };
            let (protocol, ports) = match &listen.service {
                Service::Tcp(ports) => (Protocol::Tcp, ports),
                Service::Udp(ports) => (Protocol::Udp, ports),
                Service::Echo => {
                    echo.push(PublishedEcho { mapped: address, client, line });
                    continue;
                }
            };
            let first = *ports.start();
            bindings.push(StaticBinding {
                protocol,
                mapped: TransportV4 { address, port: first },
                client: TransportV6 { address: client, port: publish.port.unwrap_or(first) },
                ports: (ports.end() - first).saturating_add(1),
                line,
            });
        }
    }
    (bindings, echo)
}

/// The one address that an entry leads to; none while its prefix is not there.
fn host(config: &Config, publish: &Publish) -> Option<core::net::Ipv6Addr> {
    firewall::destinations(config, &publish.to).first().map(ipnet::Ipv6Net::addr)
}
