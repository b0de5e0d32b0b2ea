//! Every key of the file: the RFC's name of the variable, what it takes, and the allowed range.

/// A key of the file.
pub(super) struct KeyText {
    /// Table it stands in; empty for the top level.
    pub(super) section: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// RFC name, type, range, default.
    pub(super) text: &'static str,
}

/// What a key takes, as the mend of an error.
pub(super) fn describe(section: &str, name: &str) -> String {
    KEYS.iter()
        .find(|key| key.section == section && key.name == name)
        .map_or_else(String::new, |key| format!("{name}: {}", key.text))
}

const fn key(section: &'static str, name: &'static str, text: &'static str) -> KeyText {
    KeyText { section, name, text }
}

/// All keys, in the order of `docs/reference.toml`.
#[rustfmt::skip]
pub(super) const KEYS: &[KeyText] = &[
    key("", "hostname", "a DNS label, 1 to 63 letters, digits and hyphens (RFC 1123 section 2.1); default \"sixgate\""),
    key("", "wan", "the table [wan]"),
    key("", "lan", "one table [[lan]] for each link"),
    key("", "vm", "one table [[vm]] for each virtual machine"),
    key("", "route", "one table [[route]] for each static route"),
    key("", "npt", "one table [[npt]] for each prefix inside that has another one outside (RFC 6296)"),
    key("", "ddns", "one table [[ddns]] for each name outside that follows an address inside"),
    key("", "vm_prefixes", "the table [vm_prefixes]"),
    key("", "dns64", "the table [dns64]"),
    key("", "nat64", "the table [nat64]"),
    key("", "allow", "one table [[allow]] for each entry"),
    key("", "outbound", "one table [[outbound]] for each entry"),
    key("", "groups", "the table [groups]: for each name a list of targets, sources, ports or other groups"),
    key("", "policy", "the table [policy]"),
    key("", "publish", "one table [[publish]] for each host and its ports"),
    key("", "console", "the table [console]"),
    key("", "metrics", "the table [metrics]"),
    key("", "time", "the table [time]"),

    key("wan", "interface", "kernel name of the uplink, 1 to 15 characters, as in \"eth0\"; or give mac instead"),
    key("wan", "mac", "hardware address of the uplink as in \"52:54:00:12:34:56\"; or give interface instead"),
    key("wan", "mtu", "integer, 1280 (RFC 8200 section 5) to 65535; default: as the link has it"),
    key("wan", "ipv4", "{ address = \"203.0.113.136/26\", gateway = \"203.0.113.129\" }, or \"dhcp\" (RFC 2131); default: none"),
    key("wan", "ipv6", "{ address = \"2001:db8:1:2:10::1/76\", gateway = \"fe80::1\" }, \"ra\" (RFC 4861, 4862) or \"dhcpv6-pd\" (RFC 8415); default: none"),
    key("wan", "prefix_hint", "length of the delegated prefix that is asked for, integer, 16 to 64 (RFC 8415 section 18.2.1); default: as the server gives"),
    key("wan", "present_mac", "hardware address that the uplink takes, as in \"00:50:56:00:aa:bb\", for providers that accept one only; default: its own"),
    key("wan", "ndp_proxy", "whether solicitations on the uplink are answered for what lies behind the router, true or false (RFC 4861 section 7.2.8); default false"),
    key("wan", "masquerade_ula", "whether unique local addresses (RFC 4193) leave by the uplink's own address (NAT66), true or false; default true"),

    key("wan.ipv4", "address", "IPv4 unicast address with prefix length, 1 to 32"),
    key("wan.ipv4", "gateway", "IPv4 unicast address of the next hop, inside or outside the prefix; default: no default route"),
    key("wan.ipv6", "address", "IPv6 unicast address with prefix length, 1 to 128"),
    key("wan.ipv6", "gateway", "IPv6 unicast address of the next hop, link-local or not, inside or outside the prefix; default: no default route"),

    key("lan", "name", "1 to 32 letters, digits, hyphens and underscores, unlike every other lan and vm; not \"wan\" or \"router\""),
    key("lan", "interface", "kernel name of the link, 1 to 15 characters, as in \"eth1\"; or give mac instead"),
    key("lan", "mac", "hardware address of the link as in \"52:54:00:12:34:57\"; or give interface instead"),
    key("lan", "addresses", "list of the router's own IPv6 addresses with prefix length, as in [\"2001:db8:1:2::1/64\"]; default: none but the kernel's link-local one"),
    key("lan", "ipv4", "the router's own IPv4 address with prefix length, as in \"10.0.0.1/24\"; hosts there leave by the uplink's address (NAT44); default: none"),
    key("lan", "advertise", "true, false, or a table of RFC 4861 section 6.2.1 variables; default true (AdvSendAdvertisements)"),
    key("lan", "mtu", "integer, 1280 (RFC 8200 section 5) to 65535; default: as the link has it"),
    key("lan", "prefix", "prefixes that are delegated or unique local, { delegated = \"wan\", subnet = 1 }, { ula = true, subnet = 1 } or a list of them; default: none"),
    key("lan.prefix", "delegated", "\"wan\": out of what is delegated to the uplink (RFC 8415)"),
    key("lan.prefix", "ula", "true: out of the site's own unique local /48, which is generated once and kept (RFC 4193)"),
    key("lan.prefix", "subnet", "number of the subnet there, integer, 0 to 65535; default 0"),
    key("lan.prefix", "length", "its length, integer, 48 to 120; default 64"),
    key("lan.prefix", "router", "the router's own address in it, by its suffix; default \"::1\""),

    key("lan.advertise", "max_rtr_adv_interval", "MaxRtrAdvInterval, integer seconds, 4 to 65535 (RFC 4861 section 6.2.1, RFC 8319); default 600"),
    key("lan.advertise", "min_rtr_adv_interval", "MinRtrAdvInterval, integer seconds, 3 to 0.75 * MaxRtrAdvInterval (RFC 4861 section 6.2.1); default 0.33 * MaxRtrAdvInterval, or 0.75 * it below 9"),
    key("lan.advertise", "adv_managed_flag", "AdvManagedFlag (M), true or false (RFC 4861 section 6.2.1); default false"),
    key("lan.advertise", "adv_other_config_flag", "AdvOtherConfigFlag (O), true or false (RFC 4861 section 6.2.1); default false"),
    key("lan.advertise", "adv_link_mtu", "AdvLinkMTU, integer, 1280 to the link's MTU, or 0 to send none (RFC 4861 section 6.2.1); default: the link's MTU"),
    key("lan.advertise", "adv_reachable_time", "AdvReachableTime, integer milliseconds, 0 to 3600000 (RFC 4861 section 6.2.1); default 0, unspecified"),
    key("lan.advertise", "adv_retrans_timer", "AdvRetransTimer, integer milliseconds, 0 to 4294967295 (RFC 4861 section 6.2.1); default 0, unspecified"),
    key("lan.advertise", "adv_cur_hop_limit", "AdvCurHopLimit, integer, 0 to 255 (RFC 4861 section 6.2.1); default 64"),
    key("lan.advertise", "adv_default_lifetime", "AdvDefaultLifetime, integer seconds, 0 or MaxRtrAdvInterval to 65535 (RFC 4861 section 6.2.1, RFC 8319); default 3 * MaxRtrAdvInterval"),
    key("lan.advertise", "adv_valid_lifetime", "AdvValidLifetime, integer seconds, 0 to 4294967295 (RFC 4861 section 6.2.1); default 2592000"),
    key("lan.advertise", "adv_preferred_lifetime", "AdvPreferredLifetime, integer seconds, 0 to AdvValidLifetime (RFC 4861 section 6.2.1); default 604800"),
    key("lan.advertise", "adv_on_link_flag", "AdvOnLinkFlag (L), true or false (RFC 4861 section 6.2.1); default: false where prefixes are carved out of the advertised one, else true"),
    key("lan.advertise", "adv_autonomous_flag", "AdvAutonomousFlag (A), true or false, for /64 prefixes only (RFC 4862 section 5.5.3); default true for a /64"),

    key("vm", "name", "1 to 32 letters, digits, hyphens and underscores, unlike every other lan and vm; not \"wan\" or \"router\""),
    key("vm", "lan", "name of a [[lan]]"),
    key("vm", "gateway", "IPv6 unicast address with prefix length that the router takes on the LAN as this VM's gateway, or a suffix as in \"::20:0:0:1/76\"; default: none"),
    key("vm", "address", "the VM's own IPv6 unicast address, without prefix length, or a suffix as in \"::20:0:0:2\"; next hop for its containers"),
    key("vm", "mac", "the VM's hardware address as in \"52:54:00:12:34:58\"; its link-local address is the next hop where there is no address"),
    key("vm", "containers", "an IPv6 prefix or a list of them, as in \"2001:db8:1:2:21::/80\", that is routed to the VM, or a suffix as in \"::21:0:0:0/80\" in each /64 of its LAN; default: none"),

    key("route", "to", "an IPv6 or IPv4 prefix without host bits, as in \"2001:db8:77::/48\""),
    key("route", "via", "next hop inside a prefix of wan, lan or vm; \"fe80::1%eth1\" (or %wan, or % and a lan's name) for a link-local one; or \"unreachable\""),

    key("ddns", "name", "the name outside, as in \"www.example.net\""),
    key("ddns", "to", "\"router\", a vm (\"vm1\"), a container (\"vm1/containers::5\"), a host on a lan (\"vms::5\") or an IPv6 address inside this network"),
    key("ddns", "records", "\"AAAA\", or for the router \"A\" for the uplink's IPv4 address, or a list of both; default: all that there are"),
    key("ddns", "server", "address of the zone's primary server, which takes updates by RFC 2136, as in \"2001:db8::53\" or \"192.0.2.53:5353\""),
    key("ddns", "zone", "the zone that the name is in, as in \"example.net\""),
    key("ddns", "ttl", "how long others keep the address, integer seconds, 1 to 604800; default 60"),
    key("ddns", "key", "name of the key that signs updates (RFC 8945); default: none, updates are not signed"),
    key("ddns", "secret", "the key's secret in Base64"),
    key("ddns", "algorithm", "\"hmac-sha256\" or \"hmac-sha512\"; default \"hmac-sha256\""),
    key("ddns", "url", "instead of server: a provider's URL, \"http://dyn.example.net/nic/update\" for one that speaks dyndns2, or one with {address} and perhaps {name} in it"),
    key("ddns", "user", "user at the provider; default: none"),
    key("ddns", "password", "its password"),

    key("vm_prefixes", "lan", "name of the [[lan]] whose VMs may ask the router for their container prefixes, and are answered when these change"),
    key("vm_prefixes", "port", "TCP port, integer, 1024 to 65535; default 9465"),

    key("npt", "inside", "a prefix inside this network, /16 to /112, as in \"fd00:1:2:21::/80\"; none lies in another"),
    key("npt", "outside", "the prefix that stands for it outside, of the same length, as in \"2001:db8:1:2:31::/80\"; or give delegated and subnet"),
    key("npt", "delegated", "\"wan\": the prefix outside is carved out of what is delegated to the uplink, and follows it"),
    key("npt", "subnet", "its number among the delegated prefix's subnets of the same length as `inside`, integer, 0 to 4294967295; default 0"),

    key("dns64", "enabled", "true or false; default true where the table exists"),
    key("dns64", "upstream", "list of resolvers, \"2001:db8::53\", \"192.0.2.53:53\" or \"[2001:db8::53]:53\", or \"learnt\" for those that DHCP and advertisements on the uplink name; at least one while enabled"),
    key("dns64", "search", "list of search domains for DNSSL (RFC 8106 section 5.2); default: none"),
    key("dns64", "untranslated", "who is given no synthesized addresses, having IPv4 of its own: a lan's name, which means its VMs' containers as well, an IPv6 prefix, or a list of them; default: nobody"),
    key("dns64", "exclude", "an IPv6 prefix or a list of them, whose AAAA records do not count (RFC 6147 section 5.1.4); default \"::ffff:0:0/96\""),
    key("dns64", "exclude_ipv4", "an IPv4 prefix or a list of them, whose addresses are not synthesized; default: none beside those that are not translated anyway"),
    key("dns64", "never", "a domain or a list of them, in which nothing is synthesized; default: none"),
    key("dns64", "always", "a domain or a list of them, in which addresses are synthesized although there are AAAA records; default: none"),
    key("dns64", "forward", "one table { domain, upstream } for each domain"),
    key("dns64", "map", "one table { ipv4, prefix } for each IPv4 prefix that another prefix stands for"),
    key("dns64", "rebinding_protection", "whether private addresses are taken out of upstreams' answers, true or false; default true"),
    key("dns64", "private_domains", "a domain or a list of them, whose names may have private addresses; default: none beside those of dns64.forward"),
    key("dns64", "rate", "queries that one client may ask by UDP in a second, integer, 0 (no limit) to 1000000; default 1000"),
    key("dns64", "dnssec", "whether answers are validated (RFC 4035), true or false; default true"),
    key("dns64", "trust_anchor", "a key of the root zone or a list of them, as in \". IN DNSKEY 257 3 8 AwEAA...\", trusted beside the two that are built in; default: none"),
    key("dns64", "insecure_domains", "a domain or a list of them, in which nothing is validated (RFC 7646); default: none beside those of dns64.forward"),
    key("dns64", "domain", "the domain of the router's and the VMs' names, which is never asked of an upstream, or \"\" for none; default \"lan\""),
    key("dns64", "host", "one table { name, address } for each host"),
    key("dns64.forward", "domain", "a domain with resolvers of its own; the longest that fits a name decides"),
    key("dns64.forward", "upstream", "list of resolvers, as in dns64.upstream; at least one"),
    key("dns64.map", "ipv4", "an IPv4 prefix; the longest that fits an address decides"),
    key("dns64.map", "prefix", "the prefix that addresses in it are synthesized with, in the form of nat64.prefix"),
    key("dns64.host", "name", "a host's name, below dns64.domain unless it has a dot"),
    key("dns64.host", "address", "addresses, or what a suffix stands for: \"vm1\", \"vm1/containers::5\", \"vms::5\"; at least one"),
    key("dns64", "cache", "MiB that answers may take, integer, 1 to 4096; default 64"),
    key("dns64", "serve_stale", "for how long answers may be of use after they have expired, integer seconds, 0 (never) to 604800 (RFC 8767 section 5); default 86400"),
    key("dns64", "workers", "threads that answer by UDP, integer, 1 to 64; default 2"),

    key("nat64", "enabled", "true or false; default true where the table exists"),
    key("nat64", "prefix", "Pref64::/n or a list of up to 8, of which the first is advertised; length 32, 40, 48, 56, 64 or 96, bits 64 to 71 zero (RFC 6052 section 2.2); default \"64:ff9b::/96\""),
    key("nat64", "ports", "NAT64's share of the uplink address's ports, \"FIRST-LAST\" within 1024-32767 or 40960-65535; 32768-36863 are the router's own, 36864-40959 are kept for NAT44; default \"40960-65535\""),
    key("nat64", "pool", "list of further IPv4 addresses to translate to, each an address, a range or a prefix as in [\"203.0.113.140\", \"203.0.113.144-203.0.113.147\", \"198.51.100.64/30\"], at most 1024 in all; the router takes them on the uplink; default: none, but the uplink's own"),
    key("nat64", "pool_ports", "NAT64's share of each further address's ports, \"FIRST-LAST\" within 1-65535; default \"1024-65535\""),
    key("nat64", "port_block", "ports of a block, integer, 64 to 8192 and no more than a share holds, or 0 for no blocks; default 0"),
    key("nat64", "never_translate", "list of IPv4 prefixes that nothing is translated to (RFC 6888 REQ-6); default: none"),
    key("nat64", "translate_non_global", "list of IPv4 prefixes out of the non-global ones (RFC 6890) that are translated all the same; not with 64:ff9b::/96 (RFC 6052 section 3.1); default: none"),
    key("nat64", "filtering", "who outside may send through a client's port, \"address-dependent\" or \"endpoint-independent\" (RFC 6146 section 3.5, RFC 4787 REQ-8); default \"address-dependent\""),
    key("nat64", "memory", "MiB that sessions may take, integer, 1 to 1600; default 32"),
    key("nat64", "max_sessions", "integer, 16 to 4000000, as far as memory allows at 416 bytes each; default: as many as memory allows"),
    key("nat64", "tos", "TOS octet of what leaves for IPv4, integer, 0 to 255 (RFC 7915 section 5.1); default: the packet's Traffic Class"),
    key("nat64", "traffic_class", "Traffic Class of what leaves for IPv6, integer, 0 to 255 (RFC 7915 section 4.1); default: the packet's TOS octet"),
    key("nat64", "lowest_ipv6_mtu", "lowest-ipv6-mtu, integer, 1280 to 65535 (RFC 7915 section 4); default 1280"),
    key("nat64", "udp_checksum_zero", "what becomes of UDP from IPv4 without a checksum, \"calculate\" or \"drop\" (RFC 7915 section 4.5); default \"calculate\""),
    key("nat64", "clamp_mss", "true or false; default true"),
    key("nat64", "fast_path", "true or false; default true"),
    key("nat64", "icmp_errors_per_second", "most ICMP errors of the translator's own, integer, 0 (none) to 100000 (RFC 4443 section 2.4 (f)); default 100"),
    key("nat64", "shortcut", "true or false; default true"),
    key("nat64", "timers", "the table [nat64.timers]"),
    key("nat64", "log", "the table [nat64.log]"),

    key("nat64", "limits", "the table [nat64.limits]"),
    key("nat64.limits", "prefix_length", "integer, 32 to 128; a prefix of this length is one client, but a vm behind a gateway or at an address of its own is one, and so is each container; default 64"),
    key("nat64.limits", "sessions", "sessions of one client, integer, 16 to 4000000 (RFC 6888 REQ-4); default 32768"),
    key("nat64.limits", "bindings", "ports or identifiers of one client, of each protocol, integer, 16 to 65536 (RFC 6888 REQ-4); default 16384"),
    key("nat64.limits", "new_sessions_per_second", "sessions that one client opens in a second, integer, 1 to 1000000; default 5000"),

    key("nat64.log", "to", "where bindings are told, \"journal\", or a syslog server, \"udp://192.0.2.5\" or \"tcp://[2001:db8::5]:601\" (RFC 5424); default port 514 for UDP, 601 for TCP"),
    key("nat64.log", "sessions", "whether sessions are told as well, with the servers that clients talk to, true or false (RFC 6888 REQ-12); default false"),

    key("nat64.limits", "held_ports", "UDP ports and identifiers, or ports of blocks, that are held back after use, integer, 0 to 1000000 (RFC 6888 REQ-8); default 4096"),

    key("nat64.timers", "udp_default", "UDP_DEFAULT, integer seconds, 120 (UDP_MIN) to 86400 (RFC 6146 section 4); default 300"),
    key("nat64.timers", "tcp_est", "TCP_EST, integer seconds, 7440 (RFC 5382 REQ-5) to 864000 (RFC 6146 section 4); default 7440"),
    key("nat64.timers", "tcp_trans", "TCP_TRANS, integer seconds, 240 (RFC 5382 REQ-5) to 3600 (RFC 6146 section 4); default 240"),
    key("nat64.timers", "tcp_incoming_syn", "TCP_INCOMING_SYN, integer seconds, 6 to 60 (RFC 6146 section 4); default 6"),
    key("nat64.timers", "icmp_default", "ICMP_DEFAULT, integer seconds, 60 (RFC 5508 REQ-2) to 3600 (RFC 6146 section 4); default 60"),
    key("nat64.timers", "fragment_min", "FRAGMENT_MIN, integer seconds, 2 to 60 (RFC 6146 section 4); default 2"),

    key("console", "password", "hash of the password that the console asks for before it changes anything, as `openssl passwd -6` prints it; absent: none"),
    key("metrics", "lan", "name of the [[lan]] on whose addresses the router tells its metrics; the uplink has none"),
    key("metrics", "port", "TCP port, integer, 1024 to 65535; default 9464"),

    key("time", "servers", "addresses of 1 to 4 NTP servers; default: those that DHCP names, else 162.159.200.1, 162.159.200.123, 2606:4700:f1::1"),
    key("time", "set_clock", "whether the machine's clock is set by them, true or false; default: true in the image, false elsewhere"),

    key("nat64.timers", "port_hold", "how long a UDP port or identifier is held back after use, integer seconds, 0 to 3600 (RFC 6888 REQ-8); default 120"),

    key("allow", "to", "\"router\", a vm (\"vm1\"), its containers (\"vm1/containers\", \"vm1/containers::5\"), a lan (\"vms\", \"vms::5\"), an IPv6 address or prefix inside this network, a group, or a list of them"),
    key("allow", "from", "an IPv6 or IPv4 prefix or address, a vm, its containers, a lan, a group, or a list of them; default: anybody"),
    key("allow", "tcp", "TCP destination ports, 1 to 65535: 443, \"8000-8100\", or a list; default: none"),
    key("allow", "udp", "UDP destination ports, 1 to 65535: 443, \"8000-8100\", or a list; default: none"),
    key("allow", "icmp", "whether echo requests are admitted, true or false; default false"),
    key("allow", "protocol", "other IP protocols by number, 0 to 255 but for ICMP, TCP, UDP and ICMPv6, or \"gre\", \"esp\", \"ah\", \"sctp\", or a list of them; default: none"),
    key("allow", "until", "the day from which on it does not hold any more, \"YYYY-MM-DD\", UTC; default: for ever"),
    key("allow", "new_per_second", "most connections that may begin in a second, integer, 1 to 1000000; default: as many as come"),
    key("allow", "log", "whether connections that it admits are told where policy.log says, at most 10 in a second, true or false; default false"),

    key("outbound", "from", "a vm, its containers, a lan, an IPv6 address or prefix inside this network, a group, or a list of them: whoever is named reaches outside only what such entries list; default: everybody"),
    key("outbound", "to", "prefixes and addresses of both families, names as in \"registry.example\", \"*.example\" for all names below one, a group, or a list of them"),
    key("outbound", "tcp", "TCP destination ports, as for [[allow]]; with none of tcp, udp and icmp everything is meant"),
    key("outbound", "udp", "UDP destination ports, as for [[allow]]"),
    key("outbound", "icmp", "whether echo requests are meant, true or false; default false"),

    key("policy", "between", "what lans, vms and containers may send one another through the router, \"allowed\", \"denied\", or \"by-allow\" for what [[allow]] admits; default \"allowed\""),
    key("policy", "refuse", "what becomes of packets that are not admitted, \"drop\" or \"reject\" with an ICMP error; default \"drop\""),
    key("policy", "rejects_per_second", "most ICMP errors for refused packets, integer, 1 to 100000; the others are dropped silently; default 100"),
    key("policy", "log", "where it is told what was refused, at most 10 packets a second for each reason: \"journal\", or a syslog server, \"udp://192.0.2.5\" (RFC 5426) or \"tcp://[2001:db8::5]\" (RFC 6587); default: nowhere, `sixgate denials` has the latest all the same"),

    key("publish", "listen", "\"ADDRESS:tcp/PORTS\", \"ADDRESS:udp/PORTS\" or \"ADDRESS:icmp\", or a list of them; ADDRESS is wan (the uplink's IPv4 address), wan6 (its IPv6 address) or an address out of nat64.pool, PORTS is 443 or 8000-8010"),
    key("publish", "to", "one host inside and its first port, \"vm1:443\", \"vm1/containers::5:443\", \"vms::5:443\", \"[2001:db8:1:2::5]:443\" or, in a lan with ipv4, \"10.0.0.5:443\"; without a port where icmp alone is published"),
    key("publish", "from", "a prefix or address of the family of listen, or a list of them, of those outside who may reach it; default: anybody"),
];
