#!/bin/bash
# security.mode = "psk": the pair works encrypted, under loss and while stripes die; and nobody else is let in: a wrong key, an
# unknown identity, no TLS, TLS without a key, a recorded handshake, another's session, a port scanner, a flood. Each is told
# in the log, limited in rate, and harms nobody. About 60 s. time-limit: 240

. "$(dirname "${BASH_SOURCE[0]}")/pair_load.sh"

hostile=${PAIR_TESTS:-$root/build/tests}/lab/hostile
marker='a line that nobody on the way may read'
relay_port=6100

# ---- keys ---------------------------------------------------------------------------------------------------------

make_keys() {
	local name
	for name in key key2 bad; do
		"$bin/tx_proxy" --make-key="$dir/$name" || not_ok "a key is made" "status $?"
	done
	equal "a new key's mode" "$(command stat -c %a "$dir/key")" 600
	cp -p "$dir/key" "$dir/key.before"
	"$bin/tx_proxy" --make-key="$dir/key" 2>"$dir/make.log"
	equal "a key that is there stays: status" "$?" 1
	check "a key that is there stays" "$(cat "$dir/make.log")" cmp -s "$dir/key" "$dir/key.before"
	pair_rx_security="mode = \"psk\"; keys = ( { identity = \"tx1\"; key_file = \"$dir/key\"; },
		{ identity = \"tx2\"; key_file = \"$dir/key2\"; } );"
	secured tx1 key
}

# What tx_proxy is to prove.
secured() { pair_tx_security="mode = \"psk\"; identity = \"$1\"; key_file = \"$dir/$2\";"; }

# ---- the pair -----------------------------------------------------------------------------------------------------

test_transfer() {
	transfer_begin --bytes=6M
	transfer_is_whole "6 MB each way, under loss"
	transfer_begin --bytes=200k --flows=50
	transfer_is_whole "50 flows at once, under loss"
}

# The stripes of one path go through a relay: what they carry is recorded, and they die with it.
relay_start() {
	serve relay tx $relay_port socat -r "$dir/recorded" "TCP-LISTEN:$relay_port,fork,reuseaddr" "TCP:$rx_ip:6000"
	relay_pid=$started
}
# With its children, which hold the connections.
relay_kill() {
	local children
	children=$(cat "/proc/$relay_pid/task/$relay_pid/children")
	# shellcheck disable=SC2086
	kill -KILL "$relay_pid" $children 2>/dev/null
	wait "$relay_pid" 2>/dev/null
}
relayed() { printf '{ name = "relayed"; remote_ip = "127.0.0.1"; remote_port = %s; stripes = %s; }' $relay_port "$1"; }

says_marker() { [ "$(on source timeout 10 nc -N "$dest_ip" 7103 <<<"$marker")" = "$marker" ]; }

# recorded_marker NAME found|missing: after a flow through the relay alone.
recorded_marker() {
	local seen=missing
	rm -f "$dir/recorded"
	relay_start
	pair_paths=$(relayed 1)
	pair_configure
	rx_start && tx_start && tx_connected 1 && rules up
	check "$1: a flow through the relay" "nothing came back" captured says_marker
	! grep -aq "$marker" "$dir/recorded" || seen=found
	equal "$1: its bytes on the wire" "$seen" "$2"
	pair_stop
	relay_kill
}

test_stripe_death() {
	rm -f "$dir/recorded"
	relay_start
	pair_paths="{ name = \"link\"; stripes = 2; }, $(relayed 6)"
	pair_configure
	rx_start && tx_start && tx_connected 8 && rules up
	transfer_begin --bytes=12M
	transfer_at 2000000
	relay_kill
	transfer_is_whole "a transfer while 6 of 8 stripes die"
	check "the dead stripes are told" "no line" log_has "$tx_log" 'event=stripe_closed path=relayed' 1
	relay_start
	check "they come back" "$(stat tx stripes_up) are up" wait_for 15 all_stripes_up 8
	pair_stop
	relay_kill
	pair_paths=''
}

# ---- strangers ----------------------------------------------------------------------------------------------------

# logged NAME PATTERN COMMAND…: rx_proxy says a line with the pattern after it. Lines are limited in rate, so a missing one gets
# more chances.
logged() {
	local before try
	for try in 1 2 3 4; do
		before=$(grep -Ec -- "$2" "$rx_log")
		"${@:3}" >"$dir/stranger.log" 2>&1
		if log_wait "$rx_log" "$2" 2 $((before + 1)); then
			ok "$1"
			return
		fi
	done
	not_ok "$1" "no line with $2; $(tail -n 2 "$dir/stranger.log" | tr '\n' ' ')"
}

# second_tx PORT ARGUMENT…: another tx_proxy on the same host for some seconds, its log in second.log.
second_tx() {
	: >"$dir/second.log"
	on tx timeout "${second_s:-3}" "$bin/tx_proxy" -c "$conf" --capture.method=none --local_port=5001 --rx_proxy_port="$1" \
		"${@:2}" >"$dir/second.log" 2>&1
}

test_wrong_tx() {
	logged "a wrong key" 'stripe_refused remote=192.168.2.201:[0-9]+ reason="unknown identity or wrong key"' \
		second_tx 6000 --security.key_file="$dir/bad"
	check "a wrong key: tx_proxy is told, too" "$(tail -n 1 "$dir/second.log")" \
		grep -q 'dial_failed .*step=tls error="the other side refuses our identity or key"' "$dir/second.log"
	logged "an unknown identity" 'stripe_refused remote=192.168.2.201:[0-9]+ reason="unknown identity or wrong key"' \
		second_tx 6000 --security.identity=tx9
	logged "another's key" 'stripe_refused .*"unknown identity or wrong key"' second_tx 6000 --security.key_file="$dir/key2"
	logged "a tx_proxy without TLS" 'stripe_refused .*"not TLS"' second_tx 6000 --security.mode=none
	check "it has no session" "$(tail -n 1 "$dir/second.log")" eval "! grep -q session_up '$dir/second.log'"
	second_tx 6000 --security.identity=tx2 --security.key_file="$dir/key2"
	check "a second tx_proxy with its own key is served" "$(tail -n 1 "$dir/second.log")" grep -q session_up "$dir/second.log"
	check "no log holds a key" "it does" eval "! grep -qFf '$dir/key' -f '$dir/key2' -f '$dir/bad' '$rx_log' '$tx_log' '$dir/second.log'"
}

test_plain_rx() {
	serve plain_rx rx 6001 "$bin/rx_proxy" -c "$conf" --recv_port=6001 --security.mode=none --dest_ip=192.168.2.22 --dest_port=9
	second_tx 6001
	check "a tx_proxy with TLS at an rx_proxy without" "$(tail -n 1 "$dir/second.log")" \
		eval "grep -q 'dial_failed .*step=tls' '$dir/second.log' && ! grep -q session_up '$dir/second.log'"
	stop "$started"
}

scan() { on tx nc -z "$rx_ip" 6000; }
http() { on tx curl -s -m 5 "http://$rx_ip:6000/"; }
https() { on tx curl -sk -m 5 "https://$rx_ip:6000/"; }
half() { on tx "$hostile" talk "$rx_ip" 6000 hex=1603010200010001fc0303 wait=100; }
silent() { on tx "$hostile" talk "$rx_ip" 6000 expect=closed,8000; }

test_strangers() {
	logged "a port scanner" 'stripe_refused remote=192.168.2.201:[0-9]+ reason=".*(closed|reset|TLS)' scan
	logged "an HTTP client" 'stripe_refused .*"not TLS"' http
	logged "an HTTPS client" 'stripe_refused .*"TLS without a key"' https
	logged "half a handshake, and gone" 'stripe_refused .*(closed during|reset)' half
	logged "a connection that says nothing" 'stripe_refused .*"no HELLO in time"' silent
}

replay() { on tx timeout 3 socat -u "OPEN:$dir/handshake" "TCP:$rx_ip:6000"; }

test_replay() {
	rm -f "$dir/recorded"
	relay_start
	# One connection: the recorder does not tell them apart.
	sed 's/stripes = [0-9]*/stripes = 1/' "$conf" >"$dir/single.conf"
	second_s=2 second_tx $relay_port --rx_proxy_ip=127.0.0.1 -c "$dir/single.conf"
	equal "one connection was recorded" "$(grep -c 'event=dial_failed\|event=stripe_closed' "$dir/second.log")" 0
	check "a session through the recorder" "$(tail -n 1 "$dir/second.log")" grep -q session_up "$dir/second.log"
	relay_kill
	cp "$dir/recorded" "$dir/handshake"
	logged "a recorded handshake ($(command stat -c %s "$dir/handshake") bytes) is refused" \
		'stripe_refused remote=192.168.2.201:[0-9]+ reason="decryption failed or bad record mac"' replay
}

hex() { od -An -v -tx1 "$dir/$1" | tr -d ' \n'; }
# join IDENTITY KEY_TEXT: says HELLO for a certain session, as a client of another make; the answer's bytes in hex.
join() {
	{ printf '\x11\x00\x00\x2c\x00\x00\x00\x00Pair0123456789abcdef\x00\x00\x00\x00\x00\x01\x00\x00'; head -c 16 /dev/zero; sleep 1.5; } |
		on tx timeout 4 openssl s_client -connect "$rx_ip:6000" -psk "$2" -psk_identity "$1" -tls1_3 \
			-ciphersuites TLS_AES_128_GCM_SHA256 -quiet 2>"$dir/s_client.log" | od -An -v -tx1 | tr -d ' \n'
}

test_foreign_session() {
	local owner stranger
	if ! command -v openssl >/dev/null; then
		skip "another's session" "openssl is not installed"
		return
	fi
	join tx1 "$(cat "$dir/key")" >"$dir/owner.hex" &
	owner=$!
	sleep 0.5
	logged "another's session" 'stripe_refused .*identity=tx2 .*session of another identity' \
		eval "join tx2 '$(cat "$dir/key2")' >'$dir/stranger.hex'"
	wait "$owner"
	owner=$(cut -c 1-2 "$dir/owner.hex")
	stranger=$(cut -c 1-56 "$dir/stranger.hex")
	equal "another client of TLS with the key is welcome" "$owner" 12
	# WELCOME without an incarnation, status 2.
	equal "who joins another's session is denied" "${stranger:48:8}" 00000002
}

# flood HOST COUNT STEP…: so many connections at once, held for 9 s.
flood() { start "flood_$1" "$1" "$hostile" many "$rx_ip" 6000 "$2" 9000 "${@:3}"; }

test_flood() {
	local lines_before
	lines_before=$(lines "$rx_log")
	flood source 5000
	flood tx 2000 hex=1603010200010001fc0303
	sleep 1
	second_s=6 second_tx 6000 --security.identity=tx2 --security.key_file="$dir/key2"
	check "7000 half-open connections do not keep a tx_proxy out" "$(tail -n 3 "$dir/second.log" | tr '\n' ' ')" \
		grep -q session_up "$dir/second.log"
	check "their log lines are limited in rate" "$(($(lines "$rx_log") - lines_before)) lines" \
		[ $(($(lines "$rx_log") - lines_before)) -le 120 ]
	check "rx_proxy's memory" "$(rss_kib "$rx_pid") KiB" [ "$(rss_kib "$rx_pid")" -le 100000 ]
	check "nothing of them is left" "$(stat rx files) files, $files before" wait_for 15 eval '[ "$(stat rx files)" -le $((files + 2)) ]'
}

pair_begin "psk"
[ -x "$hostile" ] || { not_ok "psk" "$hostile is missing: make tests"; exit 1; }
pair_lab --rate 100M --delay 10ms --loss 1%
make_keys
serve marker dest 7103 socat TCP-LISTEN:7103,fork,reuseaddr PIPE

pair_start
load_serve
test_transfer
files=$(stat rx files)
load_begin
test_wrong_tx
test_plain_rx
test_strangers
test_replay
test_foreign_session
test_flood
load_end "strangers"
rests "after the strangers" 5 1 rx tx
check "no stripe of the pair was harmed" "$(grep -m 1 'stripe_closed\|stripe_broken' "$tx_log")" \
	eval "! grep -q 'event=stripe_\(closed\|broken\)' '$tx_log'"
pair_stop

test_stripe_death
recorded_marker "psk" missing
pair_tx_security='mode = "none";' pair_rx_security="mode = \"none\"; accept_from = ( \"$tx_ip/32\" );"
recorded_marker "none" found
pair_end
