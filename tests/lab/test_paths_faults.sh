#!/bin/bash
# One of two paths fails, in every way that paths fail, under a verified flow each way: the flows go on over the other path,
# and use both again soon after the path is well. About 50 s. time-limit: 180

. "$(dirname "${BASH_SOURCE[0]}")/pair_paths.sh"

# In half a second, each way; the link can carry more than twice as much.
enough_bytes=500000

goes_on() { paths_move "$1: the flows go on over the other path" 1 "$enough_bytes" 3; }
comes_back() { paths_move "$1: both paths are used again" 2 "$((enough_bytes / 2))" 8; }

link_fault() { # NAME FIGURE…
	link 2 set "${@:2}" >/dev/null
	sleep 0.5
	goes_on "$1"
	link 2 set rate=20M loss=0 blackhole=off >/dev/null
	comes_back "$1"
}

flap() {
	local i
	for ((i = 0; i < 8; i++)); do
		link 2 set blackhole=on >/dev/null
		sleep 0.15
		link 2 set blackhole=off >/dev/null
		sleep 0.15
	done
}

test_flapping() {
	local name="a path comes and goes" flapping
	flap &
	flapping=$!
	sleep 0.3
	goes_on "$name"
	wait "$flapping"
	comes_back "$name"
}

test_reset() {
	local name="a path's stripes are reset"
	on tx nft -f - <<-'RULES'
		table inet pair_test {
			chain cut {
				type filter hook output priority 0;
				ip daddr 10.77.2.2 tcp dport 6000 reject with tcp reset
			}
		}
	RULES
	wait_for 3 log_has "$tx_log" 'event=path_down .*path=link2' 1 || not_ok "$name" "they live"
	goes_on "$name"
	on tx nft delete table inet pair_test
	comes_back "$name"
}

test_address() {
	local name="a path's address goes and comes"
	on tx ip addr del 10.77.2.1/24 dev eth2
	sleep 0.5
	goes_on "$name"
	on tx ip addr add 10.77.2.1/24 dev eth2
	comes_back "$name"
}

pair_begin "faults on one of two paths"
paths_lab 2 --rate 20M --delay 12ms --queue 100000
pair_stripes=4
paths_start
load_serve
load_forever
comes_back "no fault"
link_fault "silence" blackhole=on
link_fault "silence from tx to rx" ab blackhole=on
link_fault "silence from rx to tx" ba blackhole=on
link_fault "every second packet lost" loss=50%
link_fault "a tenth of the rate" rate=2M
test_flapping
test_reset
test_address
load_is_right "every byte was the right one"
check "both daemons live" "one has gone" eval 'alive tx && alive rx'
pair_end
