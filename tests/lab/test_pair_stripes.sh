#!/bin/bash
# Stripes die in mid-transfer, by reset or in silence: one, all but one, all. Nothing that the flows carry is lost, in
# either direction, and every stripe comes back. About 55 s. time-limit: 240
. "$(dirname "$0")/pair_load.sh"

table=pair_test
file_bytes=12582912
can_kill=1

# ---- stripes ------------------------------------------------------------------------------------------------------

# Local ports of tx_proxy's stripes, one a line.
stripe_ports() {
	on tx ss -Htn state established "dst $rx_ip and dport = :6000" | awk '{ sub(".*:", "", $3); print $3 }' | sort -n
}

# choose_stripes COUNT: sets $ports to those of so many, or of all that there are now; one at least.
choose_stripes() {
	wait_for 15 eval 'mapfile -t ports < <(stripe_ports); [ "${#ports[@]}" -gt 0 ]' || not_ok "$name" "no stripe to kill"
	ports=("${ports[@]:0:$1}")
}

# A filter of ss for the stripes with these local ports, as HOST sees them.
ports_filter() {
	local side=sport port filter=''
	[ "$1" = tx ] || side=dport
	for port in "${@:2}"; do
		filter="$filter${filter:+ or }$side = :$port"
	done
	printf '%s' "$filter"
}

stripes_gone() { [ -z "$(on "$1" ss -Htn state established "$(ports_filter "$@")")" ]; }

# reset_by_rule HOST PORT…: without the kernel's help (CONFIG_INET_DIAG_DESTROY). What HOST sends next is answered with a
# RST before it leaves.
reset_by_rule() {
	local here=sport there=dport
	[ "$1" = tx ] || here=dport there=sport
	on "$1" nft -f - <<-RULES
		table inet $table {
			chain cut {
				type filter hook output priority 0;
				tcp $there 6000 tcp $here { $(IFS=,; echo "${*:2}") } reject with tcp reset
			}
		}
	RULES
	wait_for 10 stripes_gone "$@"
	on "$1" nft delete table inet $table
}

# One that is still on its way in at HOST when the others are killed is killed as soon as it is there.
kill_and_look() {
	on "$1" ss -K -Htn "$(ports_filter "$@")" >/dev/null 2>&1
	stripes_gone "$@"
}

# kill_stripes HOST PORT…: as if the connections had been reset at HOST.
kill_stripes() {
	[ $# -gt 1 ] || return # without a port the filter would name every connection
	if [ "$can_kill" = 1 ]; then
		wait_for 2 kill_and_look "$@"
	else
		reset_by_rule "$@"
	fi
	stripes_gone "$@" || not_ok "$name: stripes die" "they do not"
}

# Whether the kernel closes connections on demand; tried on one.
learn_to_kill() {
	local port
	port=$(stripe_ports | head -n 1)
	on tx ss -K -Htn "sport = :$port" >/dev/null 2>&1
	wait_for 1 stripes_gone tx "$port" || can_kill=0
	wait_for 15 all_stripes_up "$pair_stripes"
}

# Everything of these stripes vanishes, both ways, and nobody is told.
silence_stripes() {
	local ports
	ports=$(IFS=,; echo "$*")
	on rx nft -f - <<-RULES
		table inet $table {
			chain in {
				type filter hook input priority 0;
				tcp dport 6000 tcp sport { $ports } drop
			}
			chain out {
				type filter hook output priority 0;
				tcp sport 6000 tcp dport { $ports } drop
			}
		}
	RULES
}

silence_ends() { on rx nft delete table inet $table; }

# ---- transfers ----------------------------------------------------------------------------------------------------

# A file one way with its SHA-256 and a verified pattern the other way.
begin() { transfer_begin --file_name="$dir/file" --bytes=$file_bytes; }

end() { # [SECONDS]
	transfer_is_whole "$name" "${1:-40}"
	check "$name: SHA-256, pattern and count" "$(last_of stream)" sums_are_right
	calm "${2:-20}"
}

sums_are_right() {
	grep '^{' "$dir/stream.log" | tail -n 1 | jq -e --argjson bytes $file_bytes '[.flows[] |
		.send.sha256 == .send.received_sha256 and .send.sha256 != null and
		.receive.first_wrong_offset == null and .receive.bytes == $bytes] | all' >/dev/null
}

# Between two cases: as many stripes as ever at both ends, and nothing left of the flows.
is_calm() {
	all_stripes_up "$pair_stripes" && [ "$(stat rx stripes_up)" = "$pair_stripes" ] &&
		[ "$(stat tx flows)$(stat rx flows)$(stat tx egress_pages)$(stat rx egress_pages)" = 0000 ]
}

calm() {
	wait_for "$1" is_calm && return
	not_ok "$name: all as before afterwards" "tx: $(stat tx stripes_up) stripes, $(stat tx flows) flows, \
$(stat tx egress_pages) pages; rx: $(stat rx stripes_up), $(stat rx flows), $(stat rx egress_pages)"
}

# kill_case NAME HOST COUNT: kills so many stripes at once, a moment later as many of what is there then.
kill_case() {
	local ports bytes
	name=$1
	begin
	for bytes in 3000000 12000000; do
		transfer_at $bytes || break
		choose_stripes "$3"
		kill_stripes "$2" "${ports[@]}"
	done
	end
}

# ---- cases --------------------------------------------------------------------------------------------------------

test_each_in_turn() {
	local ports port megabytes=1
	name="each stripe reset in turn"
	begin
	choose_stripes 64
	equal "there are $pair_stripes stripes to kill" "${#ports[@]}" "$pair_stripes"
	for port in "${ports[@]}"; do
		transfer_at $((megabytes * 1000000)) || break
		kill_stripes tx "$port"
		megabytes=$((megabytes + 2))
	done
	end
}

test_repeatedly() { # NAME
	local ports megabytes
	name=$1
	begin
	for megabytes in 3 8 13; do
		transfer_at $((megabytes * 1000000)) || break
		choose_stripes 64
		kill_stripes tx "${ports[@]}"
	done
	end
}

stale_stripes() { # COUNT: so many at least are known to be silent
	local stale
	stat tx flows >/dev/null
	stale=$(tail -n $((pair_stripes + 2)) "$tx_log" | grep -c 'event=stats_stripe .*state=stale')
	[ "$stale" -ge "$1" ]
}

# The kernels notice after 10 s; the flows must not wait for them.
silence_case() { # NAME COUNT
	local ports
	name=$1
	begin
	choose_stripes "$2"
	if transfer_at 3000000; then
		silence_stripes "${ports[@]}"
		check "$name: it is known within 4 s" "it is not" wait_for 4 stale_stripes "$2"
		transfer_is_whole "$name: without waiting for them" 9
		silence_ends
	fi
	end 40 40
}

test_silence_of_all() {
	name="3 s of silence on the whole link"
	begin
	if transfer_at 3000000; then
		link set blackhole=on >/dev/null
		sleep 3
		link set blackhole=off >/dev/null
	fi
	end 40 40
}

pair_begin "stripe death"
head -c $file_bytes /dev/urandom >"$dir/file"
pair_lab --rate 40M --delay 10ms --loss 0.3%
pair_start
load_serve
learn_to_kill
test_each_in_turn
kill_case "one stripe reset at rx" rx 1
kill_case "all but one reset at tx" tx 7
kill_case "all but one reset at rx" rx 7
kill_case "all reset at rx" rx 8
test_repeatedly "all stripes reset, three times"
silence_case "one silent stripe" 1
silence_case "all silent but one" 7
test_silence_of_all
# A single stripe has no other that could take over: its successor does.
pair_stripes=1
pair_restart
test_repeatedly "the only stripe reset, three times"
check "both daemons live" "one has gone" eval 'alive tx && alive rx'
pair_stop
pair_end
