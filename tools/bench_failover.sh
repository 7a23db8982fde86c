# bench_failover: how long a receiver waits when one of two paths goes silent, rows failover_bulk to failover_idle. Part of
# tools/bench.
# shellcheck shell=bash disable=SC2154,SC2034

read -r -a failover_rtts <<<"${BENCH_RTTS:-25 50 150}"
failover_runs=20
failover_flows=100
receive_pid=''

failover_conf() {
	cat >"$work/failover.conf" <<-'END'
		stream = { dest_ip = "192.168.3.22"; dest_port = 7000; };
		dest = { recv_port = 7000; };
		tx_proxy = {
			local_port = 5000; rx_proxy_port = 6000;
			capture = { interfaces = ( "eth0" ); sources = ( "192.168.2.11/32" ); };
			paths = ( { name = "link1"; local_ip = "10.77.1.1"; remote_ip = "10.77.1.2"; stripes = 8; congestion = "cubic"; },
			          { name = "link2"; local_ip = "10.77.2.1"; remote_ip = "10.77.2.2"; stripes = 8; congestion = "cubic"; } );
			security = { mode = "none"; };
		};
		rx_proxy = {
			recv_port = 6000; congestion = "cubic";
			security = { mode = "none"; accept_from = ( "10.77.0.0/16" ); };
		};
	END
}

# $1 ms of round trip on both links.
failover_begin() {
	lab up --links 2 --rate "${link_mbit_s}M" --delay "$(awk -v rtt="$1" 'BEGIN { print rtt / 2 "ms" }')" --queue 625000 \
		>"$work/lab.log" || pair_fail 'the lab did not come up:' "$work/lab.log"
	failover_conf
	pair_start "$work/failover.conf"
	pair_capture up
	: >"$work/receive.json"
	ip netns exec "$lab-dest" "$bin/receive" -c "$pair_conf" --json --quiet </dev/null >"$work/receive.json" 2>"$work/receive.log" &
	receive_pid=$!
	await_line "$work/receive.log" event=ready 5 "$receive_pid" || pair_fail 'receive did not start:' "$work/receive.log"
	failover_well || pair_fail 'the stripes did not come up:' "$work"/*_proxy.log
}

failover_end() {
	pair_capture down
	kill "$receive_pid"
	wait "$receive_pid" || true
	pair_stop
	lab down >/dev/null
}

# The number of stripes of daemon $1 that are up and not stale.
stripes_well() {
	pair_stat "$1" flows >/dev/null
	# The stripes' lines follow.
	sleep 0.02
	tac "$work/$1_proxy.log" | sed '/event=stats /q' | grep -c 'event=stats_stripe .*state=up' || true
}

# Until both daemons can use all stripes.
failover_well() {
	local try
	for ((try = 0; try < 75; try++)); do
		[ "$(stripes_well tx)" = 16 ] && [ "$(stripes_well rx)" = 16 ] && return
		sleep 0.2
	done
	return 1
}

# Link $1 (0: none) is silent from now on, or not: $2.
failover_silence() { [ "$1" = 0 ] || lab link "$1" set "blackhole=$2" >/dev/null; }

# One run: link $2 (0: none, to compare) goes silent $3 s after the start of `stream` (less than nothing: so long before)
# with the arguments after those, $1 is its direction. Sets gap_ms: the longest that any receiver waited from then on
# between two reads that gave bytes; when the link was silent from the start, also for its connection and the first of
# them.
failover_once() {
	local direction=$1 victim=$2 fault_s=$3 known stream_pid status=0 lock=''
	if [ -n "$lock_file" ]; then
		exec {lock}>>"$lock_file"
		flock -x "$lock"
	fi
	shift 3
	known=$(wc -l <"$work/receive.json")
	if [[ $fault_s == -* ]]; then
		failover_silence "$victim" on
		sleep "${fault_s#-}"
	fi
	ip netns exec "$lab-source" "$bin/stream" -c "$pair_conf" --json --quiet --timeout=30 --direction="$direction" "$@" \
		>"$work/stream.json" 2>"$work/stream.log" &
	stream_pid=$!
	if [[ $fault_s != -* ]]; then
		sleep "$fault_s"
		kill -USR1 "$receive_pid" "$stream_pid"
		# Who has received everything by then waits no more.
		sleep 0.02
		known=$(wc -l <"$work/receive.json")
		failover_silence "$victim" on
	fi
	wait "$stream_pid" || status=$?
	failover_silence "$victim" off
	[ -z "$lock" ] || exec {lock}>&-
	[ "$status" = 0 ] || pair_fail "a transfer failed: $(jq -c .total "$work/stream.json")" "$work"/*_proxy.log
	tail -n +$((known + 1)) "$work/receive.json" | jq -s '[.[] | .receive = .received]' >"$work/served.json"
	gap_ms=$(jq -s --arg direction "$direction" --argjson start "$([[ $fault_s == -* ]] && echo true || echo false)" '
		(.[0].flows | map(.connect_ms) | max) as $connect | (if $direction == "send" then .[1] else .[0].flows end) as $flows |
		[$flows[].receive | .longest_gap_ms, if $start then .first_byte_ms, $connect else empty end] | max' \
		"$work/stream.json" "$work/served.json")
}

# A line of the table for each RTT. Arguments: title, seconds of failover_once (several: in turn), arguments of stream.
failover_row() {
	local title=$1 times direction victim gaps well_gaps rtt must summary
	read -r -a times <<<"$2"
	shift 2
	for rtt in "${failover_rtts[@]}"; do
		samples='[]' gaps='' well_gaps=''
		failover_begin "$rtt"
		# New stripes overrun the links' queues until they know the rate.
		for direction in send receive; do
			on_host source timeout 30 "$bin/stream" -c "$pair_conf" --quiet --direction="$direction" --bytes=60M \
				>"$work/stream.log" 2>&1 || pair_fail 'the first transfer failed:' "$work/stream.log"
		done
		for direction in send receive; do
			progress "$rtt ms, no fault"
			failover_once "$direction" 0 "${times[0]}" "$@"
			well_gaps+="${well_gaps:+, }$(printf %.0f "$gap_ms")"
		done
		for ((run = 1; run <= failover_runs; run++)); do
			progress "$rtt ms, run $run of $failover_runs"
			direction=send
			[ $((run % 2)) = 1 ] || direction=receive
			victim=$(((run + 1) / 2 % 2 + 1))
			failover_once "$direction" "$victim" "${times[run % ${#times[@]}]}" "$@"
			gaps+="$gap_ms"$'\n'
			samples=$(jq -c --arg direction "$direction" --argjson link "$victim" --argjson gap "$gap_ms" \
				'. + [{direction: $direction, silent_link: $link, longest_gap_ms: $gap}]' <<<"$samples")
			failover_well || pair_fail 'a path did not come back:' "$work"/*_proxy.log
		done
		failover_end
		must=$((rtt * 3 > 300 ? rtt * 3 : 300))
		summary=$(jq -r --argjson must "$must" '
			def of(d): [.[] | select(.direction == d).longest_gap_ms] | sort |
				if . == [] then "-" else "\(.[0] | round) / \(.[length / 2 | floor] | round) / \(.[-1] | round)" end;
			"min/median/max: sent \(of("send")), fetched \(of("receive")); \(map(select(.longest_gap_ms <= $must)) | length) of \(length)"
			' <<<"$samples")
		summary+="; without a fault $well_gaps"
		result "$title, RTT $rtt ms" ms - "$must" - "$(sort -g <<<"${gaps%$'\n'}" | tail -n 1)" le "$summary"
	done
}

row_failover_bulk() { failover_row 'silent path, one flow' '1.37 1.61' --duration_s=3; }
row_failover_100() { failover_row "silent path, $failover_flows flows" '2.27 2.93' --bytes=1M --flows="$failover_flows"; }
row_failover_idle() { failover_row 'silent path, idle session' '-0.1 -1.3 -3.1' --bytes=4M; }
