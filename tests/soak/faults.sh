# faults: what the soak does to the pair. A plan is made of the seed before a round begins, and then carried out line by line,
# so the order of events is that of the seed. Sourced by run.sh, behind pair_load.sh.
# shellcheck shell=bash disable=SC2034,SC2154
#
#   faults_plan SECONDS paths|restarts     writes $dir/plan, of $seed and $round: lines of `MS VERB ARGUMENT…`, in order of time
#   faults_carry_out FUNCTION              does what it says; FUNCTION is called while it waits
#   faults_heal                            whatever the plan left undone
#
# Paths fall silent (both ways, one way), lose half of all packets, become ten times slower, lose their interface or their
# address; stripes are reset, at either end; all paths fall silent; and, in rounds of restarts, either daemon gets SIGTERM or
# SIGKILL and starts again, tx_proxy with the other value of capture.open.

links=2
base_rate=25M base_loss=0.2% slow_rate=2500k
gap_ms=3000 # between the beginnings of two events, on average

drawn=0 drawn_state=1
# Sets $drawn to a number below $1. The generator is MMIX's; its high bits are the good ones.
draw() {
	drawn_state=$((drawn_state * 6364136223846793005 + 1442695040888963407))
	drawn=$((((drawn_state >> 33) & 0x3fffffff) % $1))
}
# From $1 to $2; short ones more often than long ones.
draw_ms() {
	draw 1000
	drawn=$(($1 + ($2 - $1) * drawn / 1000 * drawn / 1000))
}

# ---- the plan -----------------------------------------------------------------------------------------------------

declare -A busy_until
plan_end_ms=0

# take MS DURATION RESOURCE…: fails if one of them is still in use.
take() {
	local resource
	for resource in "${@:3}"; do
		[ "${busy_until[$resource]:-0}" -le "$1" ] || return 1
	done
	for resource in "${@:3}"; do
		# A moment between two faults of the same thing.
		busy_until[$resource]=$(($1 + $2 + 300))
	done
}

# Lines of a fault with a beginning and an end: plan_pair MS DURATION "BEGIN" "END".
plan_pair() {
	local end=$(($1 + $2))
	[ "$end" -lt "$plan_end_ms" ] || end=$plan_end_ms
	printf '%d %s\n%d %s\n' "$1" "$3" "$end" "$4"
}

plan_path_fault() { # MS
	local k kind host direction
	draw $links
	k=$((drawn + 1))
	draw 8
	kind=$drawn
	draw 2
	[ "$drawn" = 0 ] && host=tx direction=ab || host=rx direction=ba
	draw_ms 300 8000
	take "$1" "$drawn" "path$k" || return 1
	case $kind in
	0 | 1) plan_pair "$1" "$drawn" "set $k blackhole=on" "set $k blackhole=off" ;;
	2 | 3) plan_pair "$1" "$drawn" "set $k $direction blackhole=on" "set $k blackhole=off" ;;
	4) plan_pair "$1" "$drawn" "set $k loss=50%" "set $k loss=$base_loss" ;;
	5) plan_pair "$1" "$drawn" "set $k rate=$slow_rate" "set $k rate=$base_rate" ;;
	6) plan_pair "$1" "$drawn" "down $host $k" "up $host $k" ;;
	7) plan_pair "$1" "$drawn" "address $k 7" "address $k 1" ;;
	esac
}

plan_silence() { # MS
	local k resources=() duration
	draw_ms 500 7000
	# Now and then for longer than flows wait.
	duration=$drawn
	draw 6
	[ "$drawn" != 0 ] || [ "$plan_end_ms" -lt 60000 ] || duration=$((session_timeout_ms + 3000))
	for ((k = 1; k <= links; k++)); do
		resources+=("path$k")
	done
	take "$1" "$duration" "${resources[@]}" || return 1
	for ((k = 1; k <= links; k++)); do
		plan_pair "$1" "$duration" "set $k blackhole=on" "set $k blackhole=off"
	done
}

plan_resets() { # MS
	local host count
	draw 2
	[ "$drawn" = 0 ] && host=tx || host=rx
	draw 5
	# One, some, or all.
	count=$((drawn < 2 ? 1 : drawn < 4 ? stripes / 2 : 99))
	take "$1" 500 stripes || return 1
	echo "$1 reset $host $count"
}

plan_restart() { # MS
	local signal open=confirm who
	draw 5
	who=$drawn
	draw 2
	[ "$drawn" = 0 ] && signal=TERM || signal=KILL
	draw 2
	[ "$drawn" = 0 ] || open=early
	draw_ms 0 3000
	case $who in
	0 | 1)
		take "$1" $((drawn + 2500)) tx || return 1
		plan_pair "$1" "$drawn" "tx_stop $signal" "tx_start $open"
		;;
	2 | 3)
		take "$1" $((drawn + 2500)) rx || return 1
		plan_pair "$1" "$drawn" "rx_stop $signal" "rx_start"
		;;
	4)
		take "$1" $((drawn + 2500)) tx rx || return 1
		plan_pair "$1" "$drawn" "tx_stop $signal" "tx_start $open"
		plan_pair "$1" "$drawn" "rx_stop $signal" "rx_start"
		;;
	esac
}

plan_event() { # MS KIND
	draw 20
	case $drawn in
	0 | 1) plan_silence "$1" ;;
	2 | 3 | 4 | 5) plan_resets "$1" ;;
	6) echo "$1 rules" ;;
	7 | 8 | 9 | 10 | 11) if [ "$2" = restarts ]; then plan_restart "$1"; else plan_path_fault "$1"; fi ;;
	*) plan_path_fault "$1" ;;
	esac
}

faults_plan() { # SECONDS KIND
	local ms=500
	busy_until=()
	drawn_state=$((seed * 1000 + round))
	plan_end_ms=$(($1 * 1000))
	while [ "$ms" -lt $((plan_end_ms - 500)) ]; do
		# What cannot be, since the thing has a fault already, is not.
		plan_event "$ms" "$2"
		draw $((2 * gap_ms))
		ms=$((ms + 50 + drawn))
	done | sort -s -n -k 1,1 >"$dir/plan"
}

# ---- what it says -------------------------------------------------------------------------------------------------

verb_set() { link "$1" set "${@:2}" >/dev/null || not_ok "the link is set" "link $*"; }

# Routes and neighbours go with the interface or the address; the lab's are put back.
path_routes() { # HOST K
	local here=1 there=2 net=192.168.3.0/24
	[ "$1" = tx ] || { here=2 there=1 net=192.168.2.0/24; }
	on "$1" ip neigh replace "10.77.$2.$there" lladdr "02:00:00:00:$(printf '%02x' $((100 + $2))):0$there" dev "eth$2" nud permanent
	[ "$2" != 1 ] || on "$1" ip route replace $net via "10.77.1.$there"
}

verb_down() { on "$1" ip link set "eth$2" down; }
verb_up() { on "$1" ip link set "eth$2" up && path_routes "$1" "$2"; }

verb_address() { # K NUMBER
	on tx ip addr flush dev "eth$1" scope global
	on tx ip addr add "10.77.$1.$2/24" dev "eth$1"
	path_routes tx "$1"
}

# Local ports of tx_proxy's stripes, one a line, in the order of their numbers.
stripe_ports() {
	on tx ss -Htn state established "dport = :6000" | awk '{ sub(".*:", "", $3); print $3 }' | sort -n
}

# What HOST sends on so many stripes, for a moment, is answered with a RST before it leaves. A stripe that is silent then is
# left alone, as by a middlebox.
verb_reset() { # HOST COUNT
	local ports here=sport there=dport
	mapfile -t ports < <(stripe_ports | head -n "$2")
	[ "${#ports[@]}" -gt 0 ] || return 0
	[ "$1" = tx ] || here=dport there=sport
	on "$1" nft -f - <<-RULES
		table inet soak_cut {
			chain cut {
				type filter hook output priority 0;
				tcp $there 6000 tcp $here { $(IFS=,; echo "${ports[*]}") } reject with tcp reset
			}
		}
	RULES
	sleep 0.4
	on "$1" nft delete table inet soak_cut
}

# Without the shell's own word on who was killed.
verb_tx_stop() { tx_stop "$1" 2>/dev/null; }
verb_rx_stop() { rx_stop "$1" 2>/dev/null; }
verb_tx_start() {
	tx_open=$1
	tx_start --capture.open="$1"
}
verb_rx_start() { rx_start; }
verb_rules() { rules up; }

# ---- carrying it out ----------------------------------------------------------------------------------------------

declare -A event_count
events_done=0
last_event=''

# A daemon that nobody has ended lives; else its own last words are shown.
daemons_live() {
	local daemon pid
	for daemon in tx rx; do
		pid=${daemon}_pid
		[ -n "${!pid}" ] || continue
		alive "$daemon" && continue
		wait "${!pid}" 2>/dev/null
		not_ok "${daemon}_proxy lives on" "it ended by itself, status $?, after $last_event"
		printf -v "$pid" ''
		"${daemon}_start"
	done
}

faults_carry_out() { # FUNCTION
	local begun=${EPOCHREALTIME/./} ms verb words
	while read -r ms verb words; do
		while [ $((${EPOCHREALTIME/./} - begun)) -lt $((ms * 1000)) ]; do
			sleep 0.1
			"$1"
		done
		last_event="$verb${words:+ $words}"
		printf '%s event=%s\n' "$(date -u +%FT%T.%3NZ)" "$last_event" >>"$dir/events.log"
		# shellcheck disable=SC2086
		"verb_$verb" $words
		event_count[$verb]=$((${event_count[$verb]:-0} + 1))
		events_done=$((events_done + 1))
		daemons_live
	done <"$dir/plan"
}

# The plan ends what it begins, but not if it is cut short.
faults_heal() {
	local k
	for ((k = 1; k <= links; k++)); do
		verb_set "$k" blackhole=off loss=$base_loss rate=$base_rate
	done
	[ -n "$rx_pid" ] || verb_rx_start
	[ -n "$tx_pid" ] || verb_tx_start "$tx_open"
}
