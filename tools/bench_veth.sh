# bench_veth: one flow without an emulated link: what the daemons cost. Rows veth and veth_cpu. Part of tools/bench.
# shellcheck shell=bash disable=SC2154,SC2034

row_veth() {
	local directs='' pairs='' costs='' ends=''
	samples='[]' late=0 waited=0
	lab up --plain >"$work/lab.log" || pair_fail 'the lab did not come up:' "$work/lab.log"
	endpoints_use cubic
	pair_start "$root/network.conf"
	for ((run = 1; run <= runs; run++)); do
		progress "run $run of $runs, direct"
		iperf_once up "$veth_seconds"
		directs+="$(giga "$mbit_s")"$'\n'
		sample_add direct
		progress "run $run of $runs, the pair"
		pair_capture up
		iperf_once up "$veth_seconds"
		pair_capture down
		pairs+="$(giga "$mbit_s")"$'\n'
		costs+="$(per_gigabyte "$cpu_s")"$'\n'
		ends+="$(per_gigabyte "$ends_cpu_s")"$'\n'
		sample_add pair
	done
	pair_stop
	lab down >/dev/null
	result 'veth, one flow' 'Gbit/s' - 6.0 "$(median <<<"${directs%$'\n'}")" "$(median <<<"${pairs%$'\n'}")" ge \
		"$(nproc) cores for all; a daemon waited $waited % for one"
	samples='[]'
	result 'veth, CPU of both daemons' 's/GB' - 1.5 - "$(median <<<"${costs%$'\n'}")" le \
		"user and system time; iperf3's two ends took $(median <<<"${ends%$'\n'}") besides"
}

per_gigabyte() { awk -v cpu="$1" -v bytes="$received_bytes" 'BEGIN { printf "%.3f", cpu / (bytes / 1e9) }'; }

giga() { awk -v mega="$1" 'BEGIN { print mega / 1000 }'; }
