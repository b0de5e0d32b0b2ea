/* What the program uses of the kernel's interface for BPF. All of it is fixed: helpers by number, structures by layout.
 * Nothing else is included, so that a compiler is all that a build needs. */
#pragma once

typedef __UINT8_TYPE__ u8;
typedef __UINT16_TYPE__ u16;
typedef __UINT32_TYPE__ u32;
typedef __UINT64_TYPE__ u64;

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define SECTION(name) __attribute__((section(name), used))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* The machine is little-endian; the network is not. */
#define NETWORK16(number) __builtin_bswap16(number)
#define NETWORK32(number) __builtin_bswap32(number)
#define NETWORK64(number) __builtin_bswap64(number)

/* A map as the loader reads it from BTF. */
#define MAP_UINT(name, value) int(*name)[value]
#define MAP_TYPE(name, value) __typeof__(value) *name

enum {
    BPF_MAP_TYPE_HASH = 1,
    BPF_MAP_TYPE_ARRAY = 2,
    BPF_MAP_TYPE_PROG_ARRAY = 3,
    BPF_MAP_TYPE_PERCPU_ARRAY = 6,
    BPF_MAP_TYPE_LRU_HASH = 9,
    BPF_MAP_TYPE_LPM_TRIE = 11,
    BPF_F_NO_PREALLOC = 1,

    TC_ACT_UNSPEC = -1,
    TC_ACT_SHOT = 2,

    BPF_F_INGRESS = 1 << 0,
    BPF_F_RECOMPUTE_CSUM = 1 << 0,
    BPF_F_PSEUDO_HDR = 1 << 4,
    BPF_F_MARK_MANGLED_0 = 1 << 5,

    BPF_FIB_LKUP_RET_SUCCESS = 0,
    BPF_FIB_LKUP_RET_NO_NEIGH = 7,
    BPF_FIB_LKUP_RET_FRAG_NEEDED = 8,

    BPF_CSUM_LEVEL_QUERY = 0,
    VLAN_VID_MASK = 0x0fff,

    AF_INET = 2,
    AF_INET6 = 10,
    ETH_P_IP = 0x0800,
    ETH_P_IPV6 = 0x86dd,
    PACKET_HOST = 0,
};

/* The packet's context. */
struct __sk_buff {
    u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex;
    u32 ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id, family, remote_ip4, local_ip4;
    u32 remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
    u64 flow_keys;
    u64 tstamp;
    u32 wire_len, gso_segs;
    u64 sk;
    u32 gso_size;
};

struct bpf_fib_lookup {
    u8 family, l4_protocol;
    u16 sport, dport;
    /* In: bytes of the packet. Out: the MTU. */
    u16 tot_len;
    u32 ifindex;
    /* In: TOS, or traffic class and flow label. Out: metric. */
    u32 tos;
    u32 src[4];
    u32 dst[4];
    u32 vlan;
    u8 smac[6], dmac[6];
};

struct bpf_redir_neigh {
    u32 nh_family;
    u32 nh[4];
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *skb, u32 offset, const void *from, u32 len,
                                         u64 flags) = (void *)9;
static long (*const bpf_tail_call)(void *context, void *map, u32 index) = (void *)12;
static long (*const bpf_skb_vlan_pop)(struct __sk_buff *skb) = (void *)19;
static long (*const bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*const bpf_skb_load_bytes)(const void *skb, u32 offset, void *to, u32 len) = (void *)26;
static long (*const bpf_l4_csum_replace)(struct __sk_buff *skb, u32 offset, u64 from, u64 to, u64 flags) = (void *)11;
static long (*const bpf_skb_change_proto)(struct __sk_buff *skb, u16 proto, u64 flags) = (void *)31;
static long (*const bpf_skb_change_tail)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)38;
static long (*const bpf_skb_pull_data)(struct __sk_buff *skb, u32 len) = (void *)39;
static long (*const bpf_skb_change_head)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)43;
static long (*const bpf_fib_lookup)(void *context, struct bpf_fib_lookup *params, int size, u32 flags) = (void *)69;
static long (*const bpf_csum_level)(struct __sk_buff *skb, u64 level) = (void *)135;
static long (*const bpf_redirect_neigh)(u32 ifindex, struct bpf_redir_neigh *params, int size, u64 flags) = (void *)152;
static u64 (*const bpf_ktime_get_coarse_ns)(void) = (void *)160;
