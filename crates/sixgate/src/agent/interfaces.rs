//! The network interfaces as the host shows them: real cards only, the uplink first, global addresses before others.
use std::fs;
use std::path::Path;

use ipnet::IpNet;
use serde_json::{Value, json};
use sixgate_engine::facts::{Facts, Link};
use sixgate_linux::netlink::Netlink;

use crate::init::CONFIG;

/// All of them.
pub(super) async fn all() -> anyhow::Result<Value> {
    let facts = Netlink::connect()?.read_facts().await?;
    let text = fs::read_to_string(CONFIG).unwrap_or_default();
    let is_real = |link: &Link| Path::new("/sys/class/net").join(&link.name).join("device").exists();
    Ok(list(&facts, &uplink(&text), is_real))
}

/// What a configuration calls its uplink, whatever else is wrong with it.
fn uplink(config: &str) -> String {
    let table: Option<toml::Table> = config.parse().ok();
    let wan = table.as_ref().and_then(|table| table.get("wan"));
    let value = wan.and_then(|wan| wan.get("mac").or_else(|| wan.get("interface"))?.as_str());
    value.unwrap_or_default().to_lowercase()
}

fn list(facts: &Facts, uplink: &str, is_real: impl Fn(&Link) -> bool) -> Value {
    let mut links: Vec<&Link> = facts.links.iter().filter(|link| link.mac.is_some() && is_real(link)).collect();
    let is_uplink = |link: &Link| link.name == uplink || link.mac.is_some_and(|mac| mac.to_string() == uplink);
    links.sort_by_key(|link| (!is_uplink(link), link.index));
    let described = links.into_iter().map(|link| {
        let mut nets: Vec<IpNet> =
            facts.addresses.iter().filter(|address| address.link == link.index).map(|address| address.net).collect();
        nets.sort_by_key(|net| (is_local(net), net.addr().is_ipv6()));
        json!({
            "name": link.name,
            "hardware-address": link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            "ip-addresses": nets.into_iter().map(|net| json!({
                "ip-address": net.addr().to_string(),
                "prefix": net.prefix_len(),
                "ip-address-type": if net.addr().is_ipv4() { "ipv4" } else { "ipv6" },
            })).collect::<Vec<_>>(),
        })
    });
    Value::Array(described.collect())
}

fn is_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sixgate_engine::facts::{Address, AddressState};

    #[test]
    fn the_uplink_comes_first_and_what_is_no_card_is_not_shown() {
        let link = |index, name: &str, mac: Option<&str>| Link {
            index,
            name: name.into(),
            mac: mac.map(|mac| mac.parse().unwrap()),
            mtu: 1500,
            up: true,
            carrier: true,
        };
        let address =
            |link, net: &str| Address { link, net: net.parse().unwrap(), state: AddressState::Ready, ours: true };
        let facts = Facts {
            links: vec![
                link(1, "lo", Some("00:00:00:00:00:00")),
                link(2, "eth0", Some("bc:24:11:00:00:02")),
                link(3, "eth1", Some("bc:24:11:00:00:01")),
                link(4, "nat64", None),
            ],
            addresses: vec![
                address(3, "fe80::1/64"),
                address(3, "2001:db8::2/64"),
                address(3, "192.0.2.5/26"),
                address(2, "fd00::1/64"),
            ],
            ..Facts::default()
        };
        let wan = uplink("[wan]\nmac = \"BC:24:11:00:00:01\"\nnonsense = 1\n");
        let shown = list(&facts, &wan, |link| link.name != "lo");
        assert_eq!(
            (shown[0]["name"].as_str(), shown[1]["name"].as_str(), shown[2].is_null()),
            (Some("eth1"), Some("eth0"), true)
        );
        let addresses: Vec<_> = shown[0]["ip-addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["ip-address"].as_str().unwrap())
            .collect();
        assert_eq!(addresses, ["192.0.2.5", "2001:db8::2", "fe80::1"]);
        assert_eq!(shown[0]["ip-addresses"][0]["prefix"], 26);
    }
}
