# bench_small: how long small flows take on a link that loses, alone and beside a download through the pair. Rows
# small_confirm to small_bulk_early. Part of tools/bench.
# shellcheck shell=bash disable=SC2154,SC2034

small_requests=200
small_parallel=8
# Answer in bytes, loss in %, ms that the p99 may take with capture.open = "confirm" and "early".
small_cases=('1000 1 160 110' '1000 3 170 120' '30000 3 200 150' '300000 3 320 270')
small_bulk_factor=1.5 # what a download at the same time may make of these
small_bulk_share=0.85 # and what it keeps of what the link has beside the small flows

row_small_confirm() { small_row confirm; }
row_small_early() { small_row early; }
row_small_bulk_confirm() { small_row confirm bulk; }
row_small_bulk_early() { small_row early bulk; }

# Connect, ask, get an answer of $1 bytes, close, many times over. Sets p50_ms, p99_ms, small_mbit_s (payload of all
# answers over the whole time), and late_us and wait_share as iperf_once does.
small_once() {
	local late_before wait_before pids=() log=$work/requests.json began
	[ -z "$tx_pid" ] || pids=("$tx_pid" "$rx_pid")
	late_before=$(lateness_counters)
	wait_before=$(cpu_wait_ms "${pids[@]}")
	began=$EPOCHREALTIME
	on_host source "${pin[@]}" "$bin/stream" -c "$root/network.conf" --quiet --json --timeout=120 --requests=$small_requests \
		--parallel=$small_parallel --answer="$1" </dev/null >"$log" 2>"$work/requests.err" ||
		pair_fail 'requests failed:' "$work/requests.err" "$log" "$work"/*_proxy.log
	wait_share=$(awk -v b="$wait_before" -v a="$(cpu_wait_ms "${pids[@]}")" -v from="$began" -v to="$EPOCHREALTIME" \
		'BEGIN { printf "%.1f", (a - b) / (to - from) / 10 }')
	late_us=$(lateness_us "$late_before" "$(lateness_counters)")
	read -r p50_ms p99_ms small_mbit_s < <(
		jq -r '[.p50_ms, .p99_ms, .answered * .answer_bytes * 8 / .completion_ms / 1000] | map(tostring) | join(" ")' "$log")
}

# As small_once, but measured again, twice at most, where the link's process or the daemons did not get their time.
small_measure() {
	local try
	for ((try = 0; try < 3; try++)); do
		small_once "$1"
		awk -v late="$late_us" -v wait="$wait_share" -v late_max="$late_max_us" -v wait_max="$wait_max_share" \
			'BEGIN { exit !(late <= late_max && wait <= wait_max) }' && return
		note "disturbed: frames $late_us us late, daemons waited $wait_share % for a processor"
	done
}

# For those who share the machine: holds the lock of --lock, unless it is held already.
small_lock() {
	[ -n "$lock_file" ] && [ -z "${small_locked-}" ] || return 0
	exec {small_locked}>>"$lock_file"
	flock -x "$small_locked"
}

small_unlock() {
	[ -n "${small_locked-}" ] && [ -z "${small_bulk_pids-}" ] || return 0
	exec {small_locked}>&-
	small_locked=''
}

# Runs of it, each over another sequence of losses: answer in bytes, loss in %, "direct" or "pair". Sets the medians
# small_p50 and small_p99 and the worst late and waited; adds to samples.
small_runs() {
	local p50s='' p99s='' mbits='' from to bulk_mbit_s bulks=''
	for ((run = 1; run <= runs; run++)); do
		progress "$1 bytes, $2 % loss, $3, run $run of $runs"
		small_lock
		lab link set "seed=$run" >/dev/null
		from="$(small_bulk_bytes) $EPOCHREALTIME"
		small_measure "$1"
		to="$(small_bulk_bytes) $EPOCHREALTIME"
		small_unlock
		bulk_mbit_s=$(awk -v from="$from" -v to="$to" \
			'BEGIN { split(from, f); split(to, t); printf "%.1f", (t[1] - f[1]) * 8 / (t[2] - f[2]) / 1e6 }')
		p50s+="$p50_ms"$'\n' p99s+="$p99_ms"$'\n' mbits+="$small_mbit_s"$'\n' bulks+="$bulk_mbit_s"$'\n'
		samples=$(jq -c --arg way "$3" --argjson answer "$1" --argjson loss "$2" --argjson p50 "$p50_ms" \
			--argjson p99 "$p99_ms" --argjson mbit_s "$small_mbit_s" --argjson bulk "$bulk_mbit_s" \
			--argjson late "$late_us" --argjson waited "$wait_share" \
			'. + [{way: $way, answer_bytes: $answer, loss_percent: $loss, p50_ms: $p50, p99_ms: $p99,
			       small_mbit_s: $mbit_s, bulk_mbit_s: $bulk, link_late_us: $late, daemons_waited_percent: $waited}]' \
			<<<"$samples")
		late=$(awk -v a="$late" -v b="$late_us" 'BEGIN { print (a > b ? a : b) }')
		waited=$(awk -v a="$waited" -v b="$wait_share" 'BEGIN { print (a > b ? a : b) }')
	done
	small_p50=$(median <<<"${p50s%$'\n'}")
	small_p99=$(median <<<"${p99s%$'\n'}")
	small_mbit=$(median <<<"${mbits%$'\n'}")
	small_bulk=$(median <<<"${bulks%$'\n'}")
}

# A download that goes on until small_bulk_stop; 3 s for it to find its rate.
small_bulk_start() {
	ip netns exec "$lab-dest" iperf3 -s -1 </dev/null >"$work/bulk_server.log" 2>&1 &
	small_bulk_pids=$!
	sleep 0.2
	ip netns exec "$lab-source" iperf3 -c 192.168.2.22 -R -t 600 </dev/null >"$work/bulk_client.log" 2>&1 &
	small_bulk_pids+=" $!"
	sleep 3
	[ "$(small_bulk_bytes)" -gt 100000 ] || pair_fail 'the download does not run:' "$work"/bulk_*.log
}

small_bulk_stop() {
	local pid
	for pid in $small_bulk_pids; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	small_bulk_pids=''
}

# What the source has got of it; 0 without one.
small_bulk_bytes() {
	on_host source ss -Htin 'dport = :5201' | awk '{ for (i = 1; i <= NF; i++)
		if (split($i, part, ":") == 2 && part[1] == "bytes_received" && part[2] > most) most = part[2] }
		END { printf "%d", most }'
}

# Arguments: the pair's capture.open, and "bulk" for a download beside.
small_row() {
	local open=$1 bulk=${2-} conf=$root/network.conf case answer loss confirm early must
	if [ "$open" = early ]; then
		conf=$work/small_early.conf
		conf_write small_early 's/open( *)= "confirm"/open\1= "early"/'
	fi
	lab up --rate "${link_mbit_s}M" --delay 25ms --queue 625000 >"$work/lab.log" ||
		pair_fail 'the lab did not come up:' "$work/lab.log"
	receive_start 7000
	endpoints_use cubic
	pair_start "$conf"
	pin_with "$tx_pid"
	for case in "${small_cases[@]}"; do
		read -r answer loss confirm early <<<"$case"
		must=${!open} samples='[]'
		lab link set "loss=$loss%" >/dev/null
		if [ -n "$bulk" ]; then
			must=$(awk -v must="$must" -v factor="$small_bulk_factor" 'BEGIN { print must * factor }')
			small_case_bulk "$answer" "$loss" "$open" "$must"
		else
			small_case_alone "$answer" "$loss" "$open" "$must"
		fi
	done
	[ "$(pair_stat rx flows_opened)" -gt 0 ] || pair_fail 'the pair carried nothing:' "$work"/*_proxy.log
	pair_stop
	kill "$receive_pid"
	lab down >/dev/null
}

# Answer in bytes, loss in %, capture.open, ms. Direct as information, with the programs' hosts on CUBIC and on BBR.
small_case_alone() {
	local late=0 waited=0 direct=- cc remark=''
	for cc in bbr cubic; do
		[ -z "$pair_only" ] || break
		endpoints_use "$cc"
		small_runs "$1" "$2" direct
		remark+="; direct on $endpoints p50 $(figure "$small_p50"), p99 $(figure "$small_p99")"
		direct=$small_p99
	done
	endpoints_use cubic
	pair_capture up
	small_runs "$1" "$2" pair
	pair_capture down
	result "$(($1 / 1000)) kB, $2 % loss, $3" ms - "$4" "$direct" "$small_p99" le \
		"pair p50 $(figure "$small_p50")$remark; $(disturbance)"
}

# The same beside a download, which has a line of its own.
small_case_bulk() {
	local late=0 waited=0 limit left
	pair_capture up
	small_lock
	small_bulk_start
	small_runs "$1" "$2" pair
	small_bulk_stop
	small_unlock
	pair_capture down
	result "$(($1 / 1000)) kB, $2 % loss, $3, bulk" ms - "$4" - "$small_p99" le "pair p50 $(figure "$small_p50"); $(disturbance)"
	limit=$(link_limit "$2")
	left=$(awk -v limit="$limit" -v small="$small_mbit" 'BEGIN { printf "%.1f", limit - small }')
	result "the download beside them" 'Mbit/s' "$left" \
		"$(awk -v left="$left" -v share="$small_bulk_share" 'BEGIN { printf "%.1f", left * share }')" - "$small_bulk" ge \
		"limit: $limit of the link less $(figure "$small_mbit") of the small flows' answers"
}
