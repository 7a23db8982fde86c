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
declare -A all=([flows]=0 [whole]=0 [broken]=0 [aborted]=0 [bad]=0 [pair]=0 [direct]=0 [programs]=0 [programs_broken]=0)

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
		why="${daemon}_proxy: $(tr ' ' '\n' <<<"$seen" | grep -E '^(flows|apps|stripes_up|egress_pages|ingress_pages|promised_bytes)=' | tr '\n' ' ')"
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
	why=''
	check "the pair rests before the first round" "$why" wait_for 15 daemons_rest
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

# wait_shown SECONDS COMMAND…: wait_for, with the progress line.
shown() { progress; "$@"; }

check_flows() {
	local judged word bad_lines losses strict=0
	check "$name: every flow has ended at the client" "$(tail -n 1 "$dir/status")" eval "wait_for $((drain_s + 15)) shown is_gone $client_pid"
	check "$name: and at the server" "$(grep '^event=lives' "$dir/server.log" | tail -n 3)" wait_for 60 server_is_empty
	programs_end 150
	programs_judge_servers
	# The daemons live on, and no silence but one that is longer than the timeout ends a session.
	losses=$(grep -hE ' event=session_(lost|renewed) ' "$dir"/tx_proxy.*.log | cut -c 12-19 | tr '\n' ' ')
	[ "$round_kind" != paths ] || strict=1
	judged=$(awk -v source="$source_ip" -v strict=$strict -v losses="$losses" -f "$here/judge.awk" <(tail -n +$((client_lines + 1)) "$dir/client.log") \
		<(tail -n +$((server_lines + 1)) "$dir/server.log"))
	client_lines=$(wc -l <"$dir/client.log")
	server_lines=$(wc -l <"$dir/server.log")
	judged_line=$(tail -n 1 <<<"$judged")
	bad_lines=$(grep '^bad:' <<<"$judged" | head -n 5 | cut -c 1-500)
	check "$name: no flow was cut, altered, hung or broken for no reason" "$judged_line
$bad_lines" [ -z "$bad_lines" ]
	for word in $judged_line; do
		all[${word%%=*}]=$((${all[${word%%=*}]} + ${word#*=}))
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
	all[programs]=$((all[programs] + programs_count))
	all[programs_broken]=$((all[programs_broken] + programs_broken))
}

check_daemons() {
	local i=0 daemon pid files rss told=''
	why=''
	if wait_for 40 shown daemons_rest; then ok "$name: no flow, page or promise is left, $stripes stripes are up"
	else not_ok "$name: no flow, page or promise is left, $stripes stripes are up" "$why"; fi
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
	if wait_for 20 shown conntrack_is_empty; then ok "$name: for conntrack, every flow has ended"
	else not_ok "$name: for conntrack, every flow has ended" "$(conntrack_flows | head -n 3)"; fi
	summary+=("$round $round_kind $events_done $judged_line programs=$programs_count programs_broken=$programs_broken $daemons_told")
}

soak_summary() {
	local row k words verb counts=''
	progress_clear
	for verb in "${!event_count[@]}"; do
		counts+=" $verb ${event_count[$verb]},"
	done
	printf '# %-16s %7s %7s %7s %7s %7s %5s %7s %7s %9s %13s %13s\n' round events flows whole broken aborted bad pair direct programs \
		'tx fd/KiB' 'rx fd/KiB'
	for row in "${summary[@]}"; do
		read -r -a words <<<"$row"
		printf '# %2s %-13s %7s %7s %7s %7s %7s %5s %7s %7s %9s %13s %13s\n' "${words[0]}" "${words[1]}" "${words[2]}" "${words[3]#*=}" \
			"${words[4]#*=}" "${words[5]#*=}" "${words[6]#*=}" "${words[7]#*=}" "${words[8]#*=}" "${words[9]#*=}" \
			"${words[10]#*=}/${words[11]#*=}" "${words[12]}/${words[13]}" "${words[14]}/${words[15]}"
	done
	printf '# before: tx %s descriptors, %s KiB; rx %s, %s KiB. events:%s seed %s\n' "${files_before[0]}" "${rss_before[0]}" \
		"${files_before[1]}" "${rss_before[1]}" "${counts%,};" "$seed"
}

namespaces_left() { ip netns list | grep -c "^$lab-"; }

checks_end() {
	# What iptables leaves of a table that it used: the table, and chains without a rule.
	equal "afterwards: no rule is left" \
		"$(on tx nft list ruleset | grep -vE '^(table ip6? mangle \{|\s*chain [A-Z]+ \{|\s*type filter hook .*|\s*\}|)$')" ""
	"$root/tools/lab" down --name "$lab" >/dev/null
	equal "afterwards: no namespace is left" "$(namespaces_left)" 0
}
