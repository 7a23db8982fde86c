#!/bin/bash
# Connections through the pair behave as they do without it: every kind of end is passed on as what it is, refusals are
# refusals, slow and idle connections are left in peace, and real clients do not notice. About 80 s, most of it
# waiting for connections that are idle in a lab of their own (pair_idle.sh). time-limit: 300

# shellcheck source=tests/lab/pair.sh
. "$(dirname "${BASH_SOURCE[0]}")/pair.sh"

bypassed_ip=192.168.2.23 void_ip=192.168.2.99 bypassed_void_ip=192.168.2.98
idle_pid=''

# ---- what stands on the destination for all cases -----------------------------------------------------------------

serve_all() {
	probe_serve 7111 send=5 fin end
	probe_serve 7112 end send=300000 fin
	probe_serve 7113 read=10 send=1 end
	probe_serve 7114 read=10 rst
	probe_serve 7115 end rst
	probe_serve 7116 send=5 fin end
	probe_serve 7117 read=10
	probe_serve 7118 limit=60 read=10 send=500000000
	probe_serve 7119 send=100 end
	probe_serve 7154 send=5 fin end
	probe_serve 7155 sleep=300 send=5 urgent send=5 fin end
	serve count dest 7110 socat -t 10 TCP-LISTEN:7110,fork,reuseaddr SYSTEM:'wc -c'
	serve receive dest 7000 "$bin/receive" --recv_port=7000 -c "$conf" --quiet
}

# ---- ends ---------------------------------------------------------------------------------------------------------

test_half_close() {
	local answer
	answer=$(printf request | on source timeout 20 nc -N "$dest_ip" 7110)
	equal "$pair_open: nc -N sends a request up to its end and gets the answer" "${answer// /}" 7
	talk 7112 send=70000 fin end
	tells "$pair_open: half-close by the client, then 300 kB to it" "$client" read=300000 wrong=none end=eof error=none
	tells "$pair_open: half-close by the client arrives as an end" "$server" read=70000 wrong=none end=eof error=none
	talk 7111 end send=300000 fin
	tells "$pair_open: half-close by the destination arrives as an end" "$client" read=5 wrong=none end=eof error=none
	tells "$pair_open: half-close by the destination, then 300 kB to it" "$server" read=300000 wrong=none end=eof error=none
	talk 7112 fin end
	tells "$pair_open: an end without a byte arrives as an end" "$server" read=0 end=eof error=none
}

# RFC 6093: urgent data is data. The pair passes it on in its place, without the mark.
test_urgent() {
	talk 7112 send=1000 urgent send=1000 fin end
	tells "$pair_open: an urgent byte of the client's stays in the stream" "$server" read=2001 wrong=none end=eof error=none
	talk 7155 end fin
	tells "$pair_open: an urgent byte of the destination's stays in the stream" "$client" read=11 wrong=none end=eof error=none
}

test_reset() {
	talk 7113 send=10 read=1 rst
	tells "$pair_open: RST by the client reaches the destination as RST" "$server" read=10 error=ECONNRESET at=end
	talk 7114 send=10 end
	tells "$pair_open: RST by the destination reaches the client as RST" "$client" read=0 error=ECONNRESET at=end
	talk 7115 send=10 fin end
	tells "$pair_open: RST by the destination after the client's end" "$client" read=0 error=ECONNRESET at=end
	tells "$pair_open: the end before that RST was an end" "$server" read=10 end=eof error=none
	talk 7116 end rst
	tells "$pair_open: RST by the client after the destination's end" "$server" read=0 error=ECONNRESET at=end
	tells "$pair_open: the end before that RST was an end, too" "$client" read=5 end=eof error=none
	# The destination closes: an end first, and a RST only for the bytes that it can no longer take.
	talk 7117 send=10 end sleep=200 send=10 sleep=500 send=10 sleep=500 send=10 sleep=500 send=10
	tells "$pair_open: bytes for a destination that has closed are answered by a RST" "$client" end=eof at=send
	tells "$pair_open: that destination had closed in order" "$server" read=10 error=none
}

test_client_gone() {
	local pid lines
	lines=$(serve_lines 7118)
	start gone source "$tcp_probe" connect "$dest_ip" 7118 send=10 read=100000 say=reading wait="$dir/never"
	pid=$started
	log_wait "$dir/gone.log" reading 20 || not_ok "$pair_open: a client reads" "$(<"$dir/gone.log")"
	kill -KILL "$pid"
	ended "$pid" 5
	wait_for 20 serve_told 7118 "$lines"
	server=$(tail -n 1 "$dir/serve_7118.log")
	case $server in
	*' error=ECONNRESET at=send '* | *' error=EPIPE at=send '*) ok "$pair_open: a client gone in mid-transfer is a RST for the destination" ;;
	*) not_ok "$pair_open: a client gone in mid-transfer is a RST for the destination" "$server" ;;
	esac
	rm -f "$dir/gone.log"
}

# ---- beginnings ---------------------------------------------------------------------------------------------------

refused_at_once() {
	local ms
	client=$(probe 7199)
	ms=${client##* connect_ms=}
	why=$client
	[[ $client == *' error=ECONNREFUSED at=connect '* ]] && [ "${ms%% *}" -lt 900 ]
}

# The answer and what follows from it travel on several stripes, and come in any order.
never_an_end() {
	local i
	for ((i = 0; i < $1; i++)); do
		client=$(probe 7199 send=6000 fin read=1)
		[[ $client == *' error=ECONNRESET '* || $client == *' error=EPIPE '* ]] || return 1
	done
}

test_refused() {
	if [ "$pair_open" = confirm ]; then
		# A second try would be one SYN retransmission later.
		attempt "confirm: a destination that refuses is a refusal, at once" 3 refused_at_once
	else
		tells "early: a destination that refuses is a RST after the handshake" "$(probe 7199 read=1)" error=ECONNRESET at=read
		check "early: and never a clean end, though all was said" "$client" never_an_end 10
	fi
	client=$(probe 7198 read=1)
	serve "later_$pair_open" dest 7198 "$tcp_probe" listen 7198 send=1 end
	captured probe 7198 read=1 fin end >"$dir/later"
	tells "$pair_open: a destination that comes up is reached" "$(<"$dir/later")" read=1 end=eof error=none
	equal "$pair_open: and through the pair" "$opened" 1
	stop "$started"
}

# Addresses behind which nobody is, one with and one without the pair: the client must see the same.
start_unreachable() {
	local ip
	for ip in $void_ip $bypassed_void_ip; do
		ip -n "$lab-source" neigh replace "$ip" lladdr 02:00:00:00:01:63 dev eth0 nud permanent
	done
	on source sh -c 'echo 2 >/proc/sys/net/ipv4/tcp_syn_retries'
	start unreachable source "$tcp_probe" connect $void_ip 7100
	unreachable=$started
	start unreachable_direct source "$tcp_probe" connect $bypassed_void_ip 7100
	unreachable_direct=$started
}

test_unreachable() {
	local seen direct ms direct_ms
	ended "$unreachable" 30
	ended "$unreachable_direct" 30
	seen=$(<"$dir/unreachable.log") direct=$(<"$dir/unreachable_direct.log")
	tells "an unreachable destination is unreachable" "$seen" at=connect "error=$(sed 's/.* error=\([^ ]*\).*/\1/' <<<"$direct")"
	ms=${seen##* connect_ms=} direct_ms=${direct##* connect_ms=}
	ms=${ms%% *} direct_ms=${direct_ms%% *}
	check "and seen to be after the same time as without the pair" "$ms ms, $direct_ms ms" \
		test $((ms > direct_ms ? ms - direct_ms : direct_ms - ms)) -lt 2000
}

# ---- beside each other --------------------------------------------------------------------------------------------

goodput() {
	on source "$bin/stream" -c "$conf" --bytes=4M --flows=4 --json --quiet --timeout=60 2>>"$dir/stream.log" | jq '.total.send.mbit_s'
}

full_speed() {
	local there
	there=$(goodput)
	why="$there Mbit/s, $alone without slow ones"
	awk "BEGIN { exit !(${there:-0} > 0.6 * ${alone:-1}) }"
}

# One client and one destination that do not read, for as long as it takes; and a client that has half-closed besides.
test_slow_readers() {
	local alone jobs=() mb
	alone=$(goodput)
	probe_serve 7120 read=1 limit=120 send=40000000 fin end
	probe_serve 7121 read=1 limit=120 wait="$dir/go" end
	for mb in 3 4 5 6 7 8; do
		probe_serve 713$mb limit=120 end send=${mb}000000 fin
	done
	start slow_client source "$tcp_probe" connect "$dest_ip" 7120 limit=120 send=1 wait="$dir/go" fin end
	jobs+=("$started")
	start slow_dest source "$tcp_probe" connect "$dest_ip" 7121 limit=120 send=40000000 fin end
	jobs+=("$started")
	for mb in 3 4 5 6 7 8; do
		start slow_$mb source "$tcp_probe" connect "$dest_ip" 713$mb limit=120 send=1 fin wait="$dir/go" end
		jobs+=("$started")
	done
	# All of them are stuck when nothing moves any more.
	wait_for 60 still || not_ok "slow readers stop their senders" "bytes still move"
	attempt "flows are as fast beside slow readers as without" 3 full_speed
	equal "the slow readers' senders still wait" "$(serve_lines 7120) $(serve_lines 7121)" "0 0"
	: >"$dir/go"
	for mb in "${jobs[@]}"; do
		ended "$mb" 120
	done
	tells "a slow client gets everything" "$(<"$dir/slow_client.log")" read=40000000 wrong=none end=eof error=none
	wait_for 10 serve_told 7121 0
	tells "a slow destination gets everything" "$(tail -n 1 "$dir/serve_7121.log")" read=40000000 wrong=none end=eof error=none
	for mb in 3 4 5 6 7 8; do
		tells "a slow client that has half-closed gets everything, $mb MB" "$(<"$dir/slow_$mb.log")" \
			read=${mb}000000 wrong=none end=eof error=none
	done
	rm -f "$dir/go"
}

# No application's byte has moved at tx_proxy for 1.2 s: also longer than the daemons' own looks at what is quiet.
still() {
	local before
	before="$(stat tx bytes_in) $(stat rx bytes_in)"
	sleep 1.2
	[ "$before" = "$(stat tx bytes_in) $(stat rx bytes_in)" ]
}

prompt_echo() {
	local rtt echo
	rtt=$(on source ping -n -c 20 -i 0.02 "$dest_ip" | sed -n 's/.*time=\([0-9.]*\) ms/\1/p' | sort -n | sed -n 10p)
	echo=$(on source "$bin/stream" -c "$conf" --echo --count=40 --interval-ms=25 --json --quiet --timeout=30 2>>"$dir/stream.log" |
		jq 'select(.lost == 0) | .median_ms')
	why="median ${echo:-none} ms, RTT $rtt ms"
	awk "BEGIN { exit !(${echo:-1e9} <= 1.1 * $rtt + 2) }"
}

test_echo() { attempt "$pair_open: echoes of one byte within 1.1 RTT + 2 ms (median)" 4 prompt_echo; }

# ---- real clients -------------------------------------------------------------------------------------------------

http_prepare() {
	mkdir -p "$dir/www"
	head -c 3000000 /dev/urandom >"$dir/www/file"
	cat >"$dir/http.sh" <<-'END'
		# One HTTP request: GET gives a file, PUT answers with the hash of what came.
		read -r method path _
		path=${path%%\?*}
		length=0
		while read -r name value && [ "${name%$'\r'}" ]; do
			[ "${name,,}" != content-length: ] || length=${value%$'\r'}
		done
		if [ "$method" = GET ]; then
			body=$1/${path#/}
		else
			body=$(mktemp "$1/XXXXXX")
			head -c "$length" | sha256sum >"$body"
		fi
		printf 'HTTP/1.1 200 OK\r\nContent-Length: %s\r\nConnection: close\r\n\r\n' "$(wc -c <"$body")"
		cat "$body"
	END
	serve http dest 8080 socat -t 10 TCP-LISTEN:8080,fork,reuseaddr,backlog=64 EXEC:"bash $dir/http.sh $dir/www"
}

test_curl() {
	local sum
	sum=$(sha256sum <"$dir/www/file")
	captured on source curl -sS --max-time 30 -o "$dir/got" "http://$dest_ip:8080/file" 2>"$dir/curl.log"
	equal "$pair_open: curl fetches 3 MB" "$(sha256sum <"$dir/got") in $opened" "$sum in 1"
	equal "$pair_open: curl uploads 3 MB" \
		"$(on source curl -sS --max-time 30 -H Expect: -T "$dir/www/file" "http://$dest_ip:8080/" 2>>"$dir/curl.log")" "$sum"
	on source curl -sS --max-time 60 -Z --parallel-immediate -o "$dir/got_#1" "http://$dest_ip:8080/file?[1-12]" 2>>"$dir/curl.log"
	equal "$pair_open: curl fetches 3 MB twelve times at once" "$(cat "$dir"/got_* | sha256sum)" \
		"$(for _ in {1..12}; do cat "$dir/www/file"; done | sha256sum)"
	rm -f "$dir"/got*
}

ssh_prepare() {
	[ -x /usr/sbin/sshd ] && command -v ssh ssh-keygen >/dev/null || return 1
	mkdir -p "$dir/ssh" /run/sshd
	ssh-keygen -q -t ed25519 -N '' -f "$dir/ssh/host" && ssh-keygen -q -t ed25519 -N '' -f "$dir/ssh/client" || return 1
	cp "$dir/ssh/client.pub" "$dir/ssh/authorized"
	cat >"$dir/ssh/config" <<-END
		Port 22
		HostKey $dir/ssh/host
		PidFile none
		AuthorizedKeysFile $dir/ssh/authorized
		StrictModes no
		UsePAM no
		PermitRootLogin yes
		PasswordAuthentication no
	END
	start sshd dest /usr/sbin/sshd -D -e -f "$dir/ssh/config"
	wait_for 10 listens dest 22
}

# ssh_from HOST ADDRESS COMMAND…
ssh_from() {
	on "$1" timeout 60 ssh -F /dev/null -i "$dir/ssh/client" -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR \
		-o UserKnownHostsFile=/dev/null "root@$2" "${@:3}" 2>>"$dir/ssh.log"
}

test_ssh() {
	if ! ssh_prepare || [ "$(ssh_from dest 127.0.0.1 echo works </dev/null)" != works ]; then
		skip "ssh through the pair" "no sshd that works here: $(tail -n 1 "$dir/ssh.log" 2>/dev/null)"
		return
	fi
	captured ssh_from source "$dest_ip" 'echo $((6 * 7))' </dev/null >"$dir/answer"
	equal "ssh runs a command" "$(<"$dir/answer") in $opened" "42 in 1"
	ssh_from source "$dest_ip" cat <"$dir/www/file" >"$dir/got"
	check "ssh carries 3 MB there and back" "$(wc -c <"$dir/got") bytes, or others" cmp -s "$dir/got" "$dir/www/file"
	equal "ssh tells the exit code" "$(ssh_from source "$dest_ip" exit 7 </dev/null; echo $?)" 7
}

# One port of the client towards several destinations at the same time: after REDIRECT they differ in nothing but the
# port that conntrack gives them.
test_same_port() {
	local port jobs=()
	rm -f "$dir/go"
	for port in 7151 7152 7153; do
		[ "$pair_open" = early ] || probe_serve $port read=10 send=$port end
	done
	same_port() {
		for port in 7151 7152 7153; do
			start same_$port source "$tcp_probe" connect "$dest_ip" $port,45454 send=10 say=sent read=$port wait="$dir/go" fin end
			jobs+=("$started")
			log_wait "$dir/same_$port.log" sent 20
		done
		: >"$dir/go"
		for port in "${jobs[@]}"; do
			ended "$port" 20
		done
	}
	captured same_port
	equal "$pair_open: one client port to three destinations: a flow each" "$opened" 3
	for port in 7151 7152 7153; do
		tells "$pair_open: one client port to three destinations: $port answers" "$(tail -n 1 "$dir/same_$port.log")" \
			read=$port wrong=none end=eof error=none
		rm "$dir/same_$port.log"
	done
	check "$pair_open: one client port to three destinations: no flow is left" "$(stat tx flows)" wait_for 5 no_flows
	rm -f "$dir/go"
}

# A client uses a port again while the last bytes of the connection that had it before are still held up on the link.
test_port_again() {
	local lines first second
	lines=$(serve_lines 7154)
	start again source "$tcp_probe" connect "$dest_ip" 7154,45455 read=5 end say=read wait="$dir/go" send=10 fin
	first=$started
	log_wait "$dir/again.log" read 20
	link set blackhole=on >/dev/null
	: >"$dir/go"
	ended "$first" 20
	start again_too source "$tcp_probe" connect "$dest_ip" 7154,45455 read=5 end send=10 fin
	second=$started
	sleep 0.2
	link set blackhole=off >/dev/null
	ended "$second" 20
	tells "$pair_open: a port used again: the new connection works" "$(tail -n 1 "$dir/again_too.log")" read=5 end=eof error=none
	wait_for 10 serve_told 7154 $((lines + 1))
	server=$(tail -n 2 "$dir/serve_7154.log" | grep -c 'read=10 wrong=none end=eof error=none')
	equal "$pair_open: a port used again: both connections ended in order" "$server" 2
	rm -f "$dir/go" "$dir/again.log" "$dir/again_too.log"
}

no_flows() { [ "$(stat tx flows) $(stat rx flows)" = '0 0' ]; }

# ---- what is not captured -----------------------------------------------------------------------------------------

test_bypass() {
	talk 7119 read=100 fin end
	equal "a captured connection comes to the destination from rx_proxy" "$(sed 's/peer=\([^:]*\):.*/\1/' <<<"$server")" "$rx_ip"
	captured on source "$tcp_probe" connect "$bypassed_ip" 7119 read=100 fin end >"$dir/bypassed"
	equal "a destination of the bypass list: no flow is opened" "$opened" 0
	tells "a destination of the bypass list is reached" "$(<"$dir/bypassed")" read=100 end=eof error=none
	equal "a destination of the bypass list sees the client" \
		"$(tail -n 1 "$dir/serve_7119.log" | sed 's/peer=\([^:]*\):.*/\1/')" "$source_ip"
}

test_loop_guard() {
	captured on source "$tcp_probe" connect "$rx_ip" 6000 limit=5 send=10 end >"$dir/loop"
	equal "a client that connects to rx_proxy's port is not captured" "$opened" 0
	tells "rx_proxy turns it away" "$(<"$dir/loop")" error=ECONNRESET
	check "rx_proxy says so" "no line" log_wait "$rx_log" "refused.*$source_ip" 5
}

test_local_port() {
	local files
	files=$(stat tx files)
	for _ in {1..8}; do
		client=$(on source "$tcp_probe" connect "$tx_ip" 5000 limit=5 send=10 end)
	done
	tells "a client that connects to tx_proxy's port is turned away" "$client" error=ECONNRESET
	client=$(on tx "$tcp_probe" connect 127.0.0.1 5000 limit=5 send=10 end)
	tells "and so is one from the same host" "$client" error=ECONNRESET
	equal "that opens no flow and leaves no descriptor" "$(stat tx flows) $(stat tx files)" "0 $files"
	talk 7119 read=100 fin end
	tells "and harms nobody" "$client" read=100 end=eof error=none
}

# ---- the original project's configuration -------------------------------------------------------------------------

test_original_configuration() {
	pair_stop
	cat >"$conf" <<-END
		stream =
		{
		    dest_ip = "$dest_ip";
		    dest_port = "7100";
		    file_name = "$dir/www/file";
		};
		dest =
		{
		    recv_port = "7100";
		    out = "$dir/output.bin";
		    log = "$dir/receive_log";
		};
		tx_proxy =
		{
		    local_port = "5000";
		    rx_proxy_ip = "$rx_ip";
		    rx_proxy_port = "6000";
		};
		rx_proxy =
		{
		    dest_ip = "$dest_ip";
		    recv_port = "6000";
		    dest_port = "7100";
		};
	END
	rx_start && tx_start && tx_connected 8 || return
	rules up
	serve original dest 7100 "$bin/receive" -c "$conf"
	captured on source "$bin/stream" -c "$conf" --quiet --timeout=60 >"$dir/original_stream.log" 2>&1
	check "original configuration: stream's file arrives" "$(tail -n 3 "$dir/original_stream.log")" cmp "$dir/www/file" "$dir/output.bin"
	equal "original configuration: it went through the pair" "$opened" 1
	captured on source "$bin/stream" -c "$conf" --dest_port=7999 --quiet --timeout=60 >"$dir/original_stream.log" 2>&1
	check "original configuration: every flow goes to rx_proxy's dest_port" "$(tail -n 3 "$dir/original_stream.log")" \
		log_wait "$dir/receive_log" 'status=ok bytes=3000000' 5 2
}

# -------------------------------------------------------------------------------------------------------------------

test_ends() {
	test_half_close
	test_urgent
	test_reset
	test_client_gone
	test_refused
	test_same_port
	test_port_again
	test_echo
	test_curl
}

idle_end() {
	local line
	ended "$idle_pid" 200
	cat "$dir/idle.err" >&2
	# Its lines are ours; what did not come is missed.
	while read -r line; do
		printf '%s\n' "$line"
		[[ $line != 'not ok'* ]] || failures=$((failures + 1))
	done <"$dir/idle.out"
	check "the idle connections were looked at" "no lines" test -s "$dir/idle.out"
}

pair_begin "the pair's manners"
"$root/tests/lab/pair_idle.sh" >"$dir/idle.out" 2>"$dir/idle.err" &
idle_pid=$!
pids+=("$idle_pid")

pair_lab --rate 300M --delay 10ms --queue 1000000
ip -n "$lab-dest" addr add $bypassed_ip/24 dev eth0
pair_bypass="\"$bypassed_ip/32\", \"$bypassed_void_ip/32\""
pair_limits='flow_window_bytes = "2M"; memory_bytes = "64M";'
pair_start
serve_all
http_prepare
start_unreachable
test_ends
test_bypass
test_loop_guard
test_unreachable
test_local_port
test_slow_readers
test_ssh
pair_open=early
pair_restart
test_ends
test_original_configuration
check "rx_proxy still runs" "it has ended" alive rx
check "tx_proxy still runs" "it has ended" alive tx
pair_stop
idle_end
pair_end
