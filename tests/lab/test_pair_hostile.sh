#!/bin/bash
# Whoever can reach the proxies' ports may send what he likes. What breaks the rules ends that stripe or that flow, with a
# line in the log; floods meet bounds; and a transfer that runs through the same daemons all the while is unharmed.
# About 60 s. time-limit: 240
. "$(dirname "$0")/pair_load.sh"

hostile=${PAIR_TESTS:-$root/build/tests}/lab/hostile
echo_port=7007 # of dest: sends everything back
denied=203.0.113.1
rss_max_kib=${PAIR_RSS_MAX_KIB:-100000} # sanitizers need more
open="open=1,$dest_ip,$echo_port expect=OPEN_RESULT,1,0"
other="open=2,$dest_ip,$echo_port expect=OPEN_RESULT,2,0"

# ---- what a case is made of ---------------------------------------------------------------------------------------

speak() { on tx "$hostile" talk "$rx_ip" 6000 "$@"; }

# speaks NAME STEP…: the steps all succeed.
speaks() {
	local said
	said=$(speak "${@:2}" 2>&1)
	check "$1" "$said" [ "${said##*$'\n'}" = ok ]
}

# logged NAME DAEMON PATTERN COMMAND…: it succeeds, and the daemon says a line with that pattern meanwhile. Lines are
# limited in rate, so a missing one gets a second chance.
logged() {
	local log=${2}_log before said try
	log=${!log}
	for try in 1 2 3; do
		before=$(grep -Ec -- "$3" "$log")
		if ! said=$("${@:4}" 2>&1); then
			not_ok "$1" "$(tail -n 1 <<<"$said")"
			return
		fi
		if log_wait "$log" "$3" 1 $((before + 1)); then
			ok "$1"
			return
		fi
	done
	not_ok "$1" "no line with $3"
}

# refused NAME REASON STEP…: the stripe is closed, with that reason in the log.
refused() {
	logged "$1" rx "event=stripe_(refused|broken) .*reason=.*$2" speak "${@:3}" expect=closed
}

# broken NAME STEP…: flow 2 is reset for breaking the rules; flow 1 of the same stripe works on.
broken() {
	# shellcheck disable=SC2086
	logged "$1" rx 'event=flow_broken .*flow=2' speak hello $open $other "${@:2}" expect=RESET,2,4 data=1,0,700 \
		expect=echo,1,700
}

# at_rest NAME rx|tx: it does nothing, and its memory has not grown beyond what the configuration allows.
at_rest() {
	local pid=${2}_pid
	rests "$1: $2_proxy does not spin" 5 1 "$2"
	pid=${!pid}
	check "$1: $2_proxy's memory" "$(rss_kib "$pid") KiB" [ "$(rss_kib "$pid")" -le "$rss_max_kib" ]
}

rx_is_left_with() { [ "$(stat rx flows)" = 0 ] && [ "$(stat rx stripes_up)" = "$pair_stripes" ] && [ "$(stat rx files)" -le "$1" ]; }

# ---- at rx_proxy's port -------------------------------------------------------------------------------------------

# A header with these: version and type, flags, length, flow.
test_before_hello() {
	local seed lines_before
	refused "another protocol's first bytes" "flag" hex=16030100a5010000a10303
	refused "a wrong version" "another protocol, or another version" hex=2100002c00000000
	refused "an unknown type" "unknown frame type" hex=1f00000000000000
	refused "HELLO without the magic number" "not a stripe" hex=1100002c00000000 \
		hex=ffffffff00000000000000000000000000000000000000000001000000000000000000000000000000000000
	refused "HELLO too long" "too long" hex=1100002d00000000
	refused "PING before HELLO" "before HELLO" ping=1
	refused "DATA before HELLO" "before HELLO" data=1,0,100
	logged "HTTP is refused" rx 'event=stripe_refused' http_is_closed
	logged "half a HELLO, and gone" rx 'event=stripe_refused .*closed before HELLO' speak hex=1100002c0000000050616972
	logged "an address that is not in accept_from" rx 'event=stripe_refused remote=192.168.2.11:.*accept_from' \
		on source "$hostile" talk "$rx_ip" 6000 hello expect=closed
	lines_before=$(lines "$rx_log")
	for ((seed = 1; seed <= 15; seed++)); do
		speak random=3000,$seed expect=closed >/dev/null || break
	done
	equal "random bytes, 15 times" "$seed" 16
	check "their log lines are limited in rate" "$(($(lines "$rx_log") - lines_before)) lines" \
		[ $(($(lines "$rx_log") - lines_before)) -le 30 ]
}

http_is_closed() { ! on tx curl -s -m 10 "http://$rx_ip:6000/" && [ "$?" != 28 ]; }

test_after_hello() {
	local seed
	refused "a second HELLO" "second handshake" hello=one hello=one
	refused "WELCOME from the dialling side" "second handshake" hello=two welcome=0
	refused "OPEN_RESULT from the dialling side" "OPEN_RESULT" hello hex=1700000c00000001000000000000000000001000
	refused "DATA for a flow that was never opened" "never opened" hello data=77,0,100
	refused "ACK for a flow that was never opened" "never opened" hello ack=77,0,100
	refused "DATA longer than the limit" "limit" hello hex=1800ffff00000001
	refused "an unknown flag" "flag" hello hex=1808000800000001
	refused "an offset beyond 2^62" "offset" hello hex=180000080000000140000000000000010000000000000000
	refused "RESET for no reason" "reason" hello hex=1a0000040000000100000000
	refused "garbage after HELLO" "" hello random=5000,7
	# shellcheck disable=SC2086
	refused "garbage on a stripe that carries flows" "" hello $open $other data=1,0,1000 expect=echo,1,1000 random=999,3
	for ((seed = 1; seed <= 15; seed++)); do
		speak hello random=3000,$seed expect=closed >/dev/null || break
	done
	equal "HELLO and random bytes, 15 times" "$seed" 16
}

test_flow_rules() {
	local session=six
	# shellcheck disable=SC2086
	speaks "the same bytes twice and overlapping" hello $open data=1,0,1000 data=1,0,1000 data=1,500,1000 data=1,200,100 \
		data=1,1000,2000 data=1,1400,600 expect=echo,1,3000
	# shellcheck disable=SC2086
	speaks "pieces in the wrong order" hello $open data=1,2000,1000 data=1,1000,1000 data=1,0,1000 expect=echo,1,3000
	# shellcheck disable=SC2086
	speaks "a second OPEN with the same id" hello $open "open=1,$denied,1" data=1,0,100 expect=echo,1,100 expect=open,200
	# shellcheck disable=SC2086
	speaks "frames that ask for nothing" hello $open hex=140000080000000000000000000000ff gone=99 goaway ping=5 expect=PONG \
		data=1,0,100 expect=echo,1,100
	speaks "RESET of a flow never seen makes its OPEN void" hello reset=5,1 expect=GONE,5 "open=5,$dest_ip,$echo_port" \
		expect=GONE,5
	broken "bytes beyond the window" data=2,1000000000,1000
	broken "bytes beyond the end" data=2,0,100,1 data=2,100,50
	broken "another end than before" data=2,200,100,1 data=2,300,10,1
	broken "an end before bytes that came" data=2,100,100 data=2,0,50,1
	broken "an ack of what was never sent" ack=2,5000,90000
	broken "pieces too scattered" scatter=2,20000
	logged "a flow of one stripe is not another session's" rx 'event=stripe_broken .*never opened' \
		speak hello=$session data=1,0,10 expect=closed
}

# floods NAME PATTERN COUNT FIRST ADDRESS PORT: OPENs and how they were answered
floods() {
	local said
	said=$(speak hello "opens=$3,$4,$5,$6" 2>&1)
	check "$1" "$said" grep -Eq "$2" <<<"$said"
}

test_floods() {
	local lines_before said
	lines_before=$(lines "$rx_log")
	floods "a million OPENs to a denied destination" '^opens=1000000 .*denied=[1-9]' 1000000 1 $denied 80
	floods "20000 OPENs to a refusing destination" '^opens=20000 .*refused=[0-9]' 20000 1 "$dest_ip" 9
	floods "20000 OPENs to a silent destination" '^opens=20000 .*limit=[0-9]' 20000 1 192.168.2.99 80
	check "OPENs' log lines are limited in rate" "$(($(lines "$rx_log") - lines_before)) lines" \
		[ $(($(lines "$rx_log") - lines_before)) -le 200 ]
	said=$(on tx "$hostile" many "$rx_ip" 6000 1000 20000)
	check "1000 connections that say nothing are closed in time" "$said" grep -q ' open=0$' <<<"$said"
	said=$(on tx "$hostile" many "$rx_ip" 6000 600 1500 hello=same)
	check "more stripes than a session may have" "$said" grep -Eq ' open=[1-9]' <<<"$said"
	lines_before=$(lines "$rx_log")
	said=$(on tx "$hostile" many "$rx_ip" 6000 1000 1500 hello)
	check "more sessions than may be" "$said" grep -Eq ' (closed|reset)=[1-9].* open=[1-9]' <<<"$said"
	check "their log lines are limited in rate" "$(($(lines "$rx_log") - lines_before)) lines" \
		[ $(($(lines "$rx_log") - lines_before)) -le 400 ]
}

test_rx() {
	local files
	files=$(stat rx files)
	load_begin
	test_before_hello
	test_after_hello
	test_flow_rules
	load_end "broken rules"
	load_begin
	test_floods
	load_end "floods"
	check "nothing of the strangers is left at rx_proxy" "$(stat rx flows) flows, $(stat rx stripes_up) stripes, \
$(stat rx files) files, before $files" wait_for 30 rx_is_left_with $((files + 2))
	at_rest "strangers at rx_proxy" rx
}

# ---- at tx_proxy --------------------------------------------------------------------------------------------------

fake_paths='' fake_port=6001

# fake_begin NAME ARGUMENT…: what is behind the path NAME, and does that; a port of its own.
fake_begin() {
	serve "fake_$1" tx $fake_port "$hostile" "$2" $fake_port "${@:3}"
	fake_paths="$fake_paths, { name = \"$1\"; remote_ip = \"127.0.0.1\"; remote_port = $fake_port; stripes = 1; }"
	fake_port=$((fake_port + 1))
}

# told NAME PATTERN WHAT: tx_proxy has logged that of the path.
told() { check "$3: it is told" "no line with path=$1 and $2" log_wait "$tx_log" "event=(stripe_(broken|closed)|dial_failed) path=$1 .*$2" 20; }

# All at the same time, beside a path that is sound.
test_fake_rx() {
	fake_begin silent listen expect=closed,60000
	fake_begin garbage listen random=500,1 expect=closed
	fake_begin http listen hex=485454502f312e3120343030 expect=closed
	fake_begin hello listen hello expect=closed
	fake_begin data listen data=1,0,100 expect=closed
	fake_begin busy listen welcome=1 expect=closed
	fake_begin denies listen welcome=2 expect=closed
	fake_begin hangup listen
	fake_begin back_garbage relay "$rx_ip" 6000 back 20 random=64,5
	fake_begin back_flow relay "$rx_ip" 6000 back 20 data=999999,0,1000
	fake_begin back_welcome relay "$rx_ip" 6000 back 20 welcome=0
	fake_begin forth_garbage relay "$rx_ip" 6000 forth 20 random=64,5
	pair_paths="{ name = \"real\"; stripes = 4; }$fake_paths"
	pair_configure
	rx_start && tx_start && tx_connected 4 && rules up
	load_begin
	told garbage '' "a far end that answers garbage"
	told http '' "a far end that speaks HTTP"
	told hello 'no WELCOME' "a far end that says HELLO"
	told data 'no WELCOME' "a far end that sends DATA first"
	told busy 'no room' "a far end that is busy"
	told denies 'denies' "a far end that denies"
	told hangup '(closed by|Connection reset)' "a far end that hangs up"
	told back_garbage 'version' "garbage amid what rx_proxy sends"
	told back_flow 'never opened' "a frame of a flow never opened amid it"
	told back_welcome 'second handshake' "a second WELCOME amid it"
	told forth_garbage '' "garbage amid what tx_proxy sends"
	told silent 'no welcome' "a far end that never answers"
	check "rx_proxy tells of garbage, too" "no line" log_has "$rx_log" 'event=stripe_broken path=path12' 1
	load_end "false far ends"
	check "their log lines are limited in rate" "$(lines "$tx_log") lines" [ "$(lines "$tx_log")" -le 600 ]
	at_rest "false far ends" tx
	pair_stop
}

# Another incarnation on each connection: flows are reset again and again, which is the rule, but nothing else breaks.
test_fake_incarnation() {
	local fake_pid
	fake_paths='' fake_port=6050
	fake_begin renewed listen expect=HELLO welcome=0 random=300,9 expect=closed
	fake_pid=$started
	pair_paths="{ name = \"real\"; stripes = 4; }$fake_paths"
	pair_configure
	rx_start && tx_start && tx_connected 4 && rules up
	check "a far end of ever another incarnation: it is told" "no line" log_wait "$tx_log" 'event=session_renewed' 20
	stop "$fake_pid"
	at_rest "ever another incarnation" tx
	check "afterwards: through the pair again" "no flow" wait_for 20 captured echoes
	pair_stop
}

echoes() { [ "$(echo hello | on source timeout 5 nc -N "$dest_ip" $echo_port)" = hello ]; }

# tx_proxy's own port is for captured connections; who connects to it himself is not served, and harms nobody.
test_local_port() {
	local said
	load_begin
	logged "a connection to tx_proxy's own port" tx 'event=connection_stray' \
		on source "$hostile" talk "$tx_ip" 5000 random=3000,1 expect=closed
	said=$(on source "$hostile" many "$tx_ip" 5000 500 10000 hello)
	check "500 connections to tx_proxy's own port are reset" "$said" grep -q ' open=0$' <<<"$said"
	load_end "strangers at tx_proxy's port"
	at_rest "strangers at tx_proxy's port" tx
}

pair_begin "hostile input"
[ -x "$hostile" ] || { not_ok "hostile input" "$hostile is missing: make tests"; exit 1; }
pair_lab --rate 200M --delay 2ms
pair_limits='session_timeout_ms = 3000; memory_bytes = "64M";'
pair_rx_more="deny = ( \"203.0.113.0/24\" ); sessions = 40;"
pair_start
load_serve
serve echo dest $echo_port socat "TCP-LISTEN:$echo_port,fork,reuseaddr" PIPE
test_rx
test_local_port
pair_stop
test_fake_rx
test_fake_incarnation
pair_end
