# bench_paths: one flow over two paths, beside kernel MPTCP over the same links. Rows agg_*. Part of tools/bench.
# shellcheck shell=bash disable=SC2154,SC2034

stripes_per_path=8
# Two links, with real-time priority, beside two daemons and the ends of the flow: on two idle cores a daemon waits up to 70 %
# of the time at 380 Mbit/s.
paths_wait_max_share=75

# A path of a row is the text "MBIT_S RTT_MS LOSS_PERCENT CONGESTION"; link k of the lab is path k's.
path_field() { cut -d' ' -f"$2" <<<"$1"; }

# What a path can carry of a TCP connection's bytes, in Mbit/s.
path_limit() { awk '{ printf "%.1f", $1 * 1448 / 1514 * (1 - $3 / 100) }' <<<"$1"; }

# Figures of its link for tools/lab: half of the round trip each way, a queue of one bandwidth-delay product.
path_figures() {
	awk '{ printf "rate=%sM delay=%dus queue=%d loss=%s%%", $1, $2 * 500, $1 * $2 * 125, $3 }' <<<"$1"
}

# Writes $work/$1.conf: the pair between the ends of the links with numbers $2 (a list), paths as in the array `paths`.
paths_conf() {
	local k list=''
	for k in $2; do
		list+="${list:+,}
		{ name = \"path$k\"; remote_ip = \"10.77.$k.2\"; local_ip = \"10.77.$k.1\"; stripes = $stripes_per_path;
		  congestion = \"$(path_field "${paths[k - 1]}" 4)\"; }"
	done
	cat >"$work/$1.conf" <<-CONF
		tx_proxy = {
			rx_proxy_ip = "10.77.1.2";
			capture = { interfaces = ( "eth0" ); sources = ( "192.168.2.11" ); };
			paths = ($list
			);
			security = { mode = "none"; };
		};
		rx_proxy = {
			allow = ( "192.168.3.0/24" );
			security = { mode = "none"; accept_from = ( "10.77.0.0/16" ); };
		};
	CONF
}

# One end of the MPTCP connection is tx, the other rx. It begins over link 1; rx announces its addresses on the others, and
# tx connects to them. Sets mptcp_missing: empty, or why there is no MPTCP to measure.
mptcp_prepare() {
	local k
	mptcp_missing=''
	if ! command -v mptcpize >/dev/null; then
		mptcp_missing='mptcpize is not installed'
	elif [ "$(on_host tx cat /proc/sys/net/mptcp/enabled 2>/dev/null)" != 1 ]; then
		mptcp_missing='this kernel has none, or net.mptcp.enabled is 0'
	fi
	[ -z "$mptcp_missing" ] || return 0
	ip -n "$lab-tx" mptcp limits set subflows 8 add_addr_accepted 8
	ip -n "$lab-rx" mptcp limits set subflows 8 add_addr_accepted 8
	for ((k = 2; k <= ${#paths[@]}; k++)); do
		ip -n "$lab-rx" mptcp endpoint add "10.77.$k.2" dev "eth$k" signal
	done
}

# Counter $1 of MPTCP on tx.
mptcp_counter() {
	on_host tx awk -v key="$1" '$1 == "MPTcpExt:" {
		if (!columns) columns = split($0, name)
		else for (i = 2; i <= columns; i++) if (name[i] == key) print $i
	}' /proc/net/netstat
}

links_seed() {
	local k
	for ((k = 1; k <= ${#paths[@]}; k++)); do
		lab link "$k" set "seed=$run" >/dev/null
	done
}

all_stripes_up() { [ "$(pair_stat tx stripes_up)" = "$1" ]; }

# One run of the pair over the links $2 (a list), $1 is the direction. The pair is started anew, since stripes that are
# warm would know the links from the run before; the other ways begin cold as well.
pair_over() {
	local deadline count=0 keep_part=path${2// /_} k
	for k in $2; do
		count=$((count + stripes_per_path))
	done
	paths_conf "paths_${2// /_}" "$2"
	pair_start "$work/paths_${2// /_}.conf"
	deadline=$((SECONDS + 20))
	until all_stripes_up "$count"; do
		[ "$SECONDS" -lt "$deadline" ] || pair_fail "not all of $count stripes came up:" "$work/tx_proxy.log"
		sleep 0.2
	done
	pair_capture up
	links_seed
	iperf_measure "$1" "$seconds"
	[ "$(pair_stat rx flows_opened)" -gt 0 ] || pair_fail 'the pair carried nothing:' "$work"/*_proxy.log
	pair_capture down
	pair_stop
}

# One run between tx and rx, $1 is the direction; $2 the link where it begins, $3 the congestion control, and what is
# before iperf3 after that.
nodes_over() {
	iperf_between tx rx "10.77.$2.2" "${@:4}"
	links_seed
	iperf_measure "$1" "$seconds" -C "$3"
	iperf_between
}

# The runs of a row. Sets pair, mptcp (medians; mptcp is "-" if there is none), alone[k], plain[k] and samples.
paths_runs() {
	local direction=$1 k all joined way before joined options=()
	declare -A seen=()
	samples='[]' late=0 waited=0 alone=() plain=() mptcp=-
	all=$(seq -s ' ' "${#paths[@]}")
	for ((k = 1; k <= ${#paths[@]}; k++)); do
		options+=(--link "$k $(path_figures "${paths[k - 1]}")")
	done
	lab up --links "${#paths[@]}" "${options[@]}" >"$work/lab.log" || pair_fail 'the lab did not come up:' "$work/lab.log"
	endpoints_use cubic
	mptcp_prepare
	for ((run = 1; run <= runs; run++)); do
		for k in $all; do
			progress "run $run of $runs, the pair on path $k alone"
			pair_over "$direction" "$k"
			seen[alone$k]+="$mbit_s"$'\n'
			sample_add "alone$k"
		done
		progress "run $run of $runs, the pair"
		pair_over "$direction" "$all"
		seen[pair]+="$mbit_s"$'\n'
		sample_add pair
		[ -z "$pair_only" ] || continue
		if [ -z "$mptcp_missing" ]; then
			progress "run $run of $runs, kernel MPTCP"
			before=$(mptcp_counter MPJoinSynAckRx)
			nodes_over "$direction" 1 "$(path_field "${paths[0]}" 4)" mptcpize run
			joined=$(($(mptcp_counter MPJoinSynAckRx) - before))
			[ "$joined" -gt 0 ] || pair_fail 'kernel MPTCP used one path only'
			seen[mptcp]+="$mbit_s"$'\n'
			sample_add mptcp
		fi
		for k in $all; do
			progress "run $run of $runs, plain TCP on path $k"
			nodes_over "$direction" "$k" "$(path_field "${paths[k - 1]}" 4)"
			seen[plain$k]+="$mbit_s"$'\n'
			sample_add "plain$k"
		done
	done
	lab down >/dev/null
	for way in "${!seen[@]}"; do
		case $way in
		pair) pair=$(median <<<"${seen[pair]%$'\n'}") ;;
		mptcp) mptcp=$(median <<<"${seen[mptcp]%$'\n'}") ;;
		alone*) alone[${way#alone}]=$(median <<<"${seen[$way]%$'\n'}") ;;
		plain*) plain[${way#plain}]=$(median <<<"${seen[$way]%$'\n'}") ;;
		esac
	done
}

# Sum, or the greatest, of the numbers $2 and following.
combine() { printf '%s\n' "${@:2}" | awk -v how="$1" '
	{ sum += $1; if ($1 > best) best = $1 } END { printf "%.1f", how == "sum" ? sum : best }'; }
ratio_of() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", (b > 0 ? a / b : 0) }'; }

# Arguments: direction, title, share, "sum" or "best" (of what the paths reach alone, the share's base), paths.
agg_row() {
	local paths=("${@:5}") limits=() path base must remark verdict=ok ratio mptcp_ratio=-
	local wait_max_share=$paths_wait_max_share
	local alone plain pair mptcp
	for path in "${paths[@]}"; do
		limits+=("$(path_limit "$path")")
	done
	paths_runs "$1"
	base=$(combine "$4" "${alone[@]}")
	ratio=$(ratio_of "$pair" "$base")
	[ "$mptcp" = - ] || mptcp_ratio=$(ratio_of "$mptcp" "$base")
	must=$(awk -v base="$base" -v share="$3" 'BEGIN { printf "%.1f", base * share }')
	awk -v ratio="$ratio" -v share="$3" 'BEGIN { exit !(ratio >= share) }' || verdict=SHORT short=1
	remark="alone, the pair: $(list "${alone[@]}")"
	[ "${#plain[@]}" = 0 ] || remark+="; plain TCP: $(list "${plain[@]}")"
	[ -n "$pair_only" ] || [ -z "$mptcp_missing" ] || remark+="; no MPTCP: $mptcp_missing"
	remark+="; $(disturbance)"
	paths_head
	[ ! -t 2 ] || printf '\r\033[K' >&2
	printf '%-32s %7s %7s %6s %7s %6s %7s %6s  %s\n' "$2, $1" "$(combine "$4" "${limits[@]}")" "$base" "$3" \
		"$(figure "$pair")" "$ratio" "$(figure "$mptcp")" "$mptcp_ratio" "$verdict"
	printf '    %s\n' "$remark"
	jq -n -c --arg row "$row_name" --arg title "$2, $1" --arg limit "$(combine "$4" "${limits[@]}")" --arg bound "$must" \
		--arg base "$base" --arg pair "$pair" --arg mptcp "$mptcp" --arg share "$3" --arg ratio "$ratio" \
		--arg remark "$remark" --arg verdict "${verdict,,}" --argjson runs "$samples" '
		def number: if . == "-" then null else tonumber end;
		{row: $row, title: $title, unit: "Mbit/s", limit: ($limit | number), alone: ($base | number),
		 bound: ($bound | number), relation: "ge", share: ($share | number), pair: ($pair | number),
		 ratio: ($ratio | number), mptcp: ($mptcp | number), verdict: $verdict, remark: $remark, runs: $runs}' \
		>>"$work/results"
}

list() {
	local text='' value
	for value in "$@"; do
		text+="${text:+ + }$(figure "$value")"
	done
	printf '%s' "$text"
}

# These rows have columns of their own: what the paths reach alone is their base.
paths_head() {
	[ "${head-}" != paths ] || return 0
	head=paths
	printf '%-32s %7s %7s %6s %7s %6s %7s %6s  %s\n' 'one flow, Mbit/s' limit alone must pair ratio MPTCP ratio result
}

agg_equal() { agg_row "$1" '2 x 100 Mbit/s 25 ms' 0.98 sum '100 25 0 cubic' '100 25 0 cubic'; }
agg_unequal() { agg_row "$1" '300 M 10 ms + 80 M 30 ms' 0.96 sum '300 10 0 cubic' '80 30 0 cubic'; }
agg_lossy() { agg_row "$1" '100 M 20 ms 1% + 30 M 60 ms .5%' 0.96 sum '100 20 1 bbr' '30 60 0.5 bbr'; }
agg_slow() { agg_row "$1" '100 M 20 ms + 5 M 300 ms 5%' 0.98 best '100 20 0 cubic' '5 300 5 bbr'; }

row_agg_equal_up() { agg_equal up; }
row_agg_equal_down() { agg_equal down; }
row_agg_unequal_up() { agg_unequal up; }
row_agg_unequal_down() { agg_unequal down; }
row_agg_lossy_up() { agg_lossy up; }
row_agg_lossy_down() { agg_lossy down; }
row_agg_slow_up() { agg_slow up; }
row_agg_slow_down() { agg_slow down; }
