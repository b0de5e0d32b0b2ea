//! Real packets over a wire: what is admitted, what is told, what stays over a change.
use super::*;
use crate::testing::{in_namespace, link_local, run, wire};

fn mac(link: &str) -> MacAddr {
    let shown = run(&format!("ip -o link show dev {link}"));
    shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn received() -> u64 {
    let text = run("nstat -asz Ip6InReceives");
    text.lines()
        .find(|line| line.starts_with("Ip6InReceives"))
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_listed_source_passes_another_is_dropped_counted_and_told_and_what_is_held_can_be_read() {
    in_namespace(|| async {
        let [near, _] = wire(["near", "far"]);
        let far = mac("far");
        let own = link_local("far");
        let mut sources = vec![Sources { interface: "near".to_owned(), ..Sources::default() }];
        load(&sources).await.unwrap();
        assert!(loaded().await.unwrap());
        let mut unadmitted = Unadmitted::open().await.unwrap();
        let send = || {
            let socket = std::net::UdpSocket::bind(("::", 0)).unwrap();
            let far = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
            let scope = far.lines().find(|line| line.ends_with(" far")).unwrap().split_whitespace().nth(1).unwrap();
            let scope = u32::from_str_radix(scope, 16).unwrap();
            socket.send_to(b"x", std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 9, 0, scope)).unwrap();
        };
        send();
        let told = unadmitted.next().await.unwrap();
        assert_eq!(told, Unknown { link: near, mac: far, source: own });
        assert!(dropped().await.unwrap().packets >= 1);

        let old = sources.clone();
        sources[0].hosts.insert((far, own));
        sources[0].nets.insert((far, "2001:db8:1::/80".parse().unwrap()));
        sources[0].nets.insert((far, "2001:db8:2::7/128".parse().unwrap()));
        assert!(change(&old, &sources).await.unwrap());
        let before = dropped().await.unwrap();
        let heard = received();
        send();
        for _ in 0..100 {
            if received() > heard {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(received() > heard);
        assert_eq!(dropped().await.unwrap(), before);
        assert_eq!(held().await.unwrap(), [("near".to_owned(), vec![(far, own)])]);
        let listed = run("nft list table netdev sixgate-sources");
        assert!(
            ["@hosts0 accept", "@nets0 accept", "2001:db8:1::/80", "log"].iter().all(|part| listed.contains(part)),
            "{listed}"
        );

        assert!(change(&sources, &old).await.unwrap());
        send();
        assert_eq!(unadmitted.next().await.unwrap().source, own);
        unload().await.unwrap();
        assert!(!loaded().await.unwrap());
        unload().await.unwrap();
    });
}

#[test]
fn thousands_of_hosts_are_loaded() {
    in_namespace(|| async {
        wire(["near", "far"]);
        let host = |n: u32| (MacAddr([2, 0, 0, 0, 0, 1]), Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n)));
        let sources =
            Sources { interface: "near".to_owned(), hosts: (0..4096).map(host).collect(), ..Sources::default() };
        load(std::slice::from_ref(&sources)).await.unwrap();
        assert_eq!(held().await.unwrap()[0].1.len(), 4096);
    });
}
