//! A provider that resolves every address by Neighbor Solicitation, and takes frames of one hardware address only.
use anyhow::{Result, ensure};
use serde_json::Value;

use super::container::serve;
use crate::lab::{Lab, SOON, await_connection, fetch};
use crate::network::SITE_V6;
use crate::wait;

/// The hardware address that the provider has on its list.
const PRESENTED: &str = "00:50:56:00:aa:bb";

fn neighbours(lab: &Lab) -> Result<Vec<Value>> {
    Ok(lab.internet.ip_json("-6 neighbour show dev eth0")?.as_array().cloned().unwrap_or_default())
}

fn neighbour(lab: &Lab, address: &str) -> Result<Option<Value>> {
    Ok(neighbours(lab)?.into_iter().find(|entry| entry["dst"] == address))
}

pub(super) fn answers(lab: &mut Lab) -> Result<()> {
    // The whole /64 is on the provider's link, as far as the provider knows.
    lab.internet.ip(&format!("route replace 2001:db8:1:2::/64 dev eth0 src {SITE_V6}"))?;
    let config = lab.config("[[allow]]\nto = \"vm1/containers::5\"\ntcp = 8080\n");
    let given = config.lines().find(|line| line.starts_with("ipv6 = ")).unwrap_or_default().to_owned();
    let more = format!("{given}\nndp_proxy = true\npresent_mac = \"{PRESENTED}\"");
    let config = config.replace(&given, &more);
    lab.router.start(&config)?;
    lab.await_service()?;
    lab.bring_hosts_up()?;
    lab.await_status("the proxy to run", |status| status["ndp_proxy"]["mac"] == PRESENTED)?;

    // A SLAAC host is asked for downstream first.
    let host = lab.client.address()?.to_string();
    let url = format!("http://[{SITE_V6}]/");
    let seen = wait::until_ok("a page over a resolved address", SOON, || fetch(&lab.client.namespace, &url))?;
    ensure!(seen.trim() == host, "the server sees {seen}");
    let entry = neighbour(lab, &host)?;
    ensure!(entry.as_ref().is_some_and(|entry| entry["lladdr"] == PRESENTED), "{entry:?}");

    // A container is answered for as part of its VM's prefix; it is reached from outside first.
    let _server = serve(&lab.vm1, 8080)?;
    let container = lab.vm1.containers()?.address;
    await_connection(&lab.internet, container, 8080)?;
    let entry = neighbour(lab, &container.to_string())?;
    ensure!(entry.as_ref().is_some_and(|entry| entry["lladdr"] == PRESENTED), "{entry:?}");

    // Who is not there is not answered for, and neither is what does not lie behind the router.
    for absent in ["2001:db8:1:2::dead", "2001:db8:1:1::dead"] {
        // The answer is awaited below; an error is what is expected here.
        lab.internet.run(&format!("ping -6 -c 1 -W 1 {absent}"))?;
        wait::until_ok(&format!("{absent} to be given up"), SOON, || {
            let entry = neighbour(lab, absent)?;
            let failed = entry.as_ref().is_none_or(|entry| entry["lladdr"].is_null());
            ensure!(failed, "{entry:?}");
            Ok(())
        })?;
    }
    let status = lab.router.status()?;
    let messages = &status["ndp_proxy"]["messages"];
    ensure!(messages["proxy-answered"].as_u64() >= Some(1), "{messages}");
    ensure!(messages["proxy-asked"].as_u64() >= Some(2), "{messages}");
    ensure!(messages["proxy-not-behind"].as_u64() >= Some(1), "{messages}");
    Ok(())
}
