//! The sockets that the uplink's clients speak through: opened when they are needed, opened again when they fail.
use std::io;
use std::net::Ipv6Addr;

use sixgate_engine::dhcp::v4;
use sixgate_engine::facts::MacAddr;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::uplink::{Needs, Transmit, Uplink};
use sixgate_linux::dhcpv6_socket::Dhcpv6Socket;
use sixgate_linux::icmpv6::{ALL_ROUTERS, RaSocket};
use sixgate_linux::packet_socket::{Kind, PacketSocket};

/// Longer messages do not cross an Ethernet; jumbo frames get room.
const LONGEST: usize = 9216;

const EVERYBODY: MacAddr = MacAddr([0xff; 6]);

/// What came in.
pub(super) enum Received<'a> {
    /// An IPv4 packet for the DHCPv4 client.
    Dhcp4(&'a [u8], MacAddr),
    /// An ARP packet.
    Arp(&'a [u8]),
    /// A message of router discovery with its source and hop limit.
    Icmpv6(&'a [u8], Ipv6Addr, u8),
    /// A datagram for the DHCPv6 client.
    Dhcp6(&'a [u8]),
    /// A socket has failed.
    Nothing,
}

/// All sockets of the uplink.
pub(super) struct Sockets {
    needs: Needs,
    dhcp4: Option<PacketSocket>,
    arp: Option<PacketSocket>,
    discovery: Option<RaSocket>,
    dhcp6: Option<Dhcpv6Socket>,
    buffers: [Vec<u8>; 4],
    problem: Option<io::Error>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            needs: Needs::default(),
            dhcp4: None,
            arp: None,
            discovery: None,
            dhcp6: None,
            buffers: [(); 4].map(|()| vec![0; LONGEST]),
            problem: None,
        }
    }
}

impl Sockets {
    /// Opens and closes sockets as the clients need them.
    pub(super) fn follow(&mut self, uplink: &Uplink) {
        let needs = uplink.needs();
        if (self.needs.link, &self.needs.name) != (needs.link, &needs.name) {
            (self.dhcp4, self.arp, self.discovery, self.dhcp6) = (None, None, None, None);
        }
        if self.needs.dhcp6 != needs.dhcp6 {
            self.dhcp6 = None;
        }
        self.problem = None;
        let (link, name) = (needs.link, needs.name.as_str());
        let problem = &mut self.problem;
        open(&mut self.dhcp4, needs.dhcp4, problem, || PacketSocket::open(link, Kind::DhcpClient));
        open(&mut self.arp, needs.arp, problem, || PacketSocket::open(link, Kind::Arp));
        open(&mut self.discovery, needs.discovery, problem, || RaSocket::open(name, link));
        let address = needs.dhcp6.unwrap_or(Ipv6Addr::UNSPECIFIED);
        open(&mut self.dhcp6, needs.dhcp6.is_some(), problem, || Dhcpv6Socket::open(name, link, address));
        self.needs = needs;
    }

    /// Sends one message. A socket that refuses is opened again; the clients repeat what matters.
    pub(super) async fn send(&mut self, transmit: Transmit) {
        let sent = match transmit {
            Transmit::Dhcp4(v4::Transmit::Ipv4 { to, packet }) => match &self.dhcp4 {
                Some(socket) => socket.send(to, &packet).await.inspect_err(|_| self.dhcp4 = None),
                None => return,
            },
            Transmit::Dhcp4(v4::Transmit::Arp(packet)) => match &self.arp {
                Some(socket) => socket.send(EVERYBODY, &packet).await.inspect_err(|_| self.arp = None),
                None => return,
            },
            Transmit::Solicitation(source, message) => match &self.discovery {
                Some(socket) => socket.send(source, ALL_ROUTERS, &message).await.inspect_err(|_| self.discovery = None),
                None => return,
            },
            Transmit::Dhcp6(datagram) => match &self.dhcp6 {
                Some(socket) => socket.send(&datagram).await.inspect_err(|_| self.dhcp6 = None),
                None => return,
            },
        };
        if let Err(error) = sent {
            tracing::debug!("uplink: {error}");
            self.problem = Some(error);
        }
    }

    /// Waits for whatever comes first.
    pub(super) async fn receive(&mut self) -> Received<'_> {
        let [dhcp4, arp, discovery, dhcp6] = &mut self.buffers;
        let failed = tokio::select! {
            received = packet(self.dhcp4.as_ref(), dhcp4) => match received {
                Ok((length, from)) => return Received::Dhcp4(dhcp4.get(..length).unwrap_or_default(), from),
                Err(error) => { self.dhcp4 = None; error }
            },
            received = packet(self.arp.as_ref(), arp) => match received {
                Ok((length, _)) => return Received::Arp(arp.get(..length).unwrap_or_default()),
                Err(error) => { self.arp = None; error }
            },
            received = message(self.discovery.as_ref(), discovery) => match received {
                Ok((length, source, hop_limit)) => {
                    return Received::Icmpv6(discovery.get(..length).unwrap_or_default(), source, hop_limit);
                }
                Err(error) => { self.discovery = None; error }
            },
            received = datagram(self.dhcp6.as_ref(), dhcp6) => match received {
                Ok(length) => return Received::Dhcp6(dhcp6.get(..length).unwrap_or_default()),
                Err(error) => { self.dhcp6 = None; error }
            },
        };
        // A link that goes down says so once; it is opened again when the facts change or a timer rings.
        tracing::debug!("uplink: {failed}");
        Received::Nothing
    }

    /// What is wrong.
    pub(super) fn findings(&self) -> Option<Finding> {
        let error = self.problem.as_ref()?;
        Some(Finding::new(
            Severity::Warning,
            "uplink-not-heard",
            "wan",
            format!("nothing can be asked or heard on the uplink: {error}"),
            "check that the link is up and that sixgate runs as root or with CAP_NET_RAW",
        ))
    }
}

fn open<S>(
    socket: &mut Option<S>,
    needed: bool,
    problem: &mut Option<io::Error>,
    opened: impl FnOnce() -> io::Result<S>,
) {
    match (&socket, needed) {
        (None, true) => match opened() {
            Ok(opened) => *socket = Some(opened),
            Err(error) => *problem = Some(error),
        },
        (Some(_), false) => *socket = None,
        (Some(_), true) | (None, false) => {}
    }
}

async fn packet(socket: Option<&PacketSocket>, buffer: &mut [u8]) -> io::Result<(usize, MacAddr)> {
    match socket {
        Some(socket) => socket.receive(buffer).await,
        None => std::future::pending().await,
    }
}

async fn message(socket: Option<&RaSocket>, buffer: &mut [u8]) -> io::Result<(usize, Ipv6Addr, u8)> {
    match socket {
        Some(socket) => socket.receive(buffer).await.map(|got| (got.length, got.source, got.hop_limit)),
        None => std::future::pending().await,
    }
}

async fn datagram(socket: Option<&Dhcpv6Socket>, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.receive(buffer).await,
        None => std::future::pending().await,
    }
}
