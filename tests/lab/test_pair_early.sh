#!/bin/bash
# capture.open = "early": connections, 40 at once, which are more than tx_proxy's memory has room for. A SYN that is captured is
# promised that room, so the others go straight through, and nobody is reset after the handshake. About 10 s.

# shellcheck source=tests/lab/pair_load.sh
. "$(dirname "${BASH_SOURCE[0]}")/pair_load.sh"

requests=1500

crowd() {
	on source "${pin[@]}" "$bin/stream" -c "$conf" --json --quiet --timeout=60 --requests=$requests --parallel=40 --answer=100 \
		2>>"$dir/crowd.err" | jq -c '[.answered, .failures]'
}

pair_begin "early opening"
pair_open=early pair_stripes=2
pair_limits='memory_bytes = "1M"; flow_window_bytes = "64k";'
pair_lab --rate 100M --delay 10ms --queue 1000000
pair_configure
# rx_proxy has room for all: what it refuses early is a reset, and is no matter here.
rx_start --limits.memory_bytes=64M
tx_start && tx_connected || exit 1
rules up
load_serve
pair_pin
before=$(stat tx flows_opened)
equal "$requests connections, 40 at once, are all answered" "$(crowd)" "[$requests,0]"
opened=$(($(stat tx flows_opened) - before))
check "some went through the pair, some did not" "$opened did" [ "$opened" -gt 0 -a "$opened" -lt "$requests" ]
equal "no connection was taken and then refused" "$(grep -c 'event=connection_refused' "$tx_log")" 0
check "both daemons live" "one has gone" eval 'alive tx && alive rx'
pair_stop
pair_end
