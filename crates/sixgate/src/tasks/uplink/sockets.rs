//! The sockets that the uplink's clients speak through: opened when they are needed, opened again when they fail.
use std::io;

use sixgate_engine::dhcp::v4;
use sixgate_engine::facts::MacAddr;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::uplink::{Transmit, Uplink};
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
    /// Something that is looked at again.
    Nothing,
}

/// All sockets of the uplink.
pub(super) struct Sockets {
    link: u32,
    dhcp4: Option<PacketSocket>,
    arp: Option<PacketSocket>,
    buffers: [Vec<u8>; 2],
    problem: Option<io::Error>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { link: 0, dhcp4: None, arp: None, buffers: [(); 2].map(|()| vec![0; LONGEST]), problem: None }
    }
}

impl Sockets {
    /// Opens and closes sockets as the clients need them.
    pub(super) fn follow(&mut self, uplink: &Uplink) {
        let needs = uplink.needs();
        if self.link != needs.link {
            (self.link, self.dhcp4, self.arp) = (needs.link, None, None);
        }
        self.problem = None;
        let problem = &mut self.problem;
        let mut packets = |socket: &mut Option<PacketSocket>, needed: bool, kind: Kind| match (&socket, needed) {
            (None, true) => match PacketSocket::open(needs.link, kind) {
                Ok(opened) => *socket = Some(opened),
                Err(error) => *problem = Some(error),
            },
            (Some(_), false) => *socket = None,
            (Some(_), true) | (None, false) => {}
        };
        packets(&mut self.dhcp4, needs.dhcp4, Kind::DhcpClient);
        packets(&mut self.arp, needs.arp, Kind::Arp);
    }

    /// Sends one message. A socket that refuses is opened again; the clients repeat what matters.
    pub(super) async fn send(&mut self, transmit: Transmit) {
        let (socket, to, packet) = match &transmit {
            Transmit::Dhcp4(v4::Transmit::Ipv4 { to, packet }) => (&mut self.dhcp4, *to, packet.as_slice()),
            Transmit::Dhcp4(v4::Transmit::Arp(packet)) => (&mut self.arp, EVERYBODY, packet.as_slice()),
        };
        let Some(open) = socket else { return };
        if let Err(error) = open.send(to, packet).await {
            tracing::debug!("uplink: {error}");
            *socket = None;
            self.problem = Some(error);
        }
    }

    /// Waits for whatever comes first.
    pub(super) async fn receive(&mut self) -> Received<'_> {
        let [dhcp4, arp] = &mut self.buffers;
        let failed = tokio::select! {
            received = heard(self.dhcp4.as_ref(), dhcp4) => match received {
                Ok((length, from)) => return Received::Dhcp4(dhcp4.get(..length).unwrap_or_default(), from),
                Err(error) => { self.dhcp4 = None; error }
            },
            received = heard(self.arp.as_ref(), arp) => match received {
                Ok((length, _)) => return Received::Arp(arp.get(..length).unwrap_or_default()),
                Err(error) => { self.arp = None; error }
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

async fn heard(socket: Option<&PacketSocket>, buffer: &mut [u8]) -> io::Result<(usize, MacAddr)> {
    match socket {
        Some(socket) => socket.receive(buffer).await,
        None => std::future::pending().await,
    }
}
