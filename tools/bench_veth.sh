# bench_veth: one flow without an emulated link: what the daemons cost, plain and with keys. Rows veth and veth_psk. Part of tools/bench.
# shellcheck shell=bash disable=SC2154,SC2034

row_veth() { veth_run '' "$root/network.conf" 6.0 1.5; }

# What TLS costs beside that; the same cable, and no target of its own.
row_veth_psk() {
	local key=$work/key
	rm -f "$key"
	"$bin/tx_proxy" --make-key="$key" || pair_fail 'no key was made'
	conf_write veth_psk 's|security = \{ mode = "none"; \};|security = { mode = "psk"; identity = "tx1"; key_file = "'"$key"'"; };|
		s|security = \{ mode = "none"; accept_from.*|security = { mode = "psk"; keys = ( { identity = "tx1"; key_file = "'"$key"'"; } ); };|'
	veth_run ', TLS' "$work/veth_psk.conf" - -
}

# veth_run WORD CONFIGURATION GOAL_GBIT_S GOAL_S_PER_GB
veth_run() {
	local directs='' pairs='' costs='' ends=''
	samples='[]' late=0 waited=0
	lab up --plain >"$work/lab.log" || pair_fail 'the lab did not come up:' "$work/lab.log"
	endpoints_use cubic
	pair_start "$2"
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
	result "veth, one flow$1" 'Gbit/s' - "$3" "$(median <<<"${directs%$'\n'}")" "$(median <<<"${pairs%$'\n'}")" ge \
		"$(nproc) cores for all; a daemon waited $waited % for one"
	samples='[]'
	result "veth, CPU of both daemons$1" 's/GB' - "$4" - "$(median <<<"${costs%$'\n'}")" le \
		"user and system time; iperf3's two ends took $(median <<<"${ends%$'\n'}") besides"
}

per_gigabyte() { awk -v cpu="$1" -v bytes="$received_bytes" 'BEGIN { printf "%.3f", cpu / (bytes / 1e9) }'; }

giga() { awk -v mega="$1" 'BEGIN { print mega / 1000 }'; }
