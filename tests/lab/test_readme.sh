#!/bin/bash
# README.md's way to four machines, each command exactly as it stands there, on four hosts in network namespaces.
#
# A comment `<!-- run: HOST… [background] -->` before a block says where it runs: tx, rx, source, dest; build (on the
# machine that builds: looked at, not run); tx-iptables (the other way to put up the rules, tried afterwards). The test has
# processes, mounts and networks of its own, which end with it; sudo and modprobe are replaced: here is root already,
# and no test loads modules into somebody's kernel.
set -u
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${PAIR_BIN:-$root/build/bin}
failed=0

ok() { printf 'ok - %s\n' "$1"; }
not_ok() { printf 'not ok - %s: %s\n' "$1" "$2"; failed=1; }
skip() { printf 'skip - %s: %s\n' "$1" "$2"; exit 0; }
check() { if "${@:3}"; then ok "$1"; else not_ok "$1" "$2"; fi; }
one_line() { tr '\n' ';' | cut -c 1-400; }
last_lines() { tail -n 4 "$@" 2>/dev/null | one_line; }

name="README.md's commands"
[ "$(id -u)" = 0 ] || skip "$name" 'needs root'
for tool in unshare nsenter ip nft iptables ping pkill; do
	command -v "$tool" >/dev/null || skip "$name" "$tool is not installed"
done
if [ "${1-}" != inside ]; then
	unshare --mount --pid --fork true 2>/dev/null || skip "$name" 'unshare is not permitted'
	dir=$(mktemp -d) || exit 1
	trap 'rmdir "$dir"' EXIT
	# What is started in there ends with its first process, this script, and so do networks and files.
	unshare --mount --pid --fork --kill-child --mount-proc "$0" inside "$dir"
	exit
fi
dir=$2

# ---- four hosts ---------------------------------------------------------------------------------------------------

mount -t tmpfs -o mode=755 none "$dir" && mkdir "$dir"/pair "$dir"/shims "$dir"/blocks
mkdir -p /run/netns && mount -t tmpfs none /run/netns
for host in source tx rx dest; do
	ip netns add "$host" && ip -n "$host" link set lo up || exit 1
done
ip link add eth0 netns source type veth peer name eth0 netns tx
ip link add eth1 netns tx type veth peer name eth1 netns rx
ip link add eth0 netns rx type veth peer name eth0 netns dest
# What the two proxies' interfaces had before they were put into bridges.
ip -n tx address add 10.1.1.1/24 dev eth0
ip netns exec tx test -e /proc/sys/net/bridge || skip "$name" 'this kernel has no br_netfilter'
cp "$bin"/{stream,receive,tx_proxy,rx_proxy} "$root/network.conf" "$dir"/pair
grep -qw bbr /proc/sys/net/ipv4/tcp_available_congestion_control || sed -i '/congestion *= /d' "$dir"/pair/network.conf
printf '#!/bin/sh\nexec "$@"\n' >"$dir"/shims/sudo
printf '#!/bin/sh\nexit 0\n' >"$dir"/shims/modprobe
chmod 755 "$dir"/shims/*
PATH=$dir/shims:$PATH

# The blocks of README.md: blocks/NUMBER, and a line "NUMBER WORDS…" for each.
awk -v dir="$dir" '
	/^<!-- run: .* -->$/ { words = $0; gsub(/^<!-- run: | -->$/, "", words); next }
	/^```sh$/ && words != "" { n++; file = dir sprintf("/blocks/%02d", n); print sprintf("%02d", n), words; words = ""; next }
	/^```$/ { if (file != "") close(file); file = ""; next }
	file != "" { print > file }
' "$root/README.md" >"$dir"/blocks/list

# block NUMBER HOST: each line must succeed; what they print is in $dir/out.
block() { (cd "$dir"/pair && ip netns exec "$2" bash -e "$dir/blocks/$1" >"$dir"/out 2>&1 </dev/null); }

log_wait() {
	local try
	for ((try = 0; try < 200; try++)); do
		grep -q "$2" "$1" 2>/dev/null && return
		sleep 0.05
	done
	return 1
}

# The last value of a key in the events of a log.
value() { grep -oE "\b$2=[^ ]+" "$1" | tail -n 1 | cut -d= -f2; }
stats() {
	local before
	before=$(grep -c event=stats_intercept "$dir"/tx.log)
	pkill -USR1 -x tx_proxy
	for ((try = 0; try < 100; try++)); do
		[ "$(grep -c event=stats_intercept "$dir"/tx.log)" -gt "$before" ] && return
		sleep 0.05
	done
}

# ---- as it stands there -------------------------------------------------------------------------------------------

stream_block=''
while read -r number words; do
	first=$(head -n 1 "$dir/blocks/$number")
	for host in $words; do
		title="on $host: $first"
		case $host in
		background) ;;
		build) ;;
		tx-iptables) iptables_block=$number ;;
		*)
			if [[ $words == *background* ]]; then
				(cd "$dir"/pair && exec ip netns exec "$host" bash -e "$dir/blocks/$number") >"$dir/$host.log" 2>&1 </dev/null &
				check "$title" "$(last_lines "$dir/$host.log")" log_wait "$dir/$host.log" event=ready
				[ "$host" != tx ] || check 'tx_proxy finds rx_proxy' "$(last_lines "$dir"/tx.log)" log_wait "$dir"/tx.log event=session_up
			else
				block "$number" "$host"
				check "$title" "$(last_lines "$dir"/out)" test $? = 0
			fi
			;;
		esac
		case $first in
		./stream*)
			stream_block=$number
			check 'stream says that all arrived' "$(last_lines "$dir"/out)" grep -q '0 failed.*20971520 confirmed' "$dir"/out
			;;
		*pkill*)
			log_wait "$dir"/tx.log event=stats_intercept
			check 'the statistics show one captured connection' "$(last_lines "$dir"/tx.log)" test "$(value "$dir"/tx.log captured)" = 1
			;;
		esac
	done
done <"$dir"/blocks/list

# ---- what it promises besides -------------------------------------------------------------------------------------

# The same connections with the plain lines: captured, and refused where the destination refuses.
(cd "$dir"/pair && ip netns exec tx ./tx_proxy --rules=down) >"$dir"/out 2>&1
check 'on tx: ./tx_proxy --rules=down' "$(last_lines "$dir"/out)" test $? = 0
check 'nothing of the rules is left' "$(ip netns exec tx nft list ruleset | one_line)" \
	test "$(ip netns exec tx nft list ruleset | grep -c pair_proxy)" = 0
ip netns exec tx sysctl -q -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
block "${iptables_block:-none}" tx
check 'the plain iptables lines' "$(last_lines "$dir"/out)" test $? = 0
block "${stream_block:-none}" source
check 'stream with the plain lines' "$(last_lines "$dir"/out)" grep -q '0 failed.*20971520 confirmed' "$dir"/out
(cd "$dir"/pair && ip netns exec source ./stream --dest_port=7001) >"$dir"/out 2>&1
check 'a refusal is a refusal with the plain lines' "$(last_lines "$dir"/out)" grep -q 'Connection refused' "$dir"/out
stats
check 'both went through tx_proxy' "$(last_lines "$dir"/tx.log)" \
	test "$(value "$dir"/tx.log captured) $(value "$dir"/tx.log refused)" = '2 1'

# Straight through without tx_proxy.
pkill -KILL -x tx_proxy
block "${stream_block:-none}" source
check 'stream works without tx_proxy' "$(last_lines "$dir"/out)" grep -q '0 failed.*20971520 confirmed' "$dir"/out
exit "$failed"
