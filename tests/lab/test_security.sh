#!/bin/bash
# Who is not let in, each by name: a wrong key, no key, an unknown identity, a replayed handshake, 10,000 half-open connections,
# a port scanner, an HTTP client; and who is in, but not where he wants to be: another's session, another's machine. Each is
# refused, told in the log once (limited in rate), and the pair beside it is unharmed: its transfers go on and are whole, a
# new flow opens at once. About 60 s. time-limit: 240

. "$(dirname "${BASH_SOURCE[0]}")/pair_load.sh"

tests=${PAIR_TESTS:-$root/build/tests}/lab
hostile=$tests/hostile crowd=$tests/crowd
echo_port=7103 relay_port=6100 none_port=6001
flow_limit_ms=1000 flood_limit_ms=2000
many=10.66.0.0/16 nowhere=10.67.0.0/16 # of them all dest answers, of them nobody
half_hello=1603010200010001fc0303
tx2_pid='' tx2_log=''

# ---- what a case is made of ---------------------------------------------------------------------------------------

refusals() { grep -c 'event=stripe_refused' "$rx_log"; }
refusals_since() { grep 'event=stripe_refused' "$rx_log" | tail -n +$(($1 + 1)); }
refused_more() { [ "$(refusals)" -gt "$1" ]; }
session_ups() { grep -c 'event=session_up' "$rx_log"; }

# The lines of those before may still come.
refusals_settle() {
	local try before
	for ((try = 0; try < 10; try++)); do
		before=$(refusals)
		sleep 0.2
		[ "$(refusals)" != "$before" ] || return 0
	done
}

# once NAME REASON COMMAND…: one connection, one line about it. Lines are limited in rate: none at all gets another chance.
once() {
	local before try seen
	for try in 1 2 3; do
		refusals_settle
		before=$(refusals)
		"${@:3}" >"$dir/stranger.log" 2>&1
		! wait_for 7 refused_more "$before" || break
	done
	sleep 0.1
	seen=$(refusals_since "$before")
	equal "$1: refused, and told once" "$(grep -Ec "reason=\"?$2" <<<"$seen") of $(wc -l <<<"$seen") lines" "1 of 1 lines"
	unharmed "$1"
}

echoes() { [ "$(on source timeout 10 nc -N "$dest_ip" $echo_port <<<hello)" = hello ]; }

flow_is_quick() {
	local begun=${EPOCHREALTIME/./}
	echoes || return 1
	flow_ms=$(((${EPOCHREALTIME/./} - begun) / 1000))
	[ "$flow_ms" -le "${1:-$flow_limit_ms}" ]
}

no_stripe_harmed() { ! grep -q 'event=stripe_\(closed\|broken\)' "$tx_log"; }

unharmed() { # NAME [MS]
	local flow_ms=none
	check "$1: a new flow opens at once" "${flow_ms} ms, ${2:-$flow_limit_ms} allowed" captured flow_is_quick "${2:-$flow_limit_ms}"
	check "$1: no stripe of the pair is harmed" "$(grep -m 1 'stripe_\(closed\|broken\)' "$tx_log")" no_stripe_harmed
}

make_keys() {
	local name
	for name in key key2 bad; do
		"$bin/tx_proxy" --make-key="$dir/$name" || not_ok "a key is made" "status $?"
	done
	pair_rx_security="mode = \"psk\"; keys = ( { identity = \"tx1\"; key_file = \"$dir/key\"; },
		{ identity = \"tx2\"; key_file = \"$dir/key2\"; } );"
	pair_tx_security="mode = \"psk\"; identity = \"tx1\"; key_file = \"$dir/key\";"
}

# Another tx_proxy on the same host, until tx2_stop.
tx2_start() { # PORT ARGUMENT…
	tx2_log=$dir/tx2.log
	: >"$tx2_log"
	start tx2 tx "$bin/tx_proxy" -c "$dir/tx2.conf" --capture.method=none --local_port=5001 --rx_proxy_port="$1" "${@:2}"
	tx2_pid=$started
}
tx2_stop() { stop "$tx2_pid"; tx2_pid=''; }
tx2_said() { tail -n 2 "$tx2_log" | cut -c 1-300 | tr '\n' ' '; }

tls_client() { # IDENTITY KEY_FILE: says nothing
	on tx timeout 5 openssl s_client -connect "$rx_ip:6000" -psk "$(cat "$dir/$2")" -psk_identity "$1" -tls1_3 \
		-ciphersuites TLS_AES_128_GCM_SHA256 -quiet </dev/null
}

# ---- wrong key, no key, unknown identity --------------------------------------------------------------------------

# The real thing, with one stripe: each of its attempts is told at both ends.
test_wrong_tx() { # NAME REASON ERROR ARGUMENT…
	local before attempts told
	before=$(refusals)
	sed 's/stripes = [0-9]*/stripes = 1/' "$conf" >"$dir/tx2.conf"
	tx2_start 6000 --log-level=debug "${@:4}"
	log_wait "$tx2_log" 'event=dial_failed' 3
	sleep 0.1
	tx2_stop
	attempts=$(grep -c 'event=dial_failed' "$tx2_log")
	check "$1: a tx_proxy is told" "$(tx2_said)" grep -Eq "$3" "$tx2_log"
	check "$1: it has no session" "$(tx2_said)" eval "! grep -q session_up '$tx2_log'"
	told=$(refusals_since "$before" | grep -Ec "$2")
	# One may have been under way when it was ended.
	check "$1: a line for each attempt" "$told lines, $attempts attempts" [ "$told" -ge "$attempts" -a "$told" -le $((attempts + 1)) ]
}

test_keys() {
	local unknown='unknown identity or wrong key' told='step=tls error="the other side refuses our identity or key"'
	test_wrong_tx "wrong key" "$unknown" "$told" --security.key_file="$dir/bad"
	once "wrong key" "$unknown" tls_client tx1 bad
	test_wrong_tx "unknown identity" "$unknown" "$told" --security.identity=tx9
	once "unknown identity" "$unknown" tls_client tx9 key
	once "another identity's key" "$unknown" tls_client tx1 key2
	test_wrong_tx "no key" 'not TLS' 'Connection reset|closed by' --security.mode=none
	once "no key: HELLO without TLS" "not TLS" on tx "$hostile" talk "$rx_ip" 6000 hello expect=closed
	once "no key: TLS without one" "TLS without a key" on tx curl -sk -m 5 "https://$rx_ip:6000/"
	check "no key is in a log" "one is" eval "! grep -qFf '$dir/key' -f '$dir/key2' -f '$dir/bad' '$rx_log' '$tx_log' '$tx2_log'"
}

# ---- replayed handshake -------------------------------------------------------------------------------------------

replay() { on tx timeout 3 socat -u "OPEN:$dir/handshake" "TCP:$rx_ip:6000"; }

test_replay() {
	local relay ups bytes
	rm -f "$dir/recorded"
	serve relay tx $relay_port socat -r "$dir/recorded" "TCP-LISTEN:$relay_port,reuseaddr" "TCP:$rx_ip:6000"
	relay=$started
	sed 's/stripes = [0-9]*/stripes = 1/' "$conf" >"$dir/tx2.conf"
	tx2_start $relay_port --rx_proxy_ip=127.0.0.1 --security.identity=tx2 --security.key_file="$dir/key2"
	check "replayed handshake: one is recorded" "$(tx2_said)" log_wait "$tx2_log" session_up 5
	tx2_stop
	stop "$relay"
	cp "$dir/recorded" "$dir/handshake"
	bytes=$(command stat -c %s "$dir/handshake")
	check "replayed handshake: with the first frames" "$bytes bytes" [ "$bytes" -gt 400 ]
	ups=$(session_ups)
	once "replayed handshake" "decryption failed or bad record mac" replay
	equal "replayed handshake: no session came of it" "$(session_ups)" "$ups"
}

# ---- another's session --------------------------------------------------------------------------------------------

# HELLO for a session whose id ends in that letter; the answer's bytes in hex, with the connection open for a moment.
hello_bytes() { printf '\x11\x00\x00\x2c\x00\x00\x00\x00Pair0123456789abcde%s\x00\x00\x00\x00\x00\x01\x00\x00' "$1"; head -c 16 /dev/zero; }
to_hex() { od -An -v -tx1 | tr -d ' \n'; }
join_psk() { # IDENTITY KEY_FILE LETTER [SECONDS]
	{ hello_bytes "$3"; sleep "${4:-2}"; } |
		on tx timeout "${4:-2.5}" openssl s_client -connect "$rx_ip:6000" -psk "$(cat "$dir/$2")" -psk_identity "$1" -tls1_3 \
			-ciphersuites TLS_AES_128_GCM_SHA256 -quiet 2>/dev/null | to_hex
}
join_none() { { hello_bytes "$1"; sleep 2; } | on tx timeout 2.5 nc "$rx_ip" $none_port | to_hex; }
# WELCOME: head, incarnation, status.
incarnation() { cut -c 17-48 "$dir/$1.hex"; }
status() { cut -c 49-56 "$dir/$1.hex"; }

# session_secret MODE JOIN…: of three stripes, two know the same id.
session_secret() {
	local pids=()
	"${@:2}" f >"$dir/first.hex" & pids=($!)
	sleep 0.3
	"${@:2}" f >"$dir/second.hex" & pids+=($!)
	"${@:2}" e >"$dir/third.hex" & pids+=($!)
	wait "${pids[@]}"
	equal "another's session, $1: three are welcome" "$(status first) $(status second) $(status third)" "00000000 00000000 00000000"
	equal "another's session, $1: who has its secret is in it" "$(incarnation second)" "$(incarnation first)"
	check "another's session, $1: who has not is in one of his own" "$(incarnation third)" [ "$(incarnation third)" != "$(incarnation first)" ]
}

test_sessions() {
	local owner
	session_secret psk join_psk tx1 key
	join_psk tx1 key a >"$dir/owner.hex" &
	owner=$!
	sleep 0.5
	once "another's session, psk, with its secret" 'the session of another identity' \
		eval "join_psk tx2 key2 a >'$dir/stranger.hex'"
	wait "$owner"
	equal "another's session, psk, with its secret: denied" "$(status owner) $(status stranger)" "00000000 00000002"
}

# Who has a key takes all the places that he can get, which are 16 by default; the pair has one already.
more_refused() { [ "$(grep -c 'event=session_refused' "$rx_log")" -gt "$1" ]; }
test_places() {
	local letter pids=() refused
	refused=$(grep -c 'event=session_refused' "$rx_log")
	for letter in {a..r}; do
		join_psk tx1 key "$letter" 15 >"$dir/place_$letter.hex" & pids+=($!)
	done
	check "places: all are taken" "$(grep -c 'event=session_refused' "$rx_log"), $refused before" wait_for 8 more_refused "$refused"
	join_psk tx2 key2 z >"$dir/other.hex"
	wait "${pids[@]}"
	equal "places: an identity gets all but the other's" \
		"$(for letter in {a..r}; do echo "$(status "place_$letter")"; done | grep -c 00000000)" 14
	equal "places: and the other gets that" "$(status other)" 00000000
}

# ---- port scanner, HTTP client ------------------------------------------------------------------------------------

accounted() {
	refusals_since "$1" | awk '{ n++; for (i = 1; i <= NF; i++) if (sub("^suppressed=", "", $i)) n += $i } END { print n + 0 }'
}
accounts_for() { [ "$(accounted "$1")" = "$2" ]; }

test_scanners() {
	local before
	once "port scanner: connect and close" "closed during the TLS handshake" on tx nc -z "$rx_ip" 6000
	once "port scanner: connect and reset" ".*(closed|reset)" on tx "$tcp_probe" connect "$rx_ip" 6000 rst
	once "port scanner: garbage" "not TLS" on tx "$hostile" talk "$rx_ip" 6000 random=300,7 expect=closed
	once "port scanner: half a handshake, and gone" "closed during the TLS handshake" \
		on tx "$hostile" talk "$rx_ip" 6000 hex=$half_hello wait=50
	once "port scanner: silence" "no HELLO in time" on tx "$hostile" talk "$rx_ip" 6000 expect=closed,8000
	once "HTTP client" "not TLS" on tx curl -s -m 5 "http://$rx_ip:6000/"
	# The limit is full again, and what it held back is told with the next line.
	sleep 1
	on tx nc -z "$rx_ip" 6000
	sleep 0.3
	before=$(refusals)
	on dest "$crowd" connect "$rx_ip" 6000 $many 300 600 0 >"$dir/scan.log"
	sleep 1.3
	on tx nc -z "$rx_ip" 6000
	check "port scanner, 300 times: all are accounted for" "$(accounted "$before") of 301" wait_for 5 accounts_for "$before" 301
	check "port scanner, 300 times: the log is limited in rate" "$(($(refusals) - before)) lines" [ $(($(refusals) - before)) -le 15 ]
	unharmed "port scanner, 300 times"
}

# ---- 10,000 half-open connections ---------------------------------------------------------------------------------

# Of some looks at rx_proxy's descriptors in so many seconds.
most_files() {
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000)) most=0 now
	while [ "${EPOCHREALTIME/./}" -lt "$end" ]; do
		now=$(files)
		[ "$now" -le "$most" ] || most=$now
		sleep 0.1
	done
	echo "$most"
}

tx2_is_up() { [ "$(stat tx2 stripes_up)" = "$pair_stripes" ]; }

# tx2_gets_in NAME: all stripes of a tx_proxy that starts now, amid it.
tx2_gets_in() {
	local begun=${EPOCHREALTIME/./} ms
	cp "$conf" "$dir/tx2.conf"
	tx2_start 6000 --security.identity=tx2 --security.key_file="$dir/key2"
	log_wait "$tx2_log" 'event=ready' 5
	wait_for 10 tx2_is_up
	ms=$(((${EPOCHREALTIME/./} - begun) / 1000))
	check "$1: a tx_proxy gets all its stripes in at once" "$ms ms; $(tx2_said)" [ "$ms" -le $flood_limit_ms ]
	printf '# %s: %s stripes in %s ms\n' "$1" "$pair_stripes" "$ms"
}

hwm_kib() { awk '/^VmHWM:/ { print $2 }' "/proc/$rx_pid/status"; }
field() { sed -n "s/.* \?\b$1=\([0-9]*\).*/\1/p" "$dir/$2.log" | tail -n 1; }

# flood_meets_bounds NAME MOST COMMAND…: COMMAND begins a flood, $flood_pid, of which so many may wait at the same time.
flood_meets_bounds() {
	local name=$1 before files_before kib most waiting
	files_before=$(files)
	echo 5 >"/proc/$rx_pid/clear_refs"
	kib=$(hwm_kib)
	before=$(refusals)
	"${@:3}"
	sleep 1
	waiting=$(($(files) - files_before))
	printf '# %s: %s wait, for which rx_proxy has taken %s KiB\n' "$name" "$waiting" $(($(hwm_kib) - kib))
	most_files 3 >"$dir/most" &
	most=$!
	tx2_gets_in "$name"
	unharmed "$name" $flood_limit_ms
	wait "$most"
	most=$(($(cat "$dir/most") - files_before))
	check "$name: a bounded number waits" "$most" [ "$most" -le $(($2 + pair_stripes + 10)) ]
	ended "$flood_pid" 20
	kib=$(($(hwm_kib) - kib))
	check "$name: rx_proxy's memory is bounded" "$kib KiB more" [ "$kib" -le 3072 ]
	printf '# %s: %s; at most %s descriptors; rx_proxy grew by %s KiB\n' "$name" \
		"$(tail -n 1 "$dir/flood.log")" "$most" "$kib"
	check "$name: the log is limited in rate" "$(($(refusals) - before)) lines" [ $(($(refusals) - before)) -le 60 ]
	tx2_stop
	check "$name: the descriptors are back" "$(files), $files_before before" wait_for 10 files_are_back $((files_before + 2))
}
files() { local all=("/proc/$rx_pid/fd"/*); echo "${#all[@]}"; }
files_are_back() { [ "$(files)" -le "$1" ]; }

from_many() { : >"$dir/flood.log"; start flood dest "$crowd" connect "$rx_ip" 6000 $many 10000 3300 8000; flood_pid=$started; }
from_one() { : >"$dir/flood.log"; start flood tx "$crowd" connect "$rx_ip" 6000 "$tx_ip/32" 3000 1000 4000 $half_hello; flood_pid=$started; }
only_syns() { : >"$dir/flood.log"; start flood dest "$crowd" syn "$rx_ip" 6000 $nowhere 10000 3000; flood_pid=$started; }

dropped_in_time() { # NAME
	local longest
	longest=$(field longest_ms flood)
	equal "$1: all are dropped" "$(field kept flood)" 0
	check "$1: within a few seconds" "$longest ms" [ "$longest" -gt 0 -a "$longest" -le 6500 ]
}

test_floods() {
	on dest ip route add local $many dev lo
	on rx ip route add $many via "$dest_ip"
	on rx ip route add $nowhere via "$dest_ip"
	test_scanners
	flood_meets_bounds "10,000 half-open connections, many addresses" 256 from_many
	dropped_in_time "10,000 half-open connections, many addresses"
	flood_meets_bounds "3,000 half-open handshakes, one address" 64 from_one
	flood_meets_bounds "10,000 SYNs from nowhere" 0 only_syns
}

# ---- who is in ----------------------------------------------------------------------------------------------------

# OPEN of IPv6, flow 9, port 7777
open6() { printf '%s' "hex=1600003400000009060005b407039c401e61000000000000001000002001 0db800000000000000000000000b$1" | tr -d ' '; }
denied() { # NAME STEP: an OPEN of flow 9
	local said
	said=$(on tx "$hostile" talk "$rx_ip" $none_port hello "$2" expect=OPEN_RESULT,9,4 2>&1)
	check "destination: $1 is denied" "$said" [ "$said" = ok ]
}

test_destinations() {
	serve secret rx 7777 socat TCP-LISTEN:7777,fork,reuseaddr OPEN:/dev/null
	denied "rx_proxy's loopback" open=9,127.0.0.1,7777
	denied "another loopback address" open=9,127.1.2.3,7777
	denied "the unspecified address" open=9,0.0.0.0,7777
	denied "rx_proxy's own address" "open=9,$rx_ip,7777"
	denied "rx_proxy's own port" "open=9,$rx_ip,$none_port"
	denied "link-local" open=9,169.254.169.254,80
	denied "multicast" open=9,224.0.0.1,7777
	denied "broadcast" open=9,255.255.255.255,7777
	denied "IPv6 loopback" "$(open6 00000000000000000000000000000001)"
	denied "IPv6 link-local" "$(open6 fe800000000000000000000000000001)"
	denied "loopback as an IPv4-mapped address" "$(open6 00000000000000000000ffff7f000001)"
	denied "rx_proxy's own address as a mapped one" "$(open6 00000000000000000000ffffc0a802ca)"
	denied "the destination as a mapped one" "$(open6 00000000000000000000ffffc0a80216)"
	on rx ip address add 192.168.2.203/24 dev br0
	denied "an address that rx_proxy's machine got meanwhile" open=9,192.168.2.203,7777
	said=$(on tx "$hostile" talk "$rx_ip" $none_port hello "open=9,$dest_ip,$echo_port" expect=OPEN_RESULT,9,0 2>&1)
	check "destination: another machine is not" "$said" [ "$said" = ok ]
}

test_none() {
	(conf=$dir/none.conf pair_rx_security="mode = \"none\"; accept_from = ( \"$tx_ip/32\" );" && pair_configure)
	serve none_rx rx $none_port "$bin/rx_proxy" -c "$dir/none.conf" --recv_port=$none_port
	session_secret none join_none
	test_destinations
	# Everybody may come to this one, for it goes to one place.
	printf 'rx_proxy = { dest_ip = "%s"; recv_port = "6002"; dest_port = "%s"; }\n' "$dest_ip" $echo_port >"$dir/original.conf"
	serve original rx 6002 "$bin/rx_proxy" -c "$dir/original.conf"
	check "an original file, without security, runs with its fixed destination, and says so" "$(tail -n 1 "$dir/original.log")" \
		grep -q "event=open_to_all .*dst=$dest_ip:$echo_port" "$dir/original.log"
	said=$(on tx "$hostile" talk "$rx_ip" 6002 hello open=9,127.0.0.1,7777 expect=OPEN_RESULT,9,0 data=9,0,700 expect=echo,9,700 2>&1)
	check "and goes nowhere else" "$said" [ "$said" = ok ]
}

pair_begin "security"
for tool in "$hostile" "$crowd"; do
	[ -x "$tool" ] || { not_ok "security" "$tool is missing: make tests"; exit 1; }
done
command -v openssl >/dev/null || pair_skip "security" "openssl is not installed"
# Slow enough for a transfer to be under way most of the time.
pair_lab --rate 30M --delay 10ms --loss 0.5%
make_keys
serve echo dest $echo_port socat "TCP-LISTEN:$echo_port,fork,reuseaddr" PIPE
pair_start
load_serve
load_begin
test_keys
test_replay
test_sessions
test_places
test_floods
test_none
load_end "strangers"
rests "after the strangers: an idle pair uses no CPU" 2 3 rx tx
no_stripe_harmed || not_ok "no stripe of the pair was harmed" "$(grep -m 1 'stripe_\(closed\|broken\)' "$tx_log")"
pair_stop
pair_end
