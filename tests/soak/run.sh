#!/bin/bash
# soak: a pair with keys and two paths carries mixed flows for half an hour while paths flap, stripes are reset and daemons are
# restarted. `tests/soak/run.sh --help` tells all; tests/lab/test_soak.sh is a short one.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lab/pair_paths.sh
. "$here/../lab/pair_paths.sh"
# shellcheck source=tests/soak/faults.sh
. "$here/faults.sh"
# shellcheck source=tests/soak/programs.sh
. "$here/programs.sh"
# shellcheck source=tests/soak/checks.sh
. "$here/checks.sh"

soak_flows=${PAIR_TESTS:-$root/build/tests}/soak_flows
seconds=1800 seed='' rounds='' rate=8 idle_max_ms=12000 drain_s=60 only_plan=0
stripes=12 session_timeout_ms=15000 tx_open=confirm
flow_port=7400 closed_port=7499
round=0 round_kind='' storm=0 soak_begun=0 client_pid=''

usage() {
	cat <<HELP
Usage: make soak [SECONDS=1800] [SEED=N]     or     tests/soak/run.sh [--seconds N] [--seed N] [--rounds N] [--rate N]
                                                                    [--gap MS] [--idle MS] [--memory KIB] [--plan]
A lab of two paths of ${base_rate}bit/s, 10 and 25 ms one way, $base_loss loss, security.mode = "psk". In rounds of some minutes
mixed flows run, $rate new ones a second: requests, uploads and downloads by half-closed connections, bulk both ways, chats,
idle and slow ones, some that either end breaks off, and transfers of curl, nc and stream. Meanwhile paths fall silent,
lose half of their packets, become slow, lose interface or address; stripes are reset; the rules are put up again; and in every
second round daemons get SIGTERM or SIGKILL and start again. After each round all must be as before:

  flows          every one that completed has the right bytes (SHA-256 at both ends); every other one ended with an
                 error, never with an orderly end of a stream that is not whole; none hangs; and unless daemons are
                 restarted, none that goes through the pair breaks, but for a silence longer than its timeout
  daemons        no flow, page or promise left; descriptors as at the start; memory within $rss_grows_kib KiB of it; all stripes
                 up; no measurable CPU
  the system     netfilter's rules as at the start, no living connection left in conntrack

--seconds N   altogether, checks between the rounds included (default $seconds)
--seed N      of flows and faults: the same seed has the same flows, and the same faults in the same order (default: a
              random one, which is told)
--rounds N    default: one for each four minutes, two at least
--rate N      new flows a second (default $rate)
--gap MS      between two faults, on average (default $gap_ms)
--idle MS     the longest silence of an idle flow (default $idle_max_ms)
--memory KIB  what memory may grow by (default $rss_grows_kib); sanitized daemons need more
--plan        only shows the faults of a seed

Needs root. It uses little of the machine and works in network namespaces of its own. When it fails, the logs are kept and
their place is told. Exit status: 0 all was right, 1 not so, 2 wrong usage.
HELP
}

die_usage() { printf 'soak: %s (see --help)\n' "$1" >&2; exit 2; }

whole_number() { [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || die_usage "$1 $2: expected a number from 1 on"; }

read_options() {
	while [ $# -gt 0 ]; do
		case $1 in
		--help | -h) usage; exit 0 ;;
		--plan) only_plan=1; shift; continue ;;
		--seconds | --seed | --rounds | --rate | --gap | --idle | --memory) [ $# -ge 2 ] || die_usage "$1: expected a value" ;;
		*) die_usage "$1: unknown" ;;
		esac
		whole_number "$1" "$2"
		case $1 in
		--seconds) seconds=$2 ;;
		--seed) seed=$2 ;;
		--rounds) rounds=$2 ;;
		--rate) rate=$2 ;;
		--gap) gap_ms=$2 ;;
		--idle) idle_max_ms=$2 ;;
		--memory) rss_grows_kib=$2 ;;
		esac
		shift 2
	done
	[ "$seconds" -ge 30 ] || die_usage "--seconds $seconds: expected 30 at least"
	[ -n "$seed" ] || seed=$((RANDOM * 32768 + RANDOM + 1))
	[ -n "$rounds" ] || rounds=$((seconds / 240))
	[ "$rounds" -ge 2 ] || rounds=2
	# What waits for the timeout of a session would take most of a short round.
	[ $((seconds / rounds)) -gt 90 ] || session_timeout_ms=5000
}

# A case's line does not share the progress line's place.
progress_clear() { [ ! -t 2 ] || printf '\r\033[K' >&2; }
eval "pair_$(declare -f not_ok)"
ok() { progress_clear; printf 'ok - %s\n' "$1"; }
not_ok() { progress_clear; pair_not_ok "$@"; }

# ---- the lab ------------------------------------------------------------------------------------------------------

# Paths are bound to their interfaces: their addresses may change.
soak_configure() {
	local k congestion=''
	[ -z "$pair_congestion" ] || congestion="congestion = \"$pair_congestion\";"
	for ((k = 1; k <= links; k++)); do
		pair_paths+="${pair_paths:+, }{ name = \"link$k\"; remote_ip = \"10.77.$k.2\"; interface = \"eth$k\";
			stripes = $((stripes / links)); $congestion }"
	done
	pair_limits="session_timeout_ms = $session_timeout_ms; memory_bytes = \"64M\"; flow_window_bytes = \"4M\";"
	pair_tx_security="mode = \"psk\"; identity = \"tx1\"; key_file = \"$dir/key\";"
	pair_rx_security="mode = \"psk\"; keys = ( { identity = \"tx1\"; key_file = \"$dir/key\"; } );"
	pair_stripes_all=$stripes
}

soak_begin() {
	pair_begin soak
	[ -x "$soak_flows" ] || { not_ok soak "$soak_flows is missing: make tests"; exit 1; }
	trap soak_clean EXIT
	paths_lab $links --rate $base_rate --delay 10ms --loss $base_loss --queue 200000 --link '2 delay=25ms'
	"$bin/tx_proxy" --make-key="$dir/key" || exit 1
	soak_configure
	pair_start
	serve flows dest $flow_port "$soak_flows" server $flow_port "$dir/server.log"
	server_pid=$started
	programs_serve
	checks_begin
}

soak_clean() {
	local kept=/tmp/pair_soak.$$
	progress_clear
	if [ "$failures" -gt 0 ]; then
		cp -r "$dir" "$kept" && printf '# logs are kept in %s\n' "$kept" >&2
	fi
	pair_clean
}

# ---- a round ------------------------------------------------------------------------------------------------------

flows_status=''
told_s=0
# Called many times a second.
progress() {
	local now=${EPOCHSECONDS} left
	[ -t 2 ] && [ "$now" != "$told_s" ] || return 0
	told_s=$now
	left=$((soak_begun + seconds - now))
	[ "$left" -ge 0 ] || left=0
	[ ! -r "$dir/status" ] || flows_status=$(<"$dir/status")
	printf '\r\033[K%d:%02d left, round %d of %d (%s): %s; %d events, last: %s' $((left / 60)) $((left % 60)) "$round" "$rounds" \
		"$round_kind" "${flows_status% cut=*}" "$events_done" "$last_event" >&2
}

# How long a round's flows and faults go on: the same for the same arguments, whatever the machine does. Flows that are idle or wait
# for a session to time out, and the checks, take some seconds more.
storm_seconds() {
	local length=$((seconds / rounds))
	storm=$((length - (length > 90 ? 35 : 12)))
	[ "$storm" -ge 5 ] || storm=5
}

round_begins() {
	# The daemons of a round of paths alone live through it: what they lose shows.
	[ $((round % 2)) = 1 ] && round_kind=paths || round_kind=restarts
	storm_seconds
	faults_plan "$storm" "$round_kind"
}

round_run() {
	local begun=$EPOCHSECONDS
	round_begins
	start client source "$soak_flows" client $dest_ip $flow_port $closed_port $((seed * 1000 + round)) $((round * 1000000)) "$storm" \
		$drain_s "$rate" "$idle_max_ms" 150 "$dir/client.log" "$dir/status"
	client_pid=$started
	programs_begin
	faults_carry_out progress
	while [ $((EPOCHSECONDS - begun)) -lt "$storm" ]; do
		sleep 0.1
		progress
	done
	faults_heal
	last_event=checks
	round_checks
}

read_options "$@"
if [ "$only_plan" = 1 ]; then
	dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
	for ((round = 1; round <= rounds; round++)); do
		round_begins
		sed "s/^/round $round: /" "$dir/plan"
	done
	exit 0
fi
printf '# seed %s, %s s, %s rounds: again with SEED=%s SECONDS=%s\n' "$seed" "$seconds" "$rounds" "$seed" "$seconds"
soak_begun=$EPOCHSECONDS
soak_begin
for ((round = 1; round <= rounds; round++)); do
	round_run
done
soak_summary
pair_stop
checks_end
pair_end
