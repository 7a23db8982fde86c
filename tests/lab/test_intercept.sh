#!/bin/bash
# Capture by consent in real namespaces: a client, a bridge (then a router) with tx_proxy's rules, and a destination.
# Each verdict on a SYN must give the client what tx_proxy/intercept.h promises, over IPv4 and IPv6.
#
#   PROBE=build/tests/lab/intercept_probe tests/lab/test_intercept.sh
# Needs root; skips without. LAB_PREFIX distinguishes runs at the same time.
set -u
export LC_ALL=C

PROBE=${PROBE:-build/tests/lab/intercept_probe}
PREFIX=${LAB_PREFIX:-ppi}$$
SRC=$PREFIX-src TX=$PREFIX-tx DST=$PREFIX-dst
FAILED=0
PIDS=()
DIR=

SRC4=10.77.0.11 TX4=10.77.0.201 DST4=10.77.0.12
SRC6=fd77::11 TX6=fd77::201 DST6=fd77::12
DIRECT=8001 CAPTURE=8002 REFUSE=8003 DROP=8004 HOLD=8005 STALL=8006 STRIPE=8007 UNNAMED=8008
POLICIES="direct=$DIRECT capture=$CAPTURE refuse=$REFUSE drop=$DROP hold=$HOLD stall=$STALL capture=$STRIPE"

ok() { echo "ok - $1"; }
not_ok() {
	echo "not ok - $1: $2"
	FAILED=1
}

# End a process of ours and wait for it, so that its namespace is free of it.
stop() { # SIGNAL PID
	kill "-$1" "$2" 2>/dev/null
	wait "$2" 2>/dev/null
}

cleanup() {
	local pid ns
	for pid in "${PIDS[@]}"; do
		stop KILL "$pid"
	done
	for ns in "$SRC" "$TX" "$DST"; do
		ip netns del "$ns" 2>/dev/null
	done
	[ -n "$DIR" ] && [ "$FAILED" = 1 ] && tail -n 40 "$DIR"/*.log >&2
	[ -n "$DIR" ] && rm -rf "$DIR"
}

await_line() { # FILE PATTERN
	local i
	for i in $(seq 100); do
		grep -q "$2" "$1" 2>/dev/null && return 0
		sleep 0.05
	done
	return 1
}

# Starts a probe in a namespace; its log is $DIR/NAME.log, its pid $STARTED.
start() { # NAME NAMESPACE ARGUMENT…
	local name=$1 ns=$2
	shift 2
	: >"$DIR/$name.log"
	ip netns exec "$ns" "$PROBE" "$@" >"$DIR/$name.log" 2>&1 &
	STARTED=$!
	PIDS+=("$STARTED")
	await_line "$DIR/$name.log" '^ready$' || not_ok "$name is ready" "$(tail -n 3 "$DIR/$name.log")"
}

rules() { # up|down OPTION…
	ip netns exec "$TX" "$PROBE" rules "$@" >>"$DIR/rules.log" 2>&1
}

connect() { # ADDRESS PORT → RESULT
	RESULT=$(ip netns exec "$SRC" "$PROBE" connect "$1" "$2" 2>&1)
}

field() { # NAME → its number in RESULT
	local text=${RESULT##*"$1"=}
	echo "${text%% *}"
}

# One connection and what must come of it: GREETING is the beginning of the probe's line. The default limit
# of time is just below the one after which a SYN is sent again: the machine may be busy.
expect() { # NAME ADDRESS PORT GREETING [RETRANSMITS [LEAST_MS MOST_MS]]
	local name=$1 greeting=$4 retransmits=${5:-0} least=${6:-0} most=${7:-900}
	connect "$2" "$3"
	if [ "${RESULT#"$greeting" retransmits}" = "$RESULT" ]; then
		not_ok "$name" "expected '$greeting', got '$RESULT'"
	elif [ "$(field retransmits)" -ne "$retransmits" ]; then
		not_ok "$name" "expected $retransmits retransmissions, got '$RESULT'"
	elif [ "$(field ms)" -lt "$least" ] || [ "$(field ms)" -gt "$most" ]; then
		not_ok "$name" "expected $least to $most ms, got '$RESULT'"
	else
		ok "$name"
	fi
}

seen() { # ADDRESS:PORT → how often the daemon was asked about it
	grep -cF "syn to=$1 " "$DIR/proxy.log"
}

expect_seen() { # NAME ADDRESS:PORT COUNT
	local count
	count=$(seen "$2")
	if [ "$count" -eq "$3" ]; then
		ok "$1"
	else
		not_ok "$1" "$2 was asked about $count times"
	fi
}

# Neighbours are found and ports forward: the first connection after a change of topology is not measured.
warm_up() {
	local i
	for i in $(seq 10); do
		connect "$DST4" $DIRECT
		case $RESULT in
		dest*) connect "$DST6" $DIRECT ;;
		esac
		case $RESULT in
		dest*) return ;;
		esac
		sleep 0.1
	done
	not_ok "the destination answers without rules" "$RESULT"
}

make_namespaces() {
	local ns
	for ns in "$SRC" "$TX" "$DST"; do
		ip netns add "$ns" || return 1
		ip -n "$ns" link set lo up
		ip netns exec "$ns" sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
	done
	ip -n "$TX" link add west type veth peer name eth0 netns "$SRC" &&
		ip -n "$TX" link add east type veth peer name eth0 netns "$DST"
}

make_bridge() {
	ip -n "$TX" link add br0 type bridge forward_delay 0 &&
		ip -n "$TX" link set west master br0 && ip -n "$TX" link set east master br0 || return 1
	add_addresses "$TX" br0 "$TX4/24" "$TX6/64"
	add_addresses "$SRC" eth0 "$SRC4/24" "$SRC6/64"
	add_addresses "$DST" eth0 "$DST4/24" "$DST6/64"
	ip -n "$TX" link set west up
	ip -n "$TX" link set east up
	# Off, so that the rules have to set them.
	ip netns exec "$TX" sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
}

add_addresses() { # NAMESPACE INTERFACE ADDRESS…
	local ns=$1 interface=$2 address
	shift 2
	for address in "$@"; do
		ip -n "$ns" address add "$address" dev "$interface"
	done
	ip -n "$ns" link set "$interface" up
}

# The same machines with the addresses of two networks: TX routes between them.
make_router() {
	ip -n "$TX" link del br0
	SRC4=10.78.1.11 TX4=10.78.1.201 DST4=10.78.2.12 SRC6=fd78:1::11 TX6=fd78:1::201 DST6=fd78:2::12
	ip -n "$SRC" address flush dev eth0
	ip -n "$DST" address flush dev eth0
	add_addresses "$TX" west "$TX4/24" "$TX6/64"
	add_addresses "$TX" east 10.78.2.201/24 fd78:2::201/64
	add_addresses "$SRC" eth0 "$SRC4/24" "$SRC6/64"
	add_addresses "$DST" eth0 "$DST4/24" "$DST6/64"
	ip -n "$SRC" route add default via "$TX4"
	ip -n "$DST" route add default via 10.78.2.201
	ip -n "$SRC" -6 route add default via "$TX6"
	ip -n "$DST" -6 route add default via fd78:2::201
	ip netns exec "$TX" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
}

# The same by hand, as the README has it for a bridge: IPTABLES SOURCE DESTINATION-OF-STRIPES.
plain_rules() {
	local tables="ip netns exec $TX $1 -w"
	$tables -t mangle -A PREROUTING -p tcp -d "$3" --dport $STRIPE -j RETURN &&
		$tables -t mangle -A PREROUTING -i br0 -s "$2" -p tcp --syn -m addrtype ! --dst-type LOCAL \
			-m conntrack --ctstate NEW,RELATED ! --ctstatus CONFIRMED \
			-j NFQUEUE --queue-num 0 --queue-bypass &&
		$tables -t nat -A PREROUTING -p tcp -m mark --mark 1 -j REDIRECT --to-ports 5000 &&
		$tables -A FORWARD -p tcp -m mark --mark 2 -j REJECT --reject-with tcp-reset
}

plain_cases() {
	local proxy tables
	plain_rules iptables "$SRC4" "$DST4" && plain_rules ip6tables "$SRC6" "$DST6" ||
		not_ok "iptables takes the rules of the README" "see the messages above"
	start node "$TX" serve $CAPTURE
	# shellcheck disable=SC2086
	start proxy "$TX" proxy $POLICIES
	proxy=$STARTED
	expect_verdicts "iptables IPv4" "$DST4" "$DST4"
	expect_verdicts "iptables IPv6" "$DST6" "[$DST6]"
	expect "iptables IPv4: the node's own address is not captured" "$TX4" $CAPTURE dest
	expect "iptables IPv6: the node's own address is not captured" "$TX6" $CAPTURE dest
	expect "iptables IPv4: a stripe's address is not captured" "$DST4" $STRIPE dest
	stop KILL "$proxy"
	expect "iptables IPv4: the daemon was killed: the destination" "$DST4" $CAPTURE dest
	for tables in iptables ip6tables; do
		ip netns exec "$TX" $tables -w -t mangle -F PREROUTING
		ip netns exec "$TX" $tables -w -t nat -F PREROUTING
		ip netns exec "$TX" $tables -w -F FORWARD
	done
}

# Every row of the table of verdicts for one destination.
expect_verdicts() { # LABEL ADDRESS, and as it is written with a port
	local label=$1 address=$2 shown=$3
	expect "$label: direct reaches the destination" "$address" $DIRECT dest
	expect "$label: captured reaches the proxy" "$address" $CAPTURE "proxy $shown:$CAPTURE"
	expect "$label: held 300 ms, then the proxy, nothing sent again" "$address" $HOLD "proxy $shown:$HOLD" 0 290 700
	expect "$label: refused at once" "$address" $REFUSE refused
	expect "$label: a port without a policy is direct" "$address" $UNNAMED dest
	expect_seen "$label: a captured SYN is asked about once" "$shown:$CAPTURE" 1
	expect_seen "$label: a held SYN is asked about once" "$shown:$HOLD" 1
}

bridge_cases() {
	local options="interface=br0 source=$SRC4/32 source=$SRC6/128 bypass=10.99.0.0/16"
	options="$options remote=$DST4@$STRIPE remote=$DST6@$STRIPE"
	local proxy before

	# shellcheck disable=SC2086
	rules up $options || not_ok "rules go up" "$(tail -n 3 "$DIR/rules.log")"
	# shellcheck disable=SC2086
	rules up $options && ok "rules go up twice" || not_ok "rules go up twice" "$(tail -n 3 "$DIR/rules.log")"
	if grep -q 'event=bridge_filtered sysctl=net.bridge.bridge-nf-call-ip6tables' "$DIR/rules.log" &&
		[ "$(ip netns exec "$TX" sysctl -n net.bridge.bridge-nf-call-iptables)" = 1 ]; then
		ok "rules set the bridge's netfilter switches and say so"
	else
		not_ok "rules set the bridge's netfilter switches and say so" "$(tail -n 3 "$DIR/rules.log")"
	fi
	expect "IPv4: no daemon on the queue: the destination" "$DST4" $CAPTURE dest
	expect "IPv6: no daemon on the queue: the destination" "$DST6" $CAPTURE dest

	# shellcheck disable=SC2086
	start proxy "$TX" proxy $POLICIES
	proxy=$STARTED
	expect_verdicts "bridge IPv4" "$DST4" "$DST4"
	expect_verdicts "bridge IPv6" "$DST6" "[$DST6]"
	if grep -q "^syn to=$DST4:$CAPTURE .* mss=1460 window_scale=[0-9]* dscp=0 sack=1 timestamps=1$" \
		"$DIR/proxy.log"; then
		ok "the SYN's options are read"
	else
		not_ok "the SYN's options are read" "$(grep "^syn to=$DST4:$CAPTURE " "$DIR/proxy.log")"
	fi

	expect "IPv4: a held SYN is sent again and still captured" "$DST4" $STALL "proxy $DST4:$STALL" 1 1490 2500
	expect "IPv6: a held SYN is sent again and still captured" "$DST6" $STALL "proxy [$DST6]:$STALL" 1 1490 2500
	if [ "$(seen "$DST4:$STALL")" -eq 2 ] && [ "$(grep -c "$STALL .* repeated$" "$DIR/proxy.log")" -eq 2 ]; then
		ok "each repetition of a held SYN is asked about"
	else
		not_ok "each repetition of a held SYN is asked about" "$(grep ":$STALL " "$DIR/proxy.log" | tr '\n' ';')"
	fi

	start node "$TX" serve $CAPTURE
	expect "IPv4: the node's own address is not captured" "$TX4" $CAPTURE dest
	expect "IPv6: the node's own address is not captured" "$TX6" $CAPTURE dest
	stop TERM "$STARTED"
	expect "IPv4: a stripe's address is not captured" "$DST4" $STRIPE dest
	expect "IPv6: a stripe's address is not captured" "$DST6" $STRIPE dest
	ip -n "$DST" address add 10.99.0.12/32 dev eth0
	ip -n "$SRC" route add 10.99.0.0/16 dev eth0
	expect "a bypassed network is not captured" 10.99.0.12 $CAPTURE dest
	ip -n "$SRC" address add 10.77.0.99/24 dev eth0
	ip -n "$SRC" address add fd77::99/64 dev eth0 nodad
	ip -n "$SRC" route add "$DST4/32" dev eth0 src 10.77.0.99
	ip -n "$SRC" route add "$DST6/128" dev eth0 src fd77::99
	expect "IPv4: another source is not captured" "$DST4" $CAPTURE dest
	expect "IPv6: another source is not captured" "$DST6" $CAPTURE dest
	ip -n "$SRC" route del "$DST4/32" dev eth0
	ip -n "$SRC" route del "$DST6/128" dev eth0
	ip -n "$SRC" address del 10.77.0.99/24 dev eth0
	ip -n "$SRC" address del fd77::99/64 dev eth0
	expect_seen "none of these was asked about" "$DST4:$CAPTURE" 1

	before=$(ip netns exec "$TX" "$PROBE" proxy port=5001 2>&1)
	if [ "$before" = "intercept_probe: intercept_open: Device or resource busy" ]; then
		ok "a queue that another process has is EBUSY"
	else
		not_ok "a queue that another process has is EBUSY" "$before"
	fi

	# A held SYN when the daemon ends in order: let go, without the client's sending it again.
	(sleep 0.4 && kill -TERM "$proxy") &
	expect "a held SYN goes to the destination when the daemon closes" "$DST4" $STALL dest 0 200 900
	wait "$proxy" 2>/dev/null
	expect "after the daemon: the destination" "$DST4" $CAPTURE dest

	# shellcheck disable=SC2086
	start proxy "$TX" proxy $POLICIES
	proxy=$STARTED
	expect "a new daemon captures again" "$DST4" $CAPTURE "proxy $DST4:$CAPTURE"
	(sleep 0.4 && kill -KILL "$proxy") &
	expect "a held SYN goes direct by its repetition when the daemon is killed" "$DST4" $STALL dest 1 900 1600
	wait "$proxy" 2>/dev/null
	expect "IPv4: the daemon was killed: the destination" "$DST4" $CAPTURE dest
	expect "IPv6: the daemon was killed: the destination" "$DST6" $CAPTURE dest
}

# A client that the node has no way back to cannot be answered from here, so it must not be captured.
no_way_back_case() {
	# shellcheck disable=SC2086
	start proxy "$TX" proxy $POLICIES
	rules up interface=br0
	ip -n "$TX" -6 address del "$TX6/64" dev br0
	expect "IPv6: no way back from the node: the destination" "$DST6" $CAPTURE dest
	expect "IPv4 is still captured then" "$DST4" $CAPTURE "proxy $DST4:$CAPTURE"
	ip -n "$TX" -6 address add "$TX6/64" dev br0 nodad
	stop TERM "$STARTED"
}

# More SYNs than the queue takes, while the daemon does not read: the rest passes, and the daemon recovers.
flood_case() {
	local proxy flood
	# shellcheck disable=SC2086
	start proxy "$TX" proxy $POLICIES
	proxy=$STARTED
	kill -STOP "$proxy"
	start flood "$SRC" flood "$DST4" $STALL 4200
	flood=$STARTED
	expect "a full queue lets SYNs pass" "$DST4" $CAPTURE dest
	stop KILL "$flood"
	kill -CONT "$proxy"
	expect "the daemon works again after a full queue" "$DST4" $CAPTURE "proxy $DST4:$CAPTURE"
	stop TERM "$proxy"
	if grep -q '^closed syns=[4-9][0-9]* .*overruns=0$' "$DIR/proxy.log"; then
		ok "the socket holds as much as the queue"
	else
		not_ok "the socket holds as much as the queue" "$(tail -n 1 "$DIR/proxy.log")"
	fi
}

leftovers() {
	ip netns exec "$TX" nft list tables | grep pair_proxy
	ip netns exec "$TX" iptables -w -t mangle -S | grep pair_proxy
	ip netns exec "$TX" ip6tables -w -t mangle -S | grep pair_proxy
}

rules_cases() {
	local left
	rules down && left=$(leftovers)
	[ -z "$left" ] && ok "rules down leaves nothing" || not_ok "rules down leaves nothing" "$left"
	rules down && ok "rules down twice" || not_ok "rules down twice" "$(tail -n 3 "$DIR/rules.log")"
	rules up interface=br0 && rules up method=none && left=$(leftovers)
	[ -z "$left" ] && ok "method none removes the rules" || not_ok "method none removes the rules" "$left"
	# Overlapping and equal networks, the whole of both families, host bits: as users write them.
	if rules up interface=br0 interface=west interface=br0 queue=65535 mark=0x7ffffffe \
		source=0.0.0.0/0 source=10.0.0.1/8 source=10.0.0.0/8 source=::/0 \
		bypass=fd00::1/8 bypass=fd00::1/128 remote=10.1.1.1@1 remote=10.1.1.1@1 && rules down; then
		ok "odd lists of networks are taken"
	else
		not_ok "odd lists of networks are taken" "$(tail -n 5 "$DIR/rules.log")"
	fi
	# A kernel without nft_queue takes all but the one statement.
	"$PROBE" rules print interface=br0 "source=$SRC4/32" "bypass=$DST6/64" "remote=$DST4@1" >"$DIR/printed.nft"
	if grep -q '^		queue num 0 bypass$' "$DIR/printed.nft" &&
		left=$(sed 's/^		queue num 0 bypass$/		accept/' "$DIR/printed.nft" |
			ip netns exec "$TX" nft -c -f - 2>&1); then
		ok "nft takes the printed rules"
	else
		not_ok "nft takes the printed rules" "$left"
	fi
	if rules up 'interface=a"b'; then
		not_ok "an interface name cannot break out of the script" "it was accepted"
	else
		ok "an interface name cannot break out of the script"
	fi
	# With a PATH that has no nft, and none where the system keeps it.
	left=$(unshare -m sh -c "mount -t tmpfs none /usr/sbin && exec env PATH=/nowhere '$PROBE' rules up" 2>&1)
	case $left in
	*"install nftables"*) ok "a missing nft is named" ;;
	*) not_ok "a missing nft is named" "$left" ;;
	esac
}

router_cases() {
	local proxy
	rules up interface=west
	# shellcheck disable=SC2086
	start proxy "$TX" proxy $POLICIES
	proxy=$STARTED
	expect_verdicts "router IPv4" "$DST4" "$DST4"
	expect_verdicts "router IPv6" "$DST6" "[$DST6]"
	stop TERM "$proxy"

	rules up interface=west method=tproxy
	ip -n "$TX" rule add fwmark 1 lookup 100
	ip -n "$TX" route add local default dev lo table 100
	ip -n "$TX" -6 rule add fwmark 1 lookup 100
	ip -n "$TX" -6 route add local default dev lo table 100
	# shellcheck disable=SC2086
	start proxy "$TX" proxy method=tproxy $POLICIES
	proxy=$STARTED
	expect_verdicts "tproxy IPv4" "$DST4" "$DST4"
	expect_verdicts "tproxy IPv6" "$DST6" "[$DST6]"
	stop KILL "$proxy"
	expect "tproxy IPv4: the daemon was killed: the destination" "$DST4" $CAPTURE dest
	rules down
}

if [ "$(id -u)" != 0 ] || ! unshare -n true 2>/dev/null; then
	echo "skip - intercept: needs root and network namespaces"
	exit 0
fi
PROBE=$(realpath "$PROBE") || exit 1
DIR=$(mktemp -d "/tmp/$PREFIX.XXXXXX")
trap cleanup EXIT
trap 'exit 1' INT TERM
make_namespaces && make_bridge || {
	not_ok "the lab stands" "namespaces, veth or bridge failed"
	exit 1
}
start dest "$DST" serve $DIRECT $CAPTURE $REFUSE $DROP $HOLD $STALL $STRIPE $UNNAMED
warm_up
bridge_cases
no_way_back_case
flood_case
rules_cases
plain_cases
make_router
warm_up
router_cases
exit $FAILED
