#!/bin/bash
# A pair that has nothing to do does nothing: no CPU while idle, with idle flows, with flows that nobody reads, with the
# link cut, with the far end gone. In ticks of 10 ms, of each daemon. About 40 s. time-limit: 240
. "$(dirname "$0")/pair_load.sh"

seconds=5
idle_ticks=2    # no measurable CPU
stalled_ticks=5 # 1 %
jobs=()

both_rest() { rests "$1: both rest" "$2" $seconds rx tx; } # NAME TICKS

job() { # NAME PORT OPERATION…
	start "$1" source "$tcp_probe" connect "$dest_ip" "${@:2}"
	jobs+=("$started")
}

jobs_end() {
	stop "${jobs[@]}"
	jobs=()
	wait_for 15 no_flows || not_ok "the flows end" "$(stat tx flows) left at tx_proxy, $(stat rx flows) at rx_proxy"
}

no_flows() { [ "$(stat tx flows)$(stat rx flows)" = 00 ]; }
flows_are() { [ "$(stat tx flows)" = "$1" ]; }

# Nothing moved for a moment: all windows and buffers are full.
is_stuck() {
	local before
	before=$(moved)
	sleep 0.7
	[ "$before" -gt 0 ] && [ "$(moved)" = "$before" ]
}

test_idle_flows() {
	local i
	for ((i = 0; i < 50; i++)); do
		job idle$i 7101 limit=300 read=1
	done
	wait_for 15 flows_are 50 || not_ok "50 flows are open" "$(stat tx flows)"
	both_rest "50 idle flows" $idle_ticks
	jobs_end
}

# Four that send what nobody reads, each way.
test_stalled_flows() {
	local i
	probe_serve 7102 limit=300 sleep=200000
	jobs+=("$started")
	for i in 1 2; do
		job up$i 7102 limit=300 send=200000000
		job down$i 7103 limit=300 sleep=200000
	done
	wait_for 15 flows_are 4
	check "flows that nobody reads come to a stop" "they do not" wait_for 60 is_stuck
	both_rest "flows that nobody reads" $stalled_ticks
	jobs_end
}

test_cut_link() {
	transfer_begin --bytes=12M
	transfer_at 2000000
	link set blackhole=on >/dev/null
	wait_for 10 is_stuck
	both_rest "a link that is cut, with a flow under way" $stalled_ticks
	link set blackhole=off >/dev/null
	transfer_is_whole "it goes on when the link is back"
}

test_far_end_gone() {
	rx_stop KILL
	log_wait "$tx_log" 'event=session_down' 15
	rests "rx_proxy has gone: tx_proxy rests" $stalled_ticks $seconds tx
	rx_start
	check "rx_proxy is back: so are the stripes" "$(stat tx stripes_up)" wait_for 20 all_stripes_up "$pair_stripes"
}

pair_begin "CPU of an idle pair"
pair_lab --rate 100M --delay 10ms
pair_limits='flow_window_bytes = "1M";'
pair_start
load_serve
probe_serve 7101 limit=300 read=1
probe_serve 7103 limit=300 send=200000000
both_rest "an idle pair" $idle_ticks
test_idle_flows
test_stalled_flows
test_cut_link
test_far_end_gone
tx_stop
sleep 0.2
rests "an rx_proxy without a tx_proxy rests" $idle_ticks $seconds rx
pair_end
