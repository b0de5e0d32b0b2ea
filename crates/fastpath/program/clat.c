/* The CLAT's fast path (RFC 6877): the stateless translation of plain packets, without the way through the TUN device.
 *
 * `clat_out` runs where IPv4 leaves by that device, when the kernel has routed, filtered and masqueraded it: a packet from
 * the CLAT's IPv4 address is made one of IPv6 and handed to the uplink. `clat_in` runs where the uplink's packets come in: one
 * to the CLAT's IPv6 address is made one of IPv4, and received as if by the device. What is not plain goes on untouched, and
 * the translator behind the device sees it. Licence: MIT OR Apache-2.0, see the repository. */
#include "headers.h"

enum direction { V4_TO_V6, V6_TO_V4, DIRECTIONS };

/* src/clat.rs is the same in Rust. Numbers are the machine's but where it says otherwise. */
struct settings {
    /* The CLAT's IPv6 address, in network order. */
    u64 address[2];
    /* The PLAT's prefix. */
    u64 prefix[2];
    /* Where an IPv4 address lies behind it (RFC 6052 section 2.2): as many bits less in the first half, the others in the
     * second. */
    u32 low_mask;
    u8 high_shift, low_shift;
    /* How many hops the way through here counts as, and the least that a packet may have left. */
    u8 hops, least_hops;
    /* The CLAT's IPv4 address, in network order. */
    u32 host;
    /* Interfaces: the TUN device and the uplink. */
    u32 device, uplink;
    u32 fib_flags;
    u16 mtu_v4, mtu_v6, mtu_v6_without_df;
    /* Identifier of the translator's own echo requests, in network order. */
    u16 identifier;
    /* Of a shared address, the ports from this one on are the CLAT's; 0 where it has the whole address. */
    u16 first_port;
    /* Bytes before the IP header of what leaves by the device. */
    u8 link_header;
    /* RFC 6052 section 3.1: the Well-Known Prefix stands for global addresses alone. */
    u8 only_global;
    /* Nothing is translated while it is zero. */
    u8 is_active;
    u8 reserved[7];
};

struct traffic {
    u64 packets, bytes;
};

/* One for each processor. */
struct counters {
    struct traffic translated[DIRECTIONS];
    /* Left to the translator, and lost in the middle of the translation. */
    u64 left[DIRECTIONS], failed;
};

struct {
    MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct settings);
} clat_settings SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct counters);
} clat_counters SECTION(".maps");

/* A packet on its way through here. */
struct packet {
    struct __sk_buff *skb;
    const struct settings *settings;
    struct counters *counters;
    /* Those of the packet's direction. */
    struct traffic *translated;
    u64 *left;
    u8 protocol;
    /* Bytes behind the IP header, and of the upper layer's header. */
    u16 upper_length, upper_header;
    /* TCP's or UDP's destination. */
    u16 destination_port;
    /* Type and code of an echo, as they are and as they will be, and its identifier. */
    u16 echo, echo_translated, identifier;
};

/* The packet goes on as if nobody had looked at it. */
ALWAYS_INLINE int leave(const struct packet *packet)
{
    (*packet->left)++;
    return TC_ACT_UNSPEC;
}

/* The packet is neither what it was nor translated. */
ALWAYS_INLINE int fail(const struct packet *packet)
{
    packet->counters->failed++;
    return TC_ACT_SHOT;
}

ALWAYS_INLINE u64 sum_of(u64 word)
{
    return (word & 0xffffffff) + (word >> 32);
}

/* RFC 6052 section 2.2. */
ALWAYS_INLINE void embed(const struct settings *settings, u32 address, u64 *to)
{
    to[0] = NETWORK64(settings->prefix[0] | (u64)address >> (settings->high_shift & 63));
    to[1] = NETWORK64(settings->prefix[1] | (u64)(address & settings->low_mask) << (settings->low_shift & 63));
}

ALWAYS_INLINE u32 extract(const struct settings *settings, const u64 *from)
{
    u32 high = NETWORK64(from[0]) << (settings->high_shift & 63);
    return high | (u32)(NETWORK64(from[1]) >> (settings->low_shift & 63) & settings->low_mask);
}

/* Whether an address is in a block. */
ALWAYS_INLINE int is_in(u32 address, u32 block, u32 length)
{
    return (address ^ block) >> (32 - length) == 0;
}

/* RFC 6890; the two anycast addresses within 192.0.0.0/24 are the translator's matter. */
ALWAYS_INLINE int is_global(u32 address)
{
    return !is_in(address, 0x0a000000, 8) && !is_in(address, 0x64400000, 10) && !is_in(address, 0xa9fe0000, 16) &&
           !is_in(address, 0xac100000, 12) && !is_in(address, 0xc0000000, 24) && !is_in(address, 0xc0000200, 24) &&
           !is_in(address, 0xc0586300, 24) && !is_in(address, 0xc0a80000, 16) && !is_in(address, 0xc6120000, 15) &&
           !is_in(address, 0xc6336400, 24) && !is_in(address, 0xcb007100, 24);
}

/* Whether the PLAT's prefix stands for that address, and it is a host's. */
ALWAYS_INLINE int is_represented(const struct settings *settings, u32 address)
{
    u8 first = address >> 24;
    if (first == 0 || first == 127 || first >= 224 || NETWORK32(address) == settings->host)
        return 0;
    return !settings->only_global || is_global(address);
}

/* Whether TCP, UDP or an echo can be translated here. */
ALWAYS_INLINE int is_plain(struct packet *packet, enum direction direction, const void *start, const void *end)
{
    const struct upper *upper = start;
    int from_v6 = direction == V6_TO_V4;
    if (start + UDP > end || packet->upper_length < UDP)
        return 0;
    packet->destination_port = upper->destination_port;
    if (LIKELY(packet->protocol == PROTOCOL_TCP)) {
        const u8 *bytes = start;
        if (start + TCP > end || packet->upper_length < TCP)
            return 0;
        packet->upper_header = (bytes[12] >> 4) * 4;
        /* The translator lowers the MSS that a SYN names. */
        return packet->upper_header >= TCP && packet->upper_header <= packet->upper_length && !(bytes[13] & SYN);
    }
    if (packet->protocol == PROTOCOL_UDP) {
        u16 length = NETWORK16(*(const u16 *)(start + 4));
        packet->upper_header = UDP;
        /* Towards IPv6 a checksum has to be computed where there is none; from IPv6 that is forbidden. */
        return length >= UDP && length <= packet->upper_length && upper->udp_checksum != 0;
    }
    packet->upper_header = ECHO;
    packet->echo = *(const u16 *)start;
    packet->identifier = upper->identifier;
    u8 type = upper->type;
    if (type != (from_v6 ? ECHO_REQUEST_V6 : ECHO_REQUEST) && type != (from_v6 ? ECHO_REPLY_V6 : ECHO_REPLY))
        return 0;
    if (from_v6)
        type = type == ECHO_REQUEST_V6 ? ECHO_REQUEST : ECHO_REPLY;
    else
        type = type == ECHO_REQUEST ? ECHO_REQUEST_V6 : ECHO_REPLY_V6;
    packet->echo_translated = type | (packet->echo & 0xff00);
    return 1;
}

/* How many packets on the wire a packet is, and the length of the longest one behind its IP header. */
ALWAYS_INLINE u32 segments(const struct packet *packet, u32 *longest)
{
    u32 size = packet->skb->gso_size;
    u32 payload = packet->upper_length - packet->upper_header;
    *longest = packet->upper_length;
    if (LIKELY(size == 0 || payload <= size))
        return 1;
    *longest = packet->upper_header + size;
    return (payload + size - 1) / size;
}

ALWAYS_INLINE void account(const struct packet *packet, u32 ip_header, u32 count)
{
    /* Every packet on the wire has all headers. */
    packet->translated->packets += count;
    packet->translated->bytes += ip_header + packet->upper_length + (count - 1) * (ip_header + packet->upper_header);
}

/* Brings the upper layer's checksum and an echo's type up to date. `v6` and `v4` are the sums of the addresses. */
ALWAYS_INLINE long rewrite(const struct packet *packet, enum direction direction, u32 at, u16 v6, u16 v4)
{
    struct __sk_buff *skb = packet->skb;
    u32 checksum_at = at + 16;
    u64 flags = 0, change;
    if (LIKELY(packet->protocol == PROTOCOL_TCP)) {
    } else if (packet->protocol == PROTOCOL_UDP) {
        checksum_at = at + 6;
        flags = BPF_F_MARK_MANGLED_0;
    } else {
        checksum_at = at + 2;
        /* Only ICMPv6 has a pseudo-header: addresses, length and protocol. */
        v4 = 0;
        v6 = fold((u64)v6 + NETWORK16(packet->upper_length) + NETWORK16(PROTOCOL_ICMPV6));
        u16 echo = fold((u64)packet->echo_translated + (u16)~packet->echo);
        if (bpf_skb_store_bytes(skb, at, &packet->echo_translated, 2, 0) ||
            bpf_l4_csum_replace(skb, checksum_at, 0, echo, 0))
            return -1;
    }
    change = direction == V4_TO_V6 ? fold((u64)v6 + (u16)~v4) : fold((u64)v4 + (u16)~v6);
    /* Nothing changes by an address that was chosen for it. */
    if (change == 0 || change == 0xffff)
        return 0;
    return bpf_l4_csum_replace(skb, checksum_at, 0, change, flags | BPF_F_PSEUDO_HDR);
}

ALWAYS_INLINE int look_up(struct packet *packet, enum direction direction, struct __sk_buff *skb)
{
    u32 first = 0;
    packet->skb = skb;
    packet->settings = bpf_map_lookup_elem(&clat_settings, &first);
    packet->counters = bpf_map_lookup_elem(&clat_counters, &first);
    if (!packet->settings || !packet->counters)
        return 0;
    packet->translated = &packet->counters->translated[direction];
    packet->left = &packet->counters->left[direction];
    return packet->settings->is_active;
}

SECTION("classifier") int clat_out(struct __sk_buff *skb)
{
    struct packet packet = { 0 };
    if (skb->protocol != NETWORK16(ETH_P_IP) || !look_up(&packet, V4_TO_V6, skb))
        return TC_ACT_UNSPEC;
    const struct settings *settings = packet.settings;
    u32 at = settings->link_header;
    const struct ipv4 *ip = headers(skb, at + IPV4 + TCP) + at;
    const void *end = (void *)(u64)skb->data_end;
    if ((const void *)(ip + 1) > end)
        return leave(&packet);

    packet.protocol = ip->protocol;
    u32 total_length = NETWORK16(ip->total_length);
    u32 server = NETWORK32(ip->destination);
    if (UNLIKELY(ip->version_and_length != 0x45 || at + total_length > skb->len || total_length < IPV4 ||
                 ip->fragment & NETWORK16(0x3fff) || ip->source != settings->host ||
                 !is_represented(settings, server) || ip->ttl < settings->least_hops || sum_v4(ip) != 0xffff))
        return leave(&packet);
    packet.upper_length = total_length - IPV4;
    if (UNLIKELY(packet.protocol != PROTOCOL_TCP && packet.protocol != PROTOCOL_UDP &&
                 (packet.protocol != PROTOCOL_ICMP || settings->first_port)))
        return leave(&packet);
    if (UNLIKELY(!is_plain(&packet, V4_TO_V6, ip + 1, end) || is_list(skb)))
        return leave(&packet);

    u32 longest, count = segments(&packet, &longest);
    longest += IPV6;
    if (UNLIKELY(longest > (ip->fragment & NETWORK16(0x4000) ? settings->mtu_v6 : settings->mtu_v6_without_df)))
        return leave(&packet);
    struct ipv6 header = {
        .class_and_flow = { 0x60 | ip->tos >> 4, ip->tos << 4, 0, 0 },
        .payload_length = NETWORK16(packet.upper_length),
        .next_header = packet.protocol == PROTOCOL_ICMP ? PROTOCOL_ICMPV6 : packet.protocol,
        .hop_limit = ip->ttl - settings->hops,
        .source = { settings->address[0], settings->address[1] },
    };
    u16 v4 = fold((u64)ip->source + ip->destination);
    embed(settings, server, header.destination);
    u16 v6 = fold(sum_of(header.source[0]) + sum_of(header.source[1]) + sum_of(header.destination[0]) +
                  sum_of(header.destination[1]));
    struct bpf_fib_lookup fib = {
        .family = AF_INET6,
        .l4_protocol = header.next_header,
        .dport = packet.destination_port,
        .tot_len = longest,
        .ifindex = settings->device,
        .tos = *(u32 *)header.class_and_flow & NETWORK16(0x0ff0),
    };
    __builtin_memcpy(fib.src, header.source, sizeof(fib.src));
    __builtin_memcpy(fib.dst, header.destination, sizeof(fib.dst));
    long result = bpf_fib_lookup(skb, &fib, sizeof(fib), settings->fib_flags);
    /* A neighbour is looked for when the packet is sent. */
    if (UNLIKELY((result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH) ||
                 fib.ifindex != settings->uplink))
        return leave(&packet);
    struct bpf_redir_neigh next = { .nh_family = fib.family };
    __builtin_memcpy(next.nh, fib.dst, sizeof(next.nh));

    account(&packet, IPV4, count);
    if (UNLIKELY(drop_priority(skb) || bpf_skb_change_proto(skb, NETWORK16(ETH_P_IPV6), 0)))
        return fail(&packet);
    if (UNLIKELY(bpf_skb_store_bytes(skb, at, &header, IPV6, BPF_F_RECOMPUTE_CSUM)))
        return fail(&packet);
    if (UNLIKELY(rewrite(&packet, V4_TO_V6, at + IPV6, v6, v4)))
        return fail(&packet);
    if (at == 0 && bpf_skb_change_head(skb, ETHERNET, 0))
        return fail(&packet);
    return bpf_redirect_neigh(settings->uplink, &next, sizeof(next), 0);
}

SECTION("classifier") int clat_in(struct __sk_buff *skb)
{
    struct packet packet = { 0 };
    if (skb->protocol != NETWORK16(ETH_P_IPV6) || skb->pkt_type != PACKET_HOST || !look_up(&packet, V6_TO_V4, skb))
        return TC_ACT_UNSPEC;
    const struct settings *settings = packet.settings;
    const struct ipv6 *ip = headers(skb, ETHERNET + IPV6 + TCP) + ETHERNET;
    const void *end = (void *)(u64)skb->data_end;
    if ((const void *)(ip + 1) > end)
        return TC_ACT_UNSPEC;
    if (ip->destination[0] != settings->address[0] || ip->destination[1] != settings->address[1])
        return TC_ACT_UNSPEC;

    packet.protocol = ip->next_header;
    packet.upper_length = NETWORK16(ip->payload_length);
    u64 source[2] = { ip->source[0], ip->source[1] }, again[2];
    u32 server = extract(settings, source);
    embed(settings, server, again);
    if (UNLIKELY(again[0] != source[0] || again[1] != source[1] || !is_represented(settings, server) ||
                 is_of_a_vlan(skb) || ETHERNET + IPV6 + packet.upper_length > skb->len ||
                 ip->class_and_flow[0] >> 4 != 6 || ip->hop_limit < settings->least_hops))
        return leave(&packet);
    if (UNLIKELY(packet.protocol != PROTOCOL_TCP && packet.protocol != PROTOCOL_UDP &&
                 packet.protocol != PROTOCOL_ICMPV6))
        return leave(&packet);
    if (UNLIKELY(!is_plain(&packet, V6_TO_V4, ip + 1, end) || is_list(skb)))
        return leave(&packet);
    if (packet.protocol == PROTOCOL_ICMPV6) {
        /* What of a shared address is the host's, and what answers the translator's own, is not seen here. */
        if (settings->first_port || packet.identifier == settings->identifier)
            return leave(&packet);
    } else if (NETWORK16(packet.destination_port) < settings->first_port) {
        return leave(&packet);
    }

    u32 longest, count = segments(&packet, &longest);
    longest += IPV4;
    u32 total_length = IPV4 + packet.upper_length;
    if (UNLIKELY(longest > settings->mtu_v4 || total_length > 0xffff))
        return leave(&packet);
    struct ipv4 header = {
        .version_and_length = 0x45,
        .tos = ip->class_and_flow[0] << 4 | ip->class_and_flow[1] >> 4,
        .total_length = NETWORK16(total_length),
        .identification = bpf_get_prandom_u32(),
        .fragment = longest > FRAGMENTABLE ? NETWORK16(0x4000) : 0,
        .ttl = ip->hop_limit - settings->hops,
        .protocol = packet.protocol == PROTOCOL_ICMPV6 ? PROTOCOL_ICMP : packet.protocol,
        .source = NETWORK32(server),
        .destination = settings->host,
    };
    header.checksum = ~sum_v4(&header);
    u16 v4 = fold((u64)header.source + header.destination);
    u16 v6 = fold(sum_of(source[0]) + sum_of(source[1]) + sum_of(settings->address[0]) + sum_of(settings->address[1]));

    account(&packet, IPV6, count);
    if (UNLIKELY(drop_priority(skb) || bpf_skb_change_proto(skb, NETWORK16(ETH_P_IP), 0)))
        return fail(&packet);
    if (UNLIKELY(bpf_skb_store_bytes(skb, ETHERNET, &header, IPV4, BPF_F_RECOMPUTE_CSUM)))
        return fail(&packet);
    if (UNLIKELY(rewrite(&packet, V6_TO_V4, ETHERNET + IPV4, v6, v4)))
        return fail(&packet);
    return bpf_redirect(settings->device, BPF_F_INGRESS);
}

char licence[] SECTION("license") = "Dual MIT/GPL";
