/* Headers as the programs see them, and what they all do with them. */
#pragma once

#include "kernel.h"

#define ETHERNET 14
#define IPV6 40
#define IPV4 20
#define TCP 20
#define UDP 8
#define ECHO 8
/* Up to this length a packet leaves for IPv4 without DF: RFC 7915 section 5.1. */
#define FRAGMENTABLE 1260

enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_ICMPV6 = 58 };
enum { ECHO_REQUEST = 8, ECHO_REPLY = 0, ECHO_REQUEST_V6 = 128, ECHO_REPLY_V6 = 129 };
enum { FIN = 1, SYN = 2, RST = 4 };

/* An Ethernet address. */
struct mac {
    u32 first;
    u16 last;
} __attribute__((packed));

struct ethernet {
    struct mac destination, source;
    u16 type;
} __attribute__((packed));

struct ipv6 {
    u8 class_and_flow[4];
    u16 payload_length;
    u8 next_header, hop_limit;
    u64 source[2], destination[2];
} __attribute__((packed));

struct ipv4 {
    u8 version_and_length, tos;
    u16 total_length, identification, fragment;
    u8 ttl, protocol;
    u16 checksum;
    u32 source, destination;
} __attribute__((packed));

/* The beginning of TCP, UDP and echo, as far as it is looked at. */
struct upper {
    union {
        struct {
            u16 source_port, destination_port;
        };
        struct {
            u8 type, code;
            u16 icmp_checksum, identifier;
        };
    } __attribute__((packed));
    u16 udp_checksum;
} __attribute__((packed));

ALWAYS_INLINE u16 fold(u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* The sum of an IPv4 header. */
ALWAYS_INLINE u16 sum_v4(const struct ipv4 *header)
{
    const u16 *words = (const void *)header;
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < IPV4 / 2; i++)
        sum += words[i];
    return fold(sum);
}

/* Makes the headers readable in one piece. */
ALWAYS_INLINE void *headers(struct __sk_buff *skb, u32 most)
{
    u32 there = skb->data_end - skb->data;
    if (UNLIKELY(there < most && there < skb->len))
        bpf_skb_pull_data(skb, skb->len < most ? skb->len : most);
    return (void *)(u64)skb->data;
}

/* Only the first one of a list would be rewritten. All other packets of many segments lack their checksums. */
ALWAYS_INLINE int is_list(struct __sk_buff *skb)
{
    return skb->gso_size && bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) >= 0;
}

/* A tag with a VLAN is for another interface; one with a priority alone is for this one, and stays here. */
ALWAYS_INLINE int is_of_a_vlan(const struct __sk_buff *skb)
{
    return skb->vlan_present && skb->vlan_tci & VLAN_VID_MASK;
}

ALWAYS_INLINE long drop_priority(struct __sk_buff *skb)
{
    return UNLIKELY(skb->vlan_present) ? bpf_skb_vlan_pop(skb) : 0;
}
