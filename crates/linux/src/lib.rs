//! The Linux kernel as sixgate uses it: the only crate with `unsafe` in userland, and the only one that does I/O below
//! the binary.
//!
//! Everything acts in the network namespace of the thread that opens the socket. Errors are typed and carry the mend.
//!
//! | module | what |
//! |---|---|
//! | [`netlink`] | [`netlink::Netlink::connect`]: one rtnetlink connection, clones share it |
//! | [`facts`] | `Netlink::read_facts`, `interface_counters`, `neighbours`, `default_gateways` |
//! | [`events`] | [`events::Events`]: something has changed, read again |
//! | [`network`] | `Netlink::apply(&NetworkPlan)`, `withdraw()`, `bring_up(name, mtu)`: links, addresses, routes, rules |
//! | [`sysctl`] | [`sysctl::apply_sysctls`] by stage, [`sysctl::stop_forwarding`] |
//! | [`nft`] | [`nft::load`], [`nft::counters`], [`nft::unload`], [`nft::Watch`]: somebody changed a ruleset |
//! | [`nflog`] | [`nflog::Listener`]: packets that rules tell of |
//! | [`conntrack`] | [`conntrack::judge`]: connections that are not admitted any more end |
//! | [`tun`] | [`tun::Tun::open`], `read`, `write`, `wait`, `waker`, `remove`: the translator's device, on its own thread |
//! | [`shortcut`] | [`shortcut::Shortcut`]: small packets of the translator straight to their next hop |
//! | [`icmpv6`] | [`icmpv6::RaSocket`]: router advertisements on one link |
//! | [`packet_socket`] | [`packet_socket::PacketSocket`]: packets below the IP stack on one link, for DHCPv4 and ARP |
//! | [`capture_socket`] | [`capture_socket::CaptureSocket`]: all packets of one link |
//! | [`echo_socket`] | [`echo_socket::EchoSocket`]: ping and trace |
//! | [`dhcpv6_socket`] | [`dhcpv6_socket::Dhcpv6Socket`]: the DHCPv6 client's socket |
//! | [`dns_socket`] | [`dns_socket::udp`], [`dns_socket::tcp`]: the resolver's sockets |
//! | [`fastpath`] | [`fastpath::FastPath::open`], `attach`, `insert`, `usage`, `remove`: the eBPF program and its sessions |
//! | [`clat`] | [`clat::ClatPath::open`], `follow`, `rest`: the CLAT's eBPF programs |
//! | [`dns_batch`] | [`dns_batch::Batch::serve`]: queries and responses, many to a system call |
//! | [`dns_answers`] | [`dns_answers::DnsAnswers`]: answers below the resolver's sockets |
//! | [`poll`] | [`poll::Poll`], [`poll::Waker`]: a thread that waits for its sockets and for orders |
//! | [`confine`] | [`confine::keep_capabilities`], [`confine::refuse_what_nobody_needs`], [`confine::only_datagrams`] |
//! | [`clock`] | [`clock::now`], [`clock::seed`]: the engine's time and randomness |
//! | [`system`] | [`system::Machine::read`]: memory, load, uptime for the status |
//! | [`pid1`] | mounts, modules, consoles, children, power: what `sixgate init` asks of the kernel |
//! | [`uevent`] | [`uevent::Uevents::new_generation`]: the hypervisor has put the machine back or copied it |
//! | [`virtio_port`] | [`virtio_port::find`], [`virtio_port::VirtioPort`]: the control protocol from the host |
//!
//! The order of a start: `apply_sysctls(Early)`, `nft::load`, `Netlink::apply`, `apply_sysctls(Forwarding)`; the TUN device
//! is opened beside that, and the facts then show it to the plan. The order of a stop: the closed ruleset by `nft::load`,
//! `stop_forwarding`, `Netlink::withdraw`, `Tun::remove`.
pub mod capture_socket;
pub mod clat;
pub mod clock;
pub mod confine;
pub mod conntrack;
pub mod dhcpv6_socket;
pub mod dns_answers;
pub mod dns_batch;
pub mod dns_socket;
pub mod echo_socket;
pub mod events;
pub mod facts;
pub mod fastpath;
pub mod flow;
pub mod icmpv6;
pub mod netlink;
pub mod network;
pub mod nflog;
pub mod nft;
pub mod npt;
pub mod packet_socket;
pub mod pid1;
pub mod poll;
pub mod shortcut;
pub mod sysctl;
pub mod system;
pub mod tun;
pub mod uevent;
pub mod virtio_port;

#[cfg(test)]
mod testing;
