# pair: a running pair of proxies in a lab of its own, for tests that source this file. Needs root; skips without.
# shellcheck shell=bash disable=SC2034,SC2119,SC2120
#
#   . "$(dirname "$0")/pair.sh"
#   pair_begin "integrity"                # checks what is needed, else prints a skip and exits; sets the traps
#   pair_lab --rate 100M --delay 10ms     # the lab of a unique name; arguments as of `tools/lab up`
#   pair_stripes=2 pair_open=early        # what the configuration is to say, see below
#   pair_start                            # configuration, rx_proxy, tx_proxy, session up, rules up
#   on source curl http://192.168.2.22/   # a command on a host
#   pair_stop                             # rules down, both daemons ended (or pair_restart, for other settings)
#   pair_end                              # exit status 0 iff nothing was not ok
#
# Cases     ok NAME, not_ok NAME WHY, skip NAME REASON: one line each; not_ok also shows the ends of the logs (stderr).
#           check NAME WHY COMMAND…: ok if COMMAND succeeds.   equal NAME SEEN EXPECTED: ok if they are the same text.
#           tells NAME LINE WORD…: ok if each of the words is in the line.
#           attempt NAME TRIES COMMAND…: ok if COMMAND succeeds once; $why, set by it, tells what was seen.
# Waiting   wait_for SECONDS COMMAND…: until it succeeds.   log_wait FILE PATTERN SECONDS [COUNT]: until COUNT lines match.
#           ended PID SECONDS: until a background process has ended; its exit status, 124: it has not.
# Hosts     on HOST COMMAND…: runs it there.   link ARGUMENT…: as `tools/lab link`.
#           start NAME HOST COMMAND…: in the background, standard output and error in $dir/NAME.log; its pid is $started.
#           serve NAME HOST PORT COMMAND…: start, and wait until PORT listens there.
#           stop PID…: ends background processes and waits for them.
#           probe_serve PORT OPERATION…: tcp_probe listens on dest, its lines in $dir/serve_PORT.log
#           probe PORT OPERATION…: tcp_probe connects from source; prints its line.   See tcp_probe.c.
#           talk PORT OPERATION…: probe; sets $client and, for a probe_serve, $server: the lines of both ends.
# Pair      pair_lab, pair_start, pair_stop, pair_restart as above.
#           pair_configure: writes $conf.   rx_start, tx_start: wait for event=ready.   rx_stop, tx_stop [SIGNAL].
#           tx_connected: waits for event=session_up and all stripes, or for the number given.   rules up|down.
#           stat rx|tx KEY: of the daemon's event=stats (SIGUSR1); of several sessions the sum.   alive rx|tx
#           pair_pin: for many connections; sets the array $pin, a prefix for clients on source (tools/pin.sh).
#           captured COMMAND…: runs it; succeeds if COMMAND does and tx_proxy opened flows meanwhile; $opened: how many.
#
# Set before pair_configure (defaults in brackets); the parts called *_more are lines of configuration as they are:
#   pair_stripes [8], of each path, pair_stripes_all [the same], of all paths, pair_congestion [bbr where there is, else the
#   kernel's], pair_open [confirm], pair_bypass [""],
#   pair_sources ["192.168.2.11/32"], pair_interface [br0], pair_paths [one path "link"; of several: pair_paths.sh],
#   pair_tx_more, pair_rx_more, pair_limits [""], in both daemons,
#   pair_tx_security, pair_rx_security [mode none]
# Variables to read: $root, $bin, $lab (its name), $dir (temporary, removed at the end), $conf, $rx_pid, $tx_pid,
#   $rx_log, $tx_log (of the present run of each), $source_ip, $tx_ip, $rx_ip, $dest_ip, $failures
# From outside: PAIR_BIN (the programs), PAIR_TESTS (test programs), PAIR_LAB_PREFIX, PAIR_KEEP=1 (keep $dir)

set -uo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/tools/pin.sh"
bin=${PAIR_BIN:-$root/build/bin}
tcp_probe=${PAIR_TESTS:-$root/build/tests}/lab/tcp_probe
lab=${PAIR_LAB_PREFIX:-pt}$$
source_ip=192.168.2.11 tx_ip=192.168.2.201 rx_ip=192.168.2.202 dest_ip=192.168.2.22
failures=0 dumps=0 runs=0 why=''
pids=() pin=()
client='' server=''
dir='' conf='' rx_pid='' tx_pid='' rx_log='' tx_log='' started='' opened=0

pair_stripes=8 pair_stripes_all='' pair_open=confirm pair_bypass='' pair_sources='"192.168.2.11/32"' pair_paths=''
pair_tx_more='' pair_rx_more='' pair_limits='' pair_interface=br0
pair_tx_security='mode = "none";' pair_rx_security="mode = \"none\"; accept_from = ( \"$tx_ip/32\" );"
pair_congestion=${PAIR_CONGESTION-bbr}

# ---- cases --------------------------------------------------------------------------------------------------------

ok() { printf 'ok - %s\n' "$1"; }
skip() { printf 'skip - %s: %s\n' "$1" "$2"; }

# Only the first failures show logs: the others are most often of the same cause.
not_ok() {
	printf 'not ok - %s: %s\n' "$1" "$2"
	failures=$((failures + 1))
	dumps=$((dumps + 1))
	[ "$dumps" -gt 3 ] || logs_show 25
}

check() { if "${@:3}"; then ok "$1"; else not_ok "$1" "$2"; fi; }
equal() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "expected '$3', got '$2'"; fi; }

tells() {
	local word
	for word in "${@:3}"; do
		if [[ " $2 " != *" $word "* ]]; then
			not_ok "$1" "no '$word' in '$2'"
			return
		fi
	done
	ok "$1"
}

attempt() {
	local try
	for ((try = 0; try < $2; try++)); do
		if "${@:3}"; then
			ok "$1"
			return
		fi
	done
	not_ok "$1" "$why"
}

logs_show() {
	local file
	for file in "$rx_log" "$tx_log"; do
		if [ -n "$file" ] && [ -e "$file" ]; then
			printf '# %s\n' "${file##*/}" >&2
			grep -v 'event=stats' "$file" | tail -n "$1" | cut -c 1-400 | sed 's/^/#   /' >&2
		fi
	done
}

# ---- waiting ------------------------------------------------------------------------------------------------------

wait_for() {
	local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
	until "${@:2}"; do
		[ "${EPOCHREALTIME/./}" -lt "$deadline" ] || return 1
		sleep 0.05
	done
}

log_has() { [ -e "$1" ] && [ "$(grep -Ec -- "$2" "$1")" -ge "$3" ]; }
log_wait() { wait_for "$3" log_has "$1" "$2" "${4:-1}"; }

is_gone() {
	# A zombie has ended too: its status is for `wait`.
	[ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null || [ ! -e "/proc/$1" ]
}

ended() {
	wait_for "$2" is_gone "$1" || return 124
	wait "$1" 2>/dev/null
}

# ---- hosts --------------------------------------------------------------------------------------------------------

on() { ip netns exec "$lab-$1" "${@:2}"; }
link() { "$root/tools/lab" link --name "$lab" "$@"; }

start() {
	ip netns exec "$lab-$2" "${@:3}" >>"$dir/$1.log" 2>&1 </dev/null &
	started=$!
	pids+=("$started")
}

listens() { [ -n "$(on "$1" ss -Hltn "sport = :$2")" ]; }

serve() {
	start "$1" "$2" "${@:4}"
	wait_for 10 listens "$2" "$3" || not_ok "$1 listens on $2:$3" "$(tail -n 3 "$dir/$1.log")"
}

stop() {
	local pid
	kill "$@" 2>/dev/null
	for pid; do
		ended "$pid" 5
		[ $? != 124 ] || kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
}

probe_serve() { serve "serve_$1" dest "$1" "$tcp_probe" listen "$@"; }
serve_lines() { grep -c '^peer=' "$dir/serve_$1.log"; }
serve_told() { [ "$(serve_lines "$1")" -gt "$2" ]; }
talk() {
	local count
	count=$(serve_lines "$1")
	client=$(probe "$@")
	server='nothing'
	! wait_for 10 serve_told "$1" "$count" || server=$(tail -n 1 "$dir/serve_$1.log")
}
probe() { on source "$tcp_probe" connect "$dest_ip" "$@"; }

# ---- the pair -----------------------------------------------------------------------------------------------------

pair_skip() {
	skip "$1" "$2"
	exit 0
}

pair_begin() {
	local tool
	[ "$(id -u)" = 0 ] || pair_skip "$1" "needs root"
	[ -c /dev/net/tun ] || pair_skip "$1" "no /dev/net/tun"
	for tool in ip nft ss socat jq curl nc; do
		command -v "$tool" >/dev/null || pair_skip "$1" "$tool is not installed"
	done
	for tool in "$bin"/{tx_proxy,rx_proxy,stream,receive,link_emulator} "$tcp_probe"; do
		[ -x "$tool" ] && continue
		not_ok "$1" "$tool is missing: make all tests"
		exit 1
	done
	dir=$(mktemp -d) || exit 1
	# Daemons that give up root read and write here, too.
	chmod 755 "$dir"
	conf=$dir/network.conf
	trap pair_clean EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

pair_clean() {
	trap '' INT TERM
	[ "${#pids[@]}" = 0 ] || kill "${pids[@]}" 2>/dev/null
	"$root/tools/lab" down --name "$lab" >/dev/null 2>&1
	if [ "${PAIR_KEEP-}" = 1 ]; then
		printf '# kept: %s\n' "$dir" >&2
	else
		rm -rf "$dir"
	fi
}

pair_end() { exit $((failures > 0)); }

pair_lab() {
	if ! "$root/tools/lab" up --name "$lab" "$@" >"$dir/lab.log" 2>&1; then
		not_ok "the lab comes up" "$(tail -n 3 "$dir/lab.log" | tr '\n' ' ')"
		exit 1
	fi
	on tx grep -qw "${pair_congestion:-none}" /proc/sys/net/ipv4/tcp_available_congestion_control || pair_congestion=''
}

pair_configure() {
	local congestion='' paths
	[ -z "$pair_congestion" ] || congestion="congestion = \"$pair_congestion\";"
	paths=${pair_paths:-"{ name = \"link\"; stripes = $pair_stripes; $congestion }"}
	cat >"$conf" <<-END
		stream = { dest_ip = "$dest_ip"; dest_port = 7000; };
		dest = { recv_port = 7000; };
		tx_proxy = {
			local_port = 5000; rx_proxy_ip = "$rx_ip"; rx_proxy_port = 6000;
			capture = { interfaces = ( "$pair_interface" ); sources = ( $pair_sources ); open = "$pair_open"; bypass = ( $pair_bypass ); };
			paths = ( $paths );
			security = { $pair_tx_security };
			limits = { $pair_limits };
			$pair_tx_more
		};
		rx_proxy = {
			recv_port = 6000; $congestion
			security = { $pair_rx_security };
			limits = { $pair_limits };
			$pair_rx_more
		};
	END
}

# daemon_start rx|tx ARGUMENT…: sets $started and $daemon_log. 0: it has said event=ready.
daemon_start() {
	local name
	runs=$((runs + 1))
	name=$1_proxy.$runs
	daemon_log=$dir/$name.log
	start "$name" "$1" "$bin/$1_proxy" -c "$conf" "${@:2}"
	log_wait "$daemon_log" 'event=ready' 10
}

rx_start() {
	local status=0
	daemon_start rx "$@" || status=1
	rx_pid=$started rx_log=$daemon_log
	[ "$status" = 0 ] || not_ok "rx_proxy is ready" "$(tail -n 3 "$rx_log" | tr '\n' ' ')"
	return "$status"
}

tx_start() {
	local status=0
	daemon_start tx "$@" || status=1
	tx_pid=$started tx_log=$daemon_log
	[ "$status" = 0 ] || not_ok "tx_proxy is ready" "$(tail -n 3 "$tx_log" | tr '\n' ' ')"
	return "$status"
}

all_stripes_up() { [ "$(stat tx stripes_up)" -ge "$1" ]; }

tx_connected() {
	local count=${1:-${pair_stripes_all:-$pair_stripes}}
	log_wait "$tx_log" 'event=session_up' 15 && wait_for 15 all_stripes_up "$count" && return
	not_ok "the session is up with $count stripes" "$(tail -n 3 "$tx_log" | tr '\n' ' ')"
	return 1
}

rules() {
	on tx "$bin/tx_proxy" -c "$conf" "--rules=$1" >>"$dir/rules.log" 2>&1 ||
		not_ok "rules $1" "$(tail -n 3 "$dir/rules.log" | tr '\n' ' ')"
}

# daemon_stop PID [SIGNAL]
daemon_stop() {
	[ -n "$1" ] || return 0
	kill "-${2:-TERM}" "$1" 2>/dev/null
	ended "$1" 10
	[ $? != 124 ] || { not_ok "a daemon ends on SIG${2:-TERM}" "it still runs"; kill -KILL "$1"; }
}

rx_stop() { daemon_stop "$rx_pid" "$@"; rx_pid=''; }
tx_stop() { daemon_stop "$tx_pid" "$@"; tx_pid=''; }

pair_start() {
	pair_configure
	rx_start && tx_start && tx_connected && rules up && return
	# No case could say more than this one did.
	exit 1
}

pair_stop() {
	rules down
	tx_stop
	rx_stop
}

pair_restart() { pair_stop; pair_start; }

alive() { local pid=${1}_pid; [ -n "${!pid}" ] && ! is_gone "${!pid}"; }

stats_told() { [ "$(grep -c ' event=stats ' "$1")" -gt "$2" ]; }

stat() {
	local pid=${1}_pid log=${1}_log count
	log=${!log}
	count=$(grep -c ' event=stats ' "$log")
	kill -USR1 "${!pid}" 2>/dev/null || { echo -1; return 1; }
	wait_for 5 stats_told "$log" "$count" || { echo -1; return 1; }
	grep ' event=stats ' "$log" | tail -n +$((count + 1)) |
		awk -v key="$2=" '{ for (i = 1; i <= NF; i++) if (index($i, key) == 1) sum += substr($i, length(key) + 1) } END { print sum + 0 }'
}

pair_pin() { pin_with "$tx_pid"; }

captured() {
	local before status=0
	before=$(stat tx flows_opened)
	"$@" || status=$?
	opened=$(($(stat tx flows_opened) - before))
	[ "$status" = 0 ] && [ "$opened" -gt 0 ]
}
