//! The network of a scenario, complete: an Internet with servers, the router, and the hosts on its LAN.
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::network::{HostPlan, NAMES, NARROW, NARROW_MTU, Network, PRIVATE, SITE_V4, SITE_V6, UPSTREAM};
use crate::packet::{Advertisement, Tap};
use crate::router::{BackEnd, Router};
use crate::server::dns::Dns;
use crate::server::udp::Udp;
use crate::server::web::Web;
use crate::wait;
use crate::world::{Segment, World};

/// Port of the UDP server.
pub const UDP_PORT: u16 = 4000;
/// How long a packet may be on its way before a host counts as unreachable.
const UNREACHABLE: Duration = Duration::from_millis(1500);
/// How long anything on the LAN or in the router may take to come about in a namespace.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a machine may take from power-on to a working router under emulation.
const BOOT: Duration = Duration::from_secs(120);

/// The network of a scenario. Fields are dropped in order: the router first, the world last.
#[derive(Debug)]
pub struct Lab {
    /// The router under test.
    pub router: Router,
    /// Web server with an IPv4 address only, on port 80.
    pub site_v4: Web,
    /// Web server with an IPv6 address only, on port 80.
    pub site_v6: Web,
    /// Web server with a private IPv4 address, on port 80.
    pub private: Web,
    /// UDP server with an IPv4 address only.
    pub udp: Udp,
    /// Upstream resolver.
    pub dns: Dns,
    /// A VM with containers.
    pub vm1: Host,
    /// Another VM with containers.
    pub vm2: Host,
    /// A host without containers.
    pub client: Host,
    /// The Internet: the router's gateway, and home of all servers.
    pub internet: Namespace,
    /// Which plan of addresses this is.
    pub network: Network,
    /// Segments and artefacts.
    pub world: World,
}

/// A host on the LAN.
#[derive(Debug)]
pub struct Host {
    /// Its namespace; `eth0` is on the LAN.
    pub namespace: Namespace,
    containers: Option<Containers>,
    plan: HostPlan,
}

/// A container network: a namespace behind a host.
#[derive(Debug)]
pub struct Containers {
    /// A container; its link is `eth0`.
    pub namespace: Namespace,
    /// The container's address, `::5` in the container prefix.
    pub address: Ipv6Addr,
}

/// Name of a host's link towards its containers.
pub const CONTAINER_LINK: &str = "br0";

impl Lab {
    /// Builds the network; the router is not started, and the hosts' links are down.
    pub fn build(name: &str, network: Network, back_end: BackEnd) -> Result<Self> {
        let mut world = World::create(name)?;
        world.capture(Segment::Wan)?;
        world.capture(Segment::Lan)?;
        let router = Router::create(back_end, &world)?;
        let internet = internet(&world, network)?;
        let web = |address: IpAddr| Web::start(&internet, SocketAddr::new(address, 80));
        let [vm1, vm2, client] = network.hosts();
        Ok(Self {
            router,
            site_v4: web(SITE_V4.into())?,
            site_v6: web(SITE_V6.into())?,
            private: web(PRIVATE.into())?,
            udp: Udp::start(&internet, SocketAddr::new(SITE_V4.into(), UDP_PORT))?,
            dns: Dns::start(&internet, SocketAddr::new(UPSTREAM.into(), 53), NAMES)?,
            vm1: Host::create(&world, vm1)?,
            vm2: Host::create(&world, vm2)?,
            client: Host::create(&world, client)?,
            internet,
            network,
            world,
        })
    }

    /// The network's configuration, with more lines at its end.
    pub fn config(&self, more: &str) -> String {
        let (wan, lan) = self.router.interfaces();
        self.network.config(&wan, &lan) + more
    }

    /// Starts the router, waits until it serves, and brings the hosts up.
    pub fn start(&mut self) -> Result<()> {
        self.start_with("")
    }

    /// As [`Lab::start`], with more lines at the end of the configuration.
    pub fn start_with(&mut self, more: &str) -> Result<()> {
        let config = self.config(more);
        // Hosts that are there already hear the router's first advertisement; later ones wait for the next (RFC 4861
        // section 6.2.6 allows one in 3 s).
        for host in self.hosts() {
            host.bring_up()?;
        }
        self.router.start(&config)?;
        self.await_service()?;
        self.await_hosts()
    }

    /// Waits until the router forwards, answers DNS and advertises itself.
    pub fn await_service(&mut self) -> Result<()> {
        let deadline = match self.router {
            Router::Namespace(_) => SOON,
            Router::Machine(_) => BOOT,
        };
        wait::until_ok("the router to serve", deadline, || {
            if let Err(ended) = self.router.ensure_alive() {
                return Ok(Err(ended));
            }
            let status = self.router.status()?;
            ensure!(status["firewall"]["forwarding"] == true, "not forwarding: {}", status["findings"]);
            ensure!(status["dns64"]["synthesizing"] == true, "no synthesis: {}", status["findings"]);
            let listening = status["dns64"]["listening"].as_array().map_or(0, Vec::len);
            ensure!(listening > 0, "no resolver: {}", status["findings"]);
            let sent = status["lans"][0]["advertised"]["sent"].as_u64();
            ensure!(sent > Some(0), "no advertisement: {}", status["findings"]);
            Ok(Ok(()))
        })?
    }

    /// Brings up the hosts' links, as booting hosts do, and waits for the addresses.
    pub fn bring_hosts_up(&self) -> Result<()> {
        for host in self.hosts() {
            host.bring_up()?;
        }
        self.await_hosts()
    }

    fn await_hosts(&self) -> Result<()> {
        self.hosts().into_iter().try_for_each(|host| host.address().map(drop))
    }

    fn hosts(&self) -> [&Host; 3] {
        [&self.vm1, &self.vm2, &self.client]
    }

    /// Waits until the status fits; the error shows what it was last.
    pub fn await_status(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until_ok(what, SOON, || {
            let status = self.router.status()?;
            ensure!(fits(&status), "findings: {:#}", status["findings"]);
            Ok(status)
        })
    }

    /// Waits until a finding with that code is shown, and returns it.
    pub fn await_finding(&mut self, code: &str) -> Result<Value> {
        let status = self.await_status(&format!("the finding {code}"), |status| finding(status, code).is_some())?;
        finding(&status, code).cloned().context("the finding that was waited for")
    }

    /// Asks the routers on the client's link to advertise themselves, and returns what they say.
    pub fn solicit(&self, host: &Host) -> Result<Advertisement> {
        let mut tap = Tap::open(&host.namespace, "eth0")?;
        host.namespace.run("rdisc6 -1 -q -r 4 -w 3000 eth0")?.text()?;
        tap.advertisement("an answer to a solicitation", SOON, |_| true)
    }

    /// Lets a host use the resolver that is advertised on its link.
    pub fn learn_resolver(&self, host: &Host) -> Result<Ipv6Addr> {
        let advertisement = self.solicit(host)?;
        let (resolver, _) = *advertisement.rdnss.first().context("no resolver is advertised")?;
        host.namespace.set_resolver(resolver)?;
        if let Some(containers) = &host.containers {
            containers.namespace.set_resolver(resolver)?;
        }
        Ok(resolver)
    }

    /// Adds [`NARROW`], a server behind a link with a small MTU on the way there.
    pub fn add_narrow_server(&self) -> Result<(Namespace, Web)> {
        let narrow = self.world.host("narrow")?;
        self.world.cable((&self.internet, "narrow0"), (&narrow, "eth0"))?;
        // Only the way there is narrow: the server's own link would tell it to announce a smaller MSS.
        self.internet.ip(&format!("link set narrow0 mtu {NARROW_MTU}"))?;
        self.internet.ip("address add 192.0.2.129/30 dev narrow0")?;
        self.internet.ip(&format!("route add {NARROW}/32 dev narrow0"))?;
        narrow.ip(&format!("address add {NARROW}/32 dev eth0"))?;
        narrow.ip(&format!("route add default via 192.0.2.129 dev eth0 src {NARROW} onlink"))?;
        let web = Web::start(&narrow, SocketAddr::new(NARROW.into(), 80))?;
        Ok((narrow, web))
    }
}

/// The finding with that code.
pub fn finding<'a>(status: &'a Value, code: &str) -> Option<&'a Value> {
    status["findings"].as_array()?.iter().find(|finding| finding["code"] == code)
}

fn internet(world: &World, network: Network) -> Result<Namespace> {
    let internet = world.host("internet")?;
    internet.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    internet.set_sysctl("net/ipv4/conf/all/forwarding", "1")?;
    world.plug(&internet, "eth0", "52:54:00:00:01:ff", Segment::Wan)?;
    internet.ip("link set eth0 up")?;
    internet.ip("address add fe80::1/64 dev eth0 nodad")?;
    for v4 in [SITE_V4, UPSTREAM, PRIVATE] {
        internet.ip(&format!("address add {v4}/32 dev lo"))?;
    }
    internet.ip(&format!("address add {SITE_V6}/128 dev lo nodad"))?;
    for arguments in network.internet() {
        internet.ip(arguments)?;
    }
    Ok(internet)
}

impl Host {
    fn create(world: &World, plan: HostPlan) -> Result<Self> {
        let namespace = world.host(plan.name)?;
        world.plug(&namespace, "eth0", plan.mac, Segment::Lan)?;
        let mut this = Self { namespace, containers: None, plan };
        if let Some(prefix) = plan.containers {
            this.containers = Some(this.create_containers(world, prefix)?);
        }
        Ok(this)
    }

    fn create_containers(&self, world: &World, prefix: &str) -> Result<Containers> {
        self.namespace.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
        // A host that forwards listens to advertisements only when it is told to.
        self.namespace.set_sysctl("net/ipv6/conf/eth0/accept_ra", "2")?;
        let namespace = world.host(&format!("{}c", self.plan.name))?;
        world.cable((&self.namespace, CONTAINER_LINK), (&namespace, "eth0"))?;
        self.namespace.ip(&format!("address add {prefix}1/80 dev {CONTAINER_LINK} nodad"))?;
        namespace.ip(&format!("address add {prefix}5/80 dev eth0 nodad"))?;
        namespace.ip(&format!("route add default via {prefix}1 dev eth0"))?;
        Ok(Containers { namespace, address: format!("{prefix}5").parse()? })
    }

    /// Brings the link up, as a booting host does. A link that was up forgets what it had learnt.
    pub fn bring_up(&self) -> Result<()> {
        self.namespace.ip("link set eth0 down")?;
        self.namespace.ip("link set eth0 up")?;
        if let Some((address, gateway)) = self.plan.address {
            self.namespace.ip(&format!("address replace {address} dev eth0 nodad"))?;
            self.namespace.ip(&format!("route replace default via {gateway} dev eth0"))?;
        }
        Ok(())
    }

    /// Waits until the host has its global address.
    pub fn address(&self) -> Result<Ipv6Addr> {
        self.namespace.await_global_address("eth0", SOON)
    }

    /// Its hardware address.
    pub fn mac(&self) -> &'static str {
        self.plan.mac
    }

    /// Its container network.
    pub fn containers(&self) -> Result<&Containers> {
        self.containers.as_ref().with_context(|| format!("{} has no containers", self.plan.name))
    }
}

/// Connects from a namespace, once, and gives up where [`UNREACHABLE`] has passed.
pub fn try_to_connect(from: &Namespace, to: impl Into<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let to = SocketAddr::new(to.into(), port);
    from.inside(|| TcpStream::connect_timeout(&to, UNREACHABLE))
}

/// Connects from a namespace, by one connection that has as long as it needs: a SYN may be lost on a busy machine.
pub fn connect(from: &Namespace, to: impl Into<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let to = SocketAddr::new(to.into(), port);
    from.inside(|| TcpStream::connect_timeout(&to, SOON))
}

/// Fails when a connection comes about.
pub fn ensure_refused(from: &Namespace, to: impl Into<IpAddr>, port: u16) -> Result<()> {
    let to = to.into();
    let outcome = try_to_connect(from, to, port);
    ensure!(outcome.is_err(), "{} reaches [{to}]:{port}", from.name());
    Ok(())
}

/// Connects from a namespace, again and again until it succeeds or the deadline passes.
pub fn await_connection(from: &Namespace, to: impl Into<IpAddr>, port: u16) -> Result<TcpStream> {
    let to = to.into();
    wait::until_ok(&format!("{} to reach [{to}]:{port}", from.name()), SOON, || Ok(try_to_connect(from, to, port)?))
}

/// Sends a datagram from a namespace until an answer comes, and returns it.
pub fn ask(from: &Namespace, to: impl Into<IpAddr>, question: &[u8]) -> Result<Vec<u8>> {
    let to = SocketAddr::new(to.into(), UDP_PORT);
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = from.inside(|| UdpSocket::bind((any, 0)))?;
    socket.set_read_timeout(Some(UNREACHABLE))?;
    let mut buffer = vec![0; 65_535];
    let length = wait::until_ok(&format!("a UDP answer from {to}"), SOON, || {
        socket.send_to(question, to)?;
        let (length, peer) = socket.recv_from(&mut buffer)?;
        ensure!(peer == to, "an answer from {peer}");
        Ok(length)
    })?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Fetches a URL with curl; the body.
pub fn fetch(from: &Namespace, url: &str) -> Result<String> {
    from.run(&format!("curl --silent --show-error --fail --max-time 15 --noproxy * {url}"))?.text()
}

/// How many bytes curl gets from a URL.
pub fn fetch_size(from: &Namespace, url: &str) -> Result<u64> {
    let options = "--silent --show-error --fail --max-time 18 --noproxy * --output /dev/null";
    let size = from.run(&format!("curl {options} --write-out %{{size_download}} {url}"))?.text()?;
    size.trim().parse().with_context(|| format!("curl said {size:?}"))
}
