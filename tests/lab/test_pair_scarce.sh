#!/bin/bash
# No more descriptors, no more memory, at either daemon: it says so, what is open goes on and is whole, new connections go straight
# through, it does not spin, and it takes connections again when there is enough. rx_proxy started anew: the old flows end with a
# reset at once, and a new one flows within a second. Local ports that wait for their end at rx_proxy. About 50 s. time-limit: 240
. "$(dirname "$0")/pair_load.sh"

who_port=7100 hold_port=7101 echo_port=7102
second_ms=1000
held=()

# ---- what came of a connection ------------------------------------------------------------------------------------

# Sets $via (pair, direct or none) by the address that the destination saw.
look() {
	local seen
	seen=$(on source timeout 10 socat -u "TCP:$dest_ip:$who_port" - 2>&1)
	case $seen in
	"$rx_ip") via=pair ;;
	"$source_ip") via=direct ;;
	*) via=none ;;
	esac
}
goes() { look; [ "$via" = "$1" ]; }
expect() { look; equal "$1" "$via" "$2"; }
expect_soon() { check "$1" "still $via" wait_for "${3:-10}" goes "$2"; }

hold_many() { # COUNT: connections that nothing ends but us
	local i
	rm -f "$dir"/held*.log
	for ((i = 0; i < $1; i++)); do
		start "held$i" source "$tcp_probe" connect "$dest_ip" $hold_port limit=300 read=1 say=in read=1
		held+=("$started")
	done
	wait_for 15 all_in "$1"
}
all_in() { [ "$(cat "$dir"/held*.log 2>/dev/null | grep -c '^in$')" -ge "$1" ]; }
release_all() {
	stop "${held[@]}"
	held=()
	wait_for 15 no_flows || not_ok "$1: the flows end" "$(stat tx flows), $(stat rx flows) left"
}
no_flows() { [ "$(stat tx flows)$(stat rx flows)" = 00 ]; }

requests() {
	on source "$bin/stream" -c "$conf" --requests=200 --parallel=40 --answer=30k --json --quiet --timeout=60 2>>"$dir/stream.err" |
		jq -c '[.answered, .failures]'
}

# ---- limits -------------------------------------------------------------------------------------------------------

# limit tx|rx RESOURCE VALUE: its limits are its owner's to set; root may, even where it must not go beyond them.
limit() {
	local pid=${1}_pid
	pid=${!pid}
	setpriv --reuid="$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" --regid="$(awk '/^Gid:/ { print $2 }' "/proc/$pid/status")" \
		--clear-groups prlimit --pid "$pid" "--$2=$3:"
}

# Limits count numbers, and a process may have inherited odd ones.
lowest_free() {
	local pid=${1}_pid fd=0
	while [ -e "/proc/${!pid}/fd/$fd" ]; do
		fd=$((fd + 1))
	done
	echo "$fd"
}

address_space() {
	local pid=${1}_pid
	awk '/^VmSize:/ { print $2 * 1024 }' "/proc/${!pid}/status"
}

said() { # tx|rx PATTERN
	local log=${1}_log
	check "$scarce: $1_proxy says so" "no line with $2" log_wait "${!log}" "$2" 5
}
few_lines() { # tx|rx
	local log=${1}_log
	check "$scarce: the log is limited in rate" "$(lines "${!log}") lines" [ "$(lines "${!log}")" -le 150 ]
}

# ---- cases --------------------------------------------------------------------------------------------------------

# scarce_files tx|rx PATTERN: two descriptors are left.
scarce_files() {
	scarce="no descriptors at $1_proxy"
	transfer_begin --duration_s=4
	limit "$1" nofile $(($(lowest_free "$1") + 2))
	hold_many 4
	check "$scarce: every connection reaches its destination" "some do not" all_in 4
	expect "$scarce: a new one goes straight through" direct
	said "$1" "$2"
	[ "$1" = tx ] || scarce_stripes
	# What the transfer needs is not spinning: it is over then.
	transfer_is_whole "$scarce: the transfer that was open is whole"
	rests "$scarce: it does not spin" 5 1 "$1"
	few_lines "$1"
	limit "$1" nofile 4096
	release_all "$scarce"
	expect_soon "$scarce: given back, through the pair again" pair
}

# Connections to its own port are not left waiting for an accept that cannot be.
scarce_stripes() {
	local ended
	ended=$(on tx "${PAIR_TESTS:-$root/build/tests}/lab/hostile" many "$rx_ip" 6000 50 3000)
	check "$scarce: stripes that come are ended at once" "$ended" grep -q ' open=[012]$' <<<"$ended"
	said rx 'event=accept_failed .*Too many open files'
}

# scarce_memory tx|rx PATTERN: not a byte of address space more, while flows are open and more come.
scarce_memory() {
	local answered
	scarce="no memory at $1_proxy"
	hold_many 20
	transfer_begin --duration_s=4
	sleep 0.5
	limit "$1" as "$(address_space "$1")"
	answered=$(requests)
	equal "$scarce: every connection reaches its destination" "$answered" "[200,0]"
	hold_many 60
	expect_soon "$scarce: a new one goes straight through" direct 5
	said "$1" "$2"
	transfer_is_whole "$scarce: the transfer that was open is whole"
	check "$scarce: so are the others" "$(grep -c '^in$' "$dir"/held*.log | grep -c ':0$') ended" all_alive
	rests "$scarce: it does not spin" 5 1 "$1"
	few_lines "$1"
	limit "$1" as unlimited
	expect_soon "$scarce: given back, through the pair again" pair
	release_all "$scarce"
	check "$scarce: it lives" "it has gone" alive "$1"
}
all_alive() { kill -0 "${held[@]}" 2>/dev/null; }

flow_within() { # MS: the first that goes through the pair
	local begun=${EPOCHREALTIME/./}
	wait_for 10 goes pair
	took_ms=$(((${EPOCHREALTIME/./} - begun) / 1000))
	[ "$via" = pair ] && [ "$took_ms" -le "$1" ]
}

# Started anew at once, with flows open that are idle, and one under way.
test_restart() {
	local begun ended_ms took_ms=none open=()
	scarce="rx_proxy started anew"
	hold_many 20
	open=("${held[@]}")
	transfer_begin --duration_s=40
	rx_stop KILL
	rx_start
	begun=${EPOCHREALTIME/./}
	check "$scarce: a new flow goes through it within a second" "$took_ms ms" flow_within $second_ms
	wait_for 10 all_gone "${open[@]}" "$stream_pid"
	ended_ms=$(((${EPOCHREALTIME/./} - begun) / 1000))
	check "$scarce: the old flows end within a second" "$ended_ms ms" [ "$ended_ms" -le $second_ms ]
	equal "$scarce: they end with a reset" "$(grep -l 'error=ECONNRESET' "$dir"/held*.log | wc -l) $(transfer_status)" "20 reset"
	printf '# %s: old flows had ended after %s ms, a new one was through after %s ms\n' "$scarce" "$ended_ms" "$took_ms"
	held=()
}
all_gone() { local pid; for pid; do is_gone "$pid" || return 1; done; }

# Connections that the client ends first: their ports wait at rx_proxy (TIME-WAIT).
echoes() { # COUNT: how many were answered
	on source bash -c 'for ((i = 0; i < $1; i++)); do
		nc -N -w 10 "$2" "$3" <<<in &
		((i % 20 != 19)) || wait
	done; wait' - "$1" "$dest_ip" $echo_port 2>>"$dir/echoes.err" | grep -c '^in$'
}

# rx_proxy lets the kernel look at some of the ports only: those that wait must not keep it from the others. By itself the
# kernel takes those of one parity first, while there are any (__inet_hash_connect).
kernel_takes_ranges() { [ "$(printf '%s\n' 6.8 "$(uname -r)" | sort -V | head -n 1)" = 6.8 ]; }
test_ports() {
	local before waiting
	scarce="many ports wait at rx_proxy"
	rx_stop TERM
	on rx sysctl -qw net.ipv4.ip_local_port_range="20000 22399"
	rx_start
	check "$scarce: the pair is back" "$via" flow_within 5000
	before=$(stat rx flows_opened)
	equal "$scarce: all are answered" "$(echoes 340)" 340
	equal "$scarce: through the pair" $(($(stat rx flows_opened) - before)) 340
	on rx ss -Htan state time-wait "dport = :$echo_port" | awk '{ print $3 }' | grep -o '2[0-2]...$' >"$dir/ports"
	waiting="$(grep -c '[02468]$' "$dir/ports") even, $(grep -c '[13579]$' "$dir/ports") odd"
	check "$scarce: they do" "$waiting" [ "$(wc -l <"$dir/ports")" -ge 300 ]
	! kernel_takes_ranges || check "$scarce: of either parity" "$waiting" eval "grep -q '[02468]$' '$dir/ports' && grep -q '[13579]$' '$dir/ports'"
}

pair_begin "scarce"
pair_lab --rate 60M --delay 10ms
pair_start
load_serve
# shellcheck disable=SC2016
serve who dest $who_port socat "TCP-LISTEN:$who_port,fork,reuseaddr,backlog=64" 'SYSTEM:echo $SOCAT_PEERADDR'
probe_serve $hold_port limit=300 send=1 read=1
serve echo dest $echo_port socat "TCP-LISTEN:$echo_port,fork,reuseaddr,backlog=64" PIPE
expect "to begin with: through the pair" pair
scarce_files tx 'event=syn_direct .*reason=files_scarce'
scarce_files rx 'event=connect_failed .*status=limit'
scarce_memory tx 'event=syn_direct .*reason=memory_scarce'
scarce_memory rx 'event=open_limit .*reason="flows or memory"'
test_restart
test_ports
pair_stop
pair_end
