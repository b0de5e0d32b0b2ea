//! The file as serde sees it: every key with its place, nothing judged but its type.
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

/// A key that may be absent, with its place in the file.
pub(super) type Key<T> = Option<Spanned<T>>;

/// `[wan]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wan {
    pub(super) interface: Key<String>,
    pub(super) mac: Key<String>,
    pub(super) mtu: Key<i64>,
    pub(super) ipv4: Key<WordOr<Uplink>>,
    pub(super) ipv6: Key<WordOr<Uplink>>,
    pub(super) prefix_hint: Key<i64>,
    pub(super) present_mac: Key<String>,
    pub(super) ndp_proxy: Key<bool>,
    pub(super) masquerade_ula: Key<bool>,
    pub(super) bogons: Key<bool>,
}

/// `wan.ipv4 = { .. }` and `wan.ipv6 = { .. }`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uplink {
    pub(super) address: Key<String>,
    pub(super) gateway: Key<String>,
}

/// `[[lan]]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lan {
    pub(super) name: Key<String>,
    pub(super) interface: Key<String>,
    pub(super) mac: Key<String>,
    pub(super) addresses: Key<OneOrMany<String>>,
    pub(super) ipv4: Key<String>,
    pub(super) advertise: Key<SwitchOr<Advertise>>,
    pub(super) mtu: Key<i64>,
    pub(super) prefix: Key<TableOrMany<LanPrefix>>,
    pub(super) anti_spoofing: Key<bool>,
    pub(super) dhcpv6: Key<String>,
}

/// `lan.prefix`: a prefix that is not in the file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LanPrefix {
    pub(super) delegated: Key<String>,
    pub(super) learnt: Key<String>,
    pub(super) ula: Key<bool>,
    pub(super) subnet: Key<i64>,
    pub(super) length: Key<i64>,
    pub(super) router: Key<String>,
}

/// `[lan.advertise]`: RFC 4861 section 6.2.1 in snake case.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advertise {
    pub(super) max_rtr_adv_interval: Key<i64>,
    pub(super) min_rtr_adv_interval: Key<i64>,
    pub(super) adv_managed_flag: Key<bool>,
    pub(super) adv_other_config_flag: Key<bool>,
    pub(super) adv_link_mtu: Key<i64>,
    pub(super) adv_reachable_time: Key<i64>,
    pub(super) adv_retrans_timer: Key<i64>,
    pub(super) adv_cur_hop_limit: Key<i64>,
    pub(super) adv_default_lifetime: Key<i64>,
    pub(super) adv_valid_lifetime: Key<i64>,
    pub(super) adv_preferred_lifetime: Key<i64>,
    pub(super) adv_on_link_flag: Key<bool>,
    pub(super) adv_autonomous_flag: Key<bool>,
    pub(super) adv_send_advertisements: Key<bool>,
    pub(super) adv_pd_preferred_flag: Key<bool>,
    pub(super) adv_prefix_list: Key<Vec<Spanned<AdvPrefix>>>,
    pub(super) default_router_preference: Key<String>,
    pub(super) route: Key<Vec<Spanned<AdvRoute>>>,
    pub(super) captive_portal: Key<String>,
    pub(super) encrypted_dns: Key<Vec<Spanned<AdvEncryptedDns>>>,
    pub(super) unicast_answers: Key<bool>,
    pub(super) unicast_only: Key<bool>,
    pub(super) other_routers: Key<OneOrMany<String>>,
}

/// `lan.advertise.adv_prefix_list`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdvPrefix {
    pub(super) prefix: Key<String>,
    pub(super) adv_valid_lifetime: Key<i64>,
    pub(super) adv_preferred_lifetime: Key<i64>,
    pub(super) adv_on_link_flag: Key<bool>,
    pub(super) adv_autonomous_flag: Key<bool>,
    pub(super) adv_pd_preferred_flag: Key<bool>,
}

/// `lan.advertise.route`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdvRoute {
    pub(super) prefix: Key<String>,
    pub(super) preference: Key<String>,
    pub(super) lifetime: Key<i64>,
}

/// `lan.advertise.encrypted_dns`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdvEncryptedDns {
    pub(super) name: Key<String>,
    pub(super) addresses: Key<OneOrMany<String>>,
    pub(super) priority: Key<i64>,
    pub(super) alpn: Key<OneOrMany<String>>,
    pub(super) port: Key<i64>,
    pub(super) dohpath: Key<String>,
}

/// `[[vm]]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vm {
    pub(super) name: Key<String>,
    pub(super) lan: Key<String>,
    pub(super) gateway: Key<String>,
    pub(super) address: Key<String>,
    pub(super) mac: Key<String>,
    pub(super) containers: Key<OneOrMany<String>>,
}

/// `[[route]]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) to: Key<String>,
    pub(super) via: Key<String>,
}

/// `[[npt]]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Npt {
    pub(super) inside: Key<String>,
    pub(super) outside: Key<String>,
    pub(super) delegated: Key<String>,
    pub(super) subnet: Key<i64>,
}

/// `[[ddns]]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ddns {
    pub(super) name: Key<String>,
    pub(super) to: Key<String>,
    pub(super) records: Key<OneOrMany<String>>,
    pub(super) server: Key<String>,
    pub(super) zone: Key<String>,
    pub(super) ttl: Key<i64>,
    pub(super) key: Key<String>,
    pub(super) secret: Key<String>,
    pub(super) algorithm: Key<String>,
    pub(super) url: Key<String>,
    pub(super) user: Key<String>,
    pub(super) password: Key<String>,
}

/// `[dns64]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dns64 {
    pub(super) enabled: Key<bool>,
    pub(super) upstream: Key<OneOrMany<String>>,
    pub(super) upstream_authority: Key<OneOrMany<String>>,
    pub(super) certificate: Key<String>,
    pub(super) key: Key<String>,
    pub(super) search: Key<OneOrMany<String>>,
    pub(super) untranslated: Key<OneOrMany<String>>,
    pub(super) exclude: Key<OneOrMany<String>>,
    pub(super) exclude_ipv4: Key<OneOrMany<String>>,
    pub(super) never: Key<OneOrMany<String>>,
    pub(super) always: Key<OneOrMany<String>>,
    pub(super) forward: Key<Vec<Spanned<Forward>>>,
    pub(super) map: Key<Vec<Spanned<PrefixMap>>>,
    pub(super) rebinding_protection: Key<bool>,
    pub(super) private_domains: Key<OneOrMany<String>>,
    pub(super) rate: Key<i64>,
    pub(super) dnssec: Key<bool>,
    pub(super) trust_anchor: Key<OneOrMany<String>>,
    pub(super) insecure_domains: Key<OneOrMany<String>>,
    pub(super) domain: Key<String>,
    pub(super) host: Key<Vec<Spanned<DnsHost>>>,
    pub(super) cache: Key<i64>,
    pub(super) serve_stale: Key<i64>,
    pub(super) workers: Key<i64>,
    pub(super) fast_path: Key<bool>,
}

/// `dns64.forward`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forward {
    pub(super) domain: Key<String>,
    pub(super) upstream: Key<OneOrMany<String>>,
}

/// `dns64.map`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrefixMap {
    pub(super) ipv4: Key<String>,
    pub(super) prefix: Key<String>,
}

/// `dns64.host`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DnsHost {
    pub(super) name: Key<String>,
    pub(super) address: Key<OneOrMany<String>>,
}

/// `[nat64]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nat64 {
    pub(super) enabled: Key<bool>,
    pub(super) prefix: Key<OneOrMany<String>>,
    pub(super) ports: Key<String>,
    pub(super) pool: Key<OneOrMany<String>>,
    pub(super) pool_ports: Key<String>,
    pub(super) port_block: Key<i64>,
    pub(super) never_translate: Key<OneOrMany<String>>,
    pub(super) translate_non_global: Key<OneOrMany<String>>,
    pub(super) filtering: Key<String>,
    pub(super) memory: Key<i64>,
    pub(super) max_sessions: Key<i64>,
    pub(super) limits: Key<Limits>,
    pub(super) tos: Key<i64>,
    pub(super) traffic_class: Key<i64>,
    pub(super) lowest_ipv6_mtu: Key<i64>,
    pub(super) udp_checksum_zero: Key<String>,
    pub(super) clamp_mss: Key<bool>,
    pub(super) fast_path: Key<bool>,
    pub(super) fast_path_sessions: Key<i64>,
    pub(super) icmp_errors_per_second: Key<i64>,
    pub(super) shortcut: Key<bool>,
    pub(super) timers: Key<Timers>,
    pub(super) log: Key<Log>,
}

/// `[nat64.log]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) to: Key<String>,
    pub(super) sessions: Key<bool>,
}

/// `[nat64.limits]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) prefix_length: Key<i64>,
    pub(super) sessions: Key<i64>,
    pub(super) bindings: Key<i64>,
    pub(super) new_sessions_per_second: Key<i64>,
    pub(super) held_ports: Key<i64>,
}

/// `[nat64.timers]`: RFC 6146 section 4 in lower case.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timers {
    pub(super) udp_default: Key<i64>,
    pub(super) tcp_est: Key<i64>,
    pub(super) tcp_trans: Key<i64>,
    pub(super) tcp_incoming_syn: Key<i64>,
    pub(super) icmp_default: Key<i64>,
    pub(super) fragment_min: Key<i64>,
    pub(super) port_hold: Key<i64>,
}

/// `[time]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Time {
    pub(super) servers: Key<OneOrMany<String>>,
    pub(super) set_clock: Key<bool>,
}

/// `[console]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Console {
    pub(super) password: Key<String>,
}

/// `[metrics]` and `[vm_prefixes]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LanPort {
    pub(super) lan: Key<String>,
    pub(super) port: Key<i64>,
}

/// `[[allow]]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Allow {
    pub(super) to: Key<OneOrMany<String>>,
    pub(super) from: Key<OneOrMany<String>>,
    pub(super) tcp: Key<OneOrMany<Port>>,
    pub(super) udp: Key<OneOrMany<Port>>,
    pub(super) icmp: Key<bool>,
    pub(super) protocol: Key<OneOrMany<Port>>,
    pub(super) until: Key<String>,
    pub(super) new_per_second: Key<i64>,
    pub(super) connections: Key<i64>,
    pub(super) log: Key<bool>,
}

/// `[[outbound]]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outbound {
    pub(super) from: Key<OneOrMany<String>>,
    pub(super) to: Key<OneOrMany<String>>,
    pub(super) tcp: Key<OneOrMany<Port>>,
    pub(super) udp: Key<OneOrMany<Port>>,
    pub(super) icmp: Key<bool>,
}

/// `[connections]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Connections {
    pub(super) entries: Key<i64>,
    pub(super) tcp_established: Key<i64>,
    pub(super) tcp_transitory: Key<i64>,
    pub(super) udp: Key<i64>,
    pub(super) icmp: Key<i64>,
    pub(super) per_host: Key<i64>,
    pub(super) per_source: Key<i64>,
    pub(super) new_per_source: Key<i64>,
}

/// `[policy]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) between: Key<String>,
    pub(super) refuse: Key<String>,
    pub(super) rejects_per_second: Key<i64>,
    pub(super) log: Key<String>,
    pub(super) flow_offload: Key<bool>,
}

/// `[[publish]]`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    pub(super) listen: Key<OneOrMany<String>>,
    pub(super) to: Key<String>,
    pub(super) from: Key<OneOrMany<String>>,
}

/// A value, or a list of them.
#[derive(Debug)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<Spanned<T>>),
}

/// A table, or a list of them.
#[derive(Debug)]
pub(super) struct TableOrMany<T>(pub(super) Vec<Spanned<T>>);

/// A word such as `"dhcp"`, or a table.
#[derive(Debug)]
pub(super) enum WordOr<T> {
    Word(String),
    Table(T),
}

/// `true`, `false`, or a table.
#[derive(Debug)]
pub(super) enum SwitchOr<T> {
    Switch(bool),
    Table(T),
}

/// `443` or `"8000-8100"`.
#[derive(Clone, Debug)]
pub(super) enum Port {
    Number(i64),
    Range(String),
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PortVisitor;
        impl Visitor<'_> for PortVisitor {
            type Value = Port;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a port number or a range of ports as in \"8000-8100\"")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Port, E> {
                Ok(Port::Number(number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Port, E> {
                Ok(Port::Range(text.to_owned()))
            }
        }
        from.deserialize_any(PortVisitor)
    }
}

/// What stands alone where a list may stand: a scalar of this type.
pub(super) trait Scalar: Sized {
    /// Words for an error message.
    const EXPECTED: &'static str;
    /// From text.
    fn from_text(text: &str) -> Option<Self>;
    /// From a number.
    fn from_number(number: i64) -> Option<Self>;
}

impl Scalar for String {
    const EXPECTED: &'static str = "a string or a list of strings";
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn from_number(_: i64) -> Option<Self> {
        None
    }
}

impl Scalar for Port {
    const EXPECTED: &'static str = "a port, a range as in \"8000-8100\", or a list of them";
    fn from_text(text: &str) -> Option<Self> {
        Some(Self::Range(text.to_owned()))
    }
    fn from_number(number: i64) -> Option<Self> {
        Some(Self::Number(number))
    }
}

impl<'de, T: Scalar + Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Scalar + Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(T::EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::from_text(text)
                    .map(OneOrMany::One)
                    .ok_or_else(|| E::invalid_type(serde::de::Unexpected::Str(text), &self))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                T::from_number(number)
                    .map(OneOrMany::One)
                    .ok_or_else(|| E::invalid_type(serde::de::Unexpected::Signed(number), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        from.deserialize_any(ListVisitor(std::marker::PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TableOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TablesVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for TablesVisitor<T> {
            type Value = TableOrMany<T>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a table as in { delegated = \"wan\", subnet = 1 }, or a list of them")
            }
            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                // The key's own place is the table's.
                T::deserialize(MapAccessDeserializer::new(table))
                    .map(|table| TableOrMany(vec![Spanned::new(0..0, table)]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(TableOrMany)
            }
        }
        from.deserialize_any(TablesVisitor(std::marker::PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WordOr<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for WordVisitor<T> {
            type Value = WordOr<T>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a table as in { address = \"..\", gateway = \"..\" }")
            }
            fn visit_str<E>(self, word: &str) -> Result<Self::Value, E> {
                Ok(WordOr::Word(word.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(table)).map(WordOr::Table)
            }
        }
        from.deserialize_any(WordVisitor(std::marker::PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for SwitchOr<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct SwitchVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for SwitchVisitor<T> {
            type Value = SwitchOr<T>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("true, false or a table")
            }
            fn visit_bool<E>(self, on: bool) -> Result<Self::Value, E> {
                Ok(SwitchOr::Switch(on))
            }
            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(table)).map(SwitchOr::Table)
            }
        }
        from.deserialize_any(SwitchVisitor(std::marker::PhantomData))
    }
}
