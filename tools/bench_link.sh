# bench_link: goodput over the emulated link, rows no_loss_up to cubic_16. Part of tools/bench.
# shellcheck shell=bash disable=SC2154,SC2034

link_mbit_s=100

# What a link with loss $1 (in %) can carry of a TCP connection's bytes, in Mbit/s.
link_limit() {
	awk -v rate="$link_mbit_s" -v loss="$1" 'BEGIN { printf "%.1f", rate * 1448 / 1514 * (1 - loss / 100) }'
}

# Runs of direct connection and pair in turn over a fresh lab, both with the same sequence of losses. Arguments: loss
# in %, up or down, configuration, connections of the direct measurement, and "fresh" if the stripes shall be as new in
# each run as these are. Sets the medians direct, pair, direct_steady, pair_steady, and samples (JSON).
link_runs() {
	local loss=$1 direction=$2 conf=$3 connections=$4 stripes=${5-} directs='' pairs='' directs_steady='' pairs_steady=''
	samples='[]' late=0 waited=0
	lab up --rate "${link_mbit_s}M" --delay 25ms --queue 625000 --loss "$loss%" >"$work/lab.log" ||
		pair_fail 'the lab did not come up:' "$work/lab.log"
	endpoints_use cubic
	pair_start "$conf"
	for ((run = 1; run <= runs; run++)); do
		progress "run $run of $runs, direct"
		lab link set "seed=$run" >/dev/null
		iperf_measure "$direction" "$seconds" -P "$connections"
		directs+="$mbit_s"$'\n' directs_steady+="$steady_mbit_s"$'\n'
		sample_add direct
		progress "run $run of $runs, the pair"
		if [ "$stripes" = fresh ]; then
			pair_stop
			pair_start "$conf"
		fi
		lab link set "seed=$run" >/dev/null
		pair_capture up
		iperf_measure "$direction" "$seconds"
		pair_capture down
		pairs+="$mbit_s"$'\n' pairs_steady+="$steady_mbit_s"$'\n'
		sample_add pair
	done
	[ "$(pair_stat rx flows_opened)" -gt 0 ] || pair_fail 'the pair carried nothing:' "$work"/*_proxy.log
	pair_stop
	lab down >/dev/null
	direct=$(median <<<"${directs%$'\n'}")
	pair=$(median <<<"${pairs%$'\n'}")
	direct_steady=$(median <<<"${directs_steady%$'\n'}")
	pair_steady=$(median <<<"${pairs_steady%$'\n'}")
}

# Adds what iperf_measure found to samples, and to the worst of the row.
sample_add() {
	samples=$(jq -c --arg way "$1" --argjson mbit_s "$mbit_s" --argjson steady "$steady_mbit_s" \
		--argjson late "$late_us" --argjson waited "$wait_share" --argjson cpu "$cpu_s" --argjson bytes "$received_bytes" \
		'. + [{way: $way, mbit_s: $mbit_s, after_2_s_mbit_s: $steady, bytes: $bytes, daemons_cpu_s: $cpu,
		       link_late_us: $late, daemons_waited_percent: $waited}]' <<<"$samples")
	late=$(awk -v a="$late" -v b="$late_us" 'BEGIN { print (a > b ? a : b) }')
	waited=$(awk -v a="$waited" -v b="$wait_share" 'BEGIN { print (a > b ? a : b) }')
}

after_start() { printf 'after the first 2 s direct %.1f, pair %.1f' "$direct_steady" "$pair_steady"; }
disturbance() { printf 'link at most %s us late, daemons waited %s %%' "$late" "$waited"; }

# A row that must reach share $4 of the limit. Arguments: title, loss in %, up or down, share, configuration.
link_row() {
	local limit must
	limit=$(link_limit "$2")
	must=$(awk -v limit="$limit" -v share="$4" 'BEGIN { printf "%.1f", limit * share }')
	link_runs "$2" "$3" "${5-$root/network.conf}" 1
	result "$1" 'Mbit/s' "$limit" "$must" "$direct" "$pair" ge \
		"$(after_start); $(disturbance)"
}

# A link that loses nothing is CUBIC's: BBR lets it run empty every ten seconds, to measure its RTT (PROBE_RTT).
row_no_loss() {
	conf_write cubic 's/congestion( *)= "bbr"/congestion\1= "cubic"/'
	link_row "no loss, $1, stripes on CUBIC" 0 "$1" 0.98 "$work/cubic.conf"
}
row_no_loss_up() { row_no_loss up; }
row_no_loss_down() { row_no_loss down; }
row_loss_1() { link_row '1 % loss, stripes on BBR' 1 up 0.96; }
row_loss_3() { link_row '3 % loss, stripes on BBR' 3 up 0.94; }

row_cubic_16() {
	conf_write cubic_16 's/stripes( *)= [0-9]+;/stripes\1= 16;/; s/congestion( *)= "bbr"/congestion\1= "cubic"/'
	link_runs 1 up "$work/cubic_16.conf" 16 fresh
	result '1 % loss, 16 stripes on CUBIC' 'Mbit/s' "$(link_limit 1)" "$direct" "$direct" "$pair" ge \
		"direct: 16 connections; stripes new in each run; $(after_start); $(disturbance)"
}
