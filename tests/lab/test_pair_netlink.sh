#!/bin/bash
# tx_proxy follows the machine: interfaces and addresses of paths come, go, and change while it runs and carries load. Then
# who is redialled quickly, and who is left alone. About 65 s. time-limit: 240
. "$(dirname "$0")/pair_load.sh"

up_ms=1000  # from the address, or what else was missing, to path_up
gone_ms=300 # from the loss to path_down
unplugged_ms=2000 # the kernel tells of cables at most once a second

# ---- the machine --------------------------------------------------------------------------------------------------

ip_tx() { ip -n "$lab-tx" "$@"; }
ip_rx() { ip -n "$lab-rx" "$@"; }

# plug DEVICE NET: a cable from tx to rx, up at both ends; rx has NET.2, tx no address yet.
plug() {
	ip_tx link add "$1" type veth peer name "$1" netns "$lab-rx"
	ip_rx address add "$2.2/24" dev "$1"
	ip_rx link set "$1" up
	ip_tx link set "$1" up
}

unplug() { ip_tx link delete "$1"; }

# ---- the log ------------------------------------------------------------------------------------------------------

log_ms() { # PATTERN: when the last line of the log that has it was written, in ms; 0: there is none
	local at
	at=$(grep -E -- "$1" "$tx_log" | tail -n 1 | cut -d ' ' -f 1)
	[ -n "$at" ] && date -d "$at" +%s%3N || echo 0
}

# soon NAME LIMIT_MS PATTERN COMMAND…: a case: such a line is written in time after the command has done its work.
soon() {
	local done_ms count took
	count=$(grep -Ec -- "$3" "$tx_log")
	"${@:4}"
	done_ms=$((${EPOCHREALTIME/./} / 1000))
	if log_wait "$tx_log" "$3" 5 $((count + 1)); then
		took=$(($(log_ms "$3") - done_ms))
		check "$1" "it took $took ms" [ "$took" -le "$2" ]
		printf '# %s: %s ms\n' "$1" "$took" >&2
	else
		not_ok "$1" "no line '$3' in 5 s"
	fi
}

comes() { soon "$1" $up_ms "event=path_up .*path=$2\$" "${@:3}"; }
goes() { soon "$1" $gone_ms "event=path_down .*path=$2\$" "${@:3}"; }
is_unplugged() { soon "$1" $unplugged_ms "event=path_down .*path=$2\$" "${@:3}"; }

waits_lines() { grep -c "event=path_waits path=$1 " "$tx_log"; }

# Local addresses of the stripes to address $1, one a line, each once.
locals_to() { on tx ss -Htn state established "dst $1 and dport = :6000" | awk '{ sub("(%.*)?:[0-9]*$", "", $3); print $3 }' | sort -u; }
uses() { [ "$(locals_to "$1")" = "$2" ]; }
stripes_to() { [ "$(on tx ss -Htn state established "dst $1 and dport = :6000" | wc -l)" = "$2" ]; }

# ---- cases --------------------------------------------------------------------------------------------------------

test_absent() {
	local lines
	equal "an interface that is not there: one line" "$(waits_lines stick)" 1
	equal "an address that is not there: one line" "$(waits_lines dsl)" 1
	tells "it says what is missing" "$(grep path_waits "$tx_log" | tr '\n' ' ')" \
		'reason="no interface usb0"' 'reason="no address 10.98.0.1"'
	lines=$(lines "$tx_log")
	rests "while they are not there, tx_proxy rests" 1 3 tx
	equal "and it has nothing more to say" "$(($(lines "$tx_log") - lines))" 0
}

test_come() {
	plug usb0 10.99.0
	comes "the interface comes, then its address" stick ip_tx address add 10.99.0.1/24 dev usb0
	check "all its stripes follow" "not in a second" wait_for 1 stripes_to 10.99.0.2 4
	plug dsl0 10.98.0
	comes "the address of a path comes" dsl ip_tx address add 10.98.0.1/24 dev dsl0
	check "all its stripes follow, too" "not in a second" wait_for 1 stripes_to 10.98.0.2 2
}

test_down() { # NAME PATH DEVICE
	local lines
	goes "$1: switched off" "$2" ip_tx link set "$3" down
	sleep 1
	lines=$(lines "$tx_log")
	sleep 2
	equal "$1: switched off, nothing more to say" "$(($(lines "$tx_log") - lines))" 0
	comes "$1: switched on" "$2" ip_tx link set "$3" up
	is_unplugged "$1: unplugged at the other end" "$2" ip_rx link set "$3" down
	comes "$1: plugged in" "$2" ip_rx link set "$3" up
}

move_address() { # DEVICE OLD NEW
	ip_tx address delete "$2/24" dev "$1"
	ip_tx address add "$3/24" dev "$1"
}

test_addresses() {
	goes "the address of an interface goes" stick ip_tx address delete 10.99.0.1/24 dev usb0
	comes "another comes" stick ip_tx address add 10.99.0.3/24 dev usb0
	ip_tx address add 10.99.0.4/32 dev usb0
	sleep 0.3
	check "a second address changes nothing" "$(locals_to 10.99.0.2)" uses 10.99.0.2 10.99.0.3
	move_address usb0 10.99.0.3 10.99.0.5
	check "the address changes: stripes of the old one are replaced" "$(locals_to 10.99.0.2)" \
		wait_for 1 eval 'stripes_to 10.99.0.2 4 && ! locals_to 10.99.0.2 | grep -qx 10.99.0.3'
	goes "the address of a path goes" dsl ip_tx address delete 10.98.0.1/24 dev dsl0
	comes "it comes back" dsl ip_tx address add 10.98.0.1/24 dev dsl0
}

come_anew() {
	plug usb0 10.99.0
	ip_tx address add 10.99.0.1/24 dev usb0
}

test_unplug() {
	goes "the interface goes" stick unplug usb0
	comes "one of the same name comes" stick come_anew
	check "all its stripes follow" "not in a second" wait_for 1 stripes_to 10.99.0.2 4
}

# An address of IPv6 comes a second before it may be used: duplicate detection.
test_ipv6() {
	if ! on tx test -d /proc/sys/net/ipv6/conf/dsl0; then
		skip "an address of IPv6" "there is no IPv6"
		return
	fi
	ip_rx -6 address add fd00:98::2/64 dev dsl0 nodad
	on tx sh -c 'cd /proc/sys/net/ipv6/conf/dsl0 && echo 1 >accept_dad && echo 1 >dad_transmits'
	soon "an address of IPv6 comes" $((up_ms + 2000)) 'event=path_up .*path=six$' ip_tx -6 address add fd00:98::1/64 dev dsl0
	goes "it goes" six ip_tx -6 address delete fd00:98::1/64 dev dsl0
}

# A path without interface and address: whatever leads to its far end.
test_route() {
	ip_tx route delete 10.97.0.0/24 via 10.99.0.2
	on tx ss -K -Htn "dst 10.97.0.2" >/dev/null
	log_wait "$tx_log" 'event=path_waits path=any reason="no route to 10.97.0.2:6000"' 5 ||
		not_ok "a path without a route waits" "$(grep 'path=any' "$tx_log" | tail -n 3)"
	comes "a route comes" any ip_tx route add 10.97.0.0/24 via 10.99.0.2
}

# ---- pauses -------------------------------------------------------------------------------------------------------

kill_path() { on tx ss -K -Htn "dst 10.99.0.2 and dport = :6000" >/dev/null; }

# Every 2 s, far less than the stripes' longest pause.
test_flapping() {
	local i
	for i in 1 2 3; do
		comes "a path that fails again and again is dialled quickly ($i)" stick kill_path
		check "with all its stripes ($i)" "not in a second" wait_for 1 stripes_to 10.99.0.2 4
		sleep 2
	done
}

dials() { on tx awk '/^Tcp:/ && ++line == 2 { print $6 }' /proc/net/snmp; }

# hammered NAME MAX: a case: how many connections all stripes make in 4 s, once their pauses are long.
hammered() {
	local before count
	sleep 4.5
	before=$(dials)
	sleep 4
	count=$(($(dials) - before))
	check "$1" "$count connections in 4 s" [ "$count" -gt 0 -a "$count" -le "$2" ]
	printf '# %s: %s connections in 4 s\n' "$1" "$count" >&2
}

# A route to the far end comes ten times a second, and nothing gets through.
test_route_churn() {
	local before count i
	on rx nft add table inet churn
	on rx nft add chain inet churn in '{ type filter hook input priority 0; }'
	on rx nft add rule inet churn in ip daddr 10.99.0.2 tcp dport 6000 drop
	kill_path
	before=$(dials)
	for ((i = 0; i < 40; i++)); do
		ip_tx route add 10.99.0.2/32 dev usb0
		sleep 0.05
		ip_tx route delete 10.99.0.2/32 dev usb0
		sleep 0.05
	done
	count=$(($(dials) - before))
	check "a route that flaps makes nobody hammer" "$count connections" [ "$count" -ge 4 -a "$count" -le 60 ]
	printf '# a route that flaps: %s connections\n' "$count" >&2
	on rx nft delete table inet churn
	check "when it gets through again, all stripes come back" "not in 8 s" wait_for 8 stripes_to 10.99.0.2 4
}

test_rejecting() {
	rx_stop KILL
	hammered "a far end that refuses is left alone" 40
	serve slammer rx 6000 socat TCP-LISTEN:6000,fork,reuseaddr SYSTEM:true
	hammered "one that accepts and closes is left alone" 40
	stop "$started"
	serve echo rx 6000 socat TCP-LISTEN:6000,fork,reuseaddr EXEC:cat
	hammered "one that speaks another protocol is left alone, and longer" 20
	equal "it is told, once for each path" "$(grep -E 'no WELCOME at the start' "$tx_log" | grep -o ' path=[a-z]*' | sort)" \
		"$(printf ' path=%s\n' any dsl link stick)"
	equal "each of the others was, too" "$(grep 'event=dial_failed path=link .*Connection refused' "$tx_log" | wc -l)" 1
	stop "$started"
}

pair_begin "following the machine"
pair_lab --rate 100M --delay 5ms
pair_paths='{ name = "link"; stripes = 4; },
	{ name = "stick"; interface = "usb0"; remote_ip = "10.99.0.2"; stripes = 4; },
	{ name = "dsl"; local_ip = "10.98.0.1"; remote_ip = "10.98.0.2"; stripes = 2; },
	{ name = "six"; local_ip = "fd00:98::1"; remote_ip = "fd00:98::2"; stripes = 2; },
	{ name = "any"; remote_ip = "10.97.0.2"; stripes = 2; }'
pair_rx_security="mode = \"none\"; accept_from = ( \"$tx_ip/32\", \"10.96.0.0/14\", \"fd00:98::/64\" );"
pair_configure
rx_start && tx_start && tx_connected 4 && rules up || exit 1
load_serve
test_absent
load_begin
test_come
ip_rx address add 10.97.0.2/32 dev lo
comes "a route to a path's far end comes" any ip_tx route add 10.97.0.0/24 via 10.99.0.2
test_down "an interface" stick usb0
test_down "the interface of an address" dsl dsl0
test_addresses
test_ipv6
test_unplug
comes "a route that went with its interface comes back" any ip_tx route add 10.97.0.0/24 via 10.99.0.2
test_route
load_end "all that"
test_flapping
test_route_churn
test_rejecting
check "both daemons live" "one has gone" alive tx
pair_end
