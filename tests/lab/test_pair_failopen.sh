#!/bin/bash
# Fail-open: whatever keeps the pair from serving a new connection, the connection reaches its destination as if nothing
# were installed, and goes through the pair again, by itself, when the cause is gone. What ran through a proxy that died
# ends with an error at both ends and never looks complete. About 60 s. time-limit: 240
. "$(dirname "$0")/pair_load.sh"

who_port=7100 hold_port=7101 late_port=7102 early_port=7103
table=pair_test
short_timeout='session_timeout_ms = 3000;'

# ---- what came of a connection ------------------------------------------------------------------------------------

# Sets $via (pair, direct or none) by the address that the destination saw, and $via_ms.
look() {
	local begun=${EPOCHREALTIME/./} seen
	seen=$(on source timeout 20 socat -u "TCP:$dest_ip:$who_port" - 2>&1)
	via_ms=$(((${EPOCHREALTIME/./} - begun) / 1000))
	case $seen in
	"$rx_ip") via=pair ;;
	"$source_ip") via=direct ;;
	*) via=none ;;
	esac
}

goes() { look; [ "$via" = "$1" ]; }

# expect NAME pair|direct [MS]: one connection, one case; MS is how long it may take.
expect() {
	look
	if [ "$via" != "$2" ]; then
		not_ok "$1" "went $via, in $via_ms ms"
	elif [ "$via_ms" -gt "${3:-3000}" ]; then
		not_ok "$1" "took $via_ms ms"
	else
		ok "$1"
	fi
}

expect_soon() { # NAME pair|direct SECONDS
	if wait_for "$3" goes "$2"; then ok "$1"; else not_ok "$1" "after $3 s still $via"; fi
}

# ---- flows that stay ----------------------------------------------------------------------------------------------

# hold_begin NAME: a connection that nothing ends but us; $started. hold NAME: it goes all the way.
hold_begin() {
	# What another one of that name has said is no news of this one.
	rm -f "$dir/$1.log"
	start "$1" source "$tcp_probe" connect "$dest_ip" $hold_port limit=300 read=1 say=in read=1
}

hold() {
	hold_begin "$1"
	log_wait "$dir/$1.log" '^in$' 10 || not_ok "$1 is connected" "$(tail -n 1 "$dir/$1.log")"
}

# ended_with NAME PID ERROR SECONDS: a held connection has ended so
ended_with() {
	ended "$2" "$4"
	local seen
	seen=$(tail -n 1 "$dir/$1.log")
	check "$3" "$seen" grep -q 'error=ECONNRESET' <<<"$seen"
}

receive_told() { [ "$(grep -c '^{' "$dir/receive.log")" -gt "$1" ]; }

# Both ends of a transfer that lost a proxy: told so within SECONDS, and of an error.
transfer_is_broken() { # NAME SECONDS
	local status
	ended "$stream_pid" "$2"
	status=$?
	equal "$1: the client sees a reset" "$status $(transfer_status)" "1 reset"
	wait_for "$2" receive_told "$received_before"
	equal "$1: the destination sees a reset" "$(transfer_status receive)" reset
}

count_received() { received_before=$(grep -c '^{' "$dir/receive.log"); }

# ---- cases --------------------------------------------------------------------------------------------------------

test_tx_killed() {
	count_received
	transfer_begin --duration_s=60
	tx_stop KILL
	expect "tx_proxy killed: a new connection goes direct" direct 1500
	transfer_is_broken "tx_proxy killed" 10
	tx_start && tx_connected
	expect "tx_proxy restarted: through the pair" pair
}

test_rx_killed() {
	count_received
	transfer_begin --duration_s=60
	rx_stop KILL
	expect "rx_proxy killed: a new connection goes direct" direct 2500
	expect "rx_proxy killed: the next one at once" direct 900
	transfer_is_broken "rx_proxy killed" 10
	rx_start
	expect_soon "rx_proxy restarted: through the pair again" pair 15
}

dest_connections() { on rx ss -Htn state "$1" "dport = :$early_port"; }
dest_is() { [ -n "$(dest_connections "$1")" ]; }
rx_seen() { grep -q "^peer=$rx_ip:" "$dir/serve_$early_port.log"; }

# Its connection to the destination is there, in the kernel, before it can know: the destination must not take it for one that
# ended in order, with nothing to say.
test_rx_killed_connecting() {
	on rx nft add table inet $table
	on rx nft add chain inet $table in '{ type filter hook input priority 0; }'
	on rx nft add rule inet $table in tcp sport $early_port drop
	start early source "$tcp_probe" connect "$dest_ip" $early_port send=10 fin end
	wait_for 5 dest_is syn-sent || not_ok "rx_proxy connects" "it does not"
	kill -STOP "$rx_pid"
	on rx nft delete table inet $table
	wait_for 10 dest_is established || not_ok "rx_proxy is connected" "$(dest_connections syn-sent)"
	rx_stop KILL
	wait_for 5 rx_seen
	check "rx_proxy killed while it connects: the destination sees a reset" "$(cat "$dir/serve_$early_port.log")" \
		grep -q "^peer=$rx_ip:.*error=ECONNRESET" "$dir/serve_$early_port.log"
	rx_start
	expect_soon "rx_proxy started again: through the pair" pair 15
}

# Its successor knows nothing of the flows: it must not take their bytes for those of others.
test_rx_restarted() {
	count_received
	transfer_begin --duration_s=60
	rx_stop KILL
	rx_start
	transfer_is_broken "rx_proxy restarted at once" 15
	expect_soon "rx_proxy restarted at once: through the pair again" pair 15
}

part() {
	on rx nft -f - <<-RULES
		table inet $table {
			chain in { type filter hook input priority 0; tcp dport 6000 drop; }
			chain out { type filter hook output priority 0; tcp sport 6000 drop; }
		}
	RULES
}

meet() { on rx nft delete table inet $table; }

# Only what the proxies say to each other is lost: the way to the destination works.
test_cut() {
	local begun
	transfer_begin --bytes=24M
	part
	begun=${EPOCHREALTIME/./}
	expect "proxies cut off: a new connection goes direct within 3 s" direct 3000
	check "proxies cut off: known within 4 s" "still unknown" wait_for 4 goes_at_once
	expect "proxies cut off: further ones at once" direct 900
	wait_for 5 eval '[ $((${EPOCHREALTIME/./} - begun)) -gt 2500000 ]'
	meet
	expect_soon "cut mended: through the pair again" pair 15
	transfer_is_whole "cut mended: the flow that waited is whole"
}

goes_at_once() { look; [ "$via" = direct ] && [ "$via_ms" -lt 700 ]; }

# A cut that is longer than the kernels and the session wait.
test_long_cut() {
	count_received
	transfer_begin --duration_s=60
	part
	transfer_is_broken "a cut longer than the session's timeout" 40
	meet
	expect_soon "a long cut mended: through the pair again" pair 20
}

hold_many() { # COUNT
	local i
	for ((i = 0; i < $1; i++)); do
		hold "held$i"
		held+=("$started")
	done
}

release_all() {
	stop "${held[@]}"
	held=()
	wait_for 10 no_flows || not_ok "$1: the flows end" "$(stat tx flows) left"
}

no_flows() { [ "$(stat tx flows)" = 0 ] && [ "$(stat rx flows)" = 0 ]; }

test_limits() {
	local held=()
	pair_limits="flows = 3; $short_timeout"
	pair_restart
	hold_many 3
	equal "limit of flows: as many go through the pair" "$(stat tx flows)" 3
	expect "limit of flows: the next one goes direct" direct 900
	expect "limit of flows: and the one after" direct 900
	stop "${held[2]}"
	expect_soon "limit of flows: one ended, the next goes through the pair" pair 5
	release_all "limit of flows"
	pair_limits=$short_timeout

	pair_stop
	rx_start --limits.flows=2 && tx_start && tx_connected && rules up
	hold_many 2
	equal "limit of rx_proxy: as many go through the pair" "$(stat rx flows)" 2
	expect "limit of rx_proxy: the next one goes direct" direct 1500
	release_all "limit of rx_proxy"
}

# Few descriptors, and no right to have more.
test_files() {
	local held=() i flows
	pair_configure
	pair_stop
	rx_start
	runs=$((runs + 1))
	start "tx_proxy.$runs" tx setpriv --inh-caps=-sys_resource --bounding-set=-sys_resource \
		prlimit --nofile=60:60 "$bin/tx_proxy" -c "$conf"
	tx_pid=$started tx_log=$dir/tx_proxy.$runs.log
	log_wait "$tx_log" 'event=ready' 10 || not_ok "tx_proxy starts with 60 descriptors" "$(tail -n 1 "$tx_log")"
	tx_connected && rules up
	transfer_begin --bytes=24M
	for ((i = 0; i < 45; i++)); do
		hold_begin "held$i"
		held+=("$started")
	done
	check "few descriptors: every connection reaches its destination" "some do not" wait_for 15 all_in 45
	flows=$(stat tx flows)
	check "few descriptors: many go through the pair" "$flows" test "$flows" -ge 20
	expect "few descriptors: a further one goes direct" direct 1500
	transfer_is_whole "few descriptors: the transfer is whole"
	check "few descriptors: it has no more than allowed" "$(stat tx files)" eval '[ "$(stat tx files)" -le 60 ]'
	release_all "few descriptors"
	expect_soon "few descriptors: they end, through the pair again" pair 10
}

all_in() { [ "$(grep -l '^in$' "$dir"/held*.log | wc -l)" -ge "$1" ]; }

# Its limits are its owner's to set: root may, even where it must not go beyond them.
set_files() { # PID COUNT
	local ids
	read -r _ ids _ < <(grep '^Uid:' "/proc/$1/status")
	prlimit --pid "$1" --nofile="$2:" 2>/dev/null ||
		setpriv --reuid="$ids" --regid="$(awk '/^Gid:/ { print $2 }' "/proc/$1/status")" --clear-groups \
			prlimit --pid "$1" --nofile="$2:"
}

# Limits count numbers, and a process may have inherited odd ones.
lowest_free() {
	local fd=0
	while [ -e "/proc/$1/fd/$fd" ]; do
		fd=$((fd + 1))
	done
	echo "$fd"
}

# Taken away while it runs.
test_files_taken() {
	local held=()
	pair_restart
	transfer_begin --duration_s=4
	set_files "$tx_pid" $(($(lowest_free "$tx_pid") + 2))
	hold_many 2
	expect "descriptors taken away: a new connection goes direct" direct 1500
	expect "descriptors taken away: and the next one" direct 1500
	transfer_is_whole "descriptors taken away: the transfer is whole"
	rests "descriptors taken away: it does not spin" 10 1 tx
	set_files "$tx_pid" 4096
	release_all "descriptors taken away"
	expect_soon "descriptors given back: through the pair again" pair 10
}

# end_in_order NAME tx|rx: SIGTERM with a flow that ends soon and one that does not.
end_in_order() {
	local pid=${2}_pid idle late status
	pid=${!pid}
	hold idle
	idle=$started
	rm -f "$dir/late.log"
	start late source "$tcp_probe" connect "$dest_ip" $late_port end
	late=$started
	wait_for 5 eval '[ "$(stat rx flows)" = 2 ]' || not_ok "$1: two flows run" "$(stat rx flows)"
	kill -TERM "$pid"
	log_wait "$dir/$2_proxy.$3.log" 'event=stopping' 5
	expect "$1: a new connection goes direct" direct 1500
	ended "$late" 10
	check "$1: what ends by itself ends whole" "$(tail -n 1 "$dir/late.log")" \
		grep -q 'read=100000 wrong=none end=eof error=none' "$dir/late.log"
	ended "$pid" 5
	status=$?
	equal "$1: exit status" "$status" 0
	ended_with idle "$idle" "$1: what does not is reset" 8
}

test_terminated() {
	pair_restart
	end_in_order "tx_proxy told to end" tx "$runs"
	tx_pid=
	tx_start && tx_connected
	expect "tx_proxy started again: through the pair" pair
	rx_stop KILL
	rx_start
	expect_soon "rx_proxy started again: through the pair" pair 15
	end_in_order "rx_proxy told to end" rx "$runs"
	rx_pid=
	rx_start
	expect_soon "rx_proxy has ended and come again: through the pair" pair 15
}

# rx_proxy has place for one tx_proxy. The one that was killed left a flow there, which waits for it for a minute.
test_place_given_up() {
	pair_stop
	pair_limits='' pair_rx_more='sessions = 1;'
	pair_start
	hold left
	kill -KILL "$tx_pid"
	wait "$tx_pid" 2>/dev/null
	tx_pid=
	check "one place at rx_proxy: a flow was left there" "$(stat rx flows)" [ "$(stat rx flows)" -gt 0 ]
	check "one place at rx_proxy: tx_proxy comes back to it soon" "no session" eval 'tx_start && wait_for 15 session_is_up'
	pair_rx_more=''
}

session_is_up() { [ "$(stat tx stripes_up)" -gt 0 ]; }

pair_begin "fail-open"
pair_lab --rate 60M --delay 10ms
pair_limits=$short_timeout
pair_start
load_serve
# shellcheck disable=SC2016
serve who dest $who_port socat "TCP-LISTEN:$who_port,fork,reuseaddr,backlog=64" 'SYSTEM:echo $SOCAT_PEERADDR'
probe_serve $hold_port limit=300 send=1 read=1
probe_serve $late_port sleep=800 send=100000 fin end
probe_serve $early_port end
expect "to begin with: through the pair" pair
test_tx_killed
test_rx_killed
test_rx_killed_connecting
test_rx_restarted
test_cut
test_long_cut
test_limits
test_files
test_files_taken
test_terminated
test_place_given_up
pair_stop
pair_end
