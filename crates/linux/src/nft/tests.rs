//! Rulesets loaded in a namespace, and read back with `nft`.
use sixgate_engine::firewall::ruleset::{
    Chain, ConntrackState, Match, Meter, MeterKey, MeterLimit, Policy as RulePolicy, Rule, Statement,
};
use sixgate_engine::plan::Family as IpFamily;

use super::*;
use crate::testing::{in_namespace, run};

fn rule(matches: Vec<Match>, statements: Vec<Statement>, comment: &str) -> Rule {
    Rule { matches, statements, comment: comment.to_owned() }
}

fn chain(name: &str, hook: Option<(HookPoint, i32, RulePolicy)>, rules: Vec<Rule>) -> Chain {
    let hook = hook.map(|(point, priority, policy)| Hook { point, priority, policy, kind: HookKind::Filter });
    Chain { name: name.to_owned(), hook, rules }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn nets<T: std::str::FromStr<Err: std::fmt::Debug>>(nets: &[&str]) -> Vec<T> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

/// Every condition and statement, alone and as a list.
fn full() -> Ruleset {
    use Statement::{Accept, Counter, Drop, Jump, Notrack, Reject, Return, SetMark};
    let states = |states: &[ConntrackState]| Match::ConntrackState(states.to_vec());
    let raw = vec![
        rule(
            vec![
                Match::InputInterface(names(&["wan"])),
                Match::Family(IpFamily::V4),
                Match::Protocol(vec![6, 17]),
                Match::Destination4(nets(&["192.0.2.5/32"])),
                Match::DestinationPort(vec![40960..=65535]),
            ],
            vec![SetMark { value: 0x0064_0000, mask: 0x00ff_0000 }, Notrack],
            "share",
        ),
        rule(vec![Match::Destination6(nets(&["64:ff9b::/96"]))], vec![Notrack], "legs"),
    ];
    let input = vec![
        rule(
            vec![Match::ConnectionMark { value: 0x0080_0000, mask: 0x0080_0000 }, Match::Protocol(vec![6])],
            vec![Counter, Statement::Reset],
            "ended",
        ),
        rule(vec![states(&[ConntrackState::Established, ConntrackState::Related])], vec![Accept], "flows"),
        rule(vec![states(&[ConntrackState::Invalid])], vec![Counter, Drop], "invalid"),
        rule(vec![Match::Protocol(vec![58])], vec![Jump("icmp6".to_owned())], "icmpv6"),
        rule(
            vec![
                Match::Source4(nets(&["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24", "192.168.1.0/24"])),
                Match::Protocol(vec![6]),
                Match::DestinationPort(vec![22..=22, 80..=90, 85..=100, 443..=443]),
            ],
            vec![Counter, Accept],
            "allow line 7",
        ),
        rule(vec![Match::Mark { value: 0x0064_0000, mask: 0x00ff_0000 }], vec![Return], ""),
        rule(vec![Match::DestinationIsLocal, Match::Protocol(vec![1]), Match::IcmpType(vec![8])], vec![Accept], "ping"),
        rule(vec![Match::InputInterface(Vec::new())], vec![Accept], "nobody"),
        rule(vec![Match::RateUnder { per_second: 10, burst: 20 }], vec![Counter, Reject], "refused"),
        rule(Vec::new(), vec![Counter, Drop], "end of input"),
    ];
    let forward = vec![
        rule(
            vec![
                Match::InputInterface(names(&["lan0", "lan1"])),
                Match::OutputInterface(names(&["wan", "nat64"])),
                Match::Source6(nets(&["2001:db8:1::/64", "2001:db8:2::/80", "2001:db8:3::5/128"])),
            ],
            vec![Accept],
            "out",
        ),
        rule(vec![Match::Source6(nets(&["::/0"])), states(&[ConntrackState::Untracked])], vec![Counter], "any"),
        rule(vec![Match::Protocol(vec![1]), Match::IcmpType(vec![0, 3, 11, 12])], vec![Accept], "errors"),
        rule(vec![Match::Protocol(vec![6]), Match::OpensNothing], vec![Accept], "answers"),
    ];
    let icmp6 = vec![rule(
        vec![Match::Icmpv6Type(vec![133, 134, 135, 136]), Match::HopLimit(255)],
        vec![Counter, Accept],
        "RFC 4890 section 4.4.1",
    )];
    Ruleset {
        table: "sixgate".to_owned(),
        sets: Vec::new(),
        timed: Vec::new(),
        chains: vec![
            chain("raw", Some((HookPoint::Prerouting, -300, RulePolicy::Accept)), raw),
            chain("input", Some((HookPoint::Input, 0, RulePolicy::Drop)), input),
            chain("forward", Some((HookPoint::Forward, 0, RulePolicy::Drop)), forward),
            chain("icmp6", None, icmp6),
        ],
    }
}

/// What `nft` says of a table, one rule a line, blanks condensed.
fn listed() -> Vec<String> {
    let text = run("nft --stateless --numeric list table inet sixgate");
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        // Long sets are broken after a comma.
        match lines.last_mut() {
            Some(last) if last.ends_with(',') => *last = format!("{last} {line}"),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.iter().map(|line| with_sorted_set(line)).collect()
}

/// A hashed set is listed in no particular order.
fn with_sorted_set(line: &str) -> String {
    let parts = line.split(" }").map(|part| match part.split_once("{ ") {
        None => part.to_owned(),
        Some((before, elements)) => {
            let mut elements: Vec<&str> = elements.split(", ").collect();
            elements.sort_unstable();
            format!("{before}{{ {}", elements.join(", "))
        }
    });
    parts.collect::<Vec<_>>().join(" }")
}

#[test]
fn every_condition_and_statement_reads_back_from_nft_as_it_was_meant() {
    in_namespace(|| async {
        load(&full(), &[]).await.unwrap();
        let expected = [
            "table inet sixgate {",
            "chain raw {",
            "type filter hook prerouting priority -300; policy accept;",
            r#"iifname "wan" meta l4proto { 17, 6 } ip daddr 192.0.2.5 th dport 40960-65535 meta mark set meta mark & 0xff64ffff | 0x00640000 notrack comment "share""#,
            r#"ip6 daddr 64:ff9b::/96 notrack comment "legs""#,
            "}",
            "chain input {",
            "type filter hook input priority 0; policy drop;",
            r#"ct mark & 0x00800000 == 0x00800000 meta l4proto 6 counter reject with tcp reset comment "ended""#,
            r#"ct state 0x2,0x4 accept comment "flows""#,
            r#"ct state 0x1 counter drop comment "invalid""#,
            r#"meta l4proto 58 jump icmp6 comment "icmpv6""#,
            r#"ip saddr { 10.0.0.0/8, 192.168.0.0/23 } tcp dport { 22, 443, 80-100 } counter accept comment "allow line 7""#,
            "meta mark & 0x00ff0000 == 0x00640000 return",
            r#"fib daddr type 2 icmp type 8 accept comment "ping""#,
            r#"limit rate 10/second burst 20 packets counter reject with icmpx 3 comment "refused""#,
            r#"counter drop comment "end of input""#,
            "}",
            "chain forward {",
            "type filter hook forward priority 0; policy drop;",
            r#"iifname { "lan0", "lan1" } oifname { "nat64", "wan" } ip6 saddr { 2001:db8:1::/64, 2001:db8:2::/80, 2001:db8:3::5 } accept comment "out""#,
            r#"meta nfproto 10 ct state 0x40 counter comment "any""#,
            r#"icmp type { 0, 11, 12, 3 } accept comment "errors""#,
            r#"tcp flags != 0x2 / 0x2,0x4,0x10 accept comment "answers""#,
            "}",
            "chain icmp6 {",
            r#"icmpv6 type { 133, 134, 135, 136 } ip6 hoplimit 255 counter accept comment "RFC 4890 section 4.4.1""#,
            "}",
            "}",
        ];
        assert_eq!(listed(), expected);
    });
}

/// What `nft` makes of the ruleset's own text, in the words of [`listed`].
fn listed_from_text(ruleset: &Ruleset) -> Vec<String> {
    let file =
        std::env::temp_dir().join(format!("sixgate-{}-{:?}.nft", std::process::id(), std::thread::current().id()));
    std::fs::write(&file, ruleset.to_string()).unwrap();
    run(&format!("nft -f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    let listed = listed();
    run("nft delete table inet sixgate");
    // Our states are bits of one mask, which is faster than a set of them and the same.
    let states = |line: &String| match line.split_once("ct state { ").and_then(|(a, b)| Some((a, b.split_once(" }")?)))
    {
        Some((before, (states, behind))) => format!("{before}ct state {}{behind}", states.replace(", ", ",")),
        None => line.clone(),
    };
    listed.iter().map(states).collect()
}

#[test]
fn the_kernel_holds_what_the_text_of_the_ruleset_says() {
    in_namespace(|| async {
        let text = include_str!("../../../../tests/vectors/plan/slash76/config.toml");
        let config = sixgate_engine::config::parse(text, "config.toml").unwrap();
        let facts = sixgate_engine::plan::preview_facts(&config);
        let planned = sixgate_engine::plan::plan(&config, &facts).firewall;
        assert!(planned.chains.iter().map(|chain| chain.rules.len()).sum::<usize>() > 20, "a real one");
        let mut every = full();
        for chain in &mut every.chains {
            // `nft` refuses an empty list and lists that overlap, and compares with a prefix of no length.
            chain.rules.retain(|rule| !matches!(rule.comment.as_str(), "nobody" | "allow line 7" | "any"));
        }
        for ruleset in [planned, sixgate_engine::firewall::closed(), every] {
            let expected = listed_from_text(&ruleset);
            load(&ruleset, &[]).await.unwrap();
            assert_eq!(listed(), expected);
            unload("sixgate").await.unwrap();
        }
    });
}

#[test]
fn loading_again_replaces_the_table_and_leaves_other_tables_alone() {
    in_namespace(|| async {
        run("nft add table inet stranger");
        run("nft add chain inet stranger c");
        assert!(!loaded("sixgate").await.unwrap());
        load(&full(), &[]).await.unwrap();
        load(&full(), &[]).await.unwrap();
        assert!(loaded("sixgate").await.unwrap());
        let small = Ruleset {
            table: "sixgate".to_owned(),
            sets: Vec::new(),
            timed: Vec::new(),
            chains: vec![chain("only", None, Vec::new())],
        };
        load(&small, &[]).await.unwrap();
        assert_eq!(listed(), ["table inet sixgate {", "chain only {", "}", "}"]);
        unload("sixgate").await.unwrap();
        unload("sixgate").await.unwrap();
        assert_eq!(run("nft list ruleset").split_whitespace().collect::<String>(), "tableinetstranger{chainc{}}");
    });
}

#[test]
fn a_refused_ruleset_leaves_the_old_one_in_force() {
    in_namespace(|| async {
        load(&full(), &[]).await.unwrap();
        let before = listed();
        let mut broken = full();
        broken.chains[1].rules.push(rule(Vec::new(), vec![Statement::Jump("nowhere".to_owned())], "broken"));
        let error = load(&broken, &[]).await.unwrap_err();
        assert_eq!(error.errno, Some(libc::ENOENT), "{error}");
        assert_eq!(listed(), before);
    });
}

#[test]
fn packets_are_judged_and_counted_by_comment() {
    in_namespace(|| async {
        let udp = |interfaces: &[&str]| Match::InputInterface(names(interfaces));
        let rules = vec![
            rule(
                vec![udp(&["eth9", "lo"]), Match::Protocol(vec![17]), Match::DestinationPort(vec![9..=9])],
                vec![Statement::Counter, Statement::Accept],
                "nine",
            ),
            rule(
                vec![Match::Source4(nets(&["127.0.0.0/8", "10.0.0.0/8"]))],
                vec![Statement::Counter, Statement::Drop],
                "rest",
            ),
        ];
        let ruleset = Ruleset {
            table: "sixgate".to_owned(),
            sets: Vec::new(),
            timed: Vec::new(),
            chains: vec![chain("input", Some((HookPoint::Input, 0, RulePolicy::Accept)), rules)],
        };
        load(&ruleset, &[]).await.unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in [9, 9, 10] {
            // Nobody listens on 9, so a later send may report that.
            let _ = socket.send_to(b"1234", ("127.0.0.1", port));
        }
        let counted = counters(&ruleset).await.unwrap();
        let counted: Vec<(&str, u64, u64)> =
            counted.iter().map(|c| (c.comment.as_str(), c.traffic.packets, c.traffic.bytes)).collect();
        // The third one is the ICMP error about port 9 whose send was tried in vain.
        assert_eq!(counted[0], ("nine", 2, 64), "{counted:?}");
        assert_eq!(counted[1].0, "rest");
        assert!(counted[1].1 >= 1, "{counted:?}");
    });
}

#[test]
fn two_thousand_prefixes_fit_into_one_transaction() {
    in_namespace(|| async {
        let prefixes = (0..2000u16).map(|n| format!("2001:db8:{:x}::/64", n * 2).parse().unwrap()).collect();
        let rules = vec![rule(vec![Match::Source6(prefixes)], vec![Statement::Accept], "many")];
        let ruleset = Ruleset {
            table: "sixgate".to_owned(),
            sets: Vec::new(),
            timed: Vec::new(),
            chains: vec![chain("many", None, rules)],
        };
        load(&ruleset, &[]).await.unwrap();
        load(&ruleset, &[]).await.unwrap();
        assert_eq!(run("nft list table inet sixgate").matches("2001:db8:").count(), 2000);
    });
}

#[test]
fn each_source_has_a_limit_of_its_own() {
    in_namespace(|| async {
        let meter = |set: &str, key, limit| Match::Over(Meter { set: set.to_owned(), key, limit });
        let drop =
            |condition: Match, comment| rule(vec![condition], vec![Statement::Counter, Statement::Drop], comment);
        let many = MeterLimit::Connections(2);
        let fast = MeterLimit::PerSecond { rate: 1, burst: 5 };
        let rules = vec![
            drop(meter("hosts", MeterKey::Hardware, MeterLimit::Connections(1000)), "drop: host"),
            rule(
                vec![Match::ConntrackState(vec![ConntrackState::Established])],
                vec![Statement::Accept],
                "established",
            ),
            rule(
                vec![Match::Protocol(vec![6]), Match::DestinationPort(vec![9000..=9000]), Match::ConnectionsUnder(2)],
                vec![Statement::Counter, Statement::Accept],
                "under",
            ),
            drop(meter("sources4", MeterKey::Source4, many), "drop: many"),
            drop(meter("sources6", MeterKey::Source6, fast), "drop: fast"),
        ];
        let ruleset = Ruleset {
            table: "sixgate".to_owned(),
            chains: vec![chain("input", Some((HookPoint::Input, 0, RulePolicy::Accept)), rules)],
            ..Ruleset::default()
        };
        load(&ruleset, &[]).await.unwrap();
        let sockets = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = sockets();
        let clients: Vec<_> = (0..6).map(|_| sockets()).collect();
        for client in &clients {
            client.send_to(b"1234", server.local_addr().unwrap()).unwrap();
        }
        // ::1 and ::2 lie in one /64. Somebody listens: no errors come back, which would be counted as well.
        let listener = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let begun = std::time::Instant::now();
        for source in ["::1", "::2"] {
            run(&format!("ip address replace {source}/128 dev lo nodad"));
            for _ in 0..10 {
                let client = std::net::UdpSocket::bind((source, 0)).unwrap();
                client.send_to(b"1234", listener.local_addr().unwrap()).unwrap();
            }
        }
        let counted = counters(&ruleset).await.unwrap();
        let of = |comment: &str| counted.iter().find(|held| held.comment == comment).unwrap().traffic.packets;
        assert_eq!(of("drop: many"), 4, "two of six have room: {counted:?}");
        let passed = 5 + 1 + begun.elapsed().as_secs();
        let (least, most) = (20_u64.saturating_sub(passed), 20 - 5);
        assert!((least..=most).contains(&of("drop: fast")), "five at once, then one a second: {counted:?}");
        let listed = run("nft list table inet sixgate");
        assert!(listed.contains("ct count 2 counter"), "{listed}");
        assert!(listed.contains("add @sources4 { ip saddr ct count over 2 }"), "{listed}");
        assert!(listed.contains("ip6 saddr & ffff:ffff:ffff:ffff:: limit rate over 1/second"), "{listed}");
    });
}

#[test]
fn a_comment_too_long_is_cut_at_a_character() {
    assert_eq!(comment(&"ä".repeat(100)), "ä".repeat(63));
    assert_eq!(comment("a\0b"), "a");
}
