#!/bin/bash
# make install and make uninstall, into a folder of their own; the installed programs and units work; nothing is left.
# As root also: both daemons run with exactly the capabilities that their units give them, as a user without any name.
set -u
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/../.." && pwd)
failed=0
pids=()
dir=$(mktemp -d) || exit 1
chmod 755 "$dir"
netns=${PAIR_LAB_PREFIX:-pi}$$

cleanup() {
	trap '' INT TERM
	[ "${#pids[@]}" = 0 ] || { kill "${pids[@]}"; wait "${pids[@]}"; } 2>/dev/null
	[ ! -e "/run/netns/$netns" ] || ip netns del "$netns"
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ok() { printf 'ok - %s\n' "$1"; }
not_ok() { printf 'not ok - %s: %s\n' "$1" "$2"; failed=1; }
skip() { printf 'skip - %s: %s\n' "$1" "$2"; }
check() { if "${@:3}"; then ok "$1"; else not_ok "$1" "$2"; fi; }
one_line() { tr '\n' ';' | cut -c 1-400; }

stage=$dir/stage prefix=/usr
make_it() {
	# What an outer make tells its children about jobs does not concern this one.
	MAKEFLAGS='' make -s -C "$root" DESTDIR="$stage" PREFIX="$prefix" "$@" >"$dir/make.log" 2>&1
}
said() { one_line <"$dir/make.log"; }

# ---- install ------------------------------------------------------------------------------------------------------

make_it install
check 'make install' "$(said)" test $? = 0

for program in sbin/tx_proxy sbin/rx_proxy bin/stream bin/receive; do
	version=$("$stage$prefix/$program" --version 2>&1)
	check "the installed $program tells its version" "$version" \
		grep -Eqx "${program#*/} [0-9]+\.[0-9]+\.[0-9]+" <<<"$version"
done

for page in man8/tx_proxy.8 man8/rx_proxy.8 man1/stream.1 man1/receive.1 man5/network.conf.5; do
	check "$page is installed" 'it is not there' test -s "$stage$prefix/share/man/$page"
done
check 'README, licence, documents and example are installed' "$(ls -R "$stage$prefix/share/doc" 2>&1 | one_line)" \
	test -s "$stage$prefix/share/doc/pair_proxy/README.md" -a -s "$stage$prefix/share/doc/pair_proxy/COPYING" \
	-a -s "$stage$prefix/share/doc/pair_proxy/doc/architecture.md" -a -s "$stage$prefix/share/doc/pair_proxy/network.conf"

conf=$stage/etc/pair_proxy/network.conf
# BBR may be missing in this kernel, and is not what is asked here.
sed -i '/congestion *= /d' "$conf"
for program in tx_proxy rx_proxy; do
	output=$("$stage$prefix/sbin/$program" -c "$conf" --check 2>&1)
	check "the installed $program takes the installed configuration" "$output" grep -q 'is valid' <<<"$output"
done

# ---- units --------------------------------------------------------------------------------------------------------

units=$stage$prefix/lib/systemd/system
for unit in tx_proxy rx_proxy; do
	file=$units/$unit.service
	left=$(grep -o '@[a-z]*@' "$file" 2>&1)
	check "$unit.service is filled in" "$left" test -z "$left"
	# Programs named with their full path must be there; Exec prefixes stand before them.
	wrong=''
	while read -r program; do
		[ -x "$stage$program" ] || wrong+=" $program"
	done < <(sed -nE 's/^Exec[A-Za-z]+=[-+@:!]*([^ ]+).*/\1/p' "$file")
	check "$unit.service starts what is installed" "not there:$wrong" test -z "$wrong"
	if command -v systemd-analyze >/dev/null; then
		# The machine's own units are needed for what these refer to; complaints about them are not ours.
		sed "s|$prefix/sbin/|$stage$prefix/sbin/|" "$file" >"$dir/$unit.service"
		output=$(systemd-analyze verify --man=no "$dir/$unit.service" 2>&1 | grep -F "$unit.service")
		check "systemd understands $unit.service" "$(one_line <<<"$output")" test -z "$output"
	else
		skip "systemd understands $unit.service" 'systemd-analyze is not installed'
	fi
done

# ---- capabilities -------------------------------------------------------------------------------------------------

unit_capabilities() { sed -n 's/^AmbientCapabilities=//p' "$units/$1.service" | tr -s ' ' '\n' | sed 's/CAP_/+/' | tr 'A-Z\n' 'a-z,' | sed 's/,$//'; }

# Runs an installed daemon as its unit does, in the namespace: no root, and these capabilities alone. Options may follow.
run_daemon() {
	local caps
	: >"$dir/$1.log"
	caps=$(unit_capabilities "$1")
	ip netns exec "$netns" setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps="-all,$caps" --ambient-caps="-all,$caps" \
		--bounding-set="-all,$caps" --no-new-privs "$stage$prefix/sbin/$1" -c "$dir/run.conf" "${@:2}" >"$dir/$1.log" 2>&1 </dev/null &
	pids+=($!)
}

wait_line() {
	local try
	for ((try = 0; try < 100; try++)); do
		grep -q "$2" "$1" 2>/dev/null && return
		sleep 0.05
	done
	return 1
}

with_capabilities() {
	local name="the daemons find each other with their units' capabilities"
	[ "$(id -u)" = 0 ] || { skip "$name" 'needs root'; return; }
	command -v setpriv >/dev/null || { skip "$name" 'setpriv is not installed'; return; }
	ip netns add "$netns" 2>"$dir/netns.log" || { skip "$name" "no network namespaces: $(one_line <"$dir/netns.log")"; return; }
	ip -n "$netns" link set lo up
	# What needs the capabilities: the queue, a mark, a device, and a congestion control that is not for everybody. The last is
	# told by a log line where it fails.
	cat >"$dir/run.conf" <<-'CONF'
		tx_proxy = {
			rx_proxy_ip = "127.0.0.1"; capture = { interfaces = ( "lo" ); };
			paths = ( { stripes = 2; mark = 7; interface = "lo"; congestion = "cubic"; } );
			security = { mode = "none"; };
		};
		rx_proxy = { source = "client"; security = { mode = "none"; accept_from = ( "127.0.0.1" ); }; };
	CONF
	run_daemon rx_proxy
	wait_line "$dir/rx_proxy.log" event=ready
	run_daemon tx_proxy
	check "$name" "$(cat "$dir/tx_proxy.log" "$dir/rx_proxy.log" | one_line)" wait_line "$dir/tx_proxy.log" event=session_up
	check 'and may choose any congestion control' "$(grep -h congestion_refused "$dir"/*.log | one_line)" \
		test "$(cat "$dir"/*_proxy.log | grep -c congestion_refused)" = 0
	run_daemon rx_proxy --recv_port=6001 --congestion=reno
	wait_line "$dir/rx_proxy.log" event=ready
	check 'rx_proxy may take the clients'\'' addresses, and no more, where its congestion control is for everybody' \
		"$(grep CapEff "/proc/${pids[-1]}/status")" grep -q '^CapEff:.*0002000$' "/proc/${pids[-1]}/status"
}
with_capabilities

# ---- again, and away ----------------------------------------------------------------------------------------------

echo '// mine' >>"$conf"
make_it install
check 'make install keeps a configuration that is there' "$(said)" grep -q '// mine' "$conf"
make_it uninstall
check 'make uninstall' "$(said)" test $? = 0
left=$(cd "$stage" && find . ! -type d)
check 'make uninstall keeps a configuration that was changed, and nothing else' "$(one_line <<<"$left")" \
	test "$left" = ./etc/pair_proxy/network.conf

rm -f "$conf"
make_it install && make_it uninstall
left=$(cd "$stage" && find . ! -type d -o -name 'pair_proxy*')
check 'make uninstall leaves nothing' "$(one_line <<<"$left")" test -z "$left"
exit "$failed"
