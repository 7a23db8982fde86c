#!/bin/sh
# The programs' command lines and wrong configuration files: exit code 2 and a message of its own for each mistake.
# BIN names the folder of the programs. Starts no daemon (every case ends at --check or before), needs no root.
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
BIN=${BIN:-$root/build/bin}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
failed=0

ok() { printf 'ok - %s\n' "$1"; }
not_ok() { printf 'not ok - %s: %s\n' "$1" "$2"; failed=1; }
skip() { printf 'skip - %s: %s\n' "$1" "$2"; }

# Runs a program in $dir, at most 10 s; sets $code, $out and $err.
run() {
	program=$1
	shift
	(cd "$dir" && exec timeout 10 "$BIN/$program" "$@") >"$dir/.out" 2>"$dir/.err" </dev/null
	code=$?
	out=$(tr '\n' ' ' <"$dir/.out")
	err=$(tr '\n' ' ' <"$dir/.err")
}

# judge NAME CODE PATTERN TEXT: the exit code, and the extended regular expression in the text.
judge() {
	if [ "$code" -ne "$2" ]; then
		not_ok "$1" "exit code $code, not $2; stdout: $out; stderr: $err"
	elif ! printf '%s\n' "$4" | grep -Eq -- "$3"; then
		not_ok "$1" "no \"$3\" in: $4"
	else
		ok "$1"
	fi
}

# refused PROGRAM NAME PATTERN ARGUMENT…: exit code 2, the message on standard error, nothing on standard output.
refused() {
	program=$1 name="$1 refuses: $2" pattern=$3
	shift 3
	run "$program" "$@"
	if [ -n "$out" ]; then
		not_ok "$name" "printed on standard output: $out"
	else
		judge "$name" 2 "$pattern" "$err"
	fi
}

# wrong PROGRAM NAME PATTERN: the same for the file that stands on standard input, as file.conf.
wrong() {
	sed "s|@DIR@|$dir|g" >"$dir/file.conf"
	refused "$1" "$2" "$3" --check -c file.conf
}

accepted() {
	name="$1 accepts: $2" program=$1
	shift 2
	run "$program" "$@"
	judge "$name" 0 'valid' "$out"
}

"$BIN/tx_proxy" --make-key="$dir/key"
cp "$dir/key" "$dir/open_key" && chmod 644 "$dir/open_key"
mkdir "$dir/folder"

cat >"$dir/good.conf" <<END
tx_proxy = { rx_proxy_ip = "192.0.2.2"; security = { mode = "psk"; identity = "tx1"; key_file = "$dir/key"; }; };
rx_proxy = { security = { mode = "psk"; keys = ( { identity = "tx1"; key_file = "$dir/key"; } ); }; };
stream = { dest_ip = "192.0.2.3"; };
dest = { };
END

# The original project's spelling: every number a string, no security, no semicolon after a group.
cat >"$dir/original.conf" <<END
stream =
{
    dest_ip = "192.0.2.3";
    dest_port = "7000";
    file_name = "$dir/key";
}
dest = { recv_port = "7000"; out = "$dir/out"; log = "$dir/log"; }
tx_proxy = { local_port = "5000"; rx_proxy_ip = "192.0.2.2"; rx_proxy_port = "6000"; }
rx_proxy : { dest_ip = "192.0.2.3"; recv_port = "6000"; dest_port = "7000"; }
END

# What every program shares.
common() {
	program=$1 port=$2
	run "$program" --help
	judge "$program --help lists its keys" 0 "--$port=.*1\.\.65535" "$out"
	judge "$program --help lists the shared switches" 0 '--check.*--version' "$out"
	run "$program" --version
	judge "$program --version" 0 "^$program [0-9]+\.[0-9]+" "$out"
	accepted "$program" "a good file" --check -c good.conf
	accepted "$program" "--config=FILE" --check --config=good.conf
	accepted "$program" "an override" --check -c good.conf "--$port=6543"
	accepted "$program" "a log level" --check -c good.conf --log-level=debug
	refused "$program" "nonexistent file" '/nonexistent: .*No such file' --check -c /nonexistent
	refused "$program" "directory for a file" 'folder: .*Is a directory' --check -c folder
	refused "$program" "no file at all" 'network\.conf' --check
	refused "$program" "unknown option" 'unknown option --frobnicate' -c good.conf --frobnicate
	refused "$program" "argument" 'unexpected argument "stray"' -c good.conf stray
	refused "$program" "override of an unknown key" '--frob=1: unknown key "frob"' -c good.conf --frob=1
	refused "$program" "override out of range" "--$port=99999: .*1\.\.65535" -c good.conf "--$port=99999"
	refused "$program" "override that is no number" "--$port=x: .*not a number" -c good.conf "--$port=x"
	refused "$program" "log level" '--log-level=loud: expected error' -c good.conf --log-level=loud
	echo 'tx_proxy = {' >"$dir/file.conf"
	refused "$program" "syntax error" 'file\.conf:[12]: syntax error' --check -c file.conf
	printf 'tx_proxy = { };\nrx_proxy = { };\nstream = { };\ndest = { };\nproxy = { };\n' >"$dir/file.conf"
	refused "$program" "unknown group" 'file\.conf:5: .*unknown group "proxy"' --check -c file.conf
	: >"$dir/empty.conf"
	refused "$program" "file without its group" 'empty\.conf: has no group' --check -c empty.conf
}

test_tx_proxy() {
	common tx_proxy local_port
	accepted tx_proxy "nested override" --check -c good.conf --capture.queue=7
	refused tx_proxy "override of a list" '--paths=1: is a list' -c good.conf --paths=1
	wrong tx_proxy "syntax error with its line" 'file\.conf:3: syntax error' <<-END
		tx_proxy = {
		    rx_proxy_ip = "192.0.2.2";
		    local_port 5000;
		};
	END
	wrong tx_proxy "unknown key" 'file\.conf:2: tx_proxy\.local_prot: unknown key .*local_port' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2";
		    local_prot = 5000; };
	END
	wrong tx_proxy "unknown nested key" 'file\.conf:1: tx_proxy\.capture\.qeue: unknown key .*queue' <<-END
		tx_proxy = { capture = { qeue = 1; }; };
	END
	wrong tx_proxy "wrong type" 'file\.conf:2: tx_proxy\.local_port: is a boolean; expected a port' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2";
		    local_port = true; };
	END
	wrong tx_proxy "port out of range" 'file\.conf:2: tx_proxy\.local_port: 65536 is out of range.*1\.\.65535' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2";
		    local_port = 65536; };
	END
	wrong tx_proxy "port that 32 bits would cut" 'local_port: 4294972296 is out of range' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2"; local_port = 4294972296; };
	END
	wrong tx_proxy "missing required key" 'file\.conf:2: .*rx_proxy_ip is missing' <<-END

		tx_proxy = { };
	END
	wrong tx_proxy "bad address" 'file\.conf:1: tx_proxy\.rx_proxy_ip: "192.0.2.256" is not an address' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.256"; };
	END
	wrong tx_proxy "bad network" 'sources\[1\]: "10.0.0.0/40" has no valid prefix length; expected 0\.\.32' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2"; capture = { sources = ( "::/0", "10.0.0.0/40" ); }; };
	END
	wrong tx_proxy "unknown congestion control" 'file\.conf:2: .*unknown congestion control "nosuch".*(reno|cubic)' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2"; paths = (
		    { congestion = "nosuch"; } ); };
	END
	wrong tx_proxy "too many stripes" 'paths\[0\]\.stripes: 65 is out of range.*1\.\.64' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2"; paths = ( { stripes = 65; } ); };
	END
	wrong tx_proxy "duplicate path name" 'file\.conf:3: tx_proxy\.paths\[1\]\.name: "a" .*unique' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2"; paths = (
		    { name = "a"; },
		    { name = "a"; } ); };
	END
	wrong tx_proxy "addresses of two families" 'local_ip: is IPv6, but the remote address is IPv4' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2"; paths = ( { local_ip = "::1"; } ); };
	END
	wrong tx_proxy "key file that does not exist" 'key_file: key file ".*/nokey" cannot be read: No such file' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2";
		    security = { mode = "psk"; identity = "a"; key_file = "@DIR@/nokey"; }; };
	END
	wrong tx_proxy "key file open to others" 'file\.conf:2: .*has mode 644, open to others' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2";
		    security = { mode = "psk"; identity = "a"; key_file = "@DIR@/open_key"; }; };
	END
	wrong tx_proxy "key file that is a directory" 'not a regular file' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2";
		    security = { mode = "psk"; identity = "a"; key_file = "@DIR@/folder"; }; };
	END
	wrong tx_proxy "window beyond a quarter of memory" 'flow_window_bytes: .*quarter of memory_bytes' <<-END
		tx_proxy = { rx_proxy_ip = "192.0.2.2"; limits = { memory_bytes = "16M"; flow_window_bytes = "5M"; }; };
	END
}

test_rx_proxy() {
	common rx_proxy recv_port
	wrong rx_proxy "unknown key" 'file\.conf:1: rx_proxy\.port: unknown key .*recv_port' <<-END
		rx_proxy = { port = 6000; };
	END
	wrong rx_proxy "destination without port" 'rx_proxy\.dest_ip: dest_port is missing' <<-END
		rx_proxy = { dest_ip = "192.0.2.3"; };
	END
	wrong rx_proxy "bits beyond the prefix" 'allow\[0\]: .*bits beyond its prefix; expected 10\.0\.0\.0/8' <<-END
		rx_proxy = { allow = ( "10.1.2.3/8" ); };
	END
	wrong rx_proxy "security without mode" 'rx_proxy\.security: mode is missing' <<-END
		rx_proxy = { security = { accept_from = ( "192.0.2.1" ); }; };
	END
	wrong rx_proxy "psk without keys" 'keys is missing' <<-END
		rx_proxy = { security = { mode = "psk"; }; };
	END
	wrong rx_proxy "identity given twice" 'keys\[1\]\.identity: "a" .*unique' <<-END
		rx_proxy = { security = { mode = "psk"; keys = ( { identity = "a"; key_file = "@DIR@/key"; },
		    { identity = "a"; key_file = "@DIR@/key"; } ); }; };
	END
	wrong rx_proxy "key file open to others" 'keys\[0\]\.key_file: .*open to others' <<-END
		rx_proxy = { security = { mode = "psk"; keys = ( { identity = "a"; key_file = "@DIR@/open_key"; } ); }; };
	END
}

test_stream() {
	common stream dest_port
	wrong stream "missing destination" 'dest_ip is missing' <<-END
		stream = { };
	END
	wrong stream "direction" 'stream\.direction: "up" is unknown; expected "send", "receive" or "both"' <<-END
		stream = { dest_ip = "192.0.2.3"; direction = "up"; };
	END
	wrong stream "suffix" 'stream\.bytes: "5T" is not a number; .*k, M or G' <<-END
		stream = { dest_ip = "192.0.2.3"; bytes = "5T"; };
	END
}

test_receive() {
	common receive recv_port
	wrong receive "negative number" 'dest\.flows: -1 is out of range' <<-END
		dest = { flows = -1; };
	END
}

for program in tx_proxy rx_proxy stream receive; do
	if [ ! -x "$BIN/$program" ]; then
		skip "$program: command line and configuration" "$BIN/$program is not built"
		continue
	fi
	case $program in
	tx_proxy) test_tx_proxy ;;
	rx_proxy) test_rx_proxy ;;
	stream) test_stream ;;
	receive) test_receive ;;
	esac
	accepted "$program" "the original project's file" --check -c original.conf
	run "$program" --check -c "$root/network.conf"
	case $err in
	*"unknown congestion control"*) skip "$program accepts: network.conf" "this kernel has no bbr" ;;
	*) judge "$program accepts: network.conf" 0 'valid' "$out" ;;
	esac
done
exit $failed
