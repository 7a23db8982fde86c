#!/bin/bash
# 10,000 short flows leave nothing behind in either daemon: no flow, no descriptor, no memory. Counted after a warm-up
# of 2,000, with what a connection may end in: an orderly end, a RST by either side, a refusal. About 25 s. time-limit: 240

# shellcheck source=tests/lab/pair.sh
. "$(dirname "${BASH_SOURCE[0]}")/pair.sh"

warm_up=2000 flows=10000 parallel=50
rss_most_kib=1024

rss_kib() {
	local pid=${1}_pid
	awk '/^VmRSS/ { print $2 }' "/proc/${!pid}/status"
}

descriptors() {
	local pid=${1}_pid
	find "/proc/${!pid}/fd" -mindepth 1 | wc -l
}

requests() {
	on source "${pin[@]}" "$bin/stream" -c "$conf" --requests="$1" --parallel=$parallel --answer=1000 --json --quiet --timeout=120 \
		>"$dir/requests" 2>>"$dir/stream.log"
}

# Connections that end in other ways, so many of each.
others() {
	# shellcheck disable=SC2016
	on source "${pin[@]}" bash -c 'for ((i = 0; i < $3; i++)); do
		"$1" connect "$2" 7113 send=10 read=1 rst
		"$1" connect "$2" 7114 send=10 end
		"$1" connect "$2" 7199
	done' bash "$tcp_probe" "$dest_ip" "$1" >>"$dir/others.log"
}

idle_again() { [ "$(stat tx flows) $(stat tx apps) $(stat rx flows) $(stat rx apps)" = '0 0 0 0' ]; }

# settle NAME: both daemons hold no flow any more.
settle() {
	check "$1: no flow is left in either daemon" "$(stat tx flows) and $(stat rx flows) flows are left" wait_for 30 idle_again
}

pair_begin "what short flows leave behind"
pair_lab --plain
pair_start
pair_pin
serve receive dest 7000 "$bin/receive" -c "$conf" --quiet
probe_serve 7113 read=10 send=1 end
probe_serve 7114 read=10 rst

requests $warm_up
others 20
settle "after $warm_up flows"
tx_files=$(descriptors tx) rx_files=$(descriptors rx) tx_kib=$(rss_kib tx) rx_kib=$(rss_kib rx)

captured requests $flows
equal "$flows requests are answered" "$(jq -c '[.answered, .failures]' "$dir/requests")" "[$flows,0]"
equal "$flows flows went through the pair" "$opened" $flows
settle "after $flows more"
equal "tx_proxy has the descriptors that it had" "$(descriptors tx)" "$tx_files"
equal "rx_proxy has the descriptors that it had" "$(descriptors rx)" "$rx_files"
captured others 200
equal "200 each ended by the client's RST, the destination's RST, a refusal" "$opened" 600
settle "after 600 broken ones"
equal "tx_proxy still has the descriptors that it had" "$(descriptors tx)" "$tx_files"
equal "rx_proxy still has the descriptors that it had" "$(descriptors rx)" "$rx_files"
printf '# resident memory: tx_proxy %s KiB after %s flows, %s KiB after %s more; rx_proxy %s KiB, %s KiB\n' \
	"$tx_kib" $warm_up "$(rss_kib tx)" $((flows + 600)) "$rx_kib" "$(rss_kib rx)"
check "tx_proxy's memory has not grown by $rss_most_kib KiB" "$(rss_kib tx) KiB, before $tx_kib" \
	test "$(rss_kib tx)" -le $((tx_kib + rss_most_kib))
check "rx_proxy's memory has not grown by $rss_most_kib KiB" "$(rss_kib rx) KiB, before $rx_kib" \
	test "$(rss_kib rx)" -le $((rx_kib + rss_most_kib))
equal "both have nothing promised to flows" "$(stat tx promised_bytes) $(stat rx promised_bytes)" "0 0"
pair_stop
pair_end
