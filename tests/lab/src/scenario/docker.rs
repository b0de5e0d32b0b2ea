//! Real Docker on VMs behind the router: its containers reach out and one another, and are reached, as the router's file says.
use std::fs;
use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::docker::{Docker, PEER};
use crate::lab::{CONTAINER_LINK, Host, Lab, SOON, await_connection, ensure_refused, fetch};
use crate::namespace::Namespace;
use crate::network::{ROUTER_V4, SITE_V4, SITE_V6, synthesized};
use crate::program::Daemon;
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
