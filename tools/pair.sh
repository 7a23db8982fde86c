# pair: the two daemons in a lab that is up, and what the lab's endpoints are like. Part of tools/demo and tools/bench.
# The caller sets lab (the lab's name), bin (the programs), work (a folder of its own for logs) and tools.
# shellcheck shell=bash disable=SC2154

tx_pid='' rx_pid=''

lab() { "$tools/lab" --name "$lab" "$@"; }
on_host() { ip netns exec "$lab-$1" "${@:2}"; }

pair_fail() {
	printf '\n%s: %s\n' "${0##*/}" "$1" >&2
	shift
	[ $# = 0 ] || tail -n 8 -- "$@" >&2
	exit 1
}

# Waits until file $1 has a line with $2, $3 seconds at most, while process $4 lives.
await_line() {
	local deadline=$((SECONDS + $3))
	until grep -q -- "$2" "$1" 2>/dev/null; do
		[ "$SECONDS" -lt "$deadline" ] && [ -d "/proc/$4" ] || return 1
		sleep 0.05
	done
}

# Starts rx_proxy and tx_proxy with the configuration $1 and waits for their session. No rules yet: nothing is captured.
# The commands are not functions, so that $! is the daemon itself.
pair_start() {
	pair_conf=$1
	# Here, not only in the children: await_line must not meet the lines of those before.
	: >"$work/rx_proxy.log"
	: >"$work/tx_proxy.log"
	ip netns exec "$lab-rx" "$bin/rx_proxy" -c "$pair_conf" </dev/null >"$work/rx_proxy.log" 2>&1 &
	rx_pid=$!
	await_line "$work/rx_proxy.log" event=ready 5 "$rx_pid" || pair_fail 'rx_proxy did not start:' "$work/rx_proxy.log"
	ip netns exec "$lab-tx" "$bin/tx_proxy" -c "$pair_conf" </dev/null >"$work/tx_proxy.log" 2>&1 &
	tx_pid=$!
	await_line "$work/tx_proxy.log" event=ready 5 "$tx_pid" || pair_fail 'tx_proxy did not start:' "$work/tx_proxy.log"
	await_line "$work/tx_proxy.log" event=session_up 10 "$tx_pid" ||
		pair_fail 'the pair found no session:' "$work/tx_proxy.log" "$work/rx_proxy.log"
}

# "up": connections of the source go through the pair; "down": they go directly, as if nothing were installed.
pair_capture() {
	on_host tx "$bin/tx_proxy" -c "$pair_conf" "--rules=$1" >"$work/rules.log" 2>&1 ||
		pair_fail "tx_proxy --rules=$1 failed:" "$work/rules.log"
}

# The value of key $2 in the newest event=stats of daemon $1 (tx or rx); asks for one first.
pair_stat() {
	local pid=$tx_pid log=$work/$1_proxy.log before wait
	[ "$1" = tx ] || pid=$rx_pid
	before=$(grep -c 'event=stats ' "$log" || true)
	kill -USR1 "$pid" || return 1
	for ((wait = 0; wait < 40; wait++)); do
		[ "$(grep -c 'event=stats ' "$log" || true)" -gt "$before" ] && break
		sleep 0.05
	done
	grep 'event=stats ' "$log" | tail -n 1 | tr ' ' '\n' | sed -n "s/^$2=//p"
}

pair_stop() {
	local pid
	for pid in $tx_pid $rx_pid; do
		kill -TERM "$pid" 2>/dev/null || true
	done
	for pid in $tx_pid $rx_pid; do
		wait "$pid" 2>/dev/null || true
	done
	tx_pid='' rx_pid=''
}

# Gives source and dest congestion control $1, as a host has it whose programs do not ask for one. By route, because
# the setting of a namespace may choose only among net.ipv4.tcp_allowed_congestion_control. Sets `endpoints` to its
# name, or to that of the kernel's default where it has no $1.
endpoints_use() {
	local host route
	endpoints=$1
	for host in source dest; do
		# In a lab of routers the other end is behind the default route.
		route=$(ip -n "$lab-$host" route show default | sed 's/ congctl.*//')
		[ -n "$route" ] || route=$(ip -n "$lab-$host" route show 192.168.2.0/24 | sed 's/ congctl.*//')
		# shellcheck disable=SC2086
		if ! ip -n "$lab-$host" route change $route congctl "$1" 2>/dev/null; then
			# shellcheck disable=SC2086
			ip -n "$lab-$host" route change $route
			endpoints=$(on_host "$host" cat /proc/sys/net/ipv4/tcp_congestion_control)
		fi
	done
	endpoints=${endpoints^^}
}
