#!/bin/bash
# Connections through the pair on which nothing happens for IDLE_S seconds (70), and which then go on as if nothing had
# been: longer than any limit of time that the daemons have. A lab of its own; test_pair_manners.sh runs it beside other
# cases.

# shellcheck source=tests/lab/pair.sh
. "$(dirname "${BASH_SOURCE[0]}")/pair.sh"
idle_s=${IDLE_S:-70}
# Small windows, so that not much is needed to fill all of them.
pair_limits='session_timeout_ms = 5000; flow_window_bytes = "256k";'
# Some of these uploads end in tx_proxy's socket, behind what tx_proxy has no room for: so it cannot read that they have.
upload_kbs='1000 1300 1500 1700 1900 2100 2300'

# job NAME PORT OPERATION…: the client's side, in the background
job() {
	start "$1" source "$tcp_probe" connect "$dest_ip" "${@:2}"
	jobs+=("$started")
}

# result NAME LOG WORD…: what client and server of a job told in the end
result() { tells "$1" "$(tail -n 1 "$dir/$2.log")" "${@:3}"; }

pair_begin "idle connections"
jobs=()
pair_lab --delay 10ms
pair_start
probe_serve 7100 limit=200 read=1 send=1 read=100000 send=100000 end fin
probe_serve 7101 limit=200 end sleep=$((idle_s * 1000)) send=1000
probe_serve 7102 limit=200 end
for kb in $upload_kbs; do
	probe_serve $((20000 + kb)) limit=200 sleep=$((idle_s * 1000)) read=${kb}000 end send=1000 fin
	job upload_$kb $((20000 + kb)) limit=$((idle_s + 15)) send=${kb}000 fin read=1000 end
done
job used 7100 send=1 read=1 sleep=$((idle_s * 1000)) send=100000 read=100000 fin end
job half_closed 7101 limit=200 send=10 fin end
job unused 7102 sleep=$((idle_s * 1000)) send=10 fin end
for job in "${jobs[@]}"; do
	ended "$job" $((idle_s + 60))
done
sleep 0.2
result "an idle connection works after $idle_s s" used read=100001 wrong=none end=eof error=none
result "its destination has all of it" serve_7100 read=100001 wrong=none end=eof error=none
result "a half-closed idle connection works after $idle_s s" half_closed read=1000 wrong=none end=eof error=none
result "a connection works that was not used for $idle_s s" unused end=eof error=none
result "its destination has what was sent then" serve_7102 read=10 wrong=none end=eof error=none
for kb in $upload_kbs; do
	result "$kb kB that nobody takes for $idle_s s, and their end: answered" upload_$kb read=1000 wrong=none end=eof error=none
done
equal "no stripe was lost in between" "$(grep -c 'event=stripe_closed' "$tx_log")" 0
equal "all of them went through the pair" "$(stat tx flows_opened)" $((3 + $(wc -w <<<"$upload_kbs")))
pair_stop
pair_end
