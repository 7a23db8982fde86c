#!/bin/bash
# The link emulator does what it is told, measured from outside of it: with the devices' own counters, ping and the
# wall clock. And the lab comes up whole, or not at all, and leaves nothing behind. About 25 s.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=$root/tools/lab
emulator=${PAIR_BIN:-$root/build/bin}/link_emulator
bridged=${PAIR_LAB_PREFIX:-emu}$$b
routed=${PAIR_LAB_PREFIX:-emu}$$r
plain=${PAIR_LAB_PREFIX:-emu}$$p
state_root=${XDG_RUNTIME_DIR:-/run}/pair_lab
work=$(mktemp -d)
failures=0
pids=()

ok() { printf 'ok - %s\n' "$1"; }
not_ok() { printf 'not ok - %s: %s\n' "$1" "$2"; failures=$((failures + 1)); }
skip_all() { printf 'skip - link emulator: %s\n' "$1"; exit 0; }

# check NAME WHY COMMAND...: one case; WHY tells what was seen.
check() {
	if "${@:3}"; then ok "$1"; else not_ok "$1" "$2"; fi
}

# holds EXPRESSION: of numbers, by awk.
holds() { awk "BEGIN { exit !($1) }"; }

# measure NAME LOW HIGH COMMAND...: one case; the number that COMMAND prints is between. A machine that is short of
# time itself gets three more tries; an emulator that is wrong is wrong each time.
measure() {
	local seen try
	for try in 1 2 3 4; do
		seen=$("${@:4}")
		if holds "${seen:--1} > $2 && ${seen:--1} < $3"; then
			ok "$1"
			return
		fi
		sleep "0.$try"
	done
	not_ok "$1" "$seen, expected $2 to $3"
}

cleanup() {
	local name
	trap '' INT TERM
	[ "${#pids[@]}" = 0 ] || kill "${pids[@]}" 2>/dev/null
	for name in "$bridged" "$routed" "$plain"; do
		"$lab" down --name "$name" >/dev/null 2>&1
	done
	rm -rf "$work"
}

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/net/tun ] || skip_all "no /dev/net/tun"
for tool in ip ping iperf3 jq socat ss; do
	command -v "$tool" >/dev/null || skip_all "$tool is not installed"
done
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

run() { "$lab" run --name "$@"; }
link() { "$lab" link --name "$@"; }
quietly() { "$@" >/dev/null 2>&1; }
fails_with() {
	local expected=$1 status=0
	quietly "${@:2}" || status=$?
	[ "$status" = "$expected" ]
}

# is_gone NAME: no namespace, no process and no state of that lab is there.
is_gone() {
	local file
	for file in /run/netns/"$1"-*; do
		[ ! -e "$file" ] || return 1
	done
	[ ! -e "$state_root/$1" ] || return 1
	# The brackets keep grep from finding itself.
	! grep -qsa "[@]$1-" /proc/[0-9]*/cmdline
}

# start NAME HOST COMMAND...: in the background; the pid is $!.
start() {
	"$lab" run --name "$@" >>"$work/background.log" 2>&1 &
	pids+=($!)
}

server_start() {
	local wait
	start "$1" "$2" iperf3 -s
	for ((wait = 0; wait < 100; wait++)); do
		[ -z "$(run "$1" "$2" ss -Hltn 'sport = :5201')" ] || return 0
		sleep 0.02
	done
	not_ok "iperf3 server on $2" "did not start"
}

# median of the numbers in the input, one a line; -1 if there are none
median() {
	sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)]; else print -1 }'
}

# rtt NAME HOST ADDRESS COUNT INTERVAL: median in ms
rtt() {
	run "$1" "$2" ping -n -W 1 -c "$4" -i "$5" "$3" | sed -n 's/.*time=\([0-9.]*\) ms/\1/p' | median
}

# rate NAME HOST DEVICE SECONDS: bit/s that the device gets, by its own counter and the wall clock
rate() {
	# shellcheck disable=SC2016
	run "$1" "$2" bash -c 'read -r b0 </sys/class/net/$1/statistics/rx_bytes; t0=$EPOCHREALTIME; sleep $2
		read -r b1 </sys/class/net/$1/statistics/rx_bytes; t1=$EPOCHREALTIME
		awk "BEGIN { print ($b1 - $b0) * 8 / ($t1 - $t0) }"' bash "$3" "$4"
}

# packets NAME HOST DEVICE rx|tx: the device's own count
packets() { run "$1" "$2" cat "/sys/class/net/$3/statistics/$4_packets"; }

# one_way NAME FROM TO ADDRESS: median in ms of datagrams that carry the time of their sending
one_way() {
	# shellcheck disable=SC2016
	start "$1" "$3" bash -c 'socat -u UDP-RECV:5301 - | while read -r sent; do echo "$EPOCHREALTIME $sent"; done >"$1"' \
		bash "$work/one_way"
	sleep 0.3
	# shellcheck disable=SC2016
	run "$1" "$2" bash -c 'for i in {1..40}; do echo $EPOCHREALTIME >/dev/udp/$1/5301; sleep 0.01; done' bash "$4"
	sleep 0.2
	# shellcheck disable=SC2016
	run "$1" "$3" bash -c 'kill $(ss -Hlunp "sport = :5301" | sed "s/.*pid=\([0-9]*\).*/\1/")'
	awk '{ printf "%.3f\n", ($1 - $2) * 1000 }' "$work/one_way" | median
}

test_coming_up() {
	check "up refuses a wrong figure" "exit code" fails_with 1 "$lab" up --name "$bridged" --loss nonsense
	check "a lab that did not come up leaves nothing" "something of $bridged is there" is_gone "$bridged"
	if ! "$lab" up --name "$bridged" --rate 100M --delay 25ms --queue 625000 >"$work/up.log" 2>&1; then
		not_ok "up" "$(tail -n 3 "$work/up.log")"
		exit 1
	fi
	ok "up"
	check "up refuses a lab that is up" "exit code" fails_with 1 "$lab" up --name "$bridged"
	check "run keeps the exit code" "not 37" fails_with 37 run "$bridged" tx sh -c 'exit 37'
	check "run says 127 to an unknown command" "not 127" fails_with 127 run "$bridged" tx no-such-command
	check "IPv6 crosses" "ping failed" quietly run "$bridged" source ping -c 1 -W 1 fd00:2::22
}

test_delay() {
	measure "RTT of twice 25 ms is within 2 ms" 50 52 rtt "$bridged" source 192.168.2.22 40 0.01
	quietly link "$bridged" set ab delay=40ms ba delay=10ms
	measure "tx to rx takes its own 40 ms" 40 41 one_way "$bridged" source dest 192.168.2.22
	measure "rx to tx takes its own 10 ms" 10 11 one_way "$bridged" dest source 192.168.2.11
	quietly link "$bridged" set delay=25ms
}

# Full links both ways: what passes, and how long what passes has waited.
test_rate_and_queue() {
	local seen there back
	server_start "$bridged" dest
	server_start "$bridged" source
	quietly link "$bridged" set ba rate=20M queue=50000
	start "$bridged" source iperf3 -u -c 192.168.2.22 -b 125M -l 1472 -t 60
	there=$!
	start "$bridged" dest iperf3 -u -c 192.168.2.11 -b 30M -l 1472 -t 60
	back=$!
	sleep 0.7
	measure "rate of 100 Mbit/s is within 2 %" 98e6 102e6 rate "$bridged" rx eth1 1.5
	measure "rate of 20 Mbit/s the other way is within 2 %" 19.6e6 20.4e6 rate "$bridged" tx eth1 1.5
	kill "$back"
	sleep 0.2
	measure "a full queue of 625 kB at 100 Mbit/s adds 50 ms" 97 102 rtt "$bridged" source 192.168.2.22 15 0.02
	quietly link "$bridged" set ab rate=50M queue=125000
	sleep 0.3
	measure "rate changes while it runs" 49e6 51e6 rate "$bridged" rx eth1 1
	measure "queue changes while it runs: 125 kB at 50 Mbit/s add 20 ms" 67 72 rtt "$bridged" source 192.168.2.22 15 0.02
	kill "$there"
	seen=$(link "$bridged" show | jq '.ab.queue_peak_bytes')
	check "the queue never held more than it may" "$seen bytes" holds "$seen > 600000 && $seen <= 625000"
	quietly link "$bridged" set rate=100M delay=25ms queue=625000
}

test_transfer() {
	local sum there seen
	head -c 12000000 /dev/urandom >"$work/sent"
	start "$bridged" dest socat -u TCP-LISTEN:5302 "CREATE:$work/received"
	there=$!
	sleep 0.3
	run "$bridged" source socat -u "OPEN:$work/sent" TCP:192.168.2.22:5302
	wait "$there"
	sum=$(cmp "$work/sent" "$work/received" 2>&1)
	check "12 MB over TCP arrive unharmed" "$sum" test -z "$sum"
	seen=$(run "$bridged" dest nstat -asz TcpInCsumErrors | awk '/TcpInCsumErrors/ { print $2 }')
	check "checksums are computed before the TAP" "$seen wrong ones" test "$seen" = 0
	seen=$(link "$bridged" show | jq '[.ab, .ba][].frame_max_bytes' | sort -n | tail -n 1)
	check "no frame is longer than the MTU allows" "$seen bytes" test "$seen" = 1514
}

test_control() {
	local seen
	check "a wrong figure is refused" "exit code" fails_with 2 link "$bridged" set rate=77M loss=101%
	seen=$(link "$bridged" show | jq -c '[.ab.rate_bps, .ba.rate_bps]')
	check "of a refused set nothing is done" "$seen" test "$seen" = '[100000000,100000000]'
	check "more loss than bursts can give is refused" "exit code" fails_with 2 link "$bridged" set loss=60% burst=1
	quietly link "$bridged" set ab blackhole=on
	check "blackhole drops everything" "ping came back" \
		fails_with 1 run "$bridged" source ping -c 5 -i 0.01 -W 0.3 192.168.2.22
	quietly link "$bridged" set blackhole=off
	check "after the blackhole it carries again" "no ping" quietly run "$bridged" source ping -c 3 -i 0.1 -W 1 192.168.2.22
	seen=$(link "$bridged" show | jq -c '[.ab, .ba][] | .frames_in - .frames_delivered - .frames_under_way -
		.frames_dropped_loss - .frames_dropped_queue - .frames_dropped_blackhole - .frames_dropped_memory -
		.frames_dropped_oversize - .frames_dropped_write' | tr '\n' ' ')
	check "every frame is accounted for" "$seen" test "$seen" = '0 0 '
}

# ping_lost LINK COUNT: sequence numbers up to COUNT that got no answer, one a line. A few more are sent: ping does not
# wait long for the answer to its last ones.
ping_lost() {
	run "$routed" tx ping -n -c "$(($2 + 20))" -i 0.001 "10.77.$1.2" |
		sed -n 's/.*icmp_seq=\([0-9]*\) .*time=.*/\1/p' |
		awk -v count="$2" '{ seen[$1] = 1 } END { for (i = 1; i <= count; i++) if (!(i in seen)) print i }'
}

measure_independent() {
	local before after
	before=$(packets "$routed" tx eth1 tx) after=$(packets "$routed" rx eth1 rx)
	run "$routed" tx iperf3 -u -c 10.77.1.2 -b 10M -l 100 -t 3 >/dev/null
	printf '%s %s\n' $(($(packets "$routed" tx eth1 tx) - before)) $(($(packets "$routed" rx eth1 rx) - after))
}

# Link 1: independent losses. Link 2: bursts. Link 3: the same seed twice. At the same time, each in its own process.
test_loss() {
	local sent got seen jobs
	"$lab" up --name "$routed" --links 3 --rate 0 --queue 0 --delay 1ms --link '1 ab loss=2%' \
		--link '2 ab loss=20% burst=5' --link '3 ab loss=10% burst=2' >"$work/up.log" 2>&1 ||
		{ not_ok "up with three links" "$(tail -n 3 "$work/up.log")"; return; }
	ok "up with three links"
	server_start "$routed" rx
	# Nothing but the pings may draw from link 3's sequence.
	run "$routed" tx sh -c 'echo 1 >/proc/sys/net/ipv6/conf/eth3/disable_ipv6'
	measure_independent >"$work/independent" &
	jobs=($!)
	ping_lost 2 4000 >"$work/bursts" &
	jobs+=($!)
	quietly link "$routed" 3 set seed=7
	ping_lost 3 1500 >"$work/first"
	link "$routed" 3 losses | jq '.ab.first[] + 1 | select(. <= 1500)' >"$work/told"
	quietly link "$routed" 3 set seed=7
	ping_lost 3 1500 >"$work/second"
	quietly link "$routed" 3 set seed=8
	ping_lost 3 300 >"$work/other"
	wait "${jobs[@]}"

	read -r sent got <"$work/independent"
	check "loss of 2 % is within its 99.9 % interval" "$((sent - got)) of $sent" \
		holds "$sent > 5000 && ($sent - $got - 0.02 * $sent)^2 < 3.29^2 * $sent * 0.02 * 0.98"
	# A burst is a run in the sequence; its length is geometric: variance mean * (mean - 1).
	seen=$(awk 'NR == 1 || $1 != last + 1 { runs++ } { last = $1 } END { print NR + 0, runs + 0 }' "$work/bursts")
	read -r got sent <<<"$seen"
	check "bursts of 5 frames are within their 99.9 % interval" "$got lost in $sent runs" \
		holds "$sent > 50 && ($got / $sent - 5)^2 < 3.29^2 * 20 / $sent"
	# Bursts make the share lost vary more: by p q (1 + 2 r / (1 - r)) a frame, r = 1 - p_enter - p_leave.
	check "bursts lose 20 % in all, within their 99.9 % interval" "$got of 4000" \
		holds "($got - 800)^2 < 3.29^2 * 4000 * 0.16 * (1 + 2 * 0.75 / 0.25)"
	check "the same seed loses the same frames" "$(diff "$work/first" "$work/second" | head -n 4 | tr '\n' ' ')" \
		cmp -s "$work/first" "$work/second"
	check "the frames told are those missing" "$(diff "$work/first" "$work/told" | head -n 4 | tr '\n' ' ')" \
		cmp -s "$work/first" "$work/told"
	check "losses happened at all" "$(wc -l <"$work/first") lost" test "$(wc -l <"$work/first")" -gt 50
	check "another seed loses other frames" "the same" \
		fails_with 1 cmp "$work/other" <(awk '$1 <= 300' "$work/first")
	check "source reaches dest through the routers" "no ping" \
		quietly run "$routed" source ping -c 5 -i 0.05 -W 1 192.168.3.22
}

# tx, mid and rx: what starts with 3 ends there, what starts with 4 arrives.
three_routers() {
	quietly run "$plain" source ping -c 2 -i 0.05 -W 1 -t 4 192.168.3.22 &&
		! quietly run "$plain" source ping -c 2 -i 0.05 -W 1 -t 3 192.168.3.22
}

test_going_down() {
	local emulator_pid
	check "down" "exit code" quietly "$lab" down --name "$bridged"
	check "down leaves nothing" "something of $bridged is there" is_gone "$bridged"
	check "down again is no error" "exit code" quietly "$lab" down --name "$bridged"
	# A crash: an emulator killed, a host lost, the notes lost.
	emulator_pid=$(<"$state_root/$routed/link2.pid")
	kill -KILL "$emulator_pid"
	ip netns del "$routed-dest"
	rm -rf "${state_root:?}/$routed"
	quietly "$lab" down --name "$routed"
	check "down after a crash leaves nothing" "something of $routed is there" is_gone "$routed"
	check "a plain lab needs no emulator" "exit code" quietly env PAIR_BIN=/nonexistent "$lab" up --name "$plain" --plain
	check "a plain lab carries" "no ping" quietly run "$plain" source ping -c 2 -i 0.05 -W 1 192.168.2.22
	quietly "$lab" down --name "$plain"
	check "a plain lab goes" "something of $plain is there" is_gone "$plain"
	check "up refuses a third host on a link that is not there" "exit code" fails_with 2 "$lab" up --name "$plain" --via 2
	check "a lab with a third host" "exit code" quietly "$lab" up --name "$plain" --plain --via 1
	check "source reaches dest by way of it" "no ping, or not through three routers" three_routers
	quietly "$lab" down --name "$plain"
	check "a lab with a third host goes" "something of $plain is there" is_gone "$plain"
}

check "link_emulator is built" "$emulator is missing: run make" test -x "$emulator"
[ -x "$emulator" ] || exit 1
test_coming_up
test_delay
test_rate_and_queue
test_transfer
test_control
test_loss
test_going_down
[ "$failures" = 0 ]
