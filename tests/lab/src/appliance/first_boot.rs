//! First boots from each source, what is kept, and what becomes of it.
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sixgate_qemu::Hardware;

use super::console::Keyboard;
use super::network::{Network, Uplink};
use super::{Case, Unit, agent, iso};
use crate::wait;

/// A clean stop under emulation, on a machine that others share: the router itself is given five seconds.
const STOP: Duration = Duration::from_secs(30);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "first boot: with nothing at all it asks for IPv4 and serves the next card; the agent answers",
            nothing,
        ),
        Case::new("first boot: a cloud-init drive as Proxmox makes it, and its change", drive),
        Case::new(
            "first boot: a configuration in an SMBIOS string, the recipes of the guide, a backup given back",
            smbios,
        ),
        Case::in_network(
            "first boot: five keys on the console from power-on to a LAN that works for a host on it",
            five_keys,
        ),
        Case::in_network(
            "state: three questions on the console, kept over a restart, made new when damaged, reset on request",
            kept,
        ),
    ]
}

fn code(status: &Value, code: &str) -> bool {
    status["findings"].as_array().is_some_and(|all| all.iter().any(|finding| finding["code"] == code))
}

fn made(status: &Value) -> bool {
    status["appliance"]["configuration"] == "made out of the network cards"
}

fn nothing(unit: &mut Unit) -> Result<()> {
    unit.boot(Hardware { watchdog: true, ..Unit::hardware() })?;
    let status =
        unit.status_with("a configuration of its own", |status| made(status) && status["firewall"]["loaded"] == true)?;
    ensure!(code(&status, "configuration-made"), "{status}");
    ensure!(status["appliance"]["slot"] == "a" && status["appliance"]["state"] == true, "{status}");
    ensure!(status["wan"]["name"] == "eth0" && status["lans"][0]["interface"]["name"] == "eth1", "{status}");

    let nothing = json!({});
    ensure!(agent::ask(unit, "guest-ping", &nothing)? == json!({}));
    let interfaces = agent::ask(unit, "guest-network-get-interfaces", &nothing)?;
    ensure!(interfaces.as_array().map(Vec::len) == Some(2), "{interfaces}");
    ensure!(interfaces[0]["hardware-address"] == "bc:24:11:00:00:01", "{interfaces}");
    ensure!(agent::ask(unit, "guest-get-osinfo", &nothing)?["id"] == "sixgate");
    ensure!(agent::ask(unit, "guest-get-host-name", &nothing)?["host-name"] == "sixgate");
    ensure!(agent::ask(unit, "guest-get-vcpus", &nothing)?[0]["online"] == true);
    ensure!(agent::ask(unit, "guest-get-fsinfo", &nothing)?[0]["type"] == "ext4");
    ensure!(
        agent::ask(unit, "guest-get-time", &nothing)?.as_u64().is_some_and(|time| time > 1_700_000_000_000_000_000)
    );
    ensure!(agent::ask(unit, "guest-fsfreeze-freeze", &nothing)? == json!(1));
    ensure!(agent::ask(unit, "guest-fsfreeze-status", &nothing)? == json!("frozen"));
    ensure!(agent::ask(unit, "guest-get-osinfo", &nothing).is_err());
    ensure!(agent::ask(unit, "guest-fsfreeze-thaw", &nothing)? == json!(1));
    ensure!(agent::ask(unit, "guest-fstrim", &nothing)?["paths"][0]["error"].is_null());
    let refused = agent::ask(unit, "guest-exec", &json!({ "path": "/bin/sh" })).err().map(|error| error.to_string());
    ensure!(refused.as_deref().is_some_and(|error| error.contains("not allowed")), "{refused:?}");
    // The machine has a watchdog, which would have ended it by now if nobody fed it.
    let status = unit.status_with("half a minute and more, and the kernel locked", |status| {
        status["system"]["machine_uptime"].as_u64() > Some(40) && status["appliance"]["locked"] == true
    })?;
    let reached = |name: &str| {
        let timeline = status["appliance"]["timeline"].as_array();
        timeline.and_then(|all| all.iter().find(|one| one["name"] == name)?["seconds"].as_f64())
    };
    let (init, advertised) = (reached("init"), reached("first advertisement"));
    ensure!(init.is_some_and(|init| advertised.is_some_and(|advertised| init < advertised)), "{status}");
    eprintln!("timeline: {}", status["appliance"]["timeline"]);
    card(unit)?;
    ensure!(captured(unit)?, "the capture of the second card holds no advertisement");
    agent::tell(unit, "guest-shutdown", &json!({ "mode": "powerdown" }))?;
    unit.await_end()
}

/// A card that is pulled and another one that is plugged in after all modules were locked, which wants another driver.
fn card(unit: &mut Unit) -> Result<()> {
    let present = |status: &Value| status["lans"][0]["interface"]["present"] == true;
    unit.machine()?.monitor()?.execute("device_del", &json!({ "id": "nic1" }))?;
    let status = unit.status_with("a LAN without its card", |status| !present(status))?;
    ensure!(code(&status, "lan-interface-missing"), "{status}");
    let new = json!({ "driver": "e1000", "id": "new", "netdev": "n1", "mac": "bc:24:11:00:00:02", "romfile": "" });
    // QEMU frees the cable's end a moment after the guest has let go of the old card.
    wait::until_ok("room for a new card", STOP, || unit.machine()?.monitor()?.execute("device_add", &new).map(drop))?;
    unit.status_with("a LAN that is advertised on again", |status| {
        present(status) && status["lans"][0]["advertised"]["sent"].as_u64() > Some(0)
    })?;
    Ok(())
}

/// Whether what a failure leaves of the LAN's packets holds an advertisement.
fn captured(unit: &Unit) -> Result<bool> {
    // Ethernet's type, then 40 bytes of IPv6, then ICMPv6's type: router advertisement.
    let capture = fs::read(unit.folder().join("boot-1.eth1.pcap"))?;
    Ok(capture.windows(43).any(|bytes| bytes.starts_with(&[0x86, 0xdd, 0x60]) && bytes[8] == 58 && bytes[42] == 134))
}

/// As `qm set --ipconfig0 ip=..,gw=..,ip6=..,gw6=..` has it.
const NETWORK: &str = "version: 1
config:
    - type: physical
      name: eth0
      mac_address: 'bc:24:11:00:00:02'
      subnets:
      - type: static
        address: '192.0.2.5'
        netmask: '255.255.255.0'
        gateway: '192.0.2.1'
      - type: static6
        address: '2001:db8::2/64'
        gateway: 'fe80::1'
    - type: nameserver
      address:
      - '192.0.2.53'
      search:
      - 'example.net'
";

fn drive(unit: &mut Unit) -> Result<()> {
    let path = unit.folder().join("cidata.iso");
    let write = |instance: &str, user: &str| {
        let meta = format!("instance-id: {instance}\n");
        let files =
            [("meta-data", meta.as_str()), ("network-config", NETWORK), ("user-data", user), ("vendor-data", "")];
        fs::write(&path, iso::volume("cidata", &files))
    };
    let hardware = || Hardware { cds: vec![path.clone()], ..Unit::hardware() };
    write("one", "#cloud-config\nhostname: edge\nmanage_etc_hosts: true\nfqdn: edge.example.net\nuser: root\n")?;
    unit.boot(hardware())?;
    let from_drive = |status: &Value| status["appliance"]["configuration"] == "from the cloud-init drive";
    let status = unit.status_with("the drive's configuration", |status| {
        from_drive(status) && status["firewall"]["loaded"] == true
    })?;
    ensure!(status["system"]["hostname"] == "edge", "{status}");
    // The drive lists the second card only.
    ensure!(status["wan"]["name"] == "eth1" && status["lans"][0]["interface"]["name"] == "eth0", "{status}");
    unit.power_off()?;

    // Any change of the machine's settings looks like a new instance: what was made of the drive is made again.
    write("two", "#cloud-config\nhostname: brink\n")?;
    unit.boot(hardware())?;
    unit.status_with("the new name", |status| from_drive(status) && status["system"]["hostname"] == "brink")?;
    unit.power_off().map(drop)
}

fn smbios(unit: &mut Unit) -> Result<()> {
    // hostname = "told" / [wan] / mac = "bc:24:11:00:00:01"
    let value = "sixgate.config=aG9zdG5hbWUgPSAidG9sZCIKW3dhbl0KbWFjID0gImJjOjI0OjExOjAwOjAwOjAxIgo=";
    // One of the recipes has two LANs.
    unit.nics = 3;
    unit.boot(Hardware { oem_strings: vec![value.to_owned()], ..Unit::hardware() })?;
    let status = unit.status_with("the value's configuration", |status| status["system"]["hostname"] == "told")?;
    ensure!(status["appliance"]["configuration"] == "from SMBIOS", "{}", status["appliance"]);
    recipes(unit)?;
    let took = unit.power_off()?;
    ensure!(took < STOP, "the power button took {took:?}");
    Ok(())
}

/// Each recipe of `docs/proxmox.md` comes into force on the machine; a backup of the first one brings it back.
fn recipes(unit: &mut Unit) -> Result<()> {
    let guide = include_str!("../../../../docs/proxmox.md");
    let recipes: Vec<&str> = guide
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|text| text.contains("[wan]"))
        .collect();
    ensure!(recipes.len() >= 3, "the guide has {} recipes", recipes.len());
    let mut backup = Value::Null;
    for recipe in recipes {
        // This machine's uplink, in place of the provider's address.
        let text = recipe.replace("00:50:56:00:aa:bb", "bc:24:11:00:00:01");
        let reply = unit.request(&json!({ "apply": { "text": text } }))?;
        ensure!(reply["reply"] == "accepted", "{reply}\n{text}");
        let status = unit.status_with("the recipe in force", |status| {
            let lans = status["lans"].as_array();
            let advertised = |lan: &Value| lan["advertised"]["sent"].as_u64() > Some(0);
            status["firewall"]["loaded"] == true
                && lans.is_some_and(|lans| !lans.is_empty() && lans.iter().all(advertised))
        })?;
        let broken = |finding: &&Value| finding["severity"] == "error" && finding["code"] != "nat64-no-ipv4-uplink";
        let broken = status["findings"].as_array().and_then(|all| all.iter().find(broken));
        ensure!(
            broken.is_none_or(|finding| finding["code"].as_str().is_some_and(|code| code.starts_with("wan-"))),
            "{status}"
        );
        if backup.is_null() {
            backup = unit.request(&json!("backup"))?["backup"].take();
            ensure!(backup["configuration"] == text, "{backup}");
        }
    }
    let reply = unit.request(&json!({ "restore": { "backup": backup } }))?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    unit.status_with("the first recipe again", |status| {
        status["vms"].as_array().is_some_and(|vms| vms.iter().any(|vm| vm["name"] == "vm1"))
    })?;
    Ok(())
}

/// Answers the three questions by keys alone, and says how many it took; `cards` are those of the first question but Enter.
fn answer(unit: &mut Unit, cards: &[&str], uplink: &str) -> Result<usize> {
    let mut keyboard = Keyboard::default();
    keyboard.await_text(unit, "First boot")?;
    keyboard.press(unit, "\r")?;
    keyboard.await_text(unit, "Question 1 of 3")?;
    for key in cards {
        keyboard.press(unit, key)?;
    }
    keyboard.press(unit, "\r")?;
    keyboard.await_text(unit, "Question 2 of 3")?;
    keyboard.press(unit, "\r")?;
    keyboard.await_text(unit, "Question 3 of 3")?;
    keyboard.press(unit, "\r")?;
    keyboard.await_text(unit, "Does it work?")?;
    unit.status_with("the answers in force, on trial", |status| {
        status["wan"]["name"] == uplink && code(status, "configuration-on-trial")
    })?;
    keyboard.press(unit, "y")?;
    unit.status_with("the answers, for good", |status| {
        status["appliance"]["configuration"] == "set on this machine"
            && !code(status, "configuration-on-trial")
            && !code(status, "configuration-made")
    })?;
    Ok(keyboard.pressed)
}

/// The machine proposes what is right. Nobody speaks to it but by the console: the network's hosts know nothing of it.
fn five_keys(unit: &mut Unit) -> Result<()> {
    let begin = Instant::now();
    let network = Network::create(unit, Uplink::FirstCard)?;
    network.ensure_nothing_works()?;
    unit.boot(Unit::hardware())?;
    let pressed = answer(unit, &[], "eth0")?;
    ensure!(pressed == 5, "it took {pressed} keys");
    let visits = network.visits();
    network.await_service()?;
    ensure!(network.visits() > visits, "the site was not visited");
    eprintln!("{pressed} keys, {:.0} s from power-on", begin.elapsed().as_secs_f32());
    unit.power_off().map(drop)
}

fn kept(unit: &mut Unit) -> Result<()> {
    let network = Network::create(unit, Uplink::SecondCard)?;
    unit.boot(Unit::hardware())?;
    unit.status_with("a configuration of its own, with the cards the wrong way round", |status| {
        made(status) && status["wan"]["name"] == "eth0" && status["lans"][0]["advertised"]["sent"].as_u64() > Some(0)
    })?;
    network.ensure_nothing_works()?;
    // The cards change places.
    let pressed = answer(unit, &["l"], "eth1")?;
    ensure!(pressed == 6, "it took {pressed} keys");
    network.await_service()?;
    unit.power_off()?;

    unit.boot(Unit::hardware())?;
    let status = unit.status_with("what was kept, with the cards as they were chosen", |status| {
        status["appliance"]["configuration"] == "as it was kept"
            && status["wan"]["name"] == "eth1"
            && status["lans"][0]["interface"]["name"] == "eth0"
    })?;
    ensure!(!code(&status, "state-renewed") && !code(&status, "configuration-made"), "{status}");
    let reply = unit.request(&json!({ "machine": "factory-reset" }))?;
    ensure!(reply["reply"] == "accepted", "{reply}");
    unit.await_end()?;

    unit.boot(Unit::hardware())?;
    let status = unit.status_with("a configuration of its own", made)?;
    ensure!(code(&status, "state-reset"), "{status}");
    unit.power_off()?;

    // The superblock and all that is known of the files.
    unit.overwrite("state", 0, &vec![0xa5; 1 << 20])?;
    unit.boot(Unit::hardware())?;
    let status =
        unit.status_with("a configuration of its own", |status| made(status) && status["firewall"]["loaded"] == true)?;
    ensure!(code(&status, "state-renewed"), "{status}");
    unit.power_off().map(drop)
}
