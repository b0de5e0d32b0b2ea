//! The command line, with the binary that runs the router.
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::client::ping;
use crate::lab::{Lab, connect};
use crate::network::{SITE_V4, SITE_V6, synthesized};
use crate::{program, wait};

const SOON: Duration = Duration::from_secs(30);

pub(super) fn speaks(lab: &mut Lab) -> Result<()> {
    let router = lab.router.in_namespace()?;
    let (binary, control) = (router.binary().display(), router.control().display());
    let sixgate = |arguments: &str| router.namespace().run(&format!("{binary} {arguments}"));

    let json: Value = serde_json::from_str(&sixgate(&format!("status --json --control {control}"))?.text()?)?;
    ensure!(json["system"]["hostname"] == "lab" && json["firewall"]["loaded"] == true, "{json:#}");
    let text = sixgate(&format!("status --control {control}"))?.text()?;
    for expected in ["lab", "203.0.113.2", "2001:db8:64::/96", "vm1", "2001:db8:1:2:21::/80"] {
        ensure!(text.contains(expected), "{expected} is not in the status:\n{text}");
    }
    // The hosts, one of which is a VM by its hardware address.
    let hosts = sixgate(&format!("neighbours --control {control}"))?.text()?;
    ensure!(
        hosts.lines().any(|line| line.contains("52:54:00:00:02:11") && line.contains("vm1")),
        "no vm1 in:\n{hosts}"
    );
    ensure!(hosts.starts_with("LAN ") && !hosts.contains("ff02::"), "groups are no hosts:\n{hosts}");
    let findings = sixgate(&format!("findings --json --control {control}"))?.text()?;
    ensure!(serde_json::from_str::<Value>(&findings)?.is_array(), "{findings}");

    // Only the owner may talk to the router.
    let mode = std::os::unix::fs::PermissionsExt::mode(&router.control().metadata()?.permissions());
    ensure!(mode & 0o777 == 0o600, "the control socket has mode {mode:o}");

    let plan = sixgate(&format!("check {}", router.config().display()))?.text()?;
    ensure!(plan.contains("2001:db8:1:2:21::/80"), "the plan does not show the container prefix:\n{plan}");
    let wrong = router.config().with_file_name("wrong.toml");
    std::fs::write(&wrong, std::fs::read_to_string(router.config())?.replace("203.0.113.2/24", "203.0.113.2/33"))?;
    let refused = sixgate(&format!("check {}", wrong.display()))?;
    ensure!(refused.code == Some(1), "{refused}");
    ensure!(refused.to_string().contains("203.0.113.2/33") && refused.to_string().contains('^'), "{refused}");

    let silent = sixgate("status --control /nonexistent/control.sock")?;
    ensure!(!silent.success && silent.stderr.contains("/nonexistent/control.sock"), "{silent}");
    Ok(())
}

/// What the router itself sees: ping, trace, resolve, log, and a capture that tcpdump can read.
pub(super) fn looks(lab: &mut Lab) -> Result<()> {
    let router = lab.router.in_namespace()?;
    let (binary, control) = (router.binary().display(), router.control().display());
    let sixgate =
        |arguments: &str| router.namespace().run_for(&format!("{binary} {arguments} --control {control}"), SOON);
    let file = router.config().with_file_name("vm1.pcapng");

    // A VM by its name, a host by its address in both families, a name; and nobody.
    for to in ["vm1".to_owned(), SITE_V6.to_string(), SITE_V4.to_string(), "v4.lab.test".to_owned()] {
        wait::until_ok(&format!("{to} answers"), SOON, || sixgate(&format!("ping --count 1 {to}"))?.text())?;
    }
    let nobody = sixgate("ping --count 1 no-such-vm")?;
    ensure!(!nobody.success && nobody.to_string().contains("no-such-vm"), "{nobody}");
    let way = wait::until_ok("a way is found", SOON, || sixgate(&format!("trace --json {SITE_V4}"))?.text())?;
    let last: Value = serde_json::from_str(way.lines().last().context("no hops")?)?;
    ensure!(last["outcome"] == "reply" && last["from"] == SITE_V4.to_string(), "{way}");

    let resolved = |more: &str| -> Result<Value> {
        Ok(serde_json::from_str(&sixgate(&format!("resolve --json v4.lab.test {more}"))?.text()?)?)
    };
    let addresses = |answer: &Value| answer["addresses"].to_string();
    let with = wait::until_ok("the resolver answers", SOON, || resolved(""))?;
    ensure!(addresses(&with).contains(&synthesized(SITE_V4).to_string()), "{with}");
    let without = wait::until_ok("the resolver answers", SOON, || resolved("--no-synthesis"))?;
    ensure!(addresses(&without) == format!("[\"{SITE_V4}\"]"), "{without}");

    let log = sixgate("log --json")?.text()?;
    let first: Value = serde_json::from_str(log.lines().next().context("nothing was logged")?)?;
    ensure!(first["number"] == 1 && first["text"].as_str().is_some_and(|text| text.contains("starts")), "{first}");

    // Packets of a VM: the capture ends by itself as soon as two have passed, and so we let some pass.
    let captured = std::thread::scope(|threads| {
        let capture =
            threads.spawn(|| sixgate(&format!("capture --of vm1 --packets 2 --time 25s --write {}", file.display())));
        while !capture.is_finished() {
            sixgate("ping --count 1 vm1")?;
        }
        capture.join().map_err(|_| anyhow::anyhow!("the capture panicked"))?
    })?;
    ensure!(captured.success, "{captured}");
    let packets = program::tool(&format!("tcpdump --count -r {}", file.display()))?;
    ensure!(packets.contains("2 packets"), "{packets}");
    let lines = sixgate("capture --interface nat64 --time 1s --of 2001:db8::/32")?;
    ensure!(lines.success, "{lines}");
    let nowhere = sixgate("capture --interface nowhere0 --time 1s")?;
    ensure!(!nowhere.success && nowhere.stderr.contains("nowhere0"), "{nowhere}");
    Ok(())
}

/// What every command prints with `--json` is what its schema says, whether it asks or changes something, is done or refused.
pub(super) fn fits_its_schemas(lab: &mut Lab) -> Result<()> {
    let router = lab.router.in_namespace()?;
    let (binary, control, config) = (router.binary().display(), router.control().display(), router.config().display());
    let folder = lab.world.folder();
    let backup = folder.join("backup.json");
    let backup = backup.display();
    let sixgate = |arguments: &str| router.namespace().run_for(&format!("{binary} {arguments}"), SOON);
    wait::until_ok("vm1 answers", SOON, || sixgate(&format!("ping --count 1 vm1 --control {control}"))?.text())?;
    // An address of vm1 that the router has heard from, and a session, so that there is one to be told.
    ping(&lab.vm1.namespace, "2001:db8:1:2::1".parse::<std::net::Ipv6Addr>()?)?;
    lab.client.namespace.run_for(&format!("ping -c 1 -W 5 {}", synthesized(SITE_V4)), SOON)?;

    // Schema, arguments, exit status, and what must be in it.
    let commands = [
        ("status", "status".to_owned(), 0, "\"lab\""),
        ("findings", "findings".to_owned(), 0, "["),
        ("neighbours", "neighbours".to_owned(), 0, "52:54:00:00:02:11"),
        ("leases", "leases".to_owned(), 0, "changes"),
        ("sessions", "sessions".to_owned(), 0, ""),
        ("denials", "denials".to_owned(), 0, "["),
        ("why", format!("why 2001:db8:1:2:21::5 {SITE_V6} tcp/80"), 0, "passes"),
        ("why", format!("why vm1 {SITE_V6} tcp/80"), 0, "passes"),
        ("history", "history".to_owned(), 0, "in_force"),
        ("history", "history 4711".to_owned(), 1, "4711"),
        ("log", "log".to_owned(), 0, "starts"),
        ("ping", "ping --count 1 vm1".to_owned(), 0, "reply"),
        ("trace", "trace vm1".to_owned(), 0, "reply"),
        ("resolve", "resolve no.such.name.invalid".to_owned(), 1, "micros"),
        ("capture", "capture --interface nat64 --time 1s".to_owned(), 0, "accepted"),
        ("capture", "capture --interface nowhere0 --time 1s".to_owned(), 1, "nowhere0"),
        ("apply", format!("apply {config} --confirm 60s"), 0, "accepted"),
        ("confirm", "confirm".to_owned(), 0, "accepted"),
        ("confirm", "confirm".to_owned(), 1, "error"),
        ("revert", "revert 4711".to_owned(), 1, "4711"),
        ("reload", "reload".to_owned(), 0, "accepted"),
        ("flush-dns", "flush-dns".to_owned(), 0, "accepted"),
        ("backup", format!("backup {backup}"), 0, "accepted"),
        ("restore", format!("restore {backup}"), 0, "accepted"),
        ("denials", "denials 4711".to_owned(), 1, "4711"),
        ("power-off", "power-off".to_owned(), 1, "refused"),
        ("update", "update".to_owned(), 1, "refused"),
    ];
    let mut told: BTreeMap<&str, String> = BTreeMap::new();
    for (schema, arguments, code, expected) in commands {
        let said = sixgate(&format!("{arguments} --json --control {control}"))?;
        ensure!(said.code == Some(code) && said.stdout.contains(expected), "{said}");
        // What was refused is told by the control protocol's error, whoever refused it.
        let refused = code == 1 && schema != "resolve";
        *told.entry(if refused { "reply" } else { schema }).or_default() += &said.stdout;
    }
    told.insert("check", sixgate(&format!("check --json {config}"))?.text()?);
    let absent = sixgate("status --json --control /nonexistent/control.sock")?;
    ensure!(absent.code == Some(1), "{absent}");
    *told.entry("reply").or_default() += &absent.stdout;

    let file = folder.join("schema.json");
    for (schema, told) in told {
        fits(&file, &sixgate(&format!("schema {schema}"))?.text()?, &told)?;
    }
    // A schema that everything fits says nothing.
    let status = sixgate("schema status")?.text()?;
    ensure!(fits(&file, &status, "{\"version\":1}").is_err(), "a status without anything in it is one");
    Ok(())
}

/// Each JSON value in there, by the tool of JSON Schema's own makers; it checks the schema as well.
pub(super) fn fits(file: &std::path::Path, schema: &str, told: &str) -> Result<()> {
    std::fs::write(file, schema)?;
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(told).into_iter().collect::<Result<_, _>>().context(told.to_owned())?;
    let instance = file.with_file_name("instance.json");
    let mut command = vec!["jsonschema".to_owned()];
    // One process for all of them: each costs half a second.
    for (number, value) in values.iter().enumerate() {
        let instance = instance.with_extension(format!("{number}.json"));
        std::fs::write(&instance, value.to_string())?;
        command.extend(["--instance".to_owned(), instance.display().to_string()]);
    }
    command.push(file.display().to_string());
    let said = program::run(command, SOON)?;
    ensure!(said.success && said.stdout.is_empty(), "{told}\n{said}");
    Ok(())
}

/// Each service starts anew by itself: the daemon goes on, a translated connection too, and everything works afterwards.
pub(super) fn restarts_one_service(lab: &mut Lab) -> Result<()> {
    let gateways = lab.client.namespace.default_gateways()?;
    let before = lab.router.status()?;
    let sent = |status: &Value| status["lans"][0]["advertised"]["sent"].as_u64();
    let mut translated = connect(&lab.client.namespace, synthesized(SITE_V4), 80)?;
    translated.set_read_timeout(Some(SOON))?;
    for service in ["uplink", "ra", "dns64", "nat64"] {
        let router = lab.router.in_namespace()?;
        let line = format!("{} restart {service} --control {}", router.binary().display(), router.control().display());
        let said = router.namespace().run_for(&line, SOON)?;
        ensure!(said.success && said.stdout.contains("anew"), "{said}");
        lab.await_service()?;
        let status = lab.router.status()?;
        let same = |key: &str| status["system"][key] == before["system"][key];
        ensure!(
            same("starts") && status["system"]["daemon_uptime"].as_u64() >= before["system"]["daemon_uptime"].as_u64()
        );
    }
    // Counted anew since it was restarted: a station that had gone on would have counted on.
    lab.await_status("advertisements after a new start", |status| sent(status) > Some(0))?;
    let resolver = lab.learn_resolver(&lab.client)?;
    let asked = lab.client.namespace.run(&format!("dig +short +time=5 @{resolver} v4.lab.test AAAA"))?.text()?;
    ensure!(asked.trim() == synthesized(SITE_V4).to_string(), "{asked}");
    translated.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    translated.read_to_string(&mut answer).context("the translated connection from before")?;
    ensure!(answer.contains("200 OK"), "{answer}");
    let now = lab.client.namespace.default_gateways()?;
    ensure!(gateways.iter().all(|gateway| now.contains(gateway)), "default gateways were {gateways:?}, now {now:?}");
    Ok(())
}

/// Who was seen when, who wants whose address, who asks for what.
pub(super) fn tells_of_hosts(lab: &mut Lab) -> Result<()> {
    let (address, mac) = (lab.vm1.address()?, lab.vm1.mac());
    ping(&lab.vm1.namespace, "2001:db8:1:2::1".parse::<std::net::Ipv6Addr>()?)?;
    let host = |status: &Value| {
        let clients = status["lans"][0]["clients"].as_array().cloned().unwrap_or_default();
        clients.into_iter().find(|client| client["mac"] == mac)
    };
    lab.await_status("vm1 to be seen", |status| {
        host(status).is_some_and(|host| host["seen"] == true && host["last_seen"].as_u64().is_some_and(|ago| ago < 300))
    })?;

    // Another host takes its address, and finds by duplicate address detection that it is taken.
    let client = &lab.client.namespace;
    client.ip(&format!("address add {address}/128 dev eth0"))?;
    wait::until_ok("duplicate address detection to fail", SOON, || {
        ensure!(client.ip("address show dev eth0")?.contains("dadfailed"), "it has not failed");
        Ok(())
    })?;
    let claimant = lab.client.mac();
    lab.await_status("the contest to be told", |status| {
        let contests = status["lans"][0]["contests"].as_array();
        contests.is_some_and(|all| {
            all.iter().any(|one| {
                one["address"] == address.to_string()
                    && one["holder"] == mac
                    && one["claimant"] == claimant
                    && one["detection"] == true
            })
        })
    })?;

    let resolver = lab.learn_resolver(&lab.client)?;
    for transport in ["+notcp", "+tcp"] {
        for _ in 0..3 {
            lab.client
                .namespace
                .run(&format!("dig {transport} +short +time=5 @{resolver} WWW.plain.test AAAA"))?
                .text()?;
        }
    }
    lab.await_status("names and clients to be counted", |status| {
        let first = |list: &str| status["dns64"][list][0].clone();
        first("top_names")["name"] == "www.plain.test." && first("top_clients")["count"].as_u64() >= Some(6)
    })?;

    // A host that has gone is told of with the time since.
    lab.vm1.namespace.ip("link set eth0 down")?;
    lab.router.in_namespace()?.namespace().ip(&format!("neighbour flush to {address}"))?;
    lab.await_status("vm1 to be missed", |status| {
        let vms = status["vms"].as_array().cloned().unwrap_or_default();
        let vm = vms.iter().find(|vm| vm["name"] == "vm1").cloned().unwrap_or_default();
        host(status).is_some_and(|host| host["last_seen"].is_u64())
            && (vm["next_hop"].is_null() || vm["last_seen"].is_u64())
    })?;
    Ok(())
}
