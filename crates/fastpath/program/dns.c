/* Answers of the resolver's below its sockets, at tc ingress of the LANs: a plain question whose finished answer is here is turned
 * into that answer and sent back by the link it came from.
 *
 * It decides nothing. Answers and clients are the resolver's; what is the least bit unusual, unknown, or about to expire goes
 * on to the resolver's sockets as if this program were not there. Licence: MIT OR Apache-2.0, see the repository. */
#include "kernel.h"

#define ETHERNET 14
#define IPV6 40
#define UDP 8
#define CHECKSUM (ETHERNET + IPV6 + 6)
#define MESSAGE (ETHERNET + IPV6 + UDP)
#define HEADER 12
/* The longest name that is looked for, its length octets included. */
#define NAME 72
/* The most that an answer has behind its question, OPT record included. */
#define TAIL 480
#define TTLS 12
#define OPT 11
#define SECOND 1000000000ull
#define MAC 6
/* For how long a client that was silent may ask as fast as it likes. */
#define BURST SECOND
#define PORT 53
#define NEXT_UDP 17
#define HOP_LIMIT 64
/* Of the questions beyond a client's limit, one in so many is told to come by TCP; the rest is dropped. */
#define SLIP 2

#define RD NETWORK16(0x0100)
#define AD NETWORK16(0x0020)
#define TRUNCATED_ANSWER NETWORK16(0x8380)

/* The order of `layout::Counters`. */
enum counter { ANSWERED, SYNTHESIZED, REFUSED, FAILED, COUNTERS };

/* A name in lower case, filled up with zeros, and what else changes its answer. */
struct question {
    u64 name[NAME / 8];
    u16 type;
    u8 length, view;
    u32 zero;
};

struct ttl {
    /* Where it lies behind the question. */
    u16 at;
    /* Whether that is an odd place in the message. */
    u16 is_odd;
    u32 seconds;
};

/* Two of each: to a question without OPT, and with. */
struct answer {
    u64 hits;
    /* Nanoseconds of CLOCK_MONOTONIC until which it is given. */
    u64 until;
    u32 epoch;
    /* When it was made, in seconds. */
    u32 stored;
    /* Of all that follows the identifier, but for the question and the TTLs. */
    u32 sums[2];
    u16 lengths[2];
    u16 is_synthesized, ttls;
    /* From the flags to where the question begins. */
    u8 heads[2][HEADER - 2];
    u8 padding[4];
    struct ttl ttl[TTLS];
    u8 tail[TAIL];
};

struct client {
    u64 answered;
    /* Nanoseconds of CLOCK_MONOTONIC until which it is known. */
    u64 until;
    /* When its account is even again: the generic cell rate algorithm. */
    u64 even_at;
    u32 epoch, refused;
    /* Zero where any hardware address may send for it. */
    u8 mac[MAC];
    u8 view, padding;
};

_Static_assert(sizeof(struct answer) == 160 + TAIL && sizeof(struct client) == 40, "as in dns.rs");

struct settings {
    /* Nanoseconds of CLOCK_MONOTONIC; later on nobody is there. */
    u64 attended_until;
    /* Nanoseconds for a question of a client; zero for no limit. */
    u64 interval;
    /* What is of another one is no longer valid. */
    u32 epoch, padding;
};

struct counters {
    u64 counted[COUNTERS];
};

/* An address as it is known on a link: one of the resolver's, or a client's. */
struct place {
    u64 address[2];
    u32 interface, zero;
};

struct {
    MAP_UINT(type, BPF_MAP_TYPE_HASH);
    MAP_UINT(max_entries, 4096);
    MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
    MAP_TYPE(key, struct question);
    MAP_TYPE(value, struct answer);
} dns_answers SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_HASH);
    MAP_UINT(max_entries, 1024);
    MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
    MAP_TYPE(key, struct place);
    MAP_TYPE(value, struct client);
} dns_clients SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_HASH);
    MAP_UINT(max_entries, 1024);
    MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
    MAP_TYPE(key, struct place);
    MAP_TYPE(value, u32);
} dns_places SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct settings);
} dns_settings SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct counters);
} dns_counters SECTION(".maps");

/* All that comes before the name in a plain question. */
struct headers {
    u8 destination[MAC], source[MAC];
    u16 type;
    u8 version_and_class, class_and_flow, flow[2];
    u16 payload_length;
    u8 next_header, hop_limit;
    u64 from[2], to[2];
    u16 source_port, destination_port, length, checksum;
    u16 id, flags, questions, answers, authorities, additionals;
} __attribute__((packed));

ALWAYS_INLINE u64 lower(u64 word)
{
    u64 low = word & 0x7f7f7f7f7f7f7f7full;
    u64 from_a = low + 0x3f3f3f3f3f3f3f3full;
    u64 beyond_z = low + 0x2525252525252525ull;
    u64 is_upper = ~word & (from_a ^ beyond_z) & 0x8080808080808080ull;
    return word | is_upper >> 2;
}

ALWAYS_INLINE u16 fold(u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

/* What a sum adds where it begins in an odd place. */
ALWAYS_INLINE u32 swapped(u32 sum)
{
    return NETWORK16(fold(sum));
}

ALWAYS_INLINE u32 halves(u32 word)
{
    return (word & 0xffff) + (word >> 16);
}

ALWAYS_INLINE void count(enum counter counter, u64 number)
{
    u32 first = 0;
    struct counters *counters = bpf_map_lookup_elem(&dns_counters, &first);
    if (counters)
        counters->counted[counter] += number;
}

/* Turns the headers round, for a message of another length. */
ALWAYS_INLINE void turn(struct headers *headers, u16 udp_length)
{
    u8 mac[MAC];
    __builtin_memcpy(mac, headers->destination, MAC);
    __builtin_memcpy(headers->destination, headers->source, MAC);
    __builtin_memcpy(headers->source, mac, MAC);
    headers->version_and_class = 0x60;
    headers->class_and_flow = headers->flow[0] = headers->flow[1] = 0;
    headers->hop_limit = HOP_LIMIT;
    u64 address[2] = {headers->from[0], headers->from[1]};
    headers->from[0] = headers->to[0];
    headers->from[1] = headers->to[1];
    headers->to[0] = address[0];
    headers->to[1] = address[1];
    u16 port = headers->source_port;
    headers->source_port = headers->destination_port;
    headers->destination_port = port;
    headers->length = headers->payload_length = udp_length;
}

/* Brings the checksum up to date. Addresses and ports have changed places only. In a packet whose sum the card is still to
 * make, nothing but the length counts. */
ALWAYS_INLINE void sum_up(struct __sk_buff *skb, u32 longer, u32 old, u32 new)
{
    u32 difference = longer + new + (0xffff - fold(old));
    bpf_l4_csum_replace(skb, CHECKSUM, 0, longer, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
    bpf_l4_csum_replace(skb, CHECKSUM, 0, difference, BPF_F_MARK_MANGLED_0);
}

/* The client has asked too often: it is told to come by TCP, or nothing. */
ALWAYS_INLINE int refuse(struct __sk_buff *skb, struct client *client, u32 edns, u32 old)
{
    u32 length = skb->len;
    count(REFUSED, 1);
    if (client->refused++ % SLIP)
        return TC_ACT_SHOT;
    /* What has grown has no sum of the card's any more. */
    u32 whole = edns ? length - OPT : length;
    if (bpf_skb_change_tail(skb, length + 2, 0) || bpf_skb_change_tail(skb, whole, 0))
        return TC_ACT_SHOT;
    struct headers *headers = (void *)(u64)skb->data;
    if ((void *)(headers + 1) > (void *)(u64)skb->data_end)
        return TC_ACT_SHOT;
    u16 udp_length = NETWORK16(whole - ETHERNET - IPV6);
    u32 longer = (u32)udp_length + (0xffff - headers->length);
    old += headers->flags + headers->additionals;
    turn(headers, udp_length);
    headers->flags = TRUNCATED_ANSWER;
    headers->additionals = 0;
    sum_up(skb, longer, old, TRUNCATED_ANSWER);
    return bpf_redirect(skb->ifindex, 0);
}

SECTION("classifier") int dns(struct __sk_buff *skb)
{
    u32 first = 0, length = skb->len;
    if (skb->protocol != NETWORK16(ETH_P_IPV6))
        return TC_ACT_UNSPEC;
    struct headers *headers = (void *)(u64)skb->data;
    if ((void *)(headers + 1) > (void *)(u64)skb->data_end)
        return TC_ACT_UNSPEC;
    if (headers->next_header != NEXT_UDP || headers->destination_port != NETWORK16(PORT))
        return TC_ACT_UNSPEC;
    if (skb->pkt_type != PACKET_HOST || skb->vlan_present || skb->gso_size || headers->version_and_class >> 4 != 6 ||
        headers->length != headers->payload_length || NETWORK16(headers->length) != length - ETHERNET - IPV6 ||
        !headers->checksum || !headers->source_port)
        return TC_ACT_UNSPEC;

    u64 now = bpf_ktime_get_ns();
    const struct settings *settings = bpf_map_lookup_elem(&dns_settings, &first);
    if (!settings || now > settings->attended_until)
        return TC_ACT_UNSPEC;
    struct place place = {.address = {headers->to[0], headers->to[1]}, .interface = skb->ifindex};
    if (!bpf_map_lookup_elem(&dns_places, &place))
        return TC_ACT_UNSPEC;
    place.address[0] = headers->from[0];
    place.address[1] = headers->from[1];
    struct client *client = bpf_map_lookup_elem(&dns_clients, &place);
    if (!client || client->epoch != settings->epoch || now > client->until)
        return TC_ACT_UNSPEC;
    u64 mac = 0, sender = 0;
    __builtin_memcpy(&mac, client->mac, MAC);
    __builtin_memcpy(&sender, headers->source, MAC);
    if (mac && mac != sender)
        return TC_ACT_UNSPEC;

    /* All that it asks counts, answered here or not. */
    int is_refused = 0;
    u64 interval = settings->interval;
    if (interval) {
        u64 even_at = client->even_at;
        is_refused = even_at > now + BURST;
        if (!is_refused)
            client->even_at = (even_at > now ? even_at : now) + interval;
    }

    /* RD, and perhaps AD; one question, perhaps an OPT record without options. */
    u32 edns = headers->additionals != 0;
    u32 name = length - MESSAGE - HEADER - 4 - (edns ? OPT : 0);
    if ((headers->flags & ~AD) != RD || headers->questions != NETWORK16(1) || headers->answers || headers->authorities ||
        headers->additionals & ~NETWORK16(1) || name < 1 || name > NAME)
        goto unusual;
    struct question question = {};
    struct {
        u16 type, class;
        u32 opt[(OPT + 1) / 4];
    } rest = {};
    if (bpf_skb_load_bytes(skb, MESSAGE + HEADER, question.name, name) ||
        bpf_skb_load_bytes(skb, MESSAGE + HEADER + name, &rest, 4) || rest.class != NETWORK16(1))
        goto unusual;
    u32 old = 0;
    if (edns) {
        if (bpf_skb_load_bytes(skb, MESSAGE + HEADER + name + 4, rest.opt, OPT))
            goto unusual;
        /* Root, OPT, the size; code, version, flags and length are zero. */
        if ((rest.opt[0] & 0xffffff) != 0x290000 || rest.opt[1] & ~0xff || rest.opt[2])
            goto unusual;
        old = halves(rest.opt[0]) + halves(rest.opt[1]);
        if (name & 1)
            old = swapped(old);
    }
    if (UNLIKELY(is_refused))
        return refuse(skb, client, edns, old);
#pragma unroll
    for (int i = 0; i < NAME / 8; i++)
        question.name[i] = lower(question.name[i]);
    question.type = rest.type;
    question.length = name;
    question.view = client->view;
    struct answer *answer = bpf_map_lookup_elem(&dns_answers, &question);
    if (!answer || answer->epoch != settings->epoch || now >= answer->until)
        return TC_ACT_UNSPEC;

    u32 tail = answer->lengths[edns];
    u32 at = MESSAGE + HEADER + name + 4, whole = at + tail;
    /* What grows has no sum of the card's any more. */
    if (tail < 1 || tail > TAIL || whole <= length || bpf_skb_change_tail(skb, whole, 0))
        return TC_ACT_UNSPEC;
    headers = (void *)(u64)skb->data;
    if ((void *)(headers + 1) > (void *)(u64)skb->data_end)
        goto failed;
    u16 udp_length = NETWORK16(whole - ETHERNET - IPV6);
    u32 longer = (u32)udp_length + (0xffff - headers->length);
    u32 is_authentic = headers->flags & AD;
    u32 sum = answer->sums[edns];
    old += headers->flags + headers->questions + headers->additionals;
    turn(headers, udp_length);
    __builtin_memcpy(&headers->flags, answer->heads[edns], HEADER - 2);
    /* RFC 6840 section 5.7: AD is for who asks for it. */
    if (!is_authentic && headers->flags & AD) {
        headers->flags &= ~AD;
        sum += 0xffff - AD;
    }
    if (bpf_skb_store_bytes(skb, at, answer->tail, tail, 0))
        goto failed;
    u32 age = now / SECOND - answer->stored;
    for (u32 i = 0; i < TTLS; i++) {
        if (i >= answer->ttls)
            break;
        u32 seconds = answer->ttl[i].seconds;
        seconds = __builtin_bswap32(seconds > age ? seconds - age : 0);
        if (bpf_skb_store_bytes(skb, at + answer->ttl[i].at, &seconds, 4, 0))
            goto failed;
        sum += answer->ttl[i].is_odd ? swapped(halves(seconds)) : halves(seconds);
    }
    sum_up(skb, longer, old, sum);
    answer->hits++;
    client->answered++;
    count(ANSWERED, 1);
    if (answer->is_synthesized)
        count(SYNTHESIZED, 1);
    return bpf_redirect(skb->ifindex, 0);

unusual:
    if (!is_refused)
        return TC_ACT_UNSPEC;
    count(REFUSED, 1);
    return TC_ACT_SHOT;
failed:
    count(FAILED, 1);
    return TC_ACT_SHOT;
}

char licence[] SECTION("license") = "Dual MIT/GPL";
