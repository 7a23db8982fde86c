# checks: what must be right after each round of the soak, and what is told at its end. Sourced by run.sh.
# shellcheck shell=bash disable=SC2034,SC2154
#
#   checks_begin    before the first round: takes note of how all is
#   round_checks    after a round's faults
#   soak_summary    the table
#   checks_end      after the pair has been stopped

# Descriptors come back exactly. Memory nearly so: up to 64 spare pages of 16 KiB for each direction are kept on purpose, of which
# the first transfer has filled a part, and the tables of flows and OpenSSL's pools grow to what the busiest moment needed. That
# is granted once, whatever the length of the soak; what leaks with each flow or stripe comes to more in half an hour.
rss_grows_kib=4096
idle_ticks=2 idle_seconds=3
files_before=() rss_before=() rules_before=''
server_lines=0 client_lines=0 program_lines=0
summary=()
declare -A total

files_of() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }

# Ours, in whatever order they were put up, and without counts.
rules_now() {
	on tx sh -c 'nft -s list table inet pair_proxy; iptables-save; ip6tables-save' 2>/dev/null | sed 's/\[[0-9:]*\]//; /^#/d'
}

# Entries of flows that have not ended. The stripes' have another port.
conntrack_flows() {
	on tx grep "src=192.168.2.11 .*dport=7[0-9]*" /proc/net/nf_conntrack | grep -vE ' (TIME_WAIT|CLOSE|LAST_ACK) '
}
conntrack_is_empty() { [ -z "$(conntrack_flows)" ]; }

daemons_rest() { # sets $why
	local daemon seen
	for daemon in tx rx; do
		stat "$daemon" flows >/dev/null || { why="${daemon}_proxy does not answer"; return 1; }
		pid=${daemon}_log
		seen=$(grep ' event=stats ' "${!pid}" | tail -n 1)
		why="${daemon}_proxy: $(grep -oE ' (flows|apps|stripes_up|egress_pages|ingress_pages|promised_bytes)=[0-9]*' <<<"$seen" |
			tr '\n' ' ')"
		[[ " $seen " == *" flows=0 "* && " $seen " == *" apps=0 "* && " $seen " == *" egress_pages=0 "* &&
			" $seen " == *" ingress_pages=0 "* && " $seen " == *" promised_bytes=0 "* &&
			" $seen " == *" stripes_up=$stripes "* ]] || return 1
	done
}

checks_begin() {
	local k
	# Every buffer has been used once.
	transfer_begin --bytes=4M --flows=4
	transfer_is_whole "a first transfer"
	settles "the pair rests before the first round" 15 why_told daemons_rest
	# Else it would always seem to be empty.
	check "conntrack's table can be read" "no /proc/net/nf_conntrack" on tx test -r /proc/net/nf_conntrack
	files_before=("$(files_of "$tx_pid")" "$(files_of "$rx_pid")")
	rss_before=("$(rss_kib "$tx_pid")" "$(rss_kib "$rx_pid")")
	rules_before=$(rules_now)
	: >"$dir/programs.log"
}

server_lives() {
	local count
	count=$(grep -c '^event=live ' "$dir/server.log")
	kill -USR1 "$server_pid"
	wait_for 5 eval '[ "$(grep -c "^event=live " "$dir/server.log")" -gt '"$count"' ]'
	grep '^event=live ' "$dir/server.log" | tail -n 1 | sed 's/.*count=//'
}
server_is_empty() { progress; [ "$(server_lives)" = 0 ]; }

shown() { progress; "$@"; }

# settles NAME SECONDS WHY COMMAND…: a case: COMMAND succeeds in time. Else the command WHY tells what there is.
settles() {
	if wait_for "$2" shown "${@:4}"; then ok "$1"; else not_ok "$1" "$($3)"; fi
}

client_status() { cat "$dir/status"; }
server_left() { grep '^event=lives' "$dir/server.log" | tail -n 3; }
conntrack_left() { conntrack_flows | head -n 3; }
why_told() { echo "$why"; }

# What the flows' ends of this round come to; sets $judged.
judge() {
	local losses strict=0
	# The daemons live on, and no silence but one that is longer than the timeout ends a session.
	losses=$(grep -hE ' event=session_(lost|renewed) ' "$dir"/tx_proxy.*.log | cut -c 12-19 | tr '\n' ' ')
	[ "$round_kind" != paths ] || strict=1
	judged=$(awk -v source="$source_ip" -v strict=$strict -v losses="$losses" -f "$here/judge.awk" \
		<(tail -n +$((client_lines + 1)) "$dir/client.log") <(tail -n +$((server_lines + 1)) "$dir/server.log"))
	client_lines=$(wc -l <"$dir/client.log")
	server_lines=$(wc -l <"$dir/server.log")
}

check_flows() {
	local judged word bad_lines
	settles "$name: every flow has ended at the client" $((drain_s + 15)) client_status is_gone "$client_pid"
	settles "$name: and at the server" 60 server_left server_is_empty
	programs_end 150
	programs_judge_servers
	judge
	judged_line=$(tail -n 1 <<<"$judged")
	bad_lines=$(grep '^bad:' <<<"$judged" | head -n 5 | cut -c 1-500)
	check "$name: no flow was cut, altered, hung or broken for no reason" "$judged_line
$bad_lines" [ -z "$bad_lines" ]
	for word in $judged_line; do
		total[${word%%=*}]=$((${total[${word%%=*}]:-0} + ${word#*=}))
	done
	check "$name: flows were whole, and went through the pair" "$judged_line" \
		eval '[[ "$judged_line" =~ \ whole=[1-9].*\ pair=[1-9] ]]'
}

check_programs() {
	local lines bad_lines
	lines=$(tail -n +$((program_lines + 1)) "$dir/programs.log")
	program_lines=$(wc -l <"$dir/programs.log")
	bad_lines=$(grep -E 'verdict=(cut|wrong|hung)' <<<"$lines" | head -n 5)
	check "$name: no transfer of curl, nc or stream was cut, altered or hung" "$bad_lines" [ -z "$bad_lines" ]
	programs_count=$(grep -c verdict= <<<"$lines") programs_broken=$(grep -c verdict=broken <<<"$lines")
	total[programs]=$((${total[programs]:-0} + programs_count))
	total[programs_broken]=$((${total[programs_broken]:-0} + programs_broken))
}

check_daemons() {
	local i=0 daemon pid files rss told=''
	why=''
	settles "$name: no flow, page or promise is left, $stripes stripes are up" 40 why_told daemons_rest
	for daemon in tx rx; do
		pid=${daemon}_pid
		files=$(files_of "${!pid}") rss=$(rss_kib "${!pid}")
		equal "$name: ${daemon}_proxy has the descriptors that it had" "$files" "${files_before[i]}"
		check "$name: ${daemon}_proxy's memory is within $rss_grows_kib KiB of what it was" "$rss KiB, before ${rss_before[i]}" \
			[ "$rss" -le $((rss_before[i] + rss_grows_kib)) ]
		told+=" $files $rss"
		i=$((i + 1))
	done
	daemons_told=$told
	rests "$name: both daemons rest" $idle_ticks $idle_seconds rx tx
}

round_checks() {
	local judged_line programs_count programs_broken daemons_told name="round $round, $round_kind"
	check_flows
	check_programs
	check_daemons
	check "$name: the rules are as they were" "$(diff <(echo "$rules_before") <(rules_now) | head -n 5)" \
		eval '[ -n "$rules_before" ] && [ "$(rules_now)" = "$rules_before" ]'
	settles "$name: for conntrack, every flow has ended" 20 conntrack_left conntrack_is_empty
	summary+=("$round $round_kind $events_done $judged_line programs=$programs_count programs_broken=$programs_broken $daemons_told")
}

# summary_row ROUND KIND EVENTS FLOWS WHOLE BROKEN ABORTED BAD PAIR DIRECT PROGRAMS BROKEN_PROGRAMS [FILES KIB FILES KIB]
summary_row() {
	printf '# %2s %-9s %7s %7s %7s %7s %8s %5s %7s %7s %10s %11s %11s\n' "${@:1:10}" "${11}/${12}" "${13:+${13}/${14}}" "${15:+${15}/${16}}"
}

soak_summary() {
	local row verb counts='' words
	progress_clear
	for verb in "${!event_count[@]}"; do
		counts+=" $verb ${event_count[$verb]},"
	done
	printf '# %-12s %7s %7s %7s %7s %8s %5s %7s %7s %10s %11s %11s\n' round events flows whole broken aborted bad pair direct \
		'programs' 'tx fd/KiB' 'rx fd/KiB'
	for row in "${summary[@]}"; do
		# Of KEY=VALUE the value.
		read -r -a words <<<"$row"
		summary_row "${words[@]#*=}"
	done
	summary_row '' total "$events_done" "${total[flows]}" "${total[whole]}" "${total[broken]}" "${total[aborted]}" "${total[bad]}" \
		"${total[pair]}" "${total[direct]}" "${total[programs]}" "${total[programs_broken]}"
	printf '# at the start: tx %s descriptors, %s KiB; rx %s, %s KiB. programs: all/broken. seed %s\n# events:%s\n' \
		"${files_before[0]}" "${rss_before[0]}" "${files_before[1]}" "${rss_before[1]}" "$seed" "${counts%,}"
}

namespaces_left() { ip netns list | grep -c "^$lab-"; }

checks_end() {
	# What iptables leaves of a table that it used: the table, and chains without a rule.
	equal "afterwards: no rule is left" \
		"$(on tx nft list ruleset | grep -vE '^(table ip6? mangle \{|\s*chain [A-Z]+ \{|\s*type filter hook .*|\s*\}|)$')" ""
	"$root/tools/lab" down --name "$lab" >/dev/null
	equal "afterwards: no namespace is left" "$(namespaces_left)" 0
}
