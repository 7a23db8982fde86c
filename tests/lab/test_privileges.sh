#!/bin/bash
# What the programs are built like, what the daemons may do once they serve, and with what configuration they do not serve at
# all. Each capability that is kept is needed: without it the same configuration fails. About 15 s. time-limit: 120
set -uo pipefail
export LC_ALL=C

root=$(cd "$(dirname "$0")/../.." && pwd)
BIN=${PAIR_BIN:-$root/build/bin}
OBJ=${BIN%/bin}/obj
net=${PAIR_LAB_PREFIX:-pp}$$
failed=0 pids=() pid='' log=''
dir=$(mktemp -d) || exit 1
chmod 755 "$dir"

clean() {
	trap '' INT TERM
	[ "${#pids[@]}" = 0 ] || kill "${pids[@]}" 2>/dev/null
	wait 2>/dev/null
	ip netns del "$net" 2>/dev/null
	rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ok() { printf 'ok - %s\n' "$1"; }
not_ok() { printf 'not ok - %s: %s\n' "$1" "$2"; failed=1; }
skip() { printf 'skip - %s: %s\n' "$1" "$2"; }
check() { if "${@:3}"; then ok "$1"; else not_ok "$1" "$2"; fi; }
equal() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "expected '$3', got '$2'"; fi; }

# ---- how they are built -------------------------------------------------------------------------------------------

has() { grep -Eq "$1" "$dir/elf"; }
lacks() { ! has "$1"; }

test_elf() { # PROGRAM
	readelf -W -h -l -d --dyn-syms "$BIN/$1" >"$dir/elf" 2>&1
	check "$1: position-independent" "it is not" has 'Type: +DYN .*Position-Independent Executable'
	check "$1: relocations are read-only" "no RELRO" has 'GNU_RELRO'
	check "$1: all of them, from the start" "no BIND_NOW" has 'BIND_NOW|FLAGS_1.*NOW'
	check "$1: no executable stack" "it has one" has 'GNU_STACK .* RW +0x'
	check "$1: nothing is both writable and executable" "something is" lacks 'LOAD .* RWE'
	check "$1: stack protector" "no __stack_chk_fail" has '__stack_chk_fail'
	check "$1: fortified functions" "none" has '__[a-z]+_chk@'
	check "$1: no library path of its own" "it has one" lacks '\((RPATH|RUNPATH|TEXTREL)\)'
}

# The mark of each object; a program has it only where the C library's start files have it, which Debian's have not.
test_cet() {
	local object unmarked=''
	[ -e "$OBJ/rx_proxy/main.o" ] || { skip "control-flow protection" "no objects beside $BIN"; return; }
	[ "$(uname -m)" = x86_64 ] || { skip "control-flow protection" "not x86-64"; return; }
	for object in "$OBJ"/{common/io,common/core,tx_proxy,rx_proxy}/*.o; do
		readelf -n "$object" 2>/dev/null | grep -q 'IBT, SHSTK' || unmarked+="${object##*/} "
	done
	equal "control-flow protection in every object of the daemons" "$unmarked" ''
}

test_build() {
	local program
	command -v readelf >/dev/null || { skip "how the programs are built" "readelf is not installed"; return; }
	for program in tx_proxy rx_proxy stream receive link_emulator; do
		test_elf "$program"
	done
	test_cet
}

# ---- what they may do ---------------------------------------------------------------------------------------------

caps=(Prm Eff Bnd)
net_admin=1000 net_raw=2000 both=3000

wait_line() { # PATTERN SECONDS
	local try
	for ((try = 0; try < $2 * 20; try++)); do
		! grep -Eq "$1" "$log" || return 0
		sleep 0.05
	done
	return 1
}

# serve NAME PROGRAM FILE [COMMAND…]: in the namespace, by way of COMMAND; sets $pid, $log.
serve() {
	log=$dir/$1.log
	: >"$log"
	ip netns exec "$net" "${@:4}" "$BIN/$2" -c "$dir/$3" >"$log" 2>&1 </dev/null &
	pid=$!
	pids+=("$pid")
	wait_line 'event=(ready|failed)' 10
}

end() { # PID…
	kill "$@" 2>/dev/null
	wait "$@" 2>/dev/null
}

status() { awk -v key="$1:" '$1 == key { $1 = ""; sub("^ ", ""); print }' "/proc/$pid/status"; }

# holds NAME CAPABILITIES: the daemon that was served last; in hexadecimal.
holds() {
	local set seen='' expected=''
	for set in "${caps[@]}"; do
		seen+="$set=$(printf '%x' "0x$(status "Cap$set")") "
		expected+="$set=$2 "
	done
	equal "$1: capabilities" "$seen" "$expected"
	equal "$1: none to inherit" "$(status CapInh) $(status CapAmb)" "0000000000000000 0000000000000000"
	equal "$1: user and group, all four" "$(status Uid) $(status Gid)" "$nobody $nobody $nobody $nobody $nogroup $nogroup $nogroup $nogroup"
	equal "$1: no further groups" "$(status Groups)" ''
	equal "$1: no new privileges" "$(status NoNewPrivs)" 1
	check "$1: its user cannot look into its memory" "he can" eval \
		"! setpriv --reuid=$nobody --regid=$nogroup --clear-groups head -c 1 /proc/$pid/environ >/dev/null 2>&1"
}

# without CAPABILITY…: a command's prefix: as root, but for these, for good.
without() {
	local less=''
	for cap; do less+=",-$cap"; done
	prefix=(setpriv --inh-caps "${less#,}" --bounding-set "${less#,}")
}

configure() { # FILE TX_PATH TX_CAPTURE RX_MORE
	cat >"$dir/$1" <<-END
		tx_proxy = {
			rx_proxy_ip = "127.0.0.1"; capture = { $3 };
			paths = ( { stripes = 2; $2 } );
			security = { mode = "none"; };
		};
		rx_proxy = { $4 security = { mode = "none"; accept_from = ( "127.0.0.1" ); }; };
	END
}

free_congestion() { awk '{ print $1 }' /proc/sys/net/ipv4/tcp_allowed_congestion_control; }
# One that the kernel has and not everybody may choose, if there is one.
restricted_congestion() {
	tr ' ' '\n' </proc/sys/net/ipv4/tcp_available_congestion_control |
		grep -vxFf <(tr ' ' '\n' </proc/sys/net/ipv4/tcp_allowed_congestion_control) | head -n 1
}

pair_in() { # NAME FILE: both; sets $tx and $rx
	serve "$1.rx" rx_proxy "$2"
	rx=$pid
	serve "$1.tx" tx_proxy "$2"
	tx=$pid
	check "$1: with these they find each other" "$(tail -n 2 "$log" | tr '\n' ' ')" wait_line event=session_up 5
}

test_capabilities() {
	local rx tx free restricted wished=0 prefix
	if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null || ! ip netns add "$net" 2>/dev/null; then
		skip "what the daemons may do" "needs root, setpriv and network namespaces"
		return
	fi
	ip -n "$net" link set lo up
	nobody=$(id -u nobody) nogroup=$(id -g nobody)
	free=$(free_congestion)
	restricted=$(restricted_congestion)
	[ -z "$restricted" ] || wished=$net_admin

	configure plain '' 'method = "none";' "congestion = \"$free\";"
	pair_in "nothing special" plain
	pid=$rx holds "rx_proxy, nothing special" 0
	pid=$tx holds "tx_proxy, nothing captured" 0
	end "$rx" "$tx"

	configure capture '' 'interfaces = ( "lo" );' ''
	pair_in "capture" capture
	pid=$rx holds "rx_proxy, congestion control as tx_proxy wishes" $wished
	pid=$tx holds "tx_proxy, capture" $net_admin
	end "$tx"
	without net_admin
	serve no_admin tx_proxy capture "${prefix[@]}"
	check "tx_proxy, capture: CAP_NET_ADMIN is needed" "$(tail -n 1 "$log")" wait_line 'event=failed .*not permitted' 1
	end "$rx"

	configure mark 'mark = 7;' 'method = "none";' "congestion = \"$free\";"
	pair_in "mark" mark
	pid=$tx holds "tx_proxy, a path with a mark" $net_raw
	end "$tx"
	without net_admin net_raw
	serve no_raw tx_proxy mark "${prefix[@]}"
	check "tx_proxy, a path with a mark: CAP_NET_RAW is needed" "$(tail -n 1 "$log")" wait_line 'dial_failed .*step=mark' 3
	end "$pid" "$rx"

	configure device 'interface = "lo";' 'method = "none";' "congestion = \"$free\";"
	pair_in "interface" device
	pid=$tx holds "tx_proxy, a path with an interface" 0
	end "$tx" "$rx"

	configure client '' 'method = "none";' "source = \"client\"; congestion = \"$free\";"
	pair_in "client's address" client
	pid=$rx holds "rx_proxy, the client's address" $net_raw
	end "$tx" "$rx"

	[ -n "$restricted" ] || { skip "a congestion control that not everybody may choose" "there is none"; return; }
	configure restricted '' 'method = "none";' "congestion = \"$restricted\";"
	pair_in "a congestion control that not everybody may choose" restricted
	pid=$rx holds "rx_proxy, that congestion control" 0
	equal "rx_proxy, that congestion control: its stripes have it" \
		"$(ip netns exec "$net" ss -Htni "sport = :6000 and dport != :0" | grep -c " $restricted ")" 2
	end "$tx" "$rx"
}

# ---- with what they do not serve ----------------------------------------------------------------------------------

# stays_down NAME PATTERN: rx_proxy with the group on standard input ends with code 2, and so does --check.
stays_down() {
	local said code
	cat >"$dir/down.conf"
	said=$(timeout 5 "$BIN/rx_proxy" -c "$dir/down.conf" --recv_port=1 2>&1)
	code=$?
	check "rx_proxy does not start: $1" "code $code: $said" eval "[ $code = 2 ] && grep -Eq '$2' <<<'${said//\'/}'"
	said=$("$BIN/rx_proxy" --check -c "$dir/down.conf" 2>&1)
	code=$?
	check "and --check says so: $1" "code $code: $said" eval "[ $code = 2 ] && grep -Eq '$2' <<<'${said//\'/}'"
}

test_refusals() {
	stays_down "no security, any destination" 'whoever reaches recv_port' <<<'rx_proxy = { };'
	stays_down "mode none without a list" 'needs accept_from' <<<'rx_proxy = { security = { mode = "none"; }; };'
	stays_down "mode none with an empty list" 'needs accept_from' <<<'rx_proxy = { security = { mode = "none"; accept_from = ( ); }; };'
	stays_down "mode none without a list, fixed destination" 'needs accept_from' \
		<<<'rx_proxy = { dest_ip = "192.0.2.3"; dest_port = 7000; security = { mode = "none"; }; };'
	stays_down "security without a mode" 'mode is missing' <<<'rx_proxy = { security = { }; };'
	stays_down "a list without a mode" 'mode is missing' <<<'rx_proxy = { security = { accept_from = ( "192.0.2.1" ); }; };'
	stays_down "psk without keys" 'keys is missing' <<<'rx_proxy = { security = { mode = "psk"; }; };'
	stays_down "psk with no keys" 'keys is missing|expected' <<<'rx_proxy = { security = { mode = "psk"; keys = ( ); }; };'
	stays_down "psk with a key file that is not there" 'cannot be read' \
		<<<'rx_proxy = { security = { mode = "psk"; keys = ( { identity = "a"; key_file = "/nonexistent"; } ); }; };'
	stays_down "psk with a list of addresses" 'mode "none" alone' \
		<<<'rx_proxy = { security = { mode = "psk"; accept_from = ( "192.0.2.1" ); keys = ( { identity = "a"; key_file = "/nonexistent"; } ); }; };'
	stays_down "an unknown mode" 'is unknown; expected "psk" or "none"' <<<'rx_proxy = { security = { mode = "PSK"; }; };'
}

test_build
test_capabilities
test_refusals
exit "$failed"
