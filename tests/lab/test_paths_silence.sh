#!/bin/bash
# A backup path; and all paths silent at once, for less and for more than the session timeout. About 40 s. time-limit: 150

. "$(dirname "${BASH_SOURCE[0]}")/pair_paths.sh"

table=pair_test
pings_bytes=2000

# carries_pings NAME K SECONDS: a case: within so many seconds the path carries no more than pings, in half a second.
carries_pings() {
	if wait_for "$3" is_quiet "$2"; then
		ok "$1"
	else
		not_ok "$1" "link $2 carried $up bytes up and $down down in half a second"
	fi
}

is_quiet() {
	path_carried "$1"
	[ "$up" -le "$pings_bytes" ] && [ "$down" -le "$pings_bytes" ]
}

test_backup() {
	load_forever
	paths_move "with a backup: the first path is used" 1 500000 5
	carries_pings "a backup path carries no data while another can" 2 3
	link 1 set blackhole=on >/dev/null
	paths_move "it takes over" 2 500000 4
	link 1 set blackhole=off >/dev/null
	paths_move "it hands back" 1 500000 8
	carries_pings "and carries no data again" 2 4
	link 1 set rate=2M >/dev/null
	paths_move "a slow path is no dead one" 1 50000 3
	carries_pings "the backup path is not for speed" 2 3
	link 1 set rate=20M >/dev/null
	load_is_right "with a backup: every byte was the right one"
}

silent_for() {
	link 1 set blackhole=on >/dev/null
	link 2 set blackhole=on >/dev/null
	sleep "$1"
	link 1 set blackhole=off >/dev/null
	link 2 set blackhole=off >/dev/null
}

test_short_silence() {
	transfer_begin --bytes=12M --timeout=60
	transfer_at 3000000 || return
	silent_for 2
	transfer_is_whole "all paths silent for 2 s: the flows go on" 15
	equal "and none was reset" "$(stat tx flows_reset) $(stat rx flows_reset)" "$1"
}

# The stripes alone: what goes straight through still passes.
cut_stripes() {
	on rx nft -f - <<-RULES
		table inet $table {
			chain in { type filter hook input priority 0; tcp dport 6000 drop; }
			chain out { type filter hook output priority 0; tcp sport 6000 drop; }
		}
	RULES
}

goes_direct() {
	local before
	before=$(stat tx flows_opened)
	on source "$bin/stream" -c "$conf" --bytes=100k --quiet --timeout=5 >"$dir/direct.log" 2>&1 &&
		[ "$(stat tx flows_opened)" = "$before" ]
}

goes_through() { captured on source "$bin/stream" -c "$conf" --bytes=100k --quiet --timeout=5 >"$dir/through.log" 2>&1; }

test_long_silence() {
	local begun_us
	transfer_begin --bytes=1G --timeout=60
	transfer_at 3000000 || return
	cut_stripes
	begun_us=${EPOCHREALTIME/./}
	check "all paths silent: new flows go straight through" "they do not" wait_for 4 goes_direct
	ended "$stream_pid" 15
	equal "longer than the session timeout: the client's connection is reset" "$(transfer_status)" reset
	equal "and the destination's" "$(transfer_status receive)" reset
	check "in time" "after $(((${EPOCHREALTIME/./} - begun_us) / 1000)) ms" \
		[ $((${EPOCHREALTIME/./} - begun_us)) -gt 3500000 -a $((${EPOCHREALTIME/./} - begun_us)) -lt 8000000 ]
	check "the session is given up at both ends" "$(tail -n 3 "$tx_log" "$rx_log")" \
		eval 'log_wait "$tx_log" event=session_lost 3 && log_wait "$rx_log" event=session_lost 3'
	on rx nft delete table inet $table
	check "the paths are back: new flows go through the pair" "they do not" wait_for 10 goes_through
}

pair_begin "silent paths"
paths_lab 2 --rate 20M --delay 12ms --queue 100000
pair_stripes=4
pair_limits='session_timeout_ms = 4000;'
path_more[2]='backup = true;'
paths_start
load_serve
test_backup
path_more=()
pair_stop
paths_start
test_short_silence "0 0"
test_long_silence
check "both daemons live" "one has gone" eval 'alive tx && alive rx'
pair_end
