# lab_topology: hosts, cables and addresses of the lab. Part of tools/lab, which sets name, links, routed, plain, mtu, via.
# shellcheck shell=bash disable=SC2154

on() { ip -n "$name-$1" "${@:2}"; }
on_exec() { ip netns exec "$name-$1" "${@:2}"; }

# MAC address of number $2 on segment $1: 1 is the bridged segment or the source's, 2 the dest's, 100 + k link k's,
# 150 + k that of the cable behind it from mid to rx.
mac() { printf '02:00:00:00:%02x:%02x' "$1" "$2"; }

# The host at the other end of link $1.
link_far() { if [[ " ${via[*]} " == *" $1 "* ]]; then echo mid; else echo rx; fi; }

# Settings that every host starts with; a setting that this kernel does not have is passed over.
host_settings='
	put() { if [ -e "/proc/sys/$1" ]; then echo "$2" >"/proc/sys/$1" || true; fi; }
	for scope in all default; do
		put net/ipv6/conf/$scope/accept_dad 0
		put net/ipv6/conf/$scope/dad_transmits 0
		put net/ipv6/conf/$scope/accept_ra 0
		put net/ipv6/conf/$scope/router_solicitations 0
		put net/ipv4/conf/$scope/rp_filter 0
	done
	put net/ipv4/tcp_no_metrics_save 1
	put net/ipv4/tcp_congestion_control cubic 2>/dev/null
	case $1 in
	bridge)
		put net/bridge/bridge-nf-call-iptables 1
		put net/bridge/bridge-nf-call-ip6tables 1 ;;
	router)
		put net/ipv4/ip_forward 1
		put net/ipv6/conf/all/forwarding 1 ;;
	esac
'

hosts_make() {
	local host role congestion
	local made=(source tx rx dest)
	[ "${#via[@]}" = 0 ] || made+=(mid)
	for host in "${made[@]}"; do
		case $host in
		mid) role=router ;;
		tx | rx) if [ "$routed" = 1 ]; then role=router; else role=bridge; fi ;;
		*) role=host ;;
		esac
		ip netns add "$name-$host"
		on_exec "$host" sh -c "$host_settings" sh "$role" 2>/dev/null
		on "$host" link set lo up
	done
	say "hosts       ${made[*]/#/$name-}"
	congestion=$(on_exec source cat /proc/sys/net/ipv4/tcp_congestion_control)
	if [ "$congestion" != cubic ]; then
		say "note        TCP uses $congestion unless told: net.ipv4.tcp_allowed_congestion_control does not list cubic"
	fi
	if [ "$routed" = 0 ] && ! on_exec tx test -e /proc/sys/net/bridge/bridge-nf-call-iptables; then
		say "note        no br_netfilter here: iptables and nft ip rules will not see bridged packets"
	fi
}

# A veth from device $2 of host $1, with MAC $3, to device $5 of host $4, with MAC $6.
cable_make() {
	ip link add "$2" netns "$name-$1" address "$3" type veth peer name "$5" netns "$name-$4" address "$6"
	on "$1" link set "$2" up
	on "$4" link set "$5" up
}

# Link $1, between eth$1 of tx and of rx or mid, with MACs $2 and $3.
link_make() {
	local k=$1 far
	far=$(link_far "$k")
	if [ "$plain" = 1 ]; then
		cable_make tx "eth$k" "$2" "$far" "eth$k" "$3"
		on tx link set "eth$k" mtu "$mtu"
		on "$far" link set "eth$k" mtu "$mtu"
		say "link $k      eth$k of tx and $far: a plain cable"
	else
		emulator_start "$k"
		on tx link set "eth$k" address "$2"
		on "$far" link set "eth$k" address "$3"
	fi
}

bridge_make() {
	on "$1" link add br0 address "$2" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
	on "$1" link set eth0 master br0
	on "$1" link set eth1 master br0
	on "$1" link set br0 up
}

# Host $1's device $2 gets IPv4 $3 and IPv6 $4, with prefix lengths.
address_add() {
	on "$1" addr add "$3" dev "$2"
	if [ -d /proc/sys/net/ipv6 ]; then
		on "$1" -6 addr add "$4" dev "$2" nodad
	fi
}

# Host $1 knows on its device $2 that MAC $3 has the addresses after it.
neighbour_add() {
	local address
	for address in "${@:4}"; do
		if [[ $address != *:* || -d /proc/sys/net/ipv6 ]]; then
			on "$1" neigh replace "$address" lladdr "$3" dev "$2" nud permanent
		fi
	done
}

bridged_make() {
	local entry other host device number
	# host, device with the address, host number
	local table=('source eth0 11' 'tx br0 201' 'rx br0 202' 'dest eth0 22')
	cable_make source eth0 "$(mac 1 11)" tx eth0 "$(mac 1 1)"
	cable_make dest eth0 "$(mac 1 22)" rx eth0 "$(mac 1 2)"
	say "cables      source to tx, dest to rx"
	link_make 1 "$(mac 101 1)" "$(mac 101 2)"
	bridge_make tx "$(mac 1 201)"
	bridge_make rx "$(mac 1 202)"
	say "bridges     br0 of tx and rx: eth0 and eth1"
	for entry in "${table[@]}"; do
		read -r host device number <<<"$entry"
		address_add "$host" "$device" "192.168.2.$number/24" "fd00:2::$number/64"
		for other in "${table[@]}"; do
			[ "$other" = "$entry" ] && continue
			neighbour_add "$host" "$device" "$(mac 1 "${other##* }")" "192.168.2.${other##* }" "fd00:2::${other##* }"
		done
	done
	say "addresses   192.168.2.0/24 and fd00:2::/64"
}

# One end of a segment with two: host $1's device $2 has number $5 in 4-prefix $3 and 6-prefix $4; the other has $6.
# $7 is the segment's number for MACs.
end_make() {
	address_add "$1" "$2" "$3.$5/24" "$4::$5/64"
	neighbour_add "$1" "$2" "$(mac "$7" "$6")" "$3.$6" "$4::$6"
}

route_add() {
	on "$1" route add "$2" via "$3"
	if [ -d /proc/sys/net/ipv6 ]; then
		on "$1" -6 route add "$4" via "$5"
	fi
}

# The rest of link $1's way through mid: its cable to rx, and who is where for those who are not at its ends.
via_make() {
	local k=$1
	cable_make mid "rx$k" "$(mac $((150 + k)) 1)" rx "eth$k" "$(mac $((150 + k)) 2)"
	on mid link set "rx$k" mtu "$mtu"
	on rx link set "eth$k" mtu "$mtu"
	end_make mid "rx$k" "10.78.$k" "fd00:78:$k" 1 2 $((150 + k))
	end_make rx "eth$k" "10.78.$k" "fd00:78:$k" 2 1 $((150 + k))
	route_add tx "10.78.$k.0/24" "10.77.$k.2" "fd00:78:$k::/64" "fd00:77:$k::2"
	route_add rx "10.77.$k.0/24" "10.78.$k.1" "fd00:77:$k::/64" "fd00:78:$k::1"
	say "cable       mid to rx, behind link $k"
}

routed_make() {
	local k
	cable_make source eth0 "$(mac 1 11)" tx eth0 "$(mac 1 1)"
	cable_make dest eth0 "$(mac 2 22)" rx eth0 "$(mac 2 1)"
	say "cables      source to tx, dest to rx"
	for ((k = 1; k <= links; k++)); do
		link_make "$k" "$(mac $((100 + k)) 1)" "$(mac $((100 + k)) 2)"
		end_make tx "eth$k" "10.77.$k" "fd00:77:$k" 1 2 $((100 + k))
		end_make "$(link_far "$k")" "eth$k" "10.77.$k" "fd00:77:$k" 2 1 $((100 + k))
		[ "$(link_far "$k")" = rx ] || via_make "$k"
	done
	end_make source eth0 192.168.2 fd00:2 11 1 1
	end_make tx eth0 192.168.2 fd00:2 1 11 1
	end_make dest eth0 192.168.3 fd00:3 22 1 2
	end_make rx eth0 192.168.3 fd00:3 1 22 2
	route_add source default 192.168.2.1 default fd00:2::1
	route_add dest default 192.168.3.1 default fd00:3::1
	if [ "${#via[@]}" -gt 0 ]; then
		route_add mid default "10.78.${via[0]}.2" default "fd00:78:${via[0]}::2"
		route_add mid 192.168.2.0/24 "10.77.${via[0]}.1" fd00:2::/64 "fd00:77:${via[0]}::1"
	fi
	route_add tx 192.168.3.0/24 10.77.1.2 fd00:3::/64 fd00:77:1::2
	if [ "$(link_far 1)" = mid ]; then
		route_add rx 192.168.2.0/24 10.78.1.1 fd00:2::/64 fd00:78:1::1
	else
		route_add rx 192.168.2.0/24 10.77.1.1 fd00:2::/64 fd00:77:1::1
	fi
	say "addresses   192.168.2.0/24, 10.77.k.0/24 for link k, 192.168.3.0/24; routes over link 1"
}

topology_make() {
	if [ "$routed" = 0 ] && [ ! -d /proc/sys/net/bridge ]; then
		modprobe br_netfilter 2>/dev/null || true
	fi
	hosts_make
	if [ "$routed" = 1 ]; then
		routed_make
	else
		bridged_make
	fi
}

topology_addresses() {
	on "$1" -o addr show scope global |
		awk '{ sub("/.*", "", $4); list = list sep $2 " " $4; sep = ", " } END { print list }'
}

topology_picture() {
	local wire='===== link ====='
	[ "$plain" = 0 ] || wire='---- cable ----'
	echo
	if [ "$routed" = 0 ]; then
		cat <<PICTURE
  source                tx                                  rx                 dest
  eth0 ---------- eth0 [br0] eth1 $wire eth1 [br0] eth0 ---------- eth0
  192.168.2.11       192.168.2.201                   192.168.2.202     192.168.2.22
PICTURE
	else
		cat <<PICTURE
  source                   tx                                  rx                     dest
  eth0 ----------- eth0 (router) eth1 $wire eth1 (router) eth0 ----------- eth0
  192.168.2.11     192.168.2.1   10.77.1.1          10.77.1.2   192.168.3.1    192.168.3.22
PICTURE
		if [ "$links" -gt 1 ]; then
			printf '  links 1 to %s, each between 10.77.k.1 and 10.77.k.2 on eth<k>\n' "$links"
		fi
		[ "${#via[@]}" = 0 ] || printf '  through mid, to 10.78.k.2 of rx: link %s\n' "${via[*]}"
	fi
	echo
	say "lab $name is up. Try: tools/lab run$(topology_name_option) source ping 192.168.$((routed ? 3 : 2)).22"
}

topology_name_option() {
	[ "$name" = pair ] || printf ' --name %s' "$name"
}
