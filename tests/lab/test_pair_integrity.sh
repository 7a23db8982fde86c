#!/bin/bash
# What goes into the pair comes out of it, unharmed, over a link that loses 3 %: files of awkward sizes with 1, 2, 8
# and 32 stripes, 100 MB, and 200 flows at the same time, in both directions. About 20 s. time-limit: 240

# shellcheck source=tests/lab/pair.sh
. "$(dirname "${BASH_SOURCE[0]}")/pair.sh"

sizes='0 1 999 1000 1001 65535 65536 65537'
big=100000000

# Files are made of noise, so that no byte can stand for another. What was sent is hashed before, what arrived on the
# other host, neither by our own tools.
make_files() {
	local size
	for size in $sizes $big; do
		head -c "$size" /dev/urandom >"$dir/file_$size"
		sha256sum <"$dir/file_$size" >"$dir/sum_$size"
	done
}

# 7101 takes a file up to its end and answers with its hash; 7102 sends the file that is asked for.
serve_files() {
	serve take dest 7101 socat -t 60 TCP-LISTEN:7101,fork,reuseaddr,backlog=256 SYSTEM:sha256sum
	serve give dest 7102 socat -t 60 TCP-LISTEN:7102,fork,reuseaddr,backlog=256 \
		"SYSTEM:read -r size && cat $dir/file_\$size"
}

upload() { on source timeout 60 socat -t 60 "OPEN:$dir/file_$1!!STDOUT" "TCP:$dest_ip:7101" >"$dir/up_$1"; }
download() { echo "$1" | on source timeout 60 socat -t 60 - "TCP:$dest_ip:7102" | sha256sum >"$dir/down_$1"; }

# exchange SIZE…: all of them at once, in both directions.
exchange() {
	local size jobs=()
	for size; do
		rm -f "$dir/up_$size" "$dir/down_$size"
		upload "$size" &
		jobs+=($!)
		download "$size" &
		jobs+=($!)
	done
	wait "${jobs[@]}"
}

# judge SIZE…
judge() {
	local size
	for size; do
		equal "$pair_stripes stripes, $size bytes to the destination" "$(<"$dir/up_$size")" "$(<"$dir/sum_$size")"
		equal "$pair_stripes stripes, $size bytes from the destination" "$(<"$dir/down_$size")" "$(<"$dir/sum_$size")"
	done
}

test_sizes() {
	for pair_stripes in 1 2 8 32; do
		pair_start
		# shellcheck disable=SC2086
		captured exchange $sizes
		equal "$pair_stripes stripes: every flow went through the pair" "$opened" 16
		# shellcheck disable=SC2086
		judge $sizes
		pair_stop
	done
}

test_big() {
	local lost
	pair_stripes=8
	pair_start
	captured exchange "$big"
	equal "100 MB each way went through the pair" "$opened" 2
	judge "$big"
	lost=$(link show | jq '[.ab, .ba][].frames_dropped_loss' | sort -n | head -n 1)
	check "the link lost frames both ways" "$lost lost" test "$lost" -gt 1000
}

# Five sizes, 40 flows of each, everything at once and both ways. Each flow's pattern is of its own seed and index: bytes
# of another flow are wrong bytes.
test_crowd() {
	local bytes jobs=() failed
	serve receive dest 7000 "$bin/receive" -c "$conf" --quiet
	crowd() {
		local bytes
		for bytes in 1 1000 20000 150000 400000; do
			on source "${pin[@]}" "$bin/stream" -c "$conf" --flows=40 --direction=both --bytes="$bytes" --seed="$bytes" --json --quiet \
				--timeout=60 >"$dir/crowd_$bytes" 2>>"$dir/crowd.log" &
			jobs+=($!)
		done
		wait "${jobs[@]}"
	}
	pair_pin
	captured crowd
	equal "200 flows at once went through the pair" "$opened" 200
	for bytes in 1 1000 20000 150000 400000; do
		failed=$(jq -c '[.flows[] | select(.status != "ok" or .send.confirmed_bytes != '"$bytes"' or .receive.bytes != '"$bytes"')
			| {flow, status, error, send, receive}][:2]' "$dir/crowd_$bytes" 2>&1)
		equal "40 of 200 flows at once, $bytes bytes each way, none mixed up" "$failed" '[]'
	done
}

pair_begin "the pair's integrity"
pair_lab --rate 300M --delay 10ms --loss 3% --queue 1000000
make_files
serve_files
test_sizes
test_big
test_crowd
pair_stop
pair_end
