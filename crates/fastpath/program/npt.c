/* NPTv6 (RFC 6296) at tc: addresses of one prefix for those of another, without states and without touching a checksum.
 *
 * `npt_in` runs where the uplink's packets come in, `npt_out` where they leave; `npt_lan_in` and `npt_lan_out` do the same on
 * the LANs for hosts inside that know one another by their addresses outside. What is not mapped goes on untouched.
 * Licence: MIT OR Apache-2.0, see the repository. */
#include "kernel.h"

#define ETHERNET 14
#define IPV6 40
#define SOURCE 8
#define DESTINATION 24
#define ADDRESS 16
#define HEADERS 8
/* A packet whose destination was translated between LANs, on its way to where its source will be. */
#define BETWEEN_LANS 0x01000000

enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, PROTOCOL_ICMPV6 = 58, DESTINATION_OPTIONS = 60 };

/* The order of `Verdict::ALL` in the engine. */
enum verdict { TRANSLATED, NOT_MAPPED, NO_WORD, NO_PREFIX, INSIDE_ADDRESS, MALFORMED, VERDICTS };

struct key {
    u32 length;
    u8 address[ADDRESS];
};

/* In network order but for the adjustment. */
struct value {
    u8 prefix[ADDRESS], host[ADDRESS];
    u16 adjustment;
    /* The first and the last of the words that may take it; 0 where there is no prefix to translate to. */
    u8 first, last;
};

struct counters {
    u64 verdicts[VERDICTS];
};

struct {
    MAP_UINT(type, BPF_MAP_TYPE_LPM_TRIE);
    MAP_UINT(max_entries, 1024);
    MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
    MAP_TYPE(key, struct key);
    MAP_TYPE(value, struct value);
} npt_inside SECTION(".maps"), npt_outside SECTION(".maps");

struct {
    MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct counters);
} npt_counters SECTION(".maps");

ALWAYS_INLINE int end(enum verdict verdict)
{
    u32 first = 0;
    struct counters *counters = bpf_map_lookup_elem(&npt_counters, &first);
    if (counters)
        counters->verdicts[verdict]++;
    return verdict == NO_WORD || verdict == NO_PREFIX || verdict == INSIDE_ADDRESS ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* Looks up the address in the packet at that place. */
ALWAYS_INLINE struct value *find(struct __sk_buff *skb, void *map, u32 at, struct key *key)
{
    key->length = 8 * ADDRESS;
    if (bpf_skb_load_bytes(skb, at, key->address, ADDRESS))
        return 0;
    return bpf_map_lookup_elem(map, key);
}

/* Puts the address that stands for it in its place. The sum over the packet stays what it was, whoever keeps it. */
ALWAYS_INLINE enum verdict translate(struct __sk_buff *skb, const struct value *value, u32 at, const struct key *key)
{
    u16 words[8];
    __builtin_memcpy(words, key->address, ADDRESS);
    const u16 *prefix = (const u16 *)value->prefix, *host = (const u16 *)value->host;
    int is_adjusted = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        words[i] = prefix[i] | (words[i] & host[i]);
        if (!is_adjusted && i >= value->first && i <= value->last && words[i] != 0xffff) {
            u32 sum = (u32)NETWORK16(words[i]) + value->adjustment;
            sum = (sum & 0xffff) + (sum >> 16);
            words[i] = sum == 0xffff ? 0 : NETWORK16(sum);
            is_adjusted = 1;
        }
    }
    if (!value->first)
        return NO_PREFIX;
    if (!is_adjusted)
        return NO_WORD;
    return bpf_skb_store_bytes(skb, at, words, ADDRESS, 0) ? MALFORMED : TRANSLATED;
}

/* Where the packet begins that an ICMPv6 error quotes; 0 for anything but an error. */
ALWAYS_INLINE u32 quoted(struct __sk_buff *skb)
{
    u32 at = ETHERNET + IPV6;
    u8 next;
    if (bpf_skb_load_bytes(skb, ETHERNET + 6, &next, 1))
        return 0;
    for (int i = 0; i < HEADERS; i++) {
        u8 header[4];
        if (next == PROTOCOL_ICMPV6) {
            u8 type, version, last;
            if (bpf_skb_load_bytes(skb, at, &type, 1) || type & 0x80)
                return 0;
            at += 8;
            if (bpf_skb_load_bytes(skb, at, &version, 1) || bpf_skb_load_bytes(skb, at + IPV6 - 1, &last, 1))
                return 0;
            return version >> 4 == 6 ? at : 0;
        }
        if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION_OPTIONS && next != FRAGMENT)
            return 0;
        if (bpf_skb_load_bytes(skb, at, header, 4))
            return 0;
        /* Only the first fragment has the header that is looked for. */
        if (next == FRAGMENT && (header[2] || header[3] & 0xf8))
            return 0;
        at += next == FRAGMENT ? 8 : 8 + 8 * header[1];
        next = header[0];
    }
    return 0;
}

/* An error quotes the packet with the addresses that its sender knows. */
ALWAYS_INLINE int translate_quoted(struct __sk_buff *skb, void *map, u32 field)
{
    struct key key;
    u32 at = quoted(skb);
    if (!at)
        return 0;
    struct value *value = find(skb, map, at + field, &key);
    return value && translate(skb, value, at + field, &key) == TRANSLATED;
}

ALWAYS_INLINE int is_ipv6(struct __sk_buff *skb)
{
    u8 version;
    return skb->protocol == NETWORK16(ETH_P_IPV6) && !bpf_skb_load_bytes(skb, ETHERNET, &version, 1) && version >> 4 == 6;
}

SECTION("classifier") int npt_in(struct __sk_buff *skb)
{
    struct key key;
    if (!is_ipv6(skb))
        return TC_ACT_UNSPEC;
    struct value *value = find(skb, &npt_outside, ETHERNET + DESTINATION, &key);
    if (!value)
        return end(bpf_map_lookup_elem(&npt_inside, &key) ? INSIDE_ADDRESS : NOT_MAPPED);
    enum verdict verdict = translate(skb, value, ETHERNET + DESTINATION, &key);
    if (verdict == TRANSLATED)
        translate_quoted(skb, &npt_outside, SOURCE);
    return end(verdict);
}

SECTION("classifier") int npt_out(struct __sk_buff *skb)
{
    struct key key;
    enum verdict verdict = NOT_MAPPED;
    if (!is_ipv6(skb))
        return TC_ACT_UNSPEC;
    struct value *value = find(skb, &npt_inside, ETHERNET + SOURCE, &key);
    if (value) {
        verdict = translate(skb, value, ETHERNET + SOURCE, &key);
        if (verdict != TRANSLATED)
            return end(verdict);
    }
    /* The router's own errors quote what was translated already. */
    if (translate_quoted(skb, &npt_inside, DESTINATION))
        verdict = TRANSLATED;
    return end(verdict);
}

SECTION("classifier") int npt_lan_in(struct __sk_buff *skb)
{
    struct key key;
    if (!is_ipv6(skb))
        return TC_ACT_UNSPEC;
    struct value *value = find(skb, &npt_outside, ETHERNET + DESTINATION, &key);
    if (!value)
        return TC_ACT_UNSPEC;
    enum verdict verdict = translate(skb, value, ETHERNET + DESTINATION, &key);
    if (verdict != TRANSLATED)
        return end(verdict);
    translate_quoted(skb, &npt_outside, SOURCE);
    skb->mark |= BETWEEN_LANS;
    return end(verdict);
}

SECTION("classifier") int npt_lan_out(struct __sk_buff *skb)
{
    struct key key;
    if (!(skb->mark & BETWEEN_LANS) || !is_ipv6(skb))
        return TC_ACT_UNSPEC;
    struct value *value = find(skb, &npt_inside, ETHERNET + SOURCE, &key);
    if (value && translate(skb, value, ETHERNET + SOURCE, &key) != TRANSLATED)
        return end(NO_WORD);
    translate_quoted(skb, &npt_inside, DESTINATION);
    skb->mark &= ~BETWEEN_LANS;
    return TC_ACT_UNSPEC;
}

char licence[] SECTION("license") = "Dual MIT/GPL";
