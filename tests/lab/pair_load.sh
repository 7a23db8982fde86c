# pair_load: what runs beside a case, and what it costs: for tests of a running pair. Sources pair.sh.
# shellcheck shell=bash disable=SC2034,SC2154
#
# Transfer  transfer_begin [ARGUMENT…]: of stream, both ways at once; sets $stream_pid, $took_ms at its end.
#           transfer_at BYTES: waits until so many have moved since; fails, as a case, if it is over by then.
#           transfer_status: "ok" or how it ended; of receive's last flow with the argument `receive`.
#           transfer_is_whole NAME [SECONDS]: a case: it ended well, in time, and went through the pair.
# Load      load_begin: one transfer after the other.   load_end NAME: a case: each was whole, and some went through the pair.
# Measures  cpu_ticks PID: used so far.   rss_kib PID.
#           rests NAME TICKS SECONDS rx|tx…: a case: the daemons live, and each uses no more in that time (at a second
#           look, if need be).
#           lines FILE: but those that tests asked for.
#
# receive must run on dest:7000 (load_serve).

. "$(dirname "${BASH_SOURCE[0]}")/pair.sh"

stream_pid='' opened_before=0 moved_before=0 begun_us=0 load_pid=''

load_serve() { serve receive dest 7000 "$bin/receive" -c "$conf" --json --quiet; }

moved() { echo $(($(stat tx bytes_in) + $(stat tx bytes_out))); }
has_moved() { [ $(($(moved) - moved_before)) -ge "$1" ]; }
last_of() { tail -n 1 "$dir/$1.log" | cut -c 1-600; }

transfer_begin() {
	opened_before=$(stat tx flows_opened)
	moved_before=$(moved)
	: >"$dir/stream.log"
	start stream source "$bin/stream" -c "$conf" --json --quiet --timeout=90 --direction=both "$@"
	stream_pid=$started
	begun_us=${EPOCHREALTIME/./}
	wait_for 15 has_moved 1 || not_ok "a transfer begins" "$(last_of stream)"
}

transfer_at() {
	wait_for 30 has_moved "$1" && ! is_gone "$stream_pid" && return
	not_ok "in mid-transfer" "it is over: $(last_of stream)"
	return 1
}

transfer_status() {
	grep '^{' "$dir/${1:-stream}.log" | tail -n 1 | jq -r '(.flows[0].status)? // .status' 2>/dev/null
}

transfer_is_whole() {
	local status took_ms
	ended "$stream_pid" 90
	status=$?
	took_ms=$(((${EPOCHREALTIME/./} - begun_us) / 1000))
	if [ "$status" != 0 ] || [ "$(transfer_status)" != ok ]; then
		not_ok "$1" "status $status, $(transfer_status): $(last_of stream)"
	elif [ "$(stat tx flows_opened)" -le "$opened_before" ]; then
		not_ok "$1" "it did not go through the pair"
	elif [ "$took_ms" -gt $((${2:-60} * 1000)) ]; then
		not_ok "$1" "took $took_ms ms"
	else
		ok "$1"
	fi
}

load_begin() {
	opened_before=$(stat tx flows_opened)
	rm -f "$dir/load.end"
	: >"$dir/load.log"
	# shellcheck disable=SC2016
	start load source bash -c 'while [ ! -e "$1" ]; do
			"$2" -c "$3" --direction=both --bytes=3M --json --quiet --timeout=60
			echo "status=$?"
			sleep 0.2
		done' load "$dir/load.end" "$bin/stream" "$conf"
	load_pid=$started
}

load_end() {
	local count bad
	: >"$dir/load.end"
	ended "$load_pid" 90
	count=$(grep -c '^status=' "$dir/load.log")
	bad=$(grep '^status=' "$dir/load.log" | grep -vc '=0$')
	check "$1: the transfers beside it are whole" "$bad of $count failed: $(grep -B 1 -m 1 '^status=[^0]' "$dir/load.log" | cut -c 1-600)" \
		[ "$count" -gt 0 -a "$bad" = 0 ]
	check "$1: they went through the pair" "none did" [ "$(stat tx flows_opened)" -gt "$opened_before" ]
}

cpu_ticks() { awk '{ sub(".*\\) ", ""); print $12 + $13 }' "/proc/$1/stat"; }
rss_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }
lines() { grep -vc ' event=stats' "$1"; }

# Sets $busy: what the daemon of these that used most used in so many seconds, and $busiest, or fails: one has gone.
busy_measure() { # SECONDS DAEMON…
	local daemon pid before=() now
	for daemon in "${@:2}"; do
		alive "$daemon" || { busiest=$daemon; return 1; }
		pid=${daemon}_pid
		before+=("$(cpu_ticks "${!pid}")")
	done
	sleep "$1"
	busy=-1
	for daemon in "${@:2}"; do
		pid=${daemon}_pid
		now=$(cpu_ticks "${!pid}") || { busiest=$daemon; return 1; }
		[ $((now - before[0])) -le "$busy" ] || busy=$((now - before[0])) busiest=$daemon
		before=("${before[@]:1}")
	done
}

rests() {
	local busy busiest try
	for try in 1 2; do
		if ! busy_measure "$3" "${@:4}"; then
			not_ok "$1" "${busiest}_proxy has gone"
			return
		fi
		if [ "$busy" -le "$2" ]; then
			ok "$1"
			return
		fi
	done
	not_ok "$1" "${busiest}_proxy used $busy ticks in $3 s"
}
