#!/bin/bash
# Two lossy paths, the second metered (reinject_percent = 0). It carries data, but nothing a second time, in either
# direction; the first does. When the first goes silent, what it carried is delivered over the metered one all the same.
# About 20 s.

# shellcheck source=tests/lab/pair_paths.sh
. "$(dirname "${BASH_SOURCE[0]}")/pair_paths.sh"

# ---- what the daemons tell ----------------------------------------------------------------------------------------

# no_repeats NAME: of what each daemon sent on path 2.
no_repeats() {
	local daemon
	for daemon in tx rx; do
		equal "$1: $daemon sent no byte twice on the metered path" \
			"$(path_stat $daemon 2 copied_bytes) $(path_stat $daemon 2 repeated_bytes)" "0 0"
	done
}

# at_least NAME NUMBER LEAST
at_least() { check "$1" "$2" [ "${2:--1}" -ge "$3" ]; }

# ---- the pair -----------------------------------------------------------------------------------------------------

pair_begin "repetitions within a budget"
pair_stripes=4
path_more[2]='reinject_percent = 0;'
paths_lab 2 --rate 20M --delay 12ms --loss 1%
paths_start
load_serve
for daemon in tx rx; do
	equal "$daemon knows the budgets of both paths" \
		"$(path_stat $daemon 1 reinject_percent) $(path_stat $daemon 2 reinject_percent)" "100 0"
done

# ---- small flows, and one that is not -----------------------------------------------------------------------------

requests() {
	on source "$bin/stream" -c "$conf" --json --quiet --timeout=30 --requests="$1" --parallel=8 --answer="$2" \
		>"$dir/requests.log" 2>&1
}
check "small flows are answered" "$(tail -n 2 "$dir/requests.log" 2>&1)" requests 60 30000
transfer_begin --bytes=6M
requests 40 1000
transfer_is_whole "a transfer both ways, small flows beside it"
for daemon in tx rx; do
	at_least "$daemon used both paths" "$(path_stat $daemon 2 bytes_out)" 1000000
	at_least "$daemon copied small flows' frames on the first path" "$(path_stat $daemon 1 copied_bytes)" 1000
	at_least "$daemon had copies refused on the metered one" "$(path_stat $daemon 2 refused_bytes)" 1000
done
no_repeats "under loss"

# ---- the first path goes silent -----------------------------------------------------------------------------------

transfer_begin --bytes=4M
if transfer_at 2000000; then
	link 1 set ab blackhole=on >/dev/null
	link 1 set ba blackhole=on >/dev/null
fi
transfer_is_whole "the first path goes silent in mid-transfer"
at_least "what it carried was sent again" \
	"$(($(path_stat tx 2 reinjected_bytes) + $(path_stat rx 2 reinjected_bytes)))" 1000
no_repeats "after that"
check "both daemons live" "one has gone" eval 'alive tx && alive rx'
pair_stop
pair_end
