# pair_paths: a pair with several paths, each over a link of its own. Sources pair_load.sh.
# shellcheck shell=bash disable=SC2034,SC2154
#
#   paths_lab 2 --rate 20M --delay 12ms   # instead of pair_lab: so many links; arguments as of `tools/lab up`
#   path_more[2]='backup = true;'         # lines of configuration of one path
#   paths_start                           # instead of pair_start: path `linkK` over link K, $pair_stripes stripes each
#   link 2 set ab blackhole=on            # a fault, while it runs; `ab` is tx to rx; see `link_emulator --help`
#
# path_stat rx|tx K KEY: the sum over the stripes that path linkK has now, of a key of event=stats_stripe (SIGUSR1).
# path_total rx|tx K KEY: of its event=stats_path, which counts the stripes that are gone as well.
# path_moved rx|tx K BYTES: succeeds if the path carried so much, from that daemon, in half a second.
# path_still rx|tx K BYTES: succeeds if it carried at most so much.

. "$(dirname "${BASH_SOURCE[0]}")/pair_load.sh"

path_more=() path_count=0

paths_lab() {
	path_count=$1
	tx_ip=10.77.1.1 rx_ip=10.77.1.2 dest_ip=192.168.3.22
	pair_interface=eth0
	pair_lab --links "$@"
}

paths_configure() {
	local k congestion='' accept=''
	[ -z "$pair_congestion" ] || congestion="congestion = \"$pair_congestion\";"
	pair_paths=''
	for ((k = 1; k <= path_count; k++)); do
		pair_paths+="${pair_paths:+, }{ name = \"link$k\"; local_ip = \"10.77.$k.1\"; remote_ip = \"10.77.$k.2\";
			stripes = $pair_stripes; $congestion ${path_more[k]-} }"
		accept+="${accept:+, }\"10.77.$k.1/32\""
	done
	pair_rx_security="mode = \"none\"; accept_from = ( $accept );"
}

paths_start() {
	paths_configure
	pair_stripes_all=$((path_count * pair_stripes))
	pair_start
}

path_stat() {
	local log=${1}_log count path=link$2
	log=${!log}
	# rx_proxy knows a path by its number.
	[ "$1" = tx ] || path=path$(($2 - 1))
	count=$(grep -c ' event=stats ' "$log")
	stat "$1" flows >/dev/null || { echo -1; return 1; }
	awk -v skip="$count" -v path="path=$path" -v key="$3=" '
		/ event=stats / { seen++ }
		/ event=stats_stripe / && seen > skip && index($0, path " ") {
			for (i = 1; i <= NF; i++) if (index($i, key) == 1) sum += substr($i, length(key) + 1)
		}
		END { print sum + 0 }' "$log"
}

path_total() {
	local log=${1}_log path=link$2 value
	log=${!log}
	[ "$1" = tx ] || path=path$(($2 - 1))
	# The line is the last one of the path's once another event=stats has come after it.
	stat "$1" flows >/dev/null && stat "$1" flows >/dev/null || { echo -1; return 1; }
	value=$(awk -v path="path=$path" '
		/ event=stats / { line = next_line; next_line = "" }
		/ event=stats_path / && index($0, path " ") { next_line = $0 }
		END { print line }' "$log" | grep -oE " $3=[^ ]+")
	echo "${value#*=}"
}

path_carried() { # rx|tx K: in half a second; less than nothing if stripes were replaced meanwhile
	local before
	before=$(path_stat "$1" "$2" bytes_out)
	sleep 0.5
	echo $(($(path_stat "$1" "$2" bytes_out) - before))
}

path_moved() { [ "$(path_carried "$1" "$2")" -ge "$3" ]; }
path_still() { [ "$(path_carried "$1" "$2")" -le "$3" ]; }
