#!/bin/bash
# stream and receive over loopback, on ports of their own: what they send arrives, what is wrong with it is found and
# told, and who else connects does no harm. A relay that damages the data stands between the two where needed. About 20 s.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${PAIR_BIN:-${BIN:-$root/build/bin}}
work=$(mktemp -d)
failures=0
receiver=
relay=
header_size=56

ok() { printf 'ok - %s\n' "$1"; }
not_ok() { printf 'not ok - %s: %s\n' "$1" "$2"; failures=$((failures + 1)); }
skip() { printf 'skip - %s: %s\n' "$1" "$2"; }

cleanup() {
	trap '' INT TERM
	[ -z "$relay" ] || kill -- "$relay" 2>/dev/null
	[ -z "$receiver" ] || kill -KILL "$receiver" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

for program in stream receive; do
	[ -x "$bin/$program" ] || { not_ok "$program is built" "no $bin/$program"; exit 1; }
done
for program in jq nc socat sha256sum; do
	command -v "$program" >/dev/null || { skip "stream and receive" "no $program"; exit 0; }
done
cat >"$work/network.conf" <<'END'
stream = { dest_ip = "127.0.0.1"; };
dest = { };
END

free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000))
		nc -z 127.0.0.1 "$port" 2>/dev/null || break
	done
	echo "$port"
}

# start_receive ARGUMENT...: listens on $port; its lines are in $work/receive.log, its objects in receive.json.
start_receive() {
	local _
	for _ in 1 2 3 4 5; do
		port=$(free_port)
		: >"$work/receive.log"
		"$bin/receive" -c "$work/network.conf" --recv_port="$port" --json "$@" \
			>"$work/receive.json" 2>"$work/receive.log" &
		receiver=$!
		for _ in $(seq 100); do
			grep -q 'event=ready' "$work/receive.log" && return 0
			kill -0 "$receiver" 2>/dev/null || break
			sleep 0.05
		done
		kill -KILL "$receiver" 2>/dev/null
		wait "$receiver" 2>/dev/null
	done
	receiver=
	not_ok "receive starts" "$(cat "$work/receive.log")"
	exit 1
}

# stop_receive: sets $code.
stop_receive() {
	[ -n "$receiver" ] || return 0
	kill -TERM "$receiver" 2>/dev/null
	await_receive
}

# await_receive: it ends by itself within 10 s; sets $code.
await_receive() {
	local _
	for _ in $(seq 200); do
		kill -0 "$receiver" 2>/dev/null || break
		sleep 0.05
	done
	kill -KILL "$receiver" 2>/dev/null
	wait "$receiver"
	code=$?
	receiver=
}

# run_stream ARGUMENT...: sets $code and $json; its lines are in $work/stream.log.
run_stream() {
	json=$(timeout 20 "$bin/stream" -c "$work/network.conf" --dest_port="$port" --json "$@" 2>"$work/stream.log")
	code=$?
}

# judge NAME CODE FILTER [JSON]: the exit code, and a jq filter that must give true, of $json or JSON.
judge() {
	local seen=${4-$json}
	if [ "$code" != "$2" ]; then
		not_ok "$1" "exit code $code, not $2: $seen $(cat "$work/stream.log")"
	elif ! jq -e "$3" >/dev/null 2>&1 <<<"$seen"; then
		not_ok "$1" "not $3: $seen"
	else
		ok "$1"
	fi
}

# last_flow FILTER: the last object of receive that the filter lets through, waiting for it up to 3 s.
last_flow() {
	local found _
	for _ in $(seq 60); do
		found=$(jq -c "select($1)" "$work/receive.json" 2>/dev/null | tail -n 1)
		[ -z "$found" ] || break
		sleep 0.05
	done
	printf '%s' "$found"
}

# start_relay FILTER: a port in $port whose bytes go through the shell commands and on to the receiver's port.
start_relay() {
	local behind=$port _
	port=$(free_port)
	printf 'cd %s\n( %s ) | nc -N 127.0.0.1 %s\n' "$work" "$1" "$behind" >"$work/relay.sh"
	setsid socat "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr" "EXEC:/bin/sh $work/relay.sh" 2>/dev/null &
	relay=-$!
	for _ in $(seq 100); do
		grep -qi ":$(printf %04X "$port") 00000000:0000 0A" /proc/net/tcp && return 0
		sleep 0.05
	done
	not_ok "relay listens" "it does not"
}

stop_relay() {
	kill -- "$relay" 2>/dev/null
	wait "${relay#-}" 2>/dev/null
	relay=
}

held=()

# hold N: so many connections that say nothing, until release.
hold() {
	local fd _
	for _ in $(seq "$1"); do
		exec {fd}<>"/dev/tcp/127.0.0.1/$port"
		held+=("$fd")
	done
}

release() {
	local fd
	for fd in "${held[@]}"; do
		exec {fd}>&-
	done
	held=()
}

transfers() {
	local intact='.total.status == "ok" and .total.failed == 0 and all(.flows[]; .status == "ok" and .error == null)'
	local bytes
	start_receive
	for bytes in 0 1 7 8 119 120 121 65536 262144 1000003; do
		run_stream --bytes="$bytes"
		judge "send $bytes bytes" 0 "$intact and .flows[0].send.confirmed_bytes == $bytes and .flows[0].receive == null"
	done
	for bytes in 0 1 121 1000003; do
		run_stream --bytes="$bytes" --direction=receive
		judge "receive $bytes bytes" 0 "$intact and .flows[0].receive.bytes == $bytes and .flows[0].send == null"
	done
	run_stream --bytes=3M --direction=both --flows=5 --seed=77
	judge "both directions, 5 flows" 0 "$intact and (.flows | length) == 5 and .total.send.confirmed_bytes == 15728640 and
		.total.receive.bytes == 15728640 and .total.send.mbit_s > 0 and .total.receive.mbit_s > 0"
	run_stream --bytes=1000 --flows=500 --direction=both
	judge "both directions, 500 flows" 0 "$intact and .total.receive.bytes == 500000"
	run_stream --bytes=10M --verify=false --direction=both
	judge "without verification" 0 "$intact and .verify == false and .total.send.confirmed_bytes == 10485760"
	run_stream --duration_s=1 --direction=both
	judge "for one second" 0 "$intact and .total.completion_ms >= 1000 and .total.completion_ms < 5000 and
		.total.send.bytes > 1000000 and .total.send.bytes == .total.send.confirmed_bytes"
	run_stream --duration_s=5 --bytes=1k
	judge "bytes end it before the duration" 0 "$intact and .total.completion_ms < 3000 and .total.send.bytes == 1024"
	if grep -q . /proc/net/if_inet6 2>/dev/null; then
		run_stream --bytes=100k --dest_ip=::1
		judge "IPv6" 0 "$intact and .dest == \"[::1]:$port\""
	else
		skip "IPv6" "this kernel has none"
	fi
	run_stream --bytes=1k
	judge "times: connect before completion" 0 '.flows[0] | .connect_ms > 0 and .connect_ms <= .completion_ms'
	stop_receive
	judge "receive saw all flows whole, and says so when it is ended" 0 'all(.status == "ok")' \
		"$(jq -sc . "$work/receive.json")"
	if grep -q 'event=summary flows=.* failed=0 ' "$work/receive.log"; then
		ok "receive ends with a summary"
	else
		not_ok "receive ends with a summary" "$(tail -n 3 "$work/receive.log")"
	fi
}

files() {
	local sum
	head -c 3000001 /dev/urandom >"$work/in"
	sum=$(sha256sum <"$work/in" | cut -d' ' -f1)
	start_receive --out="$work/out" --log="$work/flows.log"
	run_stream --file_name="$work/in" --flows=3
	judge "file: SHA-256 at both ends" 0 ".total.failed == 0 and
		all(.flows[].send; .sha256 == \"$sum\" and .received_sha256 == \"$sum\")"
	if cmp -s "$work/in" "$work/out" && cmp -s "$work/in" "$work/out.1" && cmp -s "$work/in" "$work/out.2"; then
		ok "file: each flow's copy is the same"
	else
		not_ok "file: each flow's copy is the same" "$(ls -l "$work")"
	fi
	: >"$work/empty"
	run_stream --file_name="$work/empty" --direction=both --bytes=5000
	judge "file: an empty one, the pattern on the way back" 0 '.total.failed == 0 and .total.receive.bytes == 5000'
	if [ -f "$work/out.3" ] && [ ! -s "$work/out.3" ]; then
		ok "file: an empty one is written"
	else
		not_ok "file: an empty one is written" "$(ls -l "$work")"
	fi
	nc -N 127.0.0.1 "$port" <"$work/in" >/dev/null
	last_flow '.kind == "raw"' >/dev/null
	if cmp -s "$work/in" "$work/out.4"; then
		ok "raw: what nc sends is written"
	else
		not_ok "raw: what nc sends is written" "$(ls -l "$work")"
	fi
	run_stream --raw --file_name="$work/in"
	last_flow '.kind == "raw" and .flow == 6' >/dev/null
	if [ "$code" = 0 ] && cmp -s "$work/in" "$work/out.5"; then
		ok "raw: stream sends as nc does"
	else
		not_ok "raw: stream sends as nc does" "exit code $code"
	fi
	if [ "$(grep -c 'event=flow_end' "$work/flows.log")" = 6 ] && ! grep -q flow_end "$work/receive.log"; then
		ok "log: one line for each flow, in the file"
	else
		not_ok "log: one line for each flow, in the file" "$(cat "$work/flows.log")"
	fi
	stop_receive
	start_receive --out=/dev/full
	run_stream --file_name="$work/in"
	judge "file: a full disk at receive is told at stream" 1 '.flows[0].status == "output_failed"'
	stop_receive
	start_receive --out="$work/none/out"
	run_stream --file_name="$work/in"
	judge "file: out that cannot be opened is told at stream" 1 '.flows[0].status == "output_failed"'
	run_stream --file_name="$work"
	judge "file: a directory is refused" 1 'true' '{}'
	stop_receive
}

# damaged NAME FILTER JQ [ARGUMENT...]: what the relay's shell commands do to the bytes of stream, and what it says.
damaged() {
	start_receive
	start_relay "$2"
	run_stream --bytes=300000 --timeout=10 "${@:4}"
	stop_relay
	judge "found: $1" 1 "$3"
	stop_receive
	[ "$code" = 1 ] || not_ok "receive's exit code: $1" "$code"
}

integrity() {
	local head="head -c $((header_size + 100000))"
	local wrong='.flows[0].status == "wrong_data" and .flows[0].send.first_wrong_offset'
	local next="tr '\\000-\\377' '\\001-\\377\\000'"
	start_receive
	start_relay cat
	run_stream --bytes=300000 --direction=both
	judge "the relay alone does no harm" 0 '.total.failed == 0 and .total.receive.bytes == 300000'
	stop_relay
	stop_receive
	start_receive
	start_relay "$head; sleep 0.7; cat"
	run_stream --bytes=300000
	judge "the longest gap between two reads" 0 \
		'.received.longest_gap_ms | . >= 650 and . < 1400' "$(last_flow '.status == "ok"')"
	stop_relay
	stop_receive
	damaged "a wrong byte" "$head; head -c 1 | $next; cat" "$wrong == 100000"
	damaged "a missing byte" "$head; head -c 1 >/dev/null; cat" "$wrong == 100000"
	damaged "64 KiB that are missing" "$head; head -c 65536 >/dev/null; cat" "$wrong == 100000"
	damaged "8 bytes that come twice" "$head; head -c 8 >a; cat a a; cat" "$wrong == 100008"
	damaged "two blocks swapped" "$head; head -c 4096 >a; head -c 4096; cat a; cat" "$wrong == 100000"
	damaged "the first byte wrong" "head -c $header_size; head -c 1 | $next; cat" "$wrong == 0"
	damaged "the last byte wrong" "head -c $((header_size + 299999)); head -c 1 | $next; cat" "$wrong == 299999"
	damaged "a missing byte that nobody verifies" "$head; head -c 1 >/dev/null; cat" \
		'.flows[0].status == "short" and .flows[0].send.confirmed_bytes == 299999' --verify=false
	damaged "an end before the end" "$head" \
		'(.flows[0].status | . == "short" or . == "reset") and .total.send.confirmed_bytes < 300000'
	damaged "a header that is damaged" "head -c 20; head -c 1 | $next; cat" \
		'.flows[0].status | . == "reset" or . == "no_report"'
	head -c 300000 /dev/urandom >"$work/in"
	damaged "a wrong byte in a file" "$head; head -c 1 | $next; cat" \
		'.flows[0] | .status == "wrong_data" and .send.sha256 != .send.received_sha256' --file_name="$work/in"
}

endings() {
	local seen stream
	port=$(free_port)
	run_stream --bytes=1k --flows=3
	judge "nobody listens: told at once" 1 \
		'.total.failed == 3 and .total.completion_ms < 1000 and all(.flows[]; .status == "connect_failed" and .error != null)'
	run_stream --requests=3
	judge "nobody listens: requests fail" 1 '.failures == 3 and .answered == 0'
	run_stream --echo
	judge "nobody listens: no echo" 1 '.status == "connect_failed" and .echoed == 0'

	start_receive
	{ timeout -s KILL 1 "$bin/stream" -c "$work/network.conf" --dest_port="$port" --duration_s=30; } \
		>/dev/null 2>&1
	seen=$(last_flow '.kind == "pattern"')
	code=0
	judge "stream is killed: receive sees a FIN and calls it short" 0 '.status == "short"' "$seen"
	timeout -s TERM 1 "$bin/stream" -c "$work/network.conf" --dest_port="$port" --duration_s=30 --json \
		>"$work/out.json" 2>/dev/null
	judge "stream is terminated: it still reports" 0 '.flows[0].status == "interrupted"' "$(cat "$work/out.json")"
	seen=$(last_flow '.flow == 2')
	judge "stream is terminated: receive sees a reset" 0 '.status == "reset" and .error != null' "$seen"

	"$bin/stream" -c "$work/network.conf" --dest_port="$port" --duration_s=30 --json >"$work/out.json" 2>/dev/null &
	stream=$!
	sleep 0.5
	kill -KILL "$receiver"
	wait "$receiver" 2>/dev/null
	receiver=
	wait "$stream"
	code=$?
	judge "receive is killed: stream reports a reset" 1 '.flows[0].status == "reset"' "$(cat "$work/out.json")"

	start_receive --flows=2
	run_stream --bytes=1k --flows=2
	judge "flows=2: both are served" 0 '.total.failed == 0'
	await_receive
	judge "flows=2: receive ends by itself" 0 'length == 2' "$(jq -sc . "$work/receive.json")"

	start_receive
	hold 1
	run_stream --bytes=1k
	stop_receive
	release
	judge "a flow that lives when receive is ended counts as interrupted" 1 'any(.status == "interrupted")' \
		"$(jq -sc . "$work/receive.json")"

	# A sink that accepts and never reports: the time limit ends it.
	port=$(free_port)
	socat -u "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr" "SYSTEM:sleep 5" >/dev/null 2>&1 &
	relay=$!
	sleep 0.3
	run_stream --bytes=1G --timeout=1
	judge "--timeout ends a run that does not" 1 '.flows[0].status == "timed_out" and .total.completion_ms < 3000'
	kill "$relay" 2>/dev/null
	wait "$relay" 2>/dev/null
	relay=
}

small_flows() {
	start_receive
	run_stream --requests=300 --parallel=10 --answer=20k
	judge "requests: all answered" 0 '.answered == 300 and .failures == 0 and .answer_bytes == 20480 and
		.p50_ms > 0 and .p50_ms <= .p90_ms and .p90_ms <= .p99_ms and .p99_ms <= .max_ms'
	run_stream --requests=3 --parallel=10 --answer=1 --direction=both
	judge "requests: fewer than at once, of one byte" 0 '.answered == 3'
	run_stream --echo --count=20 --interval-ms=5
	judge "echo: all come back" 0 '.echoed == 20 and .lost == 0 and .min_ms > 0 and .min_ms <= .median_ms and
		.median_ms <= .p99_ms and .p99_ms <= .max_ms and .max_ms < 1000'
	run_stream --echo --count=5 --interval-ms=5 --echo-bytes=65536 --flows=3
	judge "echo: large ones, 3 flows" 0 '.echoed == 15 and .flows == 3'
	run_stream --echo --count=1000 --interval-ms=100 --timeout=1
	judge "echo: --timeout tells what was measured" 1 '.echoed > 2 and .lost > 900 and .status == "timed_out"'
	stop_receive
}

strangers() {
	local before after _
	start_receive --out="$work/stranger"
	: | nc -N 127.0.0.1 "$port" >/dev/null
	printf '\211PTRAF\r\n' | nc -N 127.0.0.1 "$port" >/dev/null
	{ printf '\211PTRAF\r\n'; head -c 100000 /dev/zero; } | nc -N -w 3 127.0.0.1 "$port" >/dev/null 2>&1
	{ printf '\211PTRAF\r\n'; head -c 100000 /dev/urandom; } | nc -N -w 3 127.0.0.1 "$port" >/dev/null 2>&1
	last_flow '.flow == 4' >/dev/null
	code=0
	judge "hostile headers are refused, their half is raw data, nothing is data" 0 \
		'(map(.status) | .[0:4]) == ["ok", "ok", "bad_header", "bad_header"] and .[1].received.bytes == 8' \
		"$(jq -sc . "$work/receive.json")"
	hold 200
	run_stream --bytes=1M --flows=20 --direction=both
	judge "200 connections that say nothing disturb nobody" 0 '.total.failed == 0'
	release
	stop_receive

	# So few descriptors that accept(2) fails: who comes then is reset, nothing spins, and it goes on when there are some again.
	: >"$work/receive.log"
	(ulimit -n 40 && exec "$bin/receive" -c "$work/network.conf" --recv_port="$port" --json) \
		>"$work/receive.json" 2>"$work/receive.log" &
	receiver=$!
	for _ in $(seq 100); do
		grep -q 'event=ready' "$work/receive.log" && break
		sleep 0.05
	done
	hold 60
	before=$(cut -d' ' -f14,15 "/proc/$receiver/stat" | tr ' ' +)
	sleep 1
	after=$(cut -d' ' -f14,15 "/proc/$receiver/stat" | tr ' ' +)
	if grep -q event=accept_failed "$work/receive.log" && [ $((after - before)) -lt 20 ]; then
		ok "no descriptors left: it is told, and nothing spins"
	else
		not_ok "no descriptors left: it is told, and nothing spins" "$((after - before)) ticks of 100; $(cat "$work/receive.log")"
	fi
	release
	run_stream --bytes=1k --timeout=10
	judge "descriptors are back: it serves again" 0 '.total.failed == 0'
	stop_receive
}

usage() {
	local arguments
	port=1
	for arguments in "--echo --requests=3" "--raw --echo" "--raw --direction=both" "--requests=0" "--requests=x" \
		"--interval-ms=" "--echo-bytes=65537" "--parallel=99999" "--answer=1T" "--timeout=-1"; do
		# shellcheck disable=SC2086
		run_stream $arguments
		if [ "$code" = 2 ] && [ -s "$work/stream.log" ]; then
			ok "refused: $arguments"
		else
			not_ok "refused: $arguments" "exit code $code: $(cat "$work/stream.log")"
		fi
	done
	start_receive
	timeout 10 "$bin/receive" -c "$work/network.conf" --recv_port="$port" >/dev/null 2>"$work/second.log"
	code=$?
	if [ "$code" = 1 ] && grep -q event=listen_failed "$work/second.log"; then
		ok "a port in use: exit code 1"
	else
		not_ok "a port in use: exit code 1" "exit code $code: $(cat "$work/second.log")"
	fi
	json=$(timeout 10 "$bin/stream" -c "$work/network.conf" --dest_port="$port" --bytes=1k 2>"$work/stream.log")
	if [[ $json == *intact*total:* ]] && [ ! -s "$work/stream.log" ]; then
		ok "text: a line per flow and a total; no progress where there is no terminal"
	else
		not_ok "text: a line per flow and a total; no progress where there is no terminal" \
			"$json $(cat "$work/stream.log")"
	fi
	stop_receive
}

transfers
files
integrity
endings
small_flows
strangers
usage
[ "$failures" = 0 ]
