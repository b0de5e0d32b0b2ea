//! Real Docker on VMs behind the router: its containers reach out and one another, and are reached, as the router's file says.
use std::fs;
use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::delegation;
use crate::docker::{Docker, PEER};
use crate::lab::{CONTAINER_LINK, Host, Lab, SOON, await_connection, ensure_refused, fetch};
use crate::namespace::Namespace;
use crate::network::{ROUTER_V4, SITE_V4, SITE_V6, UPSTREAM, synthesized};
use crate::program::Daemon;
use crate::router::binary;
use crate::server::web::Web;
use crate::wait;
use crate::world::World;

/// The address that strangers on the Internet come from.
const STRANGER: [u8; 4] = [203, 0, 113, 1];
/// The suffix that Docker gives the first container of its default bridge, by IPv4 address and hardware address.
const FIRST: &str = "242:ac11:2";

/// Docker on a VM, whose container prefix is Docker's own.
fn install(lab: &Lab, host: &Host, settings: &Value) -> Result<Docker> {
    host.namespace.ip(&format!("link delete {CONTAINER_LINK}"))?;
    Docker::start(&lab.world, &host.namespace, settings)
}

/// Puts a configuration into force, on either back end.
fn apply(lab: &mut Lab, text: &str) -> Result<()> {
    let reply = lab.router.request(&json!({ "apply": { "text": text } }).to_string())?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    Ok(())
}

/// A resolver at 127.0.0.1 that asks the router, as many VMs have one; Docker's own DNS asks it in turn. With EDNS it would ask
/// for what it can validate itself, which nothing synthesized is.
fn forward_dns(world: &World, host: &Namespace, router: Ipv6Addr) -> Result<Daemon> {
    let folder = world.runtime().join("forwarder");
    fs::create_dir_all(&folder)?;
    let file = folder.join("named.conf");
    fs::write(
        &file,
        format!(
            "options {{ directory \"{}\"; listen-on {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion yes; forward only;
             forwarders {{ {router}; }}; pid-file none; session-keyfile none; dnssec-validation no; }}; controls {{ }};
             server {router} {{ edns no; }};\n",
            folder.display()
        ),
    )?;
    fs::write(host.resolver_file(), format!("nameserver 127.0.0.1\nnameserver {router}\n"))?;
    Daemon::start(
        host.command_line(&format!("named -g -n 1 -c {}", file.display())),
        &world.folder().join("forwarder.log"),
    )
}

const ALLOWED: &str = r#"
[[allow]]
to = "vm1/containers::242:ac11:2"
tcp = 8080

[[publish]]
listen = "wan:tcp/8443"
to = "vm1/containers::242:ac11:2:8080"
"#;

pub(super) fn follow_the_policy(lab: &mut Lab) -> Result<()> {
    // vm1 has a second prefix, for a network of its containers' own.
    let config = |lab: &Lab, more: &str| {
        let prefix = "\"2001:db8:1:2:21::/80\"";
        lab.config(more).replace(prefix, &format!("[{prefix}, \"2001:db8:1:2:22::/80\"]"))
    };
    let text = config(lab, "");
    lab.router.start(&text)?;
    lab.await_service()?;
    lab.bring_hosts_up()?;
    let router = lab.learn_resolver(&lab.vm1)?;
    lab.learn_resolver(&lab.vm2)?;
    let forwarder = forward_dns(&lab.world, &lab.vm1.namespace, router)?;
    let docker1 = install(lab, &lab.vm1, &json!({ "ipv6": true, "fixed-cidr-v6": "2001:db8:1:2:21::/80" }))?;
    let docker2 = install(lab, &lab.vm2, &json!({ "ipv6": true, "fixed-cidr-v6": "2001:db8:1:2:31::/80" }))?;
    let (one, two) = (docker1.run("one", "")?, docker2.run("two", "")?);
    let (at, at_two) = (one.address()?, two.address()?);
    ensure!(at.to_string() == format!("2001:db8:1:2:21:{FIRST}"), "{at}");

    // Out and across: by IPv6 as themselves, to IPv4 by the router's resolver and NAT64.
    for (container, address) in [(&one, at), (&two, at_two)] {
        let seen_as = container.await_fetch("http://v6.lab.test/")?;
        ensure!(seen_as == address.to_string(), "{} is seen as {seen_as}", container.name);
        let seen_as = container.await_fetch("http://v4.lab.test/")?;
        ensure!(seen_as == ROUTER_V4.to_string(), "{} is seen as {seen_as}", container.name);
        container.exec("ping -c 1 -W 5 v4.lab.test")?.text()?;
    }
    ensure!(one.seen_by(&two)? == at && two.seen_by(&one)? == at_two);

    // A network of their own, where Docker's DNS answers for names of containers and asks the VM's resolver for others.
    docker1.command("network create --ipv6 --subnet 2001:db8:1:2:22::/80 own")?.text()?;
    let (three, four) = (docker1.run("three", "--network own")?, docker1.run("four", "--network own")?);
    let resolvers = three.exec("cat /etc/resolv.conf")?.text()?;
    ensure!(resolvers.starts_with("nameserver 127.0.0.11\n"), "{resolvers}");
    let answer = three.exec("nslookup v4.lab.test 127.0.0.11")?.text()?;
    ensure!(answer.contains(&synthesized(SITE_V4).to_string()), "{answer}\n{}", forwarder.log());
    let seen_as = three.await_fetch("http://v4.lab.test/")?;
    ensure!(seen_as == ROUTER_V4.to_string(), "a container behind Docker's DNS is seen as {seen_as}");
    let seen_as = four.await_fetch(&format!("http://three:8080/{PEER}"))?;
    ensure!(seen_as == four.address()?.to_string(), "by Docker's name a container is seen as {seen_as}");

    // From outside nothing comes in until an entry says so, and then what it says.
    for (to, port) in [(at, 8080), (at, 8081), (at_two, 8080)] {
        ensure_refused(&lab.internet, to, port)?;
    }
    ensure_refused(&lab.internet, ROUTER_V4, 8443)?;
    let text = config(lab, ALLOWED);
    apply(lab, &text)?;
    await_connection(&lab.internet, at, 8080)?;
    let seen_as = fetch(&lab.internet, &format!("http://[{at}]:8080/{PEER}"))?;
    ensure!(seen_as.contains(&SITE_V6.to_string()), "a stranger is seen as {seen_as}");
    await_connection(&lab.internet, ROUTER_V4, 8443)?;
    let seen_as = fetch(&lab.internet, &format!("http://{ROUTER_V4}:8443/{PEER}"))?;
    ensure!(seen_as.contains(&synthesized(STRANGER.into()).to_string()), "a stranger is seen as {seen_as}");
    for (to, port) in [(at, 8081), (at_two, 8080)] {
        ensure_refused(&lab.internet, to, port)?;
    }
    one.fetch(&format!("http://[{at_two}]:8081/{PEER}"))?;

    // Between VMs the router's policy decides, also for those that reached one another.
    let text = config(lab, &format!("{ALLOWED}\n[policy]\nbetween = \"denied\"\n"));
    apply(lab, &text)?;
    wait::until("what VMs send one another to be refused", SOON, || {
        two.ensure_refused(&format!("http://[{at}]:8080/{PEER}")).ok()
    })?;
    one.ensure_refused(&format!("http://[{at_two}]:8081/{PEER}"))?;
    one.fetch(&format!("http://[{SITE_V6}]/"))?;
    two.fetch(&format!("http://[{}]/", synthesized(SITE_V4)))?;
    await_connection(&lab.internet, at, 8080).map(drop)
}

/// A unique local prefix of vm1's containers, and the address of the first one.
const UNIQUE_LOCAL: (&str, Ipv6Addr) =
    ("fd00:db8:0:21::/80", Ipv6Addr::new(0xfd00, 0xdb8, 0, 0x21, 0, 0x242, 0xac11, 2));
/// The router's own address on the uplink.
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 2);

/// NAT66 out, published ports in; what Docker itself publishes on the VM hides who comes.
pub(super) fn leave_and_are_published(lab: &mut Lab) -> Result<()> {
    let (prefix, at) = UNIQUE_LOCAL;
    let published = format!("\n[[publish]]\nlisten = \"wan6:tcp/8443\"\nto = \"[{at}]:8080\"\n");
    let text = lab.config(&published).replace("2001:db8:1:2:21::/80", prefix);
    lab.router.start(&text)?;
    lab.await_service()?;
    lab.bring_hosts_up()?;
    lab.learn_resolver(&lab.vm1)?;
    lab.internet.ip(&format!("route add {prefix} via {ROUTER_V6} src {SITE_V6}"))?;
    let docker = install(lab, &lab.vm1, &json!({ "ipv6": true, "fixed-cidr-v6": prefix }))?;
    let container = docker.run("box", "--publish 8500:8080")?;
    ensure!(container.address()? == at, "{container:?}");

    let seen_as = container.await_fetch("http://v6.lab.test/")?;
    ensure!(seen_as == ROUTER_V6.to_string(), "by NAT66 it is seen as {seen_as}");
    // By name Docker's IPv4 would be preferred to a unique local address (RFC 6724 section 2.1), and leads nowhere.
    let seen_as = container.await_fetch(&format!("http://[{}]/", synthesized(SITE_V4)))?;
    ensure!(seen_as == ROUTER_V4.to_string(), "by NAT64 it is seen as {seen_as}");

    let page = |from: &Namespace, host: Ipv6Addr, port: u16| {
        await_connection(from, host, port)?;
        fetch(from, &format!("http://[{host}]:{port}/{PEER}"))
    };
    let seen_as = page(&lab.internet, ROUTER_V6, 8443)?;
    ensure!(seen_as.contains("2001:db8:1:1::1"), "a stranger is seen as {seen_as}");
    for (to, port) in [(ROUTER_V6, 8080), (ROUTER_V6, 8500), (at, 8080), (at, 8081), (lab.vm1.address()?, 8500)] {
        ensure_refused(&lab.internet, to, port)?;
    }
    // Docker's proxy is whom the container sees behind a port that Docker publishes; by its own address it sees the client.
    let (client, vm1) = (lab.client.address()?, lab.vm1.address()?);
    let seen_as = page(&lab.client.namespace, at, 8080)?;
    ensure!(seen_as.contains(&client.to_string()), "a neighbour is seen as {seen_as}");
    let seen_as = page(&lab.client.namespace, vm1, 8500)?;
    ensure!(!seen_as.contains(&client.to_string()), "Docker's proxy shows the client");
    Ok(())
}

/// `sixgate clat` on a VM, until it translates.
fn start_clat(lab: &Lab, host: &Namespace) -> Result<Daemon> {
    let (binary, folder) = (binary()?, lab.world.runtime().join(host.name()).join("clat"));
    let at = format!("--folder {}", folder.display());
    let log = lab.world.folder().join(format!("{}-clat.log", host.name()));
    let line = host.command_line(&format!("{} clat --check {SITE_V4} {at}", binary.display()));
    let daemon = Daemon::start(line, &log)?;
    let status = format!("{} clat status {at}", binary.display());
    wait::until_ok("the CLAT to translate", SOON, || host.run(&status)?.text()).with_context(|| daemon.log())?;
    Ok(daemon)
}

/// 464XLAT for containers: Docker's networks without IPv6, DNS over IPv4 included, and networks with both.
pub(super) fn reach_ipv4_through_a_clat(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    lab.learn_resolver(&lab.vm1)?;
    lab.learn_resolver(&lab.vm2)?;
    let settings = json!({ "dns": [UPSTREAM.to_string()], "ipv6": true, "fixed-cidr-v6": "2001:db8:1:2:21::/80" });
    let docker = install(lab, &lab.vm1, &settings)?;
    docker.command("network create plain")?.text()?;
    let (plain, both) = (docker.run("plain", "--network plain")?, docker.run("both", "")?);
    ensure!(plain.address.is_none(), "{plain:?}");
    plain.ensure_refused(&format!("http://{SITE_V4}/"))?;
    let mut clat = start_clat(lab, &lab.vm1.namespace)?;
    for container in [&plain, &both] {
        let seen_as = container.await_fetch("http://v4.lab.test/")?;
        ensure!(seen_as == ROUTER_V4.to_string(), "{} is seen as {seen_as}", container.name);
        container.exec(&format!("ping -c 1 -W 5 {SITE_V4}"))?.text()?;
    }
    ensure!(both.await_fetch("http://v6.lab.test/")? == both.address()?.to_string());
    plain.ensure_refused("http://v6.lab.test/")?;
    let resolvers = plain.exec("cat /etc/resolv.conf")?.text()?;
    ensure!(resolvers.starts_with("nameserver 127.0.0.11\n"), "{resolvers}");

    // Without it nothing of IPv4 is left to go anywhere, and the rest goes on.
    clat.signal(Signal::TERM)?;
    clat.wait(SOON)?;
    plain.ensure_refused(&format!("http://{SITE_V4}/"))?;
    let site = format!("http://[{SITE_V6}]/");
    both.fetch(&site)?;

    // Docker's own rules for IPv6, which newer versions have by default, are in force before the router's: what is not published
    // stays closed, containers keep their addresses when told so, and the CLAT has to be let through.
    let strict = json!({ "dns": [UPSTREAM.to_string()], "ipv6": true, "fixed-cidr-v6": "2001:db8:1:2:31::/80",
        "experimental": true, "ip6tables": true, "ip-masq": false });
    let docker = install(lab, &lab.vm2, &strict)?;
    let strict = docker.run("strict", "--publish 8080:8080")?;
    let at = strict.address()?;
    let seen_as = strict.await_fetch(&site)?;
    ensure!(seen_as == at.to_string(), "a container that is not masqueraded is seen as {seen_as}");
    let client = &lab.client.namespace;
    await_connection(client, at, 8080)?;
    let seen_as = fetch(client, &format!("http://[{at}]:8080/{PEER}"))?;
    ensure!(seen_as.contains(&lab.client.address()?.to_string()), "a neighbour is seen as {seen_as}");
    ensure_refused(client, at, 8081)?;
    for direction in ["-i", "-o"] {
        lab.vm2.namespace.run(&format!("ip6tables -I FORWARD {direction} clat -j ACCEPT"))?.text()?;
    }
    let _clat = start_clat(lab, &lab.vm2.namespace)?;
    let seen_as = strict.await_fetch("http://v4.lab.test/")?;
    ensure!(seen_as == ROUTER_V4.to_string(), "beside Docker's rules it is seen as {seen_as}");
    Ok(())
}

const NPT: &str = r#"
[vm_prefixes]
lan = "vms"

[[npt]]
inside = "fd12:3456:789a:0:21::/80"
delegated = "wan"
subnet = 0x21

[[allow]]
to = ["vm1/containers::242:ac11:2", "vm2/containers::242:ac11:2"]
tcp = 8080
"#;

/// A provider's new prefix: with NPTv6 Docker notices nothing; with a global prefix it is told by the router's hook, and the
/// entries of the allowlist hold as they are.
pub(super) fn outlive_a_new_prefix(lab: &mut Lab) -> Result<()> {
    let first = delegation::provider(lab, delegation::FIRST, &delegation::LONG)?;
    let unique_local = "fd12:3456:789a:0:21::/80";
    let text =
        delegation::config(lab, NPT).replace("\"::21:0:0:0/80\"", &format!("[\"::21:0:0:0/80\", \"{unique_local}\"]"));
    lab.router.start(&text)?;
    lab.await_service()?;
    delegation::await_delegation(lab, delegation::FIRST)?;
    lab.bring_hosts_up()?;
    lab.learn_resolver(&lab.vm1)?;
    lab.learn_resolver(&lab.vm2)?;
    let docker1 = install(lab, &lab.vm1, &json!({ "ipv6": true, "fixed-cidr-v6": unique_local }))?;
    let mut docker2 = install(lab, &lab.vm2, &json!({ "ipv6": true, "fixed-cidr-v6": "2001:db8:1:2:31::/80" }))?;
    let hook = keep_prefix(lab, &lab.vm2, &docker2)?;
    let one = docker1.run("one", "")?;
    let inside = one.address()?;
    let site = format!("http://[{SITE_V6}]/");
    let outside: Ipv6Addr = one.await_fetch(&site)?.parse()?;
    ensure!(is_in(outside, "2001:db8:1:0:21::"), "{outside}");
    let two = docker2.run("two", "--restart always")?;
    let global = two.address()?;
    ensure!(two.await_fetch(&site)? == global.to_string() && is_in(global, "2001:db8:1:2:31::"), "{global}");
    for address in [outside, global] {
        await_connection(&lab.internet, address, 8080)?;
        let seen_as = fetch(&lab.internet, &format!("http://[{address}]:8080/{PEER}"))?;
        ensure!(seen_as.contains(&SITE_V6.to_string()), "a stranger is seen as {seen_as}");
        ensure_refused(&lab.internet, address, 8081)?;
    }

    // Connections are held in and out of a container, and the provider renumbers.
    let neighbour = Web::start(&lab.client.namespace, (lab.client.address()?, 8080).into())?;
    let mut held = [
        await_connection(&lab.client.namespace, inside, 8080)?,
        await_connection(&one.namespace, neighbour.address().ip(), 8080)?,
    ];
    let started = |docker: &Docker| docker.command("inspect one")?.text();
    let before = started(&docker1)?;
    drop(first.server);
    let _second = delegation::renumbered(lab)?;
    delegation::await_delegation(lab, delegation::SECOND)?;
    lab.await_status("the new prefix outside", |status| status["npt"]["prefixes"][0][1] == "2001:db8:9:0:21::/80")?;
    let renumbered: Ipv6Addr = wait::until_ok("the container to be seen by the new prefix", SOON, || {
        let seen: Ipv6Addr = one.fetch(&site)?.parse()?;
        ensure!(is_in(seen, "2001:db8:9:0:21::"), "{seen}");
        Ok(seen)
    })?;
    for connection in &mut held {
        connection.set_read_timeout(Some(SOON))?;
        connection.write_all(b"GET /cgi-bin/peer HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).context("a connection from before")?;
        ensure!(answer.contains("200 OK"), "{answer}");
    }
    ensure!(started(&docker1)? == before, "Docker noticed something");
    await_connection(&lab.internet, renumbered, 8080)?;
    ensure_refused(&lab.internet, renumbered, 8081)?;
    ensure_refused(&lab.internet, outside, 8080)?;

    // The other VM hears of it, and has Docker started again, which gives the container a new address.
    drop(two);
    wait::until_ok("the hook to have Docker restarted", SOON, || {
        ensure!(hook.asked(), "{}", hook.daemon.log());
        Ok(())
    })?;
    docker2.stop()?;
    docker2.start_again()?;
    let two = wait::until_ok("the container to be back", SOON, || docker2.find("two"))?;
    let global = two.address()?;
    ensure!(is_in(global, "2001:db8:9:2:31::"), "{global}");
    let seen_as = two.await_fetch(&site)?;
    ensure!(seen_as == global.to_string(), "{seen_as}");
    await_connection(&lab.internet, global, 8080)?;
    ensure_refused(&lab.internet, global, 8081)
}

fn is_in(address: Ipv6Addr, prefix: &str) -> bool {
    prefix.parse::<Ipv6Addr>().is_ok_and(|prefix| prefix.octets()[..10] == address.octets()[..10])
}

/// The script that keeps Docker's prefix what the router says; that Docker is to be restarted is a file.
struct Hook {
    daemon: Daemon,
    file: PathBuf,
}

impl Hook {
    fn asked(&self) -> bool {
        self.file.exists()
    }
}

fn keep_prefix(lab: &Lab, host: &Host, docker: &Docker) -> Result<Hook> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hooks/sixgate-docker-prefix");
    let file = lab.world.folder().join("restart-docker");
    let mut line = host.namespace.command_line(&format!("python3 {}", script.display()));
    line.extend(["--file".to_owned(), docker.settings().display().to_string()]);
    line.extend(["--command".to_owned(), format!("touch {}", file.display())]);
    Ok(Hook { daemon: Daemon::start(line, &lab.world.folder().join("docker-prefix.log"))?, file })
}
