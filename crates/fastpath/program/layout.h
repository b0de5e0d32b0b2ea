/* What the maps hold; src/layout.rs is the same in Rust. Ports, addresses and sums are in network order. */
#pragma once

#include "headers.h"

#define PREFIXES 8

enum reason {
    VLAN,
    MALFORMED,
    EXTENSION_HEADER,
    OPTIONS,
    FRAGMENT,
    PROTOCOL,
    TCP_FLAGS,
    ICMP_TYPE,
    HOP_LIMIT,
    UDP_WITHOUT_CHECKSUM,
    NO_SESSION,
    STALE_EPOCH,
    IDLE,
    UNATTENDED,
    OTHER_INTERFACE,
    OTHER_SENDER,
    PACKET_LIST,
    TOO_BIG,
    NO_ROUTE,
    FAILED,
    REASONS,
};

struct traffic {
    u64 packets, bytes;
};

/* One for each processor. */
struct counters {
    struct traffic v6_to_v4, v4_to_v6;
    u64 reasons[REASONS];
};

struct prefix {
    u64 value[2], mask[2];
};

struct settings {
    /* Nanoseconds of CLOCK_MONOTONIC at which translation ends unless the daemon raises it. */
    u64 attended_until;
    /* How long a session may be idle, in nanoseconds. */
    u64 lifetime_tcp, lifetime_udp, lifetime_icmp;
    /* Sessions of another epoch are stale; nothing is translated in epoch 0. */
    u32 epoch;
    /* The interface by which the kernel would route the translator's packets. */
    u32 tun;
    u32 fib_flags;
    u16 mtu_v4, mtu_v6, mtu_v6_without_df;
    /* How many hops the way through here counts as. */
    u8 hops;
    /* Packets with a lower hop limit or TTL are not translated here. */
    u8 least_hop_limit, least_ttl;
    u8 is_tos_fixed, tos;
    u8 is_traffic_class_fixed, traffic_class;
    u8 prefix_count;
    /* Milliseconds for which a session may know its route; 0 where nobody notes when routes change. */
    u16 route_lasts;
    /* The daemon's. */
    u32 rules;
    struct prefix prefixes[PREFIXES];
};

struct key_v6 {
    u64 client[2], server[2];
    u16 client_port, server_port;
    u8 protocol;
    u8 reserved[3];
};

struct key_v4 {
    u32 server, mapped;
    u16 server_port, mapped_port;
    u8 protocol;
    u8 reserved[3];
};

/* What both directions have in common. Sums are what a change of the packet adds to its checksum's complement. */
struct session {
    /* Nanoseconds of CLOCK_MONOTONIC. */
    u64 last_used;
    struct traffic traffic;
    u32 epoch;
    u32 in, out;
    u16 addresses, ports;
};

/* What the kernel's routes said of a session's packets; nothing to the daemon. */
struct route {
    /* Nanoseconds of CLOCK_MONOTONIC. */
    u64 asked_at;
    u16 mtu;
    u16 reserved[3];
};

struct value_v6 {
    struct session session;
    u32 mapped, server;
    u16 mapped_port;
    u16 identification;
    u32 next_hop;
    struct route route;
    /* The only one that the client's packets come from; zero where anybody may send them. */
    struct mac client_mac;
    u16 reserved;
};

struct value_v4 {
    struct session session;
    u64 server[2], client[2];
    u16 client_port;
    /* For the next daemon to find. */
    struct mac client_mac;
    struct route route;
    u32 next_hop[4];
};
