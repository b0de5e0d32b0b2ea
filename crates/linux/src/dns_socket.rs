//! Sockets for the resolver: bound to an address that may not be there yet, and with a name for whoever has the port.
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::{fs, io};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({transport}): {cause}{}", .owner.as_deref().map(|owner| format!("; {owner} has the port")).unwrap_or_default())]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// `UDP` or `TCP`.
    pub transport: &'static str,
    /// Name and number of the process that has the port, if it could be found.
    pub owner: Option<String>,
    /// The kernel's answer.
    pub cause: io::Error,
}

impl ListenError {
    fn new(address: SocketAddr, transport: Transport, cause: io::Error) -> Self {
        let in_use = cause.kind() == io::ErrorKind::AddrInUse;
        let owner = if in_use { owner(transport, address.port()) } else { None };
        Self { address, transport: transport.name(), owner, cause }
    }

    /// What to do about it, one sentence.
    pub fn mend(&self) -> String {
        match (self.cause.raw_os_error(), &self.owner) {
            (Some(libc::EADDRINUSE), Some(owner)) if owner.starts_with("systemd-resolve") => {
                format!("Stop {owner}: systemctl disable --now systemd-resolved; or set dns64.enabled = false.")
            }
            (Some(libc::EADDRINUSE), Some(owner)) => format!("Stop {owner}, or set dns64.enabled = false."),
            (Some(libc::EADDRINUSE), None) => {
                "Stop the other resolver (ss -lunp shows it), or set dns64.enabled = false.".to_owned()
            }
            (Some(libc::EACCES | libc::EPERM), _) => {
                "Run sixgate as root, or with the capabilities CAP_NET_BIND_SERVICE and CAP_NET_RAW.".to_owned()
            }
            (Some(libc::ENODEV), _) => "The interface is gone; it is tried again when it comes back.".to_owned(),
            _ => "Look at the kernel's answer, mend the cause and reload.".to_owned(),
        }
    }
}

/// Binds as many UDP sockets, to an address that need not exist yet (IP_FREEBIND), on one interface only if named. The
/// kernel gives each of them a share of the clients (SO_REUSEPORT); who holds the port already keeps it.
///
/// # Errors
/// The kernel refused; a busy port comes with its owner.
pub fn udp(address: SocketAddr, device: Option<&str>, count: usize) -> Result<Vec<UdpSocket>, ListenError> {
    let open = || {
        // Without SO_REUSEPORT first: another process with the same option would take part of the queries unnoticed.
        let first = bound(address, device, Transport::Udp)?;
        let mut sockets = vec![first];
        if let [first] = sockets.as_slice()
            && count > 1
        {
            first.set_reuse_port(true)?;
            let taken = first.local_addr()?.as_socket().unwrap_or(address);
            for _ in 1..count {
                sockets.push(another(taken, device)?);
            }
        }
        Ok(sockets.into_iter().map(UdpSocket::from).collect())
    };
    open().map_err(|cause| ListenError::new(address, Transport::Udp, cause))
}

/// A socket for one question, which has been sent: only datagrams from the upstream's address and port arrive, and ICMP errors are
/// reported. RFC 5452 section 9.2: it has a port of its own, which the kernel draws at random as it is connected.
///
/// # Errors
/// There is no way to the upstream, or no socket left.
pub fn ask(upstream: SocketAddr, question: &[u8]) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(upstream), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.connect(&upstream.into())?;
    socket.send(question)?;
    Ok(socket.into())
}

/// Listens on TCP, on an address that need not exist yet (IP_FREEBIND), on one interface only if named.
///
/// # Errors
/// The kernel refused; a busy port comes with its owner.
pub fn tcp(address: SocketAddr, device: Option<&str>) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = bound(address, device, Transport::Tcp)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|cause| ListenError::new(address, Transport::Tcp, cause))
}

#[derive(Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// The kernel's tables of these sockets.
    fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Udp => ["udp", "udp6"],
            Self::Tcp => ["tcp", "tcp6"],
        }
    }

    /// The state in those tables that holds the port: "unconnected" or "listen".
    fn state(self) -> &'static str {
        match self {
            Self::Udp => "07",
            Self::Tcp => "0A",
        }
    }
}

fn bound(address: SocketAddr, device: Option<&str>, transport: Transport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
    };
    let socket = unbound(address, kind, protocol, device)?;
    if let Transport::Tcp = transport {
        // A restart must not wait for the last connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One more UDP socket on an address that has been taken.
fn another(address: SocketAddr, device: Option<&str>) -> io::Result<Socket> {
    let socket = unbound(address, Type::DGRAM, Protocol::UDP, device)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unbound(address: SocketAddr, kind: Type, protocol: Protocol, device: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The process that has the port, as `name (process 123)`.
fn owner(transport: Transport, port: u16) -> Option<String> {
    // The thread's own tables: another thread of this process may live in another network namespace.
    let inodes: Vec<String> = transport
        .tables()
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|text| inodes(&text, port, transport.state()))
        .collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(number) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        if holds(&process.path().join("fd"), &inodes) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {number})", name.trim()));
        }
    }
    None
}

/// The inodes of a table's sockets on that port in that state.
fn inodes(table: &str, port: u16, state: &str) -> Vec<String> {
    let inode = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let local = words.get(1)?.rsplit(':').next()?;
        let fits = u16::from_str_radix(local, 16) == Ok(port) && *words.get(3)? == state;
        fits.then(|| words.get(9).map(|inode| (*inode).to_owned()))?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds(descriptors: &Path, inodes: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(descriptors) else { return false };
    descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok()).any(|target| {
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|other| other == inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_namespace, wait_for};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_is_not_there_yet_can_be_listened_on() {
        in_namespace(|| async {
            for text in ["[2001:db8::53]:53", "192.0.2.53:53"] {
                udp(address(text), Some("lo"), 2).unwrap();
                tcp(address(text), None).unwrap();
            }
        });
    }

    #[test]
    fn both_families_share_a_port() {
        in_namespace(|| async {
            let _held = [udp(address("[::]:53"), None, 1).unwrap(), udp(address("0.0.0.0:53"), None, 1).unwrap()];
            let _listening = [tcp(address("[::]:53"), None).unwrap(), tcp(address("0.0.0.0:53"), None).unwrap()];
        });
    }

    #[test]
    fn a_busy_port_names_its_owner_and_the_mend() {
        in_namespace(|| async {
            let own = fs::read_to_string("/proc/self/comm").unwrap();
            let _udp = udp(address("[::1]:53"), None, 2).unwrap();
            let _tcp = tcp(address("[::1]:53"), None).unwrap();
            for error in [udp(address("[::1]:53"), None, 2).unwrap_err(), tcp(address("[::1]:53"), None).unwrap_err()] {
                let owner = format!("{} (process {})", own.trim(), std::process::id());
                assert_eq!(error.owner.as_deref(), Some(owner.as_str()));
                assert!(error.to_string().contains("[::1]:53") && error.to_string().contains(&owner), "{error}");
                assert!(error.mend().contains(&format!("Stop {owner}")), "{}", error.mend());
            }
        });
    }

    #[test]
    fn sockets_of_one_address_share_its_clients() {
        in_namespace(|| async {
            let sockets = udp(address("[::1]:53"), None, 2).unwrap();
            let clients: Vec<UdpSocket> = (0..64).map(|_| UdpSocket::bind("[::1]:0").unwrap()).collect();
            for client in &clients {
                client.send_to(b"?", "[::1]:53").unwrap();
            }
            let shares: Vec<usize> =
                sockets.iter().map(|socket| (0..).take_while(|_| socket.recv(&mut [0; 8]).is_ok()).count()).collect();
            assert_eq!(shares.iter().sum::<usize>(), 64);
            assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
        });
    }

    #[test]
    fn a_restart_takes_the_port_while_old_connections_linger() {
        in_namespace(|| async {
            let listener = tcp(address("127.0.0.1:53"), None).unwrap();
            let client = tokio::net::TcpStream::connect("127.0.0.1:53").await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            drop((server, listener));
            drop(client);
            // Another test's child holds a copy of the listener between fork and exec.
            wait_for("the port", || tcp(address("127.0.0.1:53"), None).ok());
        });
    }

    #[test]
    fn inodes_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   102        0 17683 1\n   \
                     1: 0100007F:0035 0100007F:9999 01 00000000:00000000 00:00000000 00000000   102        0 17684 1\n\
                     rubbish\n";
        assert_eq!(inodes(table, 53, "0A"), ["17683"]);
        assert_eq!(inodes(table, 54, "0A"), Vec::<String>::new());
    }
}
