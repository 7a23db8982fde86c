# bench_memory: what flows cost, and the bound of a session. Rows idle_flow and memory_bound. Part of tools/bench.
# shellcheck shell=bash disable=SC2154,SC2034

idle_flows=2000
slow_flows=64
fast_flows=4

# Line $2 (VmRSS or VmHWM) of process $1 in KiB.
memory_kib() { awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/status"; }

receive_start() {
	: >"$work/receive.$1.log"
	ip netns exec "$lab-dest" "$bin/receive" -c "$root/network.conf" --quiet "--recv_port=$1" </dev/null \
		>"$work/receive.$1.log" 2>&1 &
	receive_pid=$!
	await_line "$work/receive.$1.log" event=ready 5 "$receive_pid" ||
		pair_fail 'receive did not start:' "$work/receive.$1.log"
}

# Flows that have echoed one byte and then say nothing. Those that the session did not take went directly.
row_idle_flow() {
	local tx_before rx_before opened=0 deadline client tx_each rx_each remark
	samples='[]'
	lab up --plain >"$work/lab.log" || pair_fail 'the lab did not come up:' "$work/lab.log"
	pair_start "$root/network.conf"
	pair_capture up
	receive_start 7000
	tx_before=$(memory_kib "$tx_pid" VmRSS) rx_before=$(memory_kib "$rx_pid" VmRSS)
	progress "$idle_flows flows open"
	ip netns exec "$lab-source" "$bin/stream" -c "$root/network.conf" --quiet --echo --flows=$idle_flows --count=2 \
		--interval-ms=120000 </dev/null >"$work/stream.log" 2>&1 &
	client=$!
	deadline=$((SECONDS + 30))
	until [ "$(on_host dest ss -Htn state established 'sport = :7000' | wc -l)" -ge "$idle_flows" ]; do
		[ "$SECONDS" -lt "$deadline" ] && [ -d "/proc/$client" ] ||
			pair_fail "$idle_flows idle flows did not open:" "$work/stream.log" "$work/tx_proxy.log"
		sleep 0.5
	done
	sleep 5
	opened=$(pair_stat rx flows)
	[ "${opened:-0}" -gt 0 ] || pair_fail 'no flow went through the pair:' "$work/tx_proxy.log"
	tx_each=$(per_flow "$opened" "$tx_before" "$(memory_kib "$tx_pid" VmRSS)")
	rx_each=$(per_flow "$opened" "$rx_before" "$(memory_kib "$rx_pid" VmRSS)")
	kill "$client" "$receive_pid"
	pair_stop
	lab down >/dev/null
	remark="growth of VmRSS over $opened flows"
	[ "$opened" = "$idle_flows" ] || remark+="; $((idle_flows - opened)) more were not taken and went directly"
	result 'idle flow, tx_proxy' KiB - 16 - "$tx_each" le "$remark"
	result 'idle flow, rx_proxy' KiB - 16 - "$rx_each" le "$remark"
}

# Flows, KiB before and after.
per_flow() { awk -v flows="$1" -v before="$2" -v after="$3" 'BEGIN { printf "%.2f", (after - before) / flows }'; }

# A session with 64 MiB: many flows both ways whose ends read only now and then, and a few at full speed beside them.
row_memory_bound() {
	local tx_before rx_before tx_most rx_most slow_pid slow_client fast_client cycle fast
	samples='[]'
	conf_write memory_bound 's/memory_bytes( *)= "[^"]*"/memory_bytes\1= "64M"/'
	lab up --rate 400M --delay 10ms --loss 1% >"$work/lab.log" || pair_fail 'the lab did not come up:' "$work/lab.log"
	pair_start "$work/memory_bound.conf"
	pair_capture up
	receive_start 7001
	slow_pid=$receive_pid
	receive_start 7000
	tx_before=$(memory_kib "$tx_pid" VmRSS) rx_before=$(memory_kib "$rx_pid" VmRSS)
	ip netns exec "$lab-source" "$bin/stream" -c "$root/network.conf" --quiet --flows=$slow_flows --dest_port=7001 \
		--direction=both --bytes=1G --verify=false </dev/null >"$work/slow.log" 2>&1 &
	slow_client=$!
	sleep 1
	kill -STOP "$slow_pid" "$slow_client"
	ip netns exec "$lab-source" "$bin/stream" -c "$root/network.conf" --quiet --json --flows=$fast_flows \
		--direction=both --duration_s="$memory_seconds" --verify=false --timeout=$((memory_seconds + 60)) </dev/null \
		>"$work/fast.json" 2>"$work/fast.err" &
	fast_client=$!
	for ((cycle = 1; cycle <= memory_seconds / 4; cycle++)); do
		progress "cycle $cycle of slow readers, tx_proxy +$(($(memory_kib "$tx_pid" VmRSS) - tx_before)) KiB"
		sleep 3
		kill -CONT "$slow_pid" "$slow_client"
		sleep 0.3
		kill -STOP "$slow_pid" "$slow_client"
	done
	wait "$fast_client" || pair_fail 'the fast flows failed:' "$work/fast.err" "$work/fast.json"
	tx_most=$(mebi $(($(memory_kib "$tx_pid" VmHWM) - tx_before)))
	rx_most=$(mebi $(($(memory_kib "$rx_pid" VmHWM) - rx_before)))
	fast=$(jq -r '"\(.total.send.mbit_s | round) Mbit/s up, \(.total.receive.mbit_s | round) down"' "$work/fast.json")
	kill -KILL "$slow_pid" "$slow_client"
	pair_stop
	lab down >/dev/null
	result '64 MiB session, tx_proxy' MiB - 64 - "$tx_most" le \
		"growth of VmHWM; $slow_flows slow flows, $fast_flows fast: $fast"
	result '64 MiB session, rx_proxy' MiB - 64 - "$rx_most" le "growth of VmHWM"
}

mebi() { awk -v kib="$1" 'BEGIN { printf "%.1f", kib / 1024 }'; }
