/* Established routed flows past routing and rules: `flow_out` learns from a packet that they have let through how it left,
 * `flow_in` has the next ones of its flow leave likewise.
 *
 * It makes no decision. A packet that the ruleset has marked was admitted as part of a connection that is tracked; what is
 * learnt of it holds for packets of the same addresses and ports from the same sender on the same interface, for as long as
 * rules and routes stay as they are and a second at most. Then one shows itself again. Licence: MIT OR Apache-2.0, see the
 * repository. */
#include "kernel.h"

#define ETHERNET 14
#define IPV6 40
#define TCP 20
#define UDP 8

#define MILLISECOND 1000000ull
/* A flow is shown to rules, connection tracking and routing at least this often. */
#define KNOWN_FOR (1000 * MILLISECOND)
/* While a connection opens or closes, connection tracking sees all of it. */
#define HELD_FOR (10000 * MILLISECOND)
/* What came in so shortly after a change of routes may have met the old ones; longer than a tick of the kernel's clock. */
#define SETTLING (20 * MILLISECOND)
/* No packet takes longer from one end of the router to the other, unless it was kept back on the way. */
#define CROSSING (20 * MILLISECOND)

/* The ruleset's mark of what may be learnt from: `FLOW_MARK` of `engine::plan`. */
#define MARK 0x00650000
#define MARK_MASK 0x00ff0000

/* Packets that each processor remembers until they leave; a power of two, 256 at most. */
#define SEEN 256

enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };
enum { FIN = 1, SYN = 2, RST = 4 };

/* The order of `Reason::ALL` in src/flow.rs. */
enum reason {
    VLAN,
    MALFORMED,
    PROTOCOL,
    TCP_FLAGS,
    HOP_LIMIT,
    UNKNOWN,
    CHANGED,
    OTHER_SENDER,
    CLOSING,
    DUE,
    TOO_BIG,
    REASONS,
};

struct mac {
    u32 first;
    u16 last;
} __attribute__((packed));

struct frame {
    struct mac destination, source;
    u16 type;
    u8 class_and_flow[4];
    u16 payload_length;
    u8 next_header, hop_limit;
    u64 source_address[2], destination_address[2];
    u16 source_port, destination_port;
    u8 rest[4];
    /* TCP's. */
    u8 acknowledgement[4];
    u8 data_offset, flags;
} __attribute__((packed));

/* One direction of a flow. */
struct key {
    u64 source[2], destination[2];
    u16 source_port, destination_port;
    u8 protocol;
    u8 reserved[3];
};

/* What was learnt; nanoseconds of CLOCK_MONOTONIC. */
struct flow {
    /* When the packet came in that it was learnt from. */
    u64 learnt_at;
    /* Until when no packet has to show itself. */
    u64 until;
    /* Until when every packet has to. */
    u64 held_until;
    u32 epoch;
    u32 in, out;
    /* Bytes of the longest packet that was let through, from the IP header on. */
    u32 longest;
    struct mac sender;
    /* Of the frame that left. */
    struct mac destination, source;
    u16 reserved[3];
};

/* A packet that came in, until it leaves. */
struct seen {
    struct key key;
    u64 at;
    u32 in, epoch, longest;
    struct mac sender;
    /* Which turn through the places it is of; 0 when it was used. */
    u8 turn;
    u8 reserved;
};

struct settings {
    /* What was learnt in another epoch may not be admitted any more; nothing is taken in epoch 0. */
    u32 epoch;
};

/* One for each processor. */
struct counters {
    u64 packets, bytes, learnt;
    u64 reasons[REASONS];
    /* How many packets were remembered. */
    u64 seen;
};

struct {
    MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
    MAP_UINT(max_entries, 4096);
    MAP_TYPE(key, struct key);
    MAP_TYPE(value, struct flow);
} flows SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    MAP_UINT(max_entries, SEEN);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct seen);
} flow_seen SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct settings);
} flow_settings SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct counters);
} flow_counters SECTION(".maps");

/* When a route or a rule of the kernel's changed last. */
struct {
    MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, u64);
} flow_routes SECTION(".maps");

/* The program that takes packets. The kernel takes it out when the daemon that put it here is gone: nobody would hear of
 * changes any more. */
struct {
    MAP_UINT(type, BPF_MAP_TYPE_PROG_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, u32);
} flow_listening SECTION(".maps");

/* A packet on its way through here. */
struct packet {
    struct key key;
    u32 packets, bytes, longest;
    u8 flags;
};

ALWAYS_INLINE int leave(struct counters *counters, enum reason reason)
{
    counters->reasons[reason]++;
    return TC_ACT_UNSPEC;
}

ALWAYS_INLINE int is_same(const struct mac *one, const struct mac *other)
{
    return one->first == other->first && one->last == other->last;
}

/* Makes the headers readable in one piece. */
ALWAYS_INLINE const struct frame *headers(struct __sk_buff *skb)
{
    const u32 most = ETHERNET + IPV6 + TCP;
    u32 there = skb->data_end - skb->data;
    if (UNLIKELY(there < most && there < skb->len))
        bpf_skb_pull_data(skb, skb->len < most ? skb->len : most);
    return (void *)(u64)skb->data;
}

/* Reads the flow of a plain packet. The reason why it is none, or -1. */
ALWAYS_INLINE int inspect(const struct __sk_buff *skb, const struct frame *frame, struct packet *packet)
{
    const void *end = (void *)(u64)skb->data_end;
    if ((const void *)frame + ETHERNET + IPV6 + UDP > end)
        return MALFORMED;
    u32 length = NETWORK16(frame->payload_length), header = UDP;
    if (UNLIKELY(frame->type != NETWORK16(ETH_P_IPV6) || frame->class_and_flow[0] >> 4 != 6))
        return MALFORMED;
    packet->flags = 0;
    if (LIKELY(frame->next_header == PROTOCOL_TCP)) {
        if ((const void *)frame + ETHERNET + IPV6 + TCP > end)
            return MALFORMED;
        header = (frame->data_offset >> 4) * 4;
        if (UNLIKELY(header < TCP))
            return MALFORMED;
        packet->flags = frame->flags;
    } else if (frame->next_header != PROTOCOL_UDP) {
        return PROTOCOL;
    }
    /* Neither cut off nor padded. */
    if (UNLIKELY(ETHERNET + IPV6 + length != skb->len || length < header))
        return MALFORMED;
    packet->key = (struct key) {
        .source = { frame->source_address[0], frame->source_address[1] },
        .destination = { frame->destination_address[0], frame->destination_address[1] },
        .source_port = frame->source_port,
        .destination_port = frame->destination_port,
        .protocol = frame->next_header,
    };
    u32 size = skb->gso_size, payload = length - header;
    packet->packets = 1;
    packet->bytes = packet->longest = IPV6 + length;
    if (UNLIKELY(size && payload > size)) {
        packet->packets = (payload + size - 1) / size;
        packet->bytes += (packet->packets - 1) * (IPV6 + header);
        packet->longest = IPV6 + header + size;
    }
    return -1;
}

/* Remembers what came in until the same packet leaves. It carries the number of its place with it. */
ALWAYS_INLINE int show(struct __sk_buff *skb, const struct frame *frame, const struct packet *packet,
                       struct counters *counters, u32 epoch, u64 now, enum reason reason)
{
    u64 number = counters->seen++;
    u32 place = number & (SEEN - 1), turn = 1 + (number / SEEN) % 255;
    struct seen *seen = bpf_map_lookup_elem(&flow_seen, &place);
    if (seen) {
        seen->key = packet->key;
        seen->at = now;
        seen->in = skb->ifindex;
        seen->epoch = epoch;
        seen->longest = packet->longest;
        seen->sender = frame->source;
        seen->turn = turn;
        skb->tc_index = turn << 8 | place;
    }
    return leave(counters, reason);
}

/* A connection opens or closes: until that is over, neither direction goes past connection tracking. */
ALWAYS_INLINE void hold(const struct __sk_buff *skb, const struct frame *frame, const struct key *key, u64 now)
{
    struct flow *flow = bpf_map_lookup_elem(&flows, key);
    if (flow && flow->in == skb->ifindex && is_same(&flow->sender, &frame->source))
        flow->held_until = now + HELD_FOR;
    struct key back = {
        .source = { key->destination[0], key->destination[1] },
        .destination = { key->source[0], key->source[1] },
        .source_port = key->destination_port,
        .destination_port = key->source_port,
        .protocol = key->protocol,
    };
    flow = bpf_map_lookup_elem(&flows, &back);
    if (flow && flow->out == skb->ifindex && is_same(&flow->destination, &frame->source))
        flow->held_until = now + HELD_FOR;
}

SECTION("classifier/flow_take") int flow_take(struct __sk_buff *skb)
{
    u32 first = 0;
    const struct settings *settings = bpf_map_lookup_elem(&flow_settings, &first);
    struct counters *counters = bpf_map_lookup_elem(&flow_counters, &first);
    const u64 *changed = bpf_map_lookup_elem(&flow_routes, &first);
    if (!settings || !counters || !changed || !settings->epoch)
        return TC_ACT_UNSPEC;
    if (UNLIKELY(skb->vlan_present))
        return leave(counters, VLAN);
    const struct frame *frame = headers(skb);
    struct packet packet;
    int obstacle = inspect(skb, frame, &packet);
    if (UNLIKELY(obstacle >= 0))
        return leave(counters, obstacle);
    u64 now = bpf_ktime_get_coarse_ns();
    if (UNLIKELY(packet.flags & (SYN | FIN | RST))) {
        hold(skb, frame, &packet.key, now);
        return leave(counters, TCP_FLAGS);
    }
    u32 epoch = settings->epoch;
    struct flow *flow = bpf_map_lookup_elem(&flows, &packet.key);
    if (!flow)
        return show(skb, frame, &packet, counters, epoch, now, UNKNOWN);
    if (UNLIKELY(flow->epoch != epoch || flow->learnt_at <= *changed + SETTLING))
        return show(skb, frame, &packet, counters, epoch, now, CHANGED);
    /* Rules have admitted this flow from this interface and this sender. */
    if (UNLIKELY(flow->in != skb->ifindex || !is_same(&flow->sender, &frame->source)))
        return show(skb, frame, &packet, counters, epoch, now, OTHER_SENDER);
    if (UNLIKELY(now < flow->held_until))
        return show(skb, frame, &packet, counters, epoch, now, CLOSING);
    if (UNLIKELY(now >= flow->until))
        return show(skb, frame, &packet, counters, epoch, now, DUE);
    if (UNLIKELY(packet.longest > flow->longest))
        return show(skb, frame, &packet, counters, epoch, now, TOO_BIG);
    u8 hop_limit = frame->hop_limit;
    if (UNLIKELY(hop_limit <= 1))
        return leave(counters, HOP_LIMIT);

    u32 out = flow->out;
    hop_limit--;
    struct frame *changing = (void *)(u64)skb->data;
    if ((void *)changing + ETHERNET + IPV6 > (void *)(u64)skb->data_end)
        return leave(counters, MALFORMED);
    changing->destination = flow->destination;
    changing->source = flow->source;
    if (UNLIKELY(bpf_skb_store_bytes(skb, __builtin_offsetof(struct frame, hop_limit), &hop_limit, 1, BPF_F_RECOMPUTE_CSUM)))
        return TC_ACT_SHOT;
    counters->packets += packet.packets;
    counters->bytes += packet.bytes;
    return bpf_redirect(out, 0);
}

SECTION("classifier/flow_in") int flow_in(struct __sk_buff *skb)
{
    /* Whoever used it before meant something else. */
    if (UNLIKELY(skb->tc_index))
        skb->tc_index = 0;
    if (skb->protocol == NETWORK16(ETH_P_IPV6) && skb->pkt_type == PACKET_HOST)
        bpf_tail_call(skb, &flow_listening, 0);
    return TC_ACT_UNSPEC;
}

/* What came in as this packet; nothing where it is another one. */
ALWAYS_INLINE struct seen *recall(const struct __sk_buff *skb, const struct key *key, u64 now)
{
    u32 place = skb->tc_index & (SEEN - 1), turn = skb->tc_index >> 8;
    struct seen *seen = bpf_map_lookup_elem(&flow_seen, &place);
    if (!seen || !turn || seen->turn != turn || seen->in != skb->ingress_ifindex || now - seen->at > CROSSING)
        return 0;
    const u64 *one = (const void *)key, *other = (const void *)&seen->key;
#pragma unroll
    for (u32 i = 0; i < sizeof(*key) / 8; i++)
        if (one[i] != other[i])
            return 0;
    return seen;
}

SECTION("classifier/flow_out") int flow_out(struct __sk_buff *skb)
{
    u32 first = 0;
    if (LIKELY((skb->mark & MARK_MASK) != MARK))
        return TC_ACT_UNSPEC;
    skb->mark &= ~MARK_MASK;
    struct counters *counters = bpf_map_lookup_elem(&flow_counters, &first);
    const u64 *changed = bpf_map_lookup_elem(&flow_routes, &first);
    if (!counters || !changed || !skb->tc_index || skb->vlan_present || skb->protocol != NETWORK16(ETH_P_IPV6))
        return TC_ACT_UNSPEC;
    const struct frame *frame = headers(skb);
    struct packet packet;
    if (inspect(skb, frame, &packet) >= 0)
        return TC_ACT_UNSPEC;
    u64 now = bpf_ktime_get_coarse_ns();
    struct seen *seen = recall(skb, &packet.key, now);
    if (!seen)
        return TC_ACT_UNSPEC;
    seen->turn = 0;

    struct flow *known = bpf_map_lookup_elem(&flows, &packet.key);
    u64 held_until = 0;
    if (known) {
        held_until = known->held_until;
        if (known->epoch == seen->epoch && known->learnt_at > *changed + SETTLING && known->in == seen->in &&
            known->out == skb->ifindex && is_same(&known->sender, &seen->sender) &&
            is_same(&known->destination, &frame->destination) && is_same(&known->source, &frame->source)) {
            known->learnt_at = seen->at;
            if (known->longest < seen->longest)
                known->longest = seen->longest;
            known->until = seen->at + KNOWN_FOR;
            return TC_ACT_UNSPEC;
        }
    }
    struct flow flow = {
        .learnt_at = seen->at,
        .until = seen->at + KNOWN_FOR,
        .held_until = held_until,
        .epoch = seen->epoch,
        .in = seen->in,
        .out = skb->ifindex,
        .longest = seen->longest,
        .sender = seen->sender,
        .destination = frame->destination,
        .source = frame->source,
    };
    if (!bpf_map_update_elem(&flows, &packet.key, &flow, 0))
        counters->learnt++;
    return TC_ACT_UNSPEC;
}

/* Sees what the kernel tells of changes of links, addresses, routes and rules, while it tells of them: on a netlink socket,
 * which never has anything to read. */
SECTION("socket") int flow_routes_change(void *notice)
{
    u32 first = 0;
    u64 *changed = bpf_map_lookup_elem(&flow_routes, &first);
    (void)notice;
    if (changed)
        *changed = bpf_ktime_get_ns();
    return 0;
}

char licence[] SECTION("license") = "Dual MIT/GPL";
