//! Router advertisements beyond the ordinary: what real clients make of them, and other routers on the link.
use std::net::Ipv6Addr;

use anyhow::{Context, Result, ensure};

use super::client::ping;
use crate::lab::{Lab, SOON, finding};
use crate::network::SITE_V6;
use crate::packet::{Advertisement, Tap};
use crate::server::radvd::Radvd;
use crate::wait;

const ADVERTISE: &str = r#"[lan.advertise]
max_rtr_adv_interval = 30
adv_cur_hop_limit = 61
adv_reachable_time = 20000
adv_retrans_timer = 2000
default_router_preference = "high"
route = [{ prefix = "2001:db8:77::/48", preference = "low", lifetime = 900 }]
captive_portal = "https://portal.lab.test/api"
encrypted_dns = [{ name = "dns.lab.test", addresses = ["2001:db8:1:2::1"], alpn = "dot" }]
adv_prefix_list = [{ prefix = "2001:db8:1:2::/64", adv_valid_lifetime = 3600, adv_preferred_lifetime = 1800, adv_pd_preferred_flag = true }]

[[vm]]
"#;

/// What the kernel of a host says of its route to a destination.
fn route(lab: &Lab, words: &str) -> Result<String> {
    lab.client.namespace.ip(&format!("-6 route show {words}"))
}

pub(super) fn tells_everything(lab: &mut Lab) -> Result<()> {
    let config = lab.config("").replace("advertise = true\n", "").replacen("[[vm]]\n", ADVERTISE, 1);
    // Linux takes routes from advertisements where it is told to.
    lab.client.namespace.set_sysctl("net/ipv6/conf/eth0/accept_ra_rt_info_max_plen", "64")?;
    lab.client.bring_up()?;
    lab.router.start(&config)?;
    lab.await_service()?;
    let client = &lab.client.namespace;
    lab.client.address()?;
    wait::until_ok("the route out of the advertisement", SOON, || {
        let route = route(lab, "2001:db8:77::/48")?;
        ensure!(route.contains("pref low") && route.contains("proto ra"), "{route}");
        Ok(())
    })?;
    let default = route(lab, "default")?;
    ensure!(default.contains("pref high") && default.contains("hoplimit 61"), "{default}");
    for (key, value) in [("retrans_time_ms", "2000"), ("base_reachable_time_ms", "20000")] {
        let held = client.sysctl(&format!("net/ipv6/neigh/eth0/{key}"))?;
        ensure!(held.trim() == value, "{key} is {held}");
    }

    // rdisc6 reads it independently.
    let said = client.run("rdisc6 -1 -r 4 -w 3000 eth0")?.text()?;
    for part in [
        "Router preference         :       high",
        "Hop limit                 :           61",
        "Route                    : 2001:db8:77::/48",
        "Route preference        :          low",
        "Valid time              :         3600",
        "Pref. time              :         1800",
        "Recursive DNS server     : 2001:db8:1:2::1",
    ] {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(words(&said).contains(&words(part)), "{part} is not in {said}");
    }
    says_what_radvd_says(lab)?;
    // It was answered alone.
    lab.await_status("an answer to one host", |status| status["lans"][0]["advertised"]["unicast"].as_u64() > Some(0))?;

    // Who asks without end is not answered without end; another host is.
    wait::until_ok("solicitations that were too many", SOON, || {
        lab.client.namespace.run("rdisc6 -1 -q -r 1 -w 600 eth0")?;
        let status = lab.router.status()?;
        let dropped = &status["lans"][0]["advertised"]["dropped"];
        ensure!(dropped["ra-solicited-too-often"].as_u64() > Some(0), "{dropped}");
        Ok(())
    })?;
    lab.vm1.bring_up()?;
    lab.vm1.address()?;
    let mut tap = Tap::open(&lab.vm1.namespace, "eth0")?;
    lab.vm1.namespace.run("rdisc6 -1 -q -r 4 -w 3000 eth0")?.text()?;
    tap.advertisement("an answer to another host", SOON, |said| said.prefixes.len() == 1)?;

    // The link loses its carrier and finds it again: hosts hear of the router at once.
    let before = advertised(lab)?;
    let switch = lab.world.switch();
    let names: Vec<String> = switch
        .ip("-o link show")?
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter_map(|name| name.split('@').next())
        .filter(|name| name.starts_with("router-eth1"))
        .map(str::to_owned)
        .collect();
    let port = names.first().context("the router's port of the LAN")?;
    switch.ip(&format!("link set {port} down"))?;
    lab.await_finding("lan-no-carrier")?;
    lab.world.switch().ip(&format!("link set {port} up"))?;
    wait::until_ok("advertisements on a link that came back", SOON, || {
        let now = advertised(lab)?;
        ensure!(now > before, "{now} and {before}");
        Ok(())
    })?;
    ping(&lab.client.namespace, SITE_V6)
}

/// The same words for radvd, which knows neither PREF64, captive portals, encrypted resolvers nor the P flag.
const RADVD: &str = "MaxRtrAdvInterval 30; AdvCurHopLimit 61; AdvReachableTime 20000; AdvRetransTimer 2000;
    AdvDefaultPreference high; AdvLinkMTU 1500; RDNSS 2001:db8:1:2::1 { AdvRDNSSLifetime 90; };
    prefix 2001:db8:1:2::/64 { AdvOnLink off; AdvValidLifetime 3600; AdvPreferredLifetime 1800; };
    route 2001:db8:77::/48 { AdvRoutePreference low; AdvRouteLifetime 900; };";

/// Field by field: the fixed part, and each option that radvd sends.
fn says_what_radvd_says(lab: &Lab) -> Result<()> {
    let ours = lab.solicit(&lab.client)?;
    let (peer, listener) = (lab.world.host("radvd")?, lab.world.host("listener")?);
    peer.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    lab.world.cable((&peer, "eth0"), (&listener, "eth0"))?;
    let mut tap = Tap::open(&listener, "eth0")?;
    let _radvd = Radvd::start(&lab.world, &peer, "radvd-same", RADVD)?;
    let theirs = tap.advertisement("radvd's", SOON, |_| true)?;
    ensure!(ours.message[4..16] == theirs.message[4..16], "{:?}\n{:?}", ours.message, theirs.message);
    let told = |said: &Advertisement| -> Vec<Vec<u8>> {
        let mut options: Vec<Vec<u8>> = said.options().into_iter().map(<[u8]>::to_vec).collect();
        // Whose message it is differs, and the P flag is not radvd's to know.
        options.retain(|option| option[0] != 1);
        // RFC 4191 section 2.3: a prefix of 48 bits may take 8 bytes or 16.
        for route in options.iter_mut().filter(|option| option[0] == 24) {
            route.resize(24, 0);
            route[1] = 3;
        }
        options.iter_mut().filter(|option| option[0] == 3).for_each(|option| option[3] &= 0xe0);
        options
    };
    let (ours, theirs) = (told(&ours), told(&theirs));
    ensure!(theirs.len() == 4, "{theirs:?}");
    for option in &theirs {
        ensure!(ours.contains(option), "{option:?} is not in {ours:?}");
    }
    Ok(())
}

fn advertised(lab: &mut Lab) -> Result<u64> {
    let status = lab.router.status()?;
    status["lans"][0]["advertised"]["sent"].as_u64().context("advertisements are counted")
}

pub(super) fn notices_others(lab: &mut Lab) -> Result<()> {
    let words = "AdvLinkMTU 1400; prefix 2001:db8:bad::/64 { };";
    let host = &lab.vm2.namespace;
    host.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let rogue = Radvd::start(&lab.world, host, "rogue", words)?;
    let other = lab.await_finding("lan-other-router")?;
    let text = other["text"].as_str().unwrap_or_default();
    ensure!(text.contains("2001:db8:bad::/64") && text.contains("52:54:00:00:02:12"), "{text}");
    let contradicts = lab.await_finding("lan-router-contradicts")?;
    ensure!(contradicts["text"].as_str().is_some_and(|text| text.contains("AdvLinkMTU 1400 against 1500")));
    let status = lab.router.status()?;
    let shown = &status["lans"][0]["advertised"]["other_routers"][0];
    ensure!(shown["expected"] == false && shown["heard"].as_u64() > Some(0), "{shown}");
    drop(rogue);

    // One that is meant to be there is none.
    let address = shown["address"].as_str().context("its address")?.to_owned();
    let _other = Radvd::start(&lab.world, &lab.vm2.namespace, "meant", "IgnoreIfMissing on;")?;
    let table = format!("[lan.advertise]\nother_routers = \"{address}\"\n\n[[vm]]\n");
    let config = lab.config("").replace("advertise = true\n", "").replacen("[[vm]]\n", &table, 1);
    let router = lab.router.in_namespace()?;
    router.write_config(&config)?;
    router.signal(rustix::process::Signal::HUP)?;
    lab.await_status("the other router to be expected", |status| {
        finding(status, "lan-other-router").is_none()
            && status["lans"][0]["advertised"]["other_routers"][0]["expected"] == true
    })?;
    Ok(())
}

/// A second prefix, and everything else that has a lifetime.
const MORE: &str = r#"[lan.advertise]
max_rtr_adv_interval = 30
route = [{ prefix = "2001:db8:77::/48" }, { prefix = "2001:db8:78::/48" }]
captive_portal = "https://portal.lab.test/api"
encrypted_dns = [{ name = "dns.lab.test", addresses = ["2001:db8:1:2::1"], alpn = "dot" }]

[[vm]]
"#;
const TWO: &str = "addresses = [\"2001:db8:1:2::1/64\", \"2001:db8:1:7::1/64\"]";

/// A host's address in a prefix, and whether it is deprecated.
fn held(lab: &Lab, prefix: &str) -> Result<Option<bool>> {
    let shown = lab.client.namespace.ip("-6 address show dev eth0 scope global")?;
    let line = shown.lines().find(|line| line.contains(&format!("inet6 {prefix}")));
    Ok(line.map(|line| line.contains("deprecated")))
}

pub(super) fn takes_back(lab: &mut Lab) -> Result<()> {
    let plain = lab.config("").replace("advertise = true\n", "");
    let full = plain.replacen("[[vm]]\n", MORE, 1).replace("addresses = [\"2001:db8:1:2::1/64\"]", TWO);
    let full = full.replace("dnssec = false", "dnssec = false\nsearch = [\"lab.test\"]");
    lab.client.namespace.set_sysctl("net/ipv6/conf/eth0/accept_ra_rt_info_max_plen", "64")?;
    lab.client.bring_up()?;
    lab.router.start(&full)?;
    lab.await_service()?;
    wait::until_ok("an address out of each prefix, and both routes", SOON, || {
        for prefix in ["2001:db8:1:2:", "2001:db8:1:7:"] {
            ensure!(held(lab, prefix)? == Some(false), "{prefix}");
        }
        for prefix in ["2001:db8:77::/48", "2001:db8:78::/48"] {
            ensure!(!route(lab, prefix)?.is_empty(), "{prefix}");
        }
        Ok(())
    })?;

    // A reload without the second prefix, and without most of what was advertised.
    let less =
        plain.replacen("[[vm]]\n", "[lan.advertise]\nroute = [{ prefix = \"2001:db8:77::/48\" }]\n\n[[vm]]\n", 1);
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let router = lab.router.in_namespace()?;
    router.write_config(&less)?;
    router.signal(rustix::process::Signal::HUP)?;
    let old: Ipv6Addr = "2001:db8:1:7::".parse()?;
    let said = tap.advertisement("the old prefix as deprecated", SOON, |said| {
        said.prefixes.iter().any(|info| info.prefix == (old, 64) && info.preferred == 0)
    })?;
    // RFC 9096 section 3.5.
    ensure!(said.prefixes.iter().any(|info| info.prefix.0 == old && (1..=5400).contains(&info.valid)), "{said:?}");
    let lifetime = |prefix: &str| said.routes.iter().find(|route| route.0.to_string() == prefix).map(|route| route.2);
    ensure!(lifetime("2001:db8:78::") == Some(0) && lifetime("2001:db8:77::") > Some(0), "{said:?}");
    ensure!(said.domains == [0] && said.encrypted == [0], "{said:?}");
    ensure!(said.portals == ["urn:ietf:params:capport:unrestricted"], "{said:?}");
    wait::until_ok("the host to believe it", SOON, || {
        ensure!(held(lab, "2001:db8:1:2:")? == Some(false) && held(lab, "2001:db8:1:7:")? == Some(true));
        let (kept, gone) = (route(lab, "2001:db8:77::/48")?, route(lab, "2001:db8:78::/48")?);
        ensure!(!kept.is_empty() && gone.is_empty(), "{kept}{gone}");
        Ok(())
    })?;
    let status = lab.router.status()?;
    let withdrawn = &status["lans"][0]["advertised"]["withdrawn"];
    ensure!(withdrawn.as_array().is_some_and(|all| all.contains(&"2001:db8:1:7::/64".into())), "{withdrawn}");

    // A file that is changed while no daemon is there is the same, and what was taken back before goes on to be.
    lab.router.in_namespace()?.end(rustix::process::Signal::USR1)?;
    let mut tap = Tap::open(&lab.client.namespace, "eth0")?;
    let router = lab.router.in_namespace()?;
    router.write_config(&plain)?;
    router.start_again()?;
    let said = tap.advertisement("all of it after a restart", SOON, |said| said.routes.len() == 2)?;
    ensure!(said.routes.iter().all(|route| route.2 == 0) && said.encrypted == [0], "{said:?}");
    ensure!(said.prefixes.iter().any(|info| info.prefix == (old, 64) && info.preferred == 0), "{said:?}");
    wait::until_ok("the host to forget the other route", SOON, || {
        let gone = route(lab, "2001:db8:77::/48")?;
        ensure!(gone.is_empty(), "{gone}");
        Ok(())
    })?;

    // What comes back is preferred again.
    let router = lab.router.in_namespace()?;
    router.write_config(&full)?;
    router.signal(rustix::process::Signal::HUP)?;
    wait::until_ok("the second prefix to be preferred again", SOON, || {
        ensure!(held(lab, "2001:db8:1:7:")? == Some(false));
        ensure!(!route(lab, "2001:db8:78::/48")?.is_empty());
        Ok(())
    })
}
