/* NAT64's fast path at tc ingress: looks a session up, rewrites the packet, hands it to the kernel's next hop.
 *
 * It makes no decision. Sessions are the translator's; what is not a plain packet of one that is here goes on as if this
 * program were not there, and the translator sees it. Licence: MIT OR Apache-2.0, see the repository. */
#include "headers.h"
#include "layout.h"

#define MILLISECOND 1000000ull
/* Routes that were asked for so shortly after a change are asked for again; longer than a tick of the kernel's clock. */
#define SETTLING (20 * MILLISECOND)

struct {
    MAP_UINT(type, BPF_MAP_TYPE_HASH);
    MAP_UINT(max_entries, 1024);
    MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
    MAP_TYPE(key, struct key_v6);
    MAP_TYPE(value, struct value_v6);
} sessions_v6 SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_HASH);
    MAP_UINT(max_entries, 1024);
    MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
    MAP_TYPE(key, struct key_v4);
    MAP_TYPE(value, struct value_v4);
} sessions_v4 SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct settings);
} settings SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct counters);
} counters SECTION(".maps");

/* When a route or a rule of the kernel's changed last, in nanoseconds of CLOCK_MONOTONIC. */
struct {
    MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, u64);
} routes SECTION(".maps");

/* The program that goes by remembered routes. The kernel takes it out when the daemon that put it here is gone, however it
 * went: with the daemon goes the socket by which changes of routes are heard of. */
struct {
    MAP_UINT(type, BPF_MAP_TYPE_PROG_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, u32);
} listening SECTION(".maps");

/* A packet on its way through here. */
struct packet {
    struct __sk_buff *skb;
    const struct settings *settings;
    struct counters *counters;
    u8 protocol;
    /* Bytes behind the IP header, and of the upper layer's header. */
    u16 upper_length, upper_header;
    /* TCP's or UDP's ports, or an echo's identifier in both. */
    u16 source_port, destination_port;
    /* Type and code of an echo, as they are and as they will be. */
    u16 echo, echo_translated;
    /* Whether sessions may know their routes. */
    u8 remembers;
};

ALWAYS_INLINE int leave(const struct packet *packet, enum reason reason)
{
    packet->counters->reasons[reason]++;
    return TC_ACT_UNSPEC;
}

/* The packet is neither what it was nor translated. */
ALWAYS_INLINE int fail(const struct packet *packet)
{
    packet->counters->reasons[FAILED]++;
    return TC_ACT_SHOT;
}

/* What the upper layer must be so that a packet can be translated here. The reason why not, or -1. */
ALWAYS_INLINE int inspect(struct packet *packet, const void *start, const void *end, int from_v6)
{
    const struct upper *upper = start;
    if ((const void *)start + UDP > end || packet->upper_length < UDP)
        return MALFORMED;
    if (LIKELY(packet->protocol == PROTOCOL_TCP)) {
        if (start + TCP > end || packet->upper_length < TCP)
            return MALFORMED;
        const u8 *bytes = start;
        packet->upper_header = (bytes[12] >> 4) * 4;
        if (packet->upper_header < TCP || packet->upper_header > packet->upper_length)
            return MALFORMED;
        /* The translator's state machine has to see them. */
        if (bytes[13] & (SYN | FIN | RST))
            return TCP_FLAGS;
    } else if (packet->protocol == PROTOCOL_UDP) {
        u16 length = NETWORK16(*(const u16 *)(start + 4));
        packet->upper_header = UDP;
        if (length < UDP || length > packet->upper_length)
            return MALFORMED;
        /* Towards IPv6 one has to be computed; from IPv6 it is forbidden. */
        if (upper->udp_checksum == 0)
            return UDP_WITHOUT_CHECKSUM;
    } else {
        packet->upper_header = ECHO;
        packet->echo = *(const u16 *)start;
        u8 type = upper->type;
        if (type != (from_v6 ? ECHO_REQUEST_V6 : ECHO_REQUEST) && type != (from_v6 ? ECHO_REPLY_V6 : ECHO_REPLY))
            return ICMP_TYPE;
        if (from_v6)
            type = type == ECHO_REQUEST_V6 ? ECHO_REQUEST : ECHO_REPLY;
        else
            type = type == ECHO_REQUEST ? ECHO_REQUEST_V6 : ECHO_REPLY_V6;
        packet->echo_translated = type | (packet->echo & 0xff00);
        packet->source_port = packet->destination_port = upper->identifier;
        return -1;
    }
    packet->source_port = upper->source_port;
    packet->destination_port = upper->destination_port;
    return -1;
}

/* Whether a session may be used now. The reason why not, or -1. */
ALWAYS_INLINE int usable(const struct packet *packet, const struct session *session, u64 now)
{
    const struct settings *settings = packet->settings;
    if (UNLIKELY(session->epoch != settings->epoch || settings->epoch == 0))
        return STALE_EPOCH;
    if (UNLIKELY(now > settings->attended_until))
        return UNATTENDED;
    u64 lifetime = packet->protocol == PROTOCOL_TCP   ? settings->lifetime_tcp
                   : packet->protocol == PROTOCOL_UDP ? settings->lifetime_udp
                                                      : settings->lifetime_icmp;
    if (UNLIKELY(now > session->last_used + lifetime))
        return IDLE;
    /* Rules are about interfaces: they have admitted this flow from this one. */
    if (UNLIKELY(session->in != packet->skb->ifindex))
        return OTHER_INTERFACE;
    return -1;
}

/* Whether a packet comes from the host that its address was admitted for. Who else sends from there is refused, or has it
 * now, by what the packet meets next. */
ALWAYS_INLINE int is_sender(const struct ipv6 *ip, const struct mac *mac)
{
    const struct ethernet *ethernet = (const void *)ip - ETHERNET;
    return !(mac->first | mac->last) ||
           (ethernet->source.first == mac->first && ethernet->source.last == mac->last);
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

/* Whether what a session knows of its route holds for this packet. Not where it was asked for while a change was on its
 * way: the kernel tells of some changes just before or after it makes them. */
ALWAYS_INLINE int is_known(const struct packet *packet, const struct route *known, u64 now, u32 longest)
{
    u32 first = 0;
    if (!packet->remembers)
        return 0;
    const u64 *changed = bpf_map_lookup_elem(&routes, &first);
    return changed && now - known->asked_at < packet->settings->route_lasts * MILLISECOND &&
           known->asked_at > *changed + SETTLING && longest <= known->mtu;
}

/* Asks the kernel for the route of a translated packet. The reason why there is none, or -1. */
ALWAYS_INLINE int route(const struct packet *packet, const struct session *session, struct route *known,
                        struct bpf_fib_lookup *fib, u64 now, u32 longest)
{
    u8 family = fib->family;
    fib->l4_protocol = packet->protocol;
    fib->tot_len = longest;
    fib->ifindex = packet->settings->tun;
    long result = bpf_fib_lookup(packet->skb, fib, sizeof(*fib), packet->settings->fib_flags);
    if (UNLIKELY(result != BPF_FIB_LKUP_RET_SUCCESS)) {
        if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
            return TOO_BIG;
        /* The kernel finds it when the packet is sent. */
        if (result != BPF_FIB_LKUP_RET_NO_NEIGH)
            return NO_ROUTE;
    }
    if (fib->ifindex != session->out)
        return OTHER_INTERFACE;
    /* A next hop of the other family has no place here. */
    known->asked_at = packet->remembers && fib->family == family ? now : 0;
    /* Zero where the kernel does not tell: then nothing fits. */
    known->mtu = result == BPF_FIB_LKUP_RET_SUCCESS ? fib->tot_len : 0;
    return -1;
}

/* Brings the upper layer's ports or identifier and its checksum up to date. */
ALWAYS_INLINE long rewrite(const struct packet *packet, const struct session *session, u32 at, u32 port_at, u16 port)
{
    struct __sk_buff *skb = packet->skb;
    u64 addresses = session->addresses, ports = session->ports;
    u32 checksum_at = at + 16;
    u64 flags = 0;
    if (packet->protocol == PROTOCOL_UDP) {
        checksum_at = at + 6;
        flags = BPF_F_MARK_MANGLED_0;
    } else if (packet->protocol != PROTOCOL_TCP) {
        checksum_at = at + 2;
        port_at = at + 4;
        /* Only ICMPv6 has a pseudo-header, and its length is in it. */
        u16 length = NETWORK16(packet->upper_length);
        addresses = fold(addresses + (packet->protocol == PROTOCOL_ICMP ? length : (u16)~length));
        ports = fold(ports + packet->echo_translated + (u16)~packet->echo);
        if (bpf_skb_store_bytes(skb, at, &packet->echo_translated, 2, 0))
            return -1;
    }
    /* A packet whose checksum the card completes has the sum of the pseudo-header there: no ports. */
    if (bpf_l4_csum_replace(skb, checksum_at, 0, addresses, flags | BPF_F_PSEUDO_HDR))
        return -1;
    if (ports == 0)
        return 0;
    if (bpf_skb_store_bytes(skb, port_at, &port, 2, 0))
        return -1;
    return bpf_l4_csum_replace(skb, checksum_at, 0, ports, flags);
}

ALWAYS_INLINE int depart(const struct session *session, struct bpf_redir_neigh *next)
{
    return bpf_redirect_neigh(session->out, next, sizeof(*next), 0);
}

/* Notes that a session was used; returns how many packets came before. */
ALWAYS_INLINE u64 account(struct session *session, struct traffic *total, u64 now, u32 packets, u32 bytes)
{
    session->last_used = now;
    __sync_fetch_and_add(&session->traffic.bytes, bytes);
    total->packets += packets;
    total->bytes += bytes;
    return __sync_fetch_and_add(&session->traffic.packets, packets);
}

ALWAYS_INLINE int is_in_prefix(const struct settings *settings, const struct ipv6 *ip)
{
#pragma unroll
    for (int i = 0; i < PREFIXES; i++) {
        const struct prefix *prefix = &settings->prefixes[i];
        if (i >= settings->prefix_count)
            return 0;
        if ((ip->destination[0] & prefix->mask[0]) == prefix->value[0] &&
            (ip->destination[1] & prefix->mask[1]) == prefix->value[1])
            return 1;
    }
    return 0;
}

ALWAYS_INLINE int v6_to_v4(struct packet *packet)
{
    struct __sk_buff *skb = packet->skb;
    const struct settings *settings = packet->settings;
    const struct ipv6 *ip = headers(skb, ETHERNET + IPV6 + TCP) + ETHERNET;
    const void *end = (void *)(u64)skb->data_end;
    if ((const void *)(ip + 1) > end)
        return TC_ACT_UNSPEC;
    if (!is_in_prefix(settings, ip))
        return TC_ACT_UNSPEC;
    if (UNLIKELY(is_of_a_vlan(skb)))
        return leave(packet, VLAN);

    packet->protocol = ip->next_header;
    packet->upper_length = NETWORK16(ip->payload_length);
    if (UNLIKELY(ETHERNET + IPV6 + packet->upper_length > skb->len || ip->class_and_flow[0] >> 4 != 6))
        return leave(packet, MALFORMED);
    if (UNLIKELY(packet->protocol != PROTOCOL_TCP && packet->protocol != PROTOCOL_UDP &&
                 packet->protocol != PROTOCOL_ICMPV6))
        return leave(packet, EXTENSION_HEADER);
    int obstacle = inspect(packet, ip + 1, end, 1);
    if (UNLIKELY(obstacle >= 0))
        return leave(packet, obstacle);
    if (UNLIKELY(ip->hop_limit < settings->least_hop_limit))
        return leave(packet, HOP_LIMIT);

    struct key_v6 key = {
        .client = { ip->source[0], ip->source[1] },
        .server = { ip->destination[0], ip->destination[1] },
        .client_port = packet->source_port,
        .server_port = packet->protocol == PROTOCOL_ICMPV6 ? 0 : packet->destination_port,
        .protocol = packet->protocol,
    };
    struct value_v6 *value = bpf_map_lookup_elem(&sessions_v6, &key);
    if (!value)
        return leave(packet, NO_SESSION);
    u64 now = bpf_ktime_get_coarse_ns();
    obstacle = usable(packet, &value->session, now);
    if (UNLIKELY(obstacle >= 0))
        return leave(packet, obstacle);
    if (UNLIKELY(!is_sender(ip, &value->client_mac)))
        return leave(packet, OTHER_SENDER);

    if (UNLIKELY(is_list(packet->skb)))
        return leave(packet, PACKET_LIST);
    u32 longest, count = segments(packet, &longest);
    longest += IPV4;
    u32 total_length = IPV4 + packet->upper_length;
    if (UNLIKELY(longest > settings->mtu_v4 || total_length > 0xffff))
        return leave(packet, TOO_BIG);
    u16 class = (ip->class_and_flow[0] << 4 | ip->class_and_flow[1] >> 4) & 0xff;
    struct ipv4 header = {
        .version_and_length = 0x45,
        .tos = settings->is_tos_fixed ? settings->tos : class,
        .total_length = NETWORK16(total_length),
        .fragment = longest > FRAGMENTABLE ? NETWORK16(0x4000) : 0,
        .ttl = ip->hop_limit - settings->hops,
        .protocol = packet->protocol == PROTOCOL_ICMPV6 ? PROTOCOL_ICMP : packet->protocol,
        .source = value->mapped,
        .destination = value->server,
    };
    struct bpf_redir_neigh next = { .nh_family = AF_INET, .nh = { value->next_hop } };
    if (!is_known(packet, &value->route, now, longest)) {
        struct bpf_fib_lookup fib = {
            .family = AF_INET,
            .sport = value->mapped_port,
            .dport = packet->destination_port,
            .tos = header.tos,
            .src = { header.source },
            .dst = { header.destination },
        };
        obstacle = route(packet, &value->session, &value->route, &fib, now, longest);
        if (UNLIKELY(obstacle >= 0))
            return leave(packet, obstacle);
        value->next_hop = fib.dst[0];
        next.nh_family = fib.family;
        __builtin_memcpy(next.nh, fib.dst, sizeof(next.nh));
    }

    /* Every packet on the wire has all headers. */
    u32 bytes = IPV6 + packet->upper_length + (count - 1) * (IPV6 + packet->upper_header);
    u64 before = account(&value->session, &packet->counters->v6_to_v4, now, count, bytes);
    header.identification = NETWORK16(value->identification + (u16)before);
    header.checksum = ~sum_v4(&header);
    if (UNLIKELY(drop_priority(skb) || bpf_skb_change_proto(skb, NETWORK16(ETH_P_IP), 0)))
        return fail(packet);
    if (UNLIKELY(bpf_skb_store_bytes(skb, ETHERNET, &header, IPV4, BPF_F_RECOMPUTE_CSUM)))
        return fail(packet);
    const u32 upper = ETHERNET + IPV4;
    if (UNLIKELY(rewrite(packet, &value->session, upper, upper, value->mapped_port)))
        return fail(packet);
    return depart(&value->session, &next);
}

ALWAYS_INLINE int v4_to_v6(struct packet *packet)
{
    struct __sk_buff *skb = packet->skb;
    const struct settings *settings = packet->settings;
    const struct ipv4 *ip = headers(skb, ETHERNET + IPV4 + TCP) + ETHERNET;
    const void *end = (void *)(u64)skb->data_end;
    if ((const void *)(ip + 1) > end)
        return TC_ACT_UNSPEC;
    if (UNLIKELY(is_of_a_vlan(skb)))
        return leave(packet, VLAN);

    packet->protocol = ip->protocol;
    u32 total_length = NETWORK16(ip->total_length);
    if (UNLIKELY(ip->version_and_length != 0x45))
        return leave(packet, OPTIONS);
    if (UNLIKELY(ETHERNET + total_length > skb->len || total_length < IPV4))
        return leave(packet, MALFORMED);
    packet->upper_length = total_length - IPV4;
    if (UNLIKELY(ip->fragment & NETWORK16(0x3fff)))
        return leave(packet, FRAGMENT);
    if (UNLIKELY(packet->protocol != PROTOCOL_TCP && packet->protocol != PROTOCOL_UDP &&
                 packet->protocol != PROTOCOL_ICMP))
        return leave(packet, PROTOCOL);
    int obstacle = inspect(packet, ip + 1, end, 0);
    if (UNLIKELY(obstacle >= 0))
        return leave(packet, obstacle);

    struct key_v4 key = {
        .server = ip->source,
        .mapped = ip->destination,
        .server_port = packet->protocol == PROTOCOL_ICMP ? 0 : packet->source_port,
        .mapped_port = packet->destination_port,
        .protocol = packet->protocol,
    };
    struct value_v4 *value = bpf_map_lookup_elem(&sessions_v4, &key);
    if (!value)
        return leave(packet, NO_SESSION);
    u64 now = bpf_ktime_get_coarse_ns();
    obstacle = usable(packet, &value->session, now);
    if (UNLIKELY(obstacle >= 0))
        return leave(packet, obstacle);
    if (UNLIKELY(ip->ttl < settings->least_ttl))
        return leave(packet, HOP_LIMIT);
    if (UNLIKELY(sum_v4(ip) != 0xffff))
        return leave(packet, MALFORMED);

    if (UNLIKELY(is_list(packet->skb)))
        return leave(packet, PACKET_LIST);
    u32 longest, count = segments(packet, &longest);
    longest += IPV6;
    u16 mtu = ip->fragment & NETWORK16(0x4000) ? settings->mtu_v6 : settings->mtu_v6_without_df;
    if (UNLIKELY(longest > mtu))
        return leave(packet, TOO_BIG);
    u8 class = settings->is_traffic_class_fixed ? settings->traffic_class : ip->tos;
    struct ipv6 header = {
        .class_and_flow = { 0x60 | class >> 4, class << 4, 0, 0 },
        .payload_length = NETWORK16(packet->upper_length),
        .next_header = packet->protocol == PROTOCOL_ICMP ? PROTOCOL_ICMPV6 : packet->protocol,
        .hop_limit = ip->ttl - settings->hops,
        .source = { value->server[0], value->server[1] },
        .destination = { value->client[0], value->client[1] },
    };
    struct bpf_redir_neigh next = { .nh_family = AF_INET6 };
    if (is_known(packet, &value->route, now, longest)) {
        __builtin_memcpy(next.nh, value->next_hop, sizeof(next.nh));
    } else {
        struct bpf_fib_lookup fib = {
            .family = AF_INET6,
            .sport = packet->source_port,
            .dport = value->client_port,
            .tos = *(u32 *)header.class_and_flow & NETWORK16(0x0ff0),
        };
        __builtin_memcpy(fib.src, value->server, sizeof(fib.src));
        __builtin_memcpy(fib.dst, value->client, sizeof(fib.dst));
        obstacle = route(packet, &value->session, &value->route, &fib, now, longest);
        if (UNLIKELY(obstacle >= 0))
            return leave(packet, obstacle);
        __builtin_memcpy(value->next_hop, fib.dst, sizeof(fib.dst));
        next.nh_family = fib.family;
        __builtin_memcpy(next.nh, fib.dst, sizeof(next.nh));
    }

    u32 bytes = total_length + (count - 1) * (IPV4 + packet->upper_header);
    account(&value->session, &packet->counters->v4_to_v6, now, count, bytes);
    if (UNLIKELY(drop_priority(skb) || bpf_skb_change_proto(skb, NETWORK16(ETH_P_IPV6), 0)))
        return fail(packet);
    if (UNLIKELY(bpf_skb_store_bytes(skb, ETHERNET, &header, IPV6, BPF_F_RECOMPUTE_CSUM)))
        return fail(packet);
    const u32 upper = ETHERNET + IPV6;
    if (UNLIKELY(rewrite(packet, &value->session, upper, upper + 2, value->client_port)))
        return fail(packet);
    return depart(&value->session, &next);
}

ALWAYS_INLINE int translate(struct __sk_buff *skb, u8 remembers)
{
    u32 first = 0;
    struct packet packet = {
        .skb = skb,
        .remembers = remembers,
        .settings = bpf_map_lookup_elem(&settings, &first),
        .counters = bpf_map_lookup_elem(&counters, &first),
    };
    if (!packet.settings || !packet.counters || skb->pkt_type != PACKET_HOST)
        return TC_ACT_UNSPEC;
    if (skb->protocol == NETWORK16(ETH_P_IPV6))
        return v6_to_v4(&packet);
    if (skb->protocol == NETWORK16(ETH_P_IP))
        return v4_to_v6(&packet);
    return TC_ACT_UNSPEC;
}

SECTION("classifier/remembering") int remembering(struct __sk_buff *skb)
{
    return translate(skb, 1);
}

SECTION("classifier") int sixgate(struct __sk_buff *skb)
{
    bpf_tail_call(skb, &listening, 0);
    return translate(skb, 0);
}

/* Sees what the kernel tells of changes of links, addresses, routes and rules, while it tells of them: on a netlink socket,
 * which never has anything to read. */
SECTION("socket") int routes_change(void *notice)
{
    u32 first = 0;
    u64 *changed = bpf_map_lookup_elem(&routes, &first);
    (void)notice;
    if (changed)
        *changed = bpf_ktime_get_ns();
    return 0;
}

/* MIT allows use under the GPL as well; the kernel offers its routes to programs that may be used so. */
char licence[] SECTION("license") = "Dual MIT/GPL";
