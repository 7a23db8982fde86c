#!/bin/bash
# Three paths to one address of rx_proxy, each bound in another way: by address, by mark with an ip rule, and by interface
# alone, through a third host. What is sent arrives whole in both directions, and each path carries its part over its own
# link, with that link's address. About 15 s.

# shellcheck source=tests/lab/pair_load.sh
. "$(dirname "${BASH_SOURCE[0]}")/pair_load.sh"

file_bytes=12000000
# The least that a path must have carried of it, each way.
share_bytes=$((file_bytes / 10))
mark=16

pair_begin "several paths, bound in three ways"
tx_ip=10.77.1.1 rx_ip=10.77.1.2 dest_ip=192.168.3.22
pair_lab --links 3 --via 3 --rate 30M --delay 10ms --queue 75000
pair_interface=eth0 pair_stripes=4 pair_stripes_all=12
pair_rx_security='mode = "none"; accept_from = ( "10.77.1.1", "10.77.2.1", "10.77.3.1" );'
options="stripes = $pair_stripes;"
[ -z "$pair_congestion" ] || options+=" congestion = \"$pair_congestion\";"
pair_paths="{ name = \"address\"; local_ip = \"10.77.1.1\"; $options },
	{ name = \"mark\"; mark = $mark; $options },
	{ name = \"interface\"; interface = \"eth3\"; $options }"

# An uplink that is not the first choice: a default route of its own, with a higher metric. rp_filter as systemd sets it.
on tx ip route add default via 10.77.1.2 dev eth1 metric 100
on tx ip route add default via 10.77.3.2 dev eth3 metric 300
on tx sh -c 'for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 2 >"$file"; done'
# What the path with a mark needs; none of the others do.
on tx ip route add default via 10.77.2.2 dev eth2 table $mark
on tx ip rule add fwmark $mark table $mark

# ---- up -----------------------------------------------------------------------------------------------------------

pair_start
for path in address mark interface; do
	check "path $path is up" "$(grep -E 'path_up|dial_failed' "$tx_log" | tail -n 3 | tr '\n' ' ')" \
		log_wait "$tx_log" "event=path_up .*path=$path" 5
done

# How many stripes come from each address, as rx sees it: "4 10.77.1.1 4 10.77.2.1 …".
stripe_sources() {
	on rx ss -Htn state established 'sport = :6000' |
		awk '{ sub(":[0-9]*$", "", $4); sub("^\\[::ffff:", "", $4); sub("\\]$", "", $4); print $4 }' | sort | uniq -c | xargs
}
equal "each path has its link's address" "$(stripe_sources)" "4 10.77.1.1 4 10.77.2.1 4 10.77.3.1"

# ---- the interface alone decides ----------------------------------------------------------------------------------

# The way from tx to rx's address, with the options of `ip route get` after that.
way_of() { on tx ip route get "$rx_ip" "$@" | grep -oE 'dev [a-z0-9]+' | tail -n 1; }
equal "without the interface that address is over link 1" "$(way_of)" "dev eth1"
equal "with it, over link 3" "$(way_of oif eth3)" "dev eth3"
equal "no rule speaks of the path with an interface" "$(on tx ip rule | grep -vcE 'lookup (local|main|default)')" 1

# ---- data ---------------------------------------------------------------------------------------------------------

# Bytes that link $1 has delivered, $2: ab (tx to rx) or ba.
link_bytes() { link "$1" show | jq ".$2.bytes_delivered"; }
third_host_bytes() { on mid cat "/sys/class/net/rx3/statistics/$1"; }

# transfer WAY: of the file, up or down; sets $carried (of links 1 to 3) and $through (the third host).
transfer() {
	local k way=ab counter=tx_bytes before=() host_before
	[ "$1" = up ] || way=ba counter=rx_bytes
	for k in 1 2 3; do
		before[k]=$(link_bytes "$k" "$way")
	done
	host_before=$(third_host_bytes "$counter")
	rm -f "$dir/out"
	if [ "$1" = up ]; then
		on source timeout 30 socat -t 30 "OPEN:$dir/file!!STDOUT" "TCP:$dest_ip:7101" >"$dir/out"
	else
		on source timeout 30 socat -u "TCP:$dest_ip:7102" - | sha256sum >"$dir/out"
	fi
	carried=()
	for k in 1 2 3; do
		carried[k]=$(($(link_bytes "$k" "$way") - before[k]))
	done
	through=$(($(third_host_bytes "$counter") - host_before))
}

head -c "$file_bytes" /dev/urandom >"$dir/file"
sum=$(sha256sum <"$dir/file")
serve take dest 7101 socat -t 30 TCP-LISTEN:7101,fork,reuseaddr SYSTEM:sha256sum
serve give dest 7102 socat -U TCP-LISTEN:7102,fork,reuseaddr "OPEN:$dir/file,rdonly"

for way in up down; do
	check "$way: it goes through the pair" "it went directly, or failed" captured transfer "$way"
	equal "$way: SHA-256" "$(cat "$dir/out")" "$sum"
	for k in 1 2 3; do
		check "$way: link $k carried its part" "${carried[*]} bytes over links 1 to 3" [ "${carried[k]}" -ge "$share_bytes" ]
	done
	check "$way: what link 3 carried came through the third host" "$through bytes of ${carried[3]}" \
		[ "$through" -ge "$share_bytes" ]
done

pair_stop
pair_end
