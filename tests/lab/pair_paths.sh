# pair_paths: a pair with several paths, each over a link of its own. Sources pair_load.sh.
# shellcheck shell=bash disable=SC2034,SC2154
#
#   paths_lab 2 --rate 20M --delay 12ms   # instead of pair_lab: so many links; arguments as of `tools/lab up`
#   path_more[2]='backup = true;'         # lines of configuration of one path
#   paths_start                           # instead of pair_start: path `linkK` over link K, $pair_stripes stripes each
#   link 2 set ab blackhole=on            # a fault, while it runs; `ab` is tx to rx; see `link_emulator --help`
#
# path_stat rx|tx K KEY: of path linkK, a key of event=stats_path (SIGUSR1).
# paths_move NAME K BYTES SECONDS: a case: within so many seconds the path carries so much, each way, in half a second.
# load_forever: a verified transfer each way, until load_is_right NAME: a case: no byte of it was wrong.
# path_carried K: sets $up and $down: what it carried each way in half a second.

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
	# Its line is there when the line of the next session's, or of the next question, is.
	stat "$1" flows >/dev/null && stat "$1" flows >/dev/null || { echo -1; return 1; }
	awk -v skip="$count" -v path="path=$path" -v key="$3=" '
		/ event=stats / { seen++ }
		/ event=stats_path / && seen == skip + 1 && index($0, path " ") {
			for (i = 1; i <= NF; i++) if (index($i, key) == 1) value = substr($i, length(key) + 1)
		}
		END { print value }' "$log"
}

up=0 down=0
path_carried() {
	local tx_before rx_before
	tx_before=$(path_stat tx "$1" bytes_out)
	rx_before=$(path_stat rx "$1" bytes_out)
	sleep 0.5
	up=$(($(path_stat tx "$1" bytes_out) - tx_before))
	down=$(($(path_stat rx "$1" bytes_out) - rx_before))
}

path_moves() {
	path_carried "$1"
	[ "$up" -ge "$2" ] && [ "$down" -ge "$2" ]
}

paths_move() {
	if wait_for "$4" path_moves "$2" "$3"; then
		ok "$1"
	else
		not_ok "$1" "link $2 carried $up bytes up and $down down in half a second"
	fi
}

load_forever() { transfer_begin --duration_s=1000 --bytes=1000G --timeout=1000; }

load_is_right() {
	kill -INT "$stream_pid"
	ended "$stream_pid" 5
	check "$1" "not at stream, or not at receive" eval 'wait_for 5 came_right stream ".flows[0].receive" && wait_for 5 came_right receive .received'
}

# It was cut short, so there is no report; but wrong bytes are found as they come.
came_right() {
	grep '^{' "$dir/$1.log" | tail -n 1 | jq -e "$2 | .bytes > 1000000 and .first_wrong_offset == null" >/dev/null
}
