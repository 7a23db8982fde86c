#!/bin/bash
# security.mode = "psk": keys are made, the pair works encrypted, under loss and while stripes die, and nobody on the way reads
# what it carries. Who is not let in: test_security.sh. About 25 s. time-limit: 180

. "$(dirname "${BASH_SOURCE[0]}")/pair_load.sh"

marker='a line that nobody on the way may read'
relay_port=6100
none_tx=$pair_tx_security none_rx=$pair_rx_security

# ---- keys ---------------------------------------------------------------------------------------------------------

make_keys() {
	local name
	for name in key key2; do
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

# ---- one side alone -----------------------------------------------------------------------------------------------

test_plain_rx() {
	(conf=$dir/none.conf pair_rx_security=$none_rx && pair_configure)
	serve plain_rx rx 6001 "$bin/rx_proxy" -c "$dir/none.conf" --recv_port=6001
	on tx timeout 2 "$bin/tx_proxy" -c "$conf" --capture.method=none --local_port=5001 --rx_proxy_port=6001 >"$dir/second.log" 2>&1
	check "a tx_proxy with TLS at an rx_proxy without" "$(tail -n 1 "$dir/second.log")" \
		eval "grep -q 'dial_failed .*step=tls' '$dir/second.log' && ! grep -q session_up '$dir/second.log'"
	stop "$started"
}

# Who encrypts: the kernel, where it has the module, or the library. This is told, and the same for all stripes.
test_who_encrypts() {
	local expected=library
	stat tx stripes_up >"$dir/up"
	stat rx stripes_up >"$dir/up"
	! on tx grep -qw tls /proc/sys/net/ipv4/tcp_available_ulp || expected=kernel
	equal "who encrypts at tx_proxy" "$(encryptors "$tx_log")" "tls=$expected"
	equal "who encrypts at rx_proxy" "$(encryptors "$rx_log")" "tls=$expected"
}
encryptors() { grep -o ' tls=[a-z]*' "$1" | sort -u | tr -d '\n '; }

pair_begin "psk"
pair_lab --rate 100M --delay 10ms --loss 1%
make_keys
serve marker dest 7103 socat TCP-LISTEN:7103,fork,reuseaddr PIPE

pair_start
load_serve
test_transfer
test_who_encrypts
test_plain_rx
pair_stop

test_stripe_death
recorded_marker "psk" missing
pair_tx_security=$none_tx pair_rx_security=$none_rx
recorded_marker "none" found
pair_end
