# bench_measure: one measurement over a lab that is up, with what tells whether it was disturbed. Part of tools/bench.
# shellcheck shell=bash disable=SC2154,SC2034

clock_ticks=$(getconf CLK_TCK)

median() {
	sort -g | awk '{ v[NR] = $1 } END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# User and system time of the processes $@, in seconds.
cpu_seconds() {
	local pid
	for pid in "$@"; do
		sed 's/.*) //' "/proc/$pid/stat"
	done | awk -v tick="$clock_ticks" '{ sum += $12 + $13 } END { printf "%.2f", sum / tick }'
}

# Milliseconds that the processes $@ were ready to run and no processor was free, of the one that waited most.
cpu_wait_ms() {
	local pid
	for pid in "$@"; do
		cat "/proc/$pid/schedstat" 2>/dev/null || echo 0 0 0
	done | awk '$2 > most { most = $2 } END { printf "%.0f", most / 1e6 }'
}

# Frames carried by each link and the sum of their lateness, as "frames us frames us" for both ways; empty on a cable.
lateness_counters() {
	local k show
	for ((k = 1; k <= 16; k++)); do
		show=$(lab link "$k" show 2>/dev/null) || break
		jq -j '.ab, .ba | "\(.frames_delivered) \(.frames_delivered * .late_mean_us) "' <<<"$show"
	done
}

# Mean lateness in us between two of those, of the direction in which it is greater; 0 on a cable.
lateness_us() {
	awk -v before="$1" -v after="$2" 'BEGIN {
		split(before, b); counters = split(after, a)
		for (i = 1; i < counters; i += 2)
			if (a[i] > b[i] && (a[i + 1] - b[i + 1]) / (a[i] - b[i]) > most)
				most = (a[i + 1] - b[i + 1]) / (a[i] - b[i])
		printf "%.0f", most
	}'
}

# What the receiver of iperf3's JSON $1 got: Mbit/s of the whole run, Mbit/s after the first two seconds, bytes.
received() {
	jq -r '
		([.intervals[].sum | select(.start >= 2 and .seconds > 0.5)]) as $late |
		[.end.sum_received.bits_per_second / 1e6,
		 (if $late == [] then 0 else ([$late[].bytes] | add) * 8 / ([$late[].seconds] | add) / 1e6 end),
		 .end.sum_received.bytes] | map(tostring) | join(" ")' "$1"
}

# Where iperf3 runs from now on: client's host, server's host, the server's address (without it that of its eth0), and what
# is before iperf3 in both commands. Without arguments: between the two ends of the lab.
iperf_between() {
	iperf_client=${1:-source} iperf_server=${2:-dest} iperf_address=${3-}
	iperf_with=("${@:4}")
}
iperf_between

host_address() { ip -n "$lab-$1" -4 -o addr show dev eth0 | awk '{ sub("/.*", "", $4); print $4 }'; }

# One run of iperf3 for $2 seconds, $1 (up or down), with the options after those. Sets mbit_s, steady_mbit_s,
# received_bytes, late_us, wait_share (of tx_proxy or rx_proxy, where they run, in %), cpu_s (of both) and ends_cpu_s
# (of iperf3 at both ends).
iperf_once() {
	local direction=$1 run_s=$2 server server_log=$work/iperf_server.json client_log=$work/iperf_client.json try
	local late_before cpu_before wait_before options=() pids=() late_after log lock=''
	shift 2
	if [ -n "$lock_file" ]; then
		exec {lock}>>"$lock_file"
		flock -x "$lock"
	fi
	[ "$direction" = up ] || options+=(-R)
	[ -z "$tx_pid" ] || pids=("$tx_pid" "$rx_pid")
	: >"$server_log"
	: >"$client_log"
	ip netns exec "$lab-$iperf_server" "${iperf_with[@]}" iperf3 -s -1 -J </dev/null >"$server_log" 2>&1 &
	server=$!
	for ((try = 0; try < 100; try++)); do
		[ -z "$(on_host "$iperf_server" ss -Hltn 'sport = :5201')" ] || break
		sleep 0.02
	done
	late_before=$(lateness_counters)
	cpu_before=$(cpu_seconds "${pids[@]}")
	wait_before=$(cpu_wait_ms "${pids[@]}")
	ip netns exec "$lab-$iperf_client" timeout $((run_s + 30)) "${iperf_with[@]}" iperf3 \
		-c "${iperf_address:-$(host_address "$iperf_server")}" -t "$run_s" \
		-J "${options[@]}" "$@" </dev/null >"$client_log" 2>&1 &
	sleep "$((run_s / 2))"
	look_inside "${pids[@]}"
	if ! wait $!; then
		kill "$server" 2>/dev/null || true
		pair_fail "iperf3 failed: $(jq -r .error "$client_log" 2>/dev/null)" "$work"/*_proxy.log
	fi
	cpu_s=$(awk -v b="$cpu_before" -v a="$(cpu_seconds "${pids[@]}")" 'BEGIN { printf "%.2f", a - b }')
	wait_share=$(awk -v b="$wait_before" -v a="$(cpu_wait_ms "${pids[@]}")" -v s="$run_s" \
		'BEGIN { printf "%.1f", (a - b) / s / 10 }')
	late_after=$(lateness_counters)
	late_us=$(lateness_us "$late_before" "$late_after")
	wait "$server" || true
	[ -z "$lock" ] || exec {lock}>&-
	ends_cpu_s=$(jq -r ".end.cpu_utilization_percent | (.host_total + .remote_total) / 100 * $run_s" "$client_log")
	log=$client_log
	[ "$direction" = down ] || log=$server_log
	read -r mbit_s steady_mbit_s received_bytes < <(received "$log")
}

# For those who tune: in $keep, what the stripes look like in the middle of a run, and the daemons' logs until then.
look_inside() {
	local name=$row_name.$run${keep_part:+.$keep_part}
	[ -n "$keep" ] && [ $# -gt 0 ] || return 0
	kill -USR1 "$@"
	{
		on_host tx ss -tinm
		on_host rx ss -tinm
	} >"$keep/$name.ss"
	sleep 0.2
	cp -- "$work/tx_proxy.log" "$keep/$name.tx.log"
	cp -- "$work/rx_proxy.log" "$keep/$name.rx.log"
}

# As iperf_once, but measured again, $repeats times at most, where the link's process or the daemons did not get their time.
iperf_measure() {
	local try
	for ((try = 0; try <= repeats; try++)); do
		iperf_once "$@"
		awk -v late="$late_us" -v wait="$wait_share" -v late_max="$late_max_us" -v wait_max="$wait_max_share" \
			'BEGIN { exit !(late <= late_max && wait <= wait_max) }' && return
		note "disturbed: frames $late_us us late, daemons waited $wait_share % for a processor"
	done
}
