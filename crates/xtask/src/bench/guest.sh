# Namespaces for each contestant: a client and a server with stacks of their own, and the router between them.
COUNT=4000
ip() { /bin/ip "$@"; }
set_up() {
  for role in c r s; do ip netns add $role-$1; ip -n $role-$1 link set lo up; done
  # The client asks from the address that the generator will have, not from one of an advertised prefix.
  /bin/ip netns exec c-$1 sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_ra'
  ip -n r-$1 link add lan0 address 02:00:00:00:01:01 type veth peer name eth0 address 02:00:00:00:01:02 netns c-$1
  ip -n r-$1 link add wan0 address 02:00:00:00:02:01 type veth peer name eth0 address 02:00:00:00:02:02 netns s-$1
  for link in lan0 wan0; do ip -n r-$1 link set $link up; done
  for role in c s; do ip -n $role-$1 link set eth0 up; done
  ip netns exec r-$1 sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
  ip -n c-$1 address add 2001:db8:1::2/64 dev eth0 nodad
  ip -n c-$1 address add 10.0.0.2/24 dev eth0
  ip -n s-$1 address add 203.0.113.1/24 dev eth0
  ip -n s-$1 address add 2001:db8:2::2/64 dev eth0 nodad
  ip -n s-$1 address add 198.51.100.2/32 dev lo
  ip -n s-$1 -6 route add default via 2001:db8:2::1
  ip -n c-$1 -6 route add default via 2001:db8:1::1
  ip -n c-$1 route add default via 10.0.0.1
}
# Of a router that nobody configures.
addresses() {
  ip -n r-$1 address add 2001:db8:1::1/64 dev lan0 nodad
  ip -n r-$1 address add 10.0.0.1/24 dev lan0
  ip -n r-$1 address add 203.0.113.2/24 dev wan0
  ip -n r-$1 address add 2001:db8:2::1/64 dev wan0 nodad
  ip -n r-$1 route add default via 203.0.113.1
}
# Questions from port 4000 and answers, of contestant $1 with server $2; from then on frames are addressed to nobody there.
establish() {
  /bin/ip netns exec s-$1 xtask bench respond --ports 1 198.51.100.2 2001:db8:2::2 &
  sleep 1
  for attempt in 1 2; do echo "$1: $(/bin/ip netns exec c-$1 xtask bench ask-back --from 4000 $2 1)"; done
  for to in 203.0.113.1 2001:db8:2::2; do ip -n r-$1 neigh replace $to lladdr 02:00:00:00:02:99 dev wan0 nud permanent; done
}
arrived() { /bin/ip netns exec s-$1 cat /sys/class/net/eth0/statistics/rx_packets; }
# Contestant, hardware address of the router's link, server, name of the row.
measure() {
  cat > /tmp/generate <<P
pg() { echo "\$1" > /proc/net/pktgen/\$2 || echo "pktgen refuses \$1"; }
pg rem_device_all kpktgend_0
pg "add_device lan0" kpktgend_0
for line in "count $COUNT" "clone_skb 0" "delay 0" "pkt_size 80" "xmit_mode netif_receive" "flag UDPCSUM" "src_mac 02:00:00:00:01:02" "dst_mac $2" \
  "udp_src_min 4000" "udp_src_max 4000" "udp_dst_min PORT" "udp_dst_max PORT"; do pg "\$line" lan0; done
case $3 in
  *:*) pg "src6 2001:db8:1::2" lan0; pg "dst6 $3" lan0 ;;
  *) pg "src_min 10.0.0.2" lan0; pg "src_max 10.0.0.2" lan0; pg "dst_min $3" lan0; pg "dst_max $3" lan0 ;;
esac
pg start pgctrl
grep Result: /proc/net/pktgen/lan0
P
  before=$(arrived $1)
  /bin/ip netns exec r-$1 sh /tmp/generate > /tmp/generated 2>&1
  taken=$(sed -n 's/.*Result: OK: \([0-9]*\)(.*/\1/p' /tmp/generated)
  echo "ROW $4 ${taken:-$(cat /tmp/generated)} $COUNT $(($(arrived $1) - before))"
}
for name in forward nat44 flow jool sixgate; do set_up $name; done
for name in forward nat44 flow jool; do addresses $name; done
ip netns exec r-nat44 nft 'table ip n { chain p { type nat hook postrouting priority 100; oifname "wan0" masquerade; }; }'
ip netns exec r-flow nft 'table ip n { flowtable f { hook ingress priority 0; devices = { lan0, wan0 }; }; chain f { type filter hook forward priority 0; ct state established flow add @f; }; chain p { type nat hook postrouting priority 100; oifname "wan0" masquerade; }; }'
ip netns exec r-jool jool instance add --netfilter -6 2001:db8:64::/96
cat > /tmp/sixgate.toml <<C
hostname = "bench"
[wan]
interface = "wan0"
ipv4 = { address = "203.0.113.2/24", gateway = "203.0.113.1" }
[[lan]]
name = "lan"
interface = "lan0"
addresses = ["2001:db8:1::1/64"]
[dns64]
upstream = ["198.51.100.53"]
dnssec = false
[nat64]
prefix = "2001:db8:64::/96"
translate_non_global = ["198.51.100.0/24", "203.0.113.0/24"]
C
mkdir -p /run/state /run/bpf
mount -t bpf bpf /run/bpf
/bin/ip netns exec r-sixgate sixgate run --config /tmp/sixgate.toml --control /run/control.sock --state /run/state --bpffs /run/bpf > /tmp/sixgate.log 2>&1 &
sleep 20
TRANSLATED=2001:db8:64::c633:6402
establish forward 2001:db8:2::2
for name in nat44 flow; do establish $name 198.51.100.2; done
for name in jool sixgate; do establish $name $TRANSLATED; done
for round in 1 2 3; do
  measure forward 02:00:00:00:01:99 2001:db8:2::2 alone
  measure forward 02:00:00:00:01:01 2001:db8:2::2 forward
  for name in nat44 flow; do measure $name 02:00:00:00:01:01 198.51.100.2 $name; done
  for name in jool sixgate; do measure $name 02:00:00:00:01:01 $TRANSLATED $name; done
done
sixgate status --control /run/control.sock 2>&1 | grep -A20 -e "fast path" -e FINDINGS
tail -5 /tmp/sixgate.log
result 0
