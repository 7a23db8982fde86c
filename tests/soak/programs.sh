# programs: beside the soak's own flows, those of programs that users have: curl, nc, stream. Sourced by run.sh.
# shellcheck shell=bash disable=SC2154
#
#   programs_serve                 what they need on dest
#   programs_begin                 one after the other, until programs_end; a line for each in $dir/programs.log:
#                                  `TIME program=NAME verdict=whole|broken|cut|wrong|hung STATUS…`, as flow_end.h has them
#   programs_end SECONDS           the last one ends within so many seconds, or has hung
#
# curl takes a body that is complete when the connection ends in order, and one of known length: its exit status tells an end
# in order (18, and 52 for no answer at all) from a reset (56). nc sends a file, and whoever receives it knows only from the
# end of the stream that this was all. stream and receive tell each other what they have.

http_port=7400 raw_port=7001
programs_pid=''

programs_serve() {
	serve receive dest 7000 "$bin/receive" -c "$conf" --json --quiet
	serve raw dest $raw_port "$bin/receive" -c "$conf" --recv_port=$raw_port --json --quiet --out="$dir/raw.%d"
	"$soak_flows" content 1 $upload_bytes >"$dir/upload"
	upload_sum=$(sha256sum <"$dir/upload")
}

upload_bytes=400000 upload_sum=''

program_curl() { # sized|unsized KEY BYTES
	local sum status verdict
	sum=$("$soak_flows" content "$2" "$3" | sha256sum)
	# The status goes first: whatever kind of end it was, what there is is hashed.
	status=$(on source curl -s --connect-timeout 60 --max-time 150 -o "$dir/curl.body" -w '%{time_connect}' \
		"http://$dest_ip:$http_port/$1/$2/$3"; echo " $?")
	case ${status##* } in
	0) if [ "$(sha256sum <"$dir/curl.body")" = "$sum" ]; then verdict=whole; else verdict=cut; fi ;;
	7 | 55 | 56) verdict=broken ;;
	18 | 52) verdict=cut ;;
	28) if [ "${status% *}" = 0.000000 ]; then verdict=broken; else verdict=hung; fi ;;
	*) verdict=wrong ;;
	esac
	echo "program=curl_$1 verdict=$verdict status=${status##* } key=$2 bytes=$3"
	rm -f "$dir/curl.body"
}

# What became of it only the receiver knows: programs_judge_raw.
program_nc() {
	on source nc -N "$dest_ip" $raw_port <"$dir/upload" >/dev/null 2>&1
}

program_stream() { # DIRECTION BYTES SEED
	local status
	status=$(on source "$bin/stream" -c "$conf" --direction="$1" --bytes="$2" --seed="$3" --json --quiet --timeout=150 2>/dev/null |
		jq -r '.flows[0].status')
	echo "program=stream verdict=$(stream_verdict "$status") status=$status"
}

stream_verdict() {
	case $1 in
	ok) echo whole ;;
	reset | connect_failed) echo broken ;;
	short | no_report) echo cut ;;
	timed_out) echo hung ;;
	*) echo wrong ;;
	esac
}

programs_loop() {
	local key=$((round * 1000000 + 1))
	drawn_state=$((seed * 1000 + round + 500))
	# The folder goes when the soak ends before its time.
	while [ -d "$dir" ] && [ ! -e "$dir/programs.end" ]; do
		key=$((key + 1))
		draw 4
		case $drawn in
		0) draw 600000; program_curl unsized $key $((drawn + 1)) ;;
		1) draw 600000; program_curl sized $key $((drawn + 1)) ;;
		2) program_nc ;;
		3) draw 500000; program_stream both $((drawn + 1)) $key ;;
		esac
		sleep 0.3
	done | programs_stamp >>"$dir/programs.log"
}

programs_begin() {
	rm -f "$dir/programs.end"
	programs_loop &
	programs_pid=$!
	pids+=("$programs_pid")
}

programs_end() {
	: >"$dir/programs.end"
	ended "$programs_pid" "$1"
	[ $? != 124 ] || echo "program=unknown verdict=hung" >>"$dir/programs.log"
}

# Puts the time before each line.
programs_stamp() {
	local line
	while read -r line; do
		printf '%s %s\n' "$(date -u +%T.%3N)" "$line"
	done
}

# Lines for what the receivers know, and the files away.
programs_judge_servers() {
	local status out verdict
	while read -r status out; do
		verdict=$(stream_verdict "$status")
		[ "$status $(sha256sum 2>/dev/null <"$out")" = "ok $upload_sum" ] || [ "$status" != ok ] || verdict=cut
		echo "program=nc verdict=$verdict status=$status"
		[ ! -f "$out" ] || rm -f "$out"
	done < <(grep '^{' "$dir/raw.log" | tail -n +$((raw_judged + 1)) | jq -r '.status + " " + (.received.out // "/dev/null")') \
		>>"$dir/programs.log"
	raw_judged=$(grep -c '^{' "$dir/raw.log")
	grep '^{' "$dir/receive.log" | tail -n +$((receive_judged + 1)) | jq -r .status | while read -r status; do
		echo "program=receive verdict=$(stream_verdict "$status") status=$status"
	done >>"$dir/programs.log"
	receive_judged=$(grep -c '^{' "$dir/receive.log")
}
raw_judged=0 receive_judged=0
