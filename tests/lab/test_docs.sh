#!/bin/bash
# The documents and the programs say the same: every key and switch of --help, with its range and default, stands in
# network.conf(5) or the program's page, and the other way round; pages are clean mdoc; links and paths lead somewhere.
# Reads only, and writes in a temporary folder. BIN names the folder of the programs.
set -u
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/../.." || exit 1
BIN=${BIN:-build/bin}
failed=0

ok() { printf 'ok - %s\n' "$1"; }
not_ok() { printf 'not ok - %s: %s\n' "$1" "$2"; failed=1; }
skip() { printf 'skip - %s: %s\n' "$1" "$2"; }
one_line() { tr '\n' ';' | cut -c 1-600; }

# same NAME DOCUMENT HELP: two lists of lines.
same() {
	local only_help only_document
	only_document=$(comm -23 <(sort <<<"$2") <(sort <<<"$3") | one_line)
	only_help=$(comm -13 <(sort <<<"$2") <(sort <<<"$3") | one_line)
	if [ -z "$2" ] || [ -z "$3" ]; then
		not_ok "$1" 'nothing was found to compare'
	elif [ -n "$only_document$only_help" ]; then
		not_ok "$1" "only in the document: ${only_document:-nothing}  only in --help: ${only_help:-nothing}"
	else
		ok "$1"
	fi
}

# ---- keys ---------------------------------------------------------------------------------------------------------

# "GROUP.KEY|range; default" for each key that `$1 --help` shows; the group's name is $2.
help_keys() {
	"$BIN/$1" --help | awk -v group="$2" '
		/^Keys of the group/ { in_keys = 1; next }
		/^Lists, in the file/ { in_lists = 1; next }
		/^Exit codes/ { exit }
		!in_keys || !NF { next }
		in_lists && match($0, /^                   [^ ]/) { print list "." item "|" substr($0, 20); next }
		in_lists && /^  [^ ]/ { list = group "." $1; line = 0; next }
		in_lists && ++line > 2 { item = $1; next }
		in_lists { if (line == 2) print list "|" substr($0, 7); next }
		match($0, /^  --[^=]+=/) { key = group "." substr($0, 5, RLENGTH - 5); line = 0; next }
		++line == 2 { print key "|" substr($0, 7) }'
}

# The same from network.conf(5): .Ss names the group, .It the key, .Pq what it takes.
page_keys() {
	sed 's/\\(dq/"/g; s/\\\[u2026]/…/g' doc/network.conf.5 | awk -v group="$1" '
		/^\.Ss / { at = key = $2; next }
		/^\.It Cm / { key = at "." $3; next }
		/^\.Pq / && (at == group || index(at, group ".") == 1) { print key "|" substr($0, 5) }'
}

for program in tx_proxy rx_proxy stream receive; do
	group=${program/receive/dest}
	same "network.conf(5) has every key of $program as --help tells it" "$(page_keys "$group")" "$(help_keys "$program" "$group")"
done

# ---- switches -----------------------------------------------------------------------------------------------------

help_switches() { "$BIN/$1" --help | sed -n '/^Options:/,/^$/ s/^  \(-. [A-Z]*, \)\?--\([a-z-]*\).*/\2/p' | sort -u; }
# A page may name -c for --config.
page_switches() {
	{
		grep -oE 'Fl -[a-z][a-z-]*' "$1" | sed 's/Fl -//'
		! grep -q 'Fl c' "$1" || echo config
	} | sort -u
}

for page in doc/{tx_proxy,rx_proxy}.8 doc/{stream,receive}.1; do
	program=$(basename "${page%.*}")
	same "$(basename "$page") has every switch of $program" "$(page_switches "$page")" "$(help_switches "$program")"
done

# ---- events -------------------------------------------------------------------------------------------------------

for program in tx_proxy rx_proxy; do
	missing=''
	for event in $(sed -n '/^\.Sh DIAGNOSTICS/,/^\.Sh S/ s/^\.It Li //p' "doc/$program.8" | tr -d ,); do
		grep -rq --include='*.c' "\"$event\"" "$program" common/io || missing+=" $event"
	done
	if [ -z "$missing" ]; then
		ok "$program.8 names events that are logged"
	else
		not_ok "$program.8 names events that are logged" "nobody logs$missing"
	fi
done

# ---- form ---------------------------------------------------------------------------------------------------------

for page in doc/*.[158]; do
	name="$(basename "$page") is clean mdoc"
	if ! command -v mandoc >/dev/null; then
		skip "$name" 'mandoc is not installed'
	elif complaints=$(mandoc -Tlint -Wwarning "$page" 2>&1); then
		ok "$name"
	else
		not_ok "$name" "$(one_line <<<"$complaints")"
	fi
done

# ---- links --------------------------------------------------------------------------------------------------------

# Headings as anchors, as the usual renderers of Markdown make them.
anchors() { sed -n 's/^#\+ //p' "$1" | tr '[:upper:]' '[:lower:]' | sed 's/[^[:alnum:] _-]//g; s/ /-/g'; }

# The targets of a document's links that lead nowhere, and the files and folders in code marks that are not there.
broken() {
	local target file anchor path
	while read -r target; do
		file=${target%%#*} anchor=''
		[[ $target != *'#'* ]] || anchor=${target#*#}
		if [ -z "$file" ]; then file=$1; else file=$(dirname "$1")/$file; fi
		[ -e "$file" ] && { [ -z "$anchor" ] || anchors "$file" | grep -qxF -- "$anchor"; } && continue
		printf '%s ' "$target"
	done < <(grep -oE '\]\([^)]+\)' "$1" | sed 's/^](//; s/)$//' | grep -v '://')
	while read -r path; do
		compgen -G "$path" >/dev/null || printf '%s ' "$path"
	done < <(grep -oE '`(common|tx_proxy|rx_proxy|tools|tests|doc)/[]A-Za-z0-9_./*[]*`' "$1" | tr -d '`' | sort -u)
}

for document in README.md doc/*.md; do
	missing=$(broken "$document")
	if [ -z "$missing" ]; then
		ok "what $document links to and names is there"
	else
		not_ok "what $document links to and names is there" "missing: $missing"
	fi
done

missing=''
for page in doc/*.[158]; do
	while read -r name section; do
		case $name in
		tx_proxy | rx_proxy | stream | receive | network.conf)
			[ -e "doc/$name.$section" ] || missing+=" $(basename "$page"): $name($section)" ;;
		esac
	done < <(awk '$1 == ".Xr" { print $2, $3 }' "$page")
done
if [ -z "$missing" ]; then
	ok 'pages refer to pages that are there'
else
	not_ok 'pages refer to pages that are there' "$missing"
fi

# ---- configurations -----------------------------------------------------------------------------------------------

# A block of README.md after the comment `<!-- check -->` is a whole file, but for the key, which is made here.
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
"$BIN/tx_proxy" --make-key="$work/key" >/dev/null 2>&1
awk -v dir="$work" '
	/^<!-- check -->$/ { wanted = 1; next }
	/^```/ && wanted { wanted = 0; inside = 1; file = dir "/block" ++n ".conf"; next }
	/^```/ { inside = 0 }
	inside { print > file }' README.md
for file in "$work"/block*.conf; do
	sed -i "s|\"/etc/pair_proxy/key\"|\"$work/key\"|" "$file" 2>/dev/null
	for program in tx_proxy rx_proxy; do
		name="$program takes the configuration $(basename "$file" .conf) of README.md"
		if complaint=$("$BIN/$program" -c "$file" --check 2>&1); then
			ok "$name"
		else
			not_ok "$name" "$complaint"
		fi
	done
done

# As it comes, but with the key that README.md tells to write, and with the one that network.conf has as a comment.
offers_bbr() { grep -qw bbr /proc/sys/net/ipv4/tcp_available_congestion_control; }
sed '/^    security = /d' network.conf >"$work/plain.conf"
for program in tx_proxy rx_proxy; do
	with=$(grep "^    security = .* // $program\$" README.md)
	awk -v with="$with" -v group="^$program = " '{ print } $0 ~ group { print with }' "$work/plain.conf" >"$work/readme.conf"
	sed 's|^    //   security = |    security = |' "$work/plain.conf" >"$work/comment.conf"
	for from in readme comment; do
		name="$program takes network.conf with the key of the $from"
		sed -i "s|\"/etc/pair_proxy/key\"|\"$work/key\"|" "$work/$from.conf"
		offers_bbr || sed -i '/congestion *= /d' "$work/$from.conf"
		if ! grep -q '^    security = .*"psk"' "$work/$from.conf"; then
			not_ok "$name" "there is none"
		elif complaint=$("$BIN/$program" -c "$work/$from.conf" --check 2>&1); then
			ok "$name"
		else
			not_ok "$name" "$complaint"
		fi
	done
done

# ---- commands -----------------------------------------------------------------------------------------------------

targets=$(make -pRrq : 2>/dev/null | sed -n 's/^\([a-z][a-z-]*\):.*/\1/p')
for target in $(grep -oE '(^|`)(sudo )?make [a-z]+' README.md | awk '{ print $NF }' | sort -u); do
	if grep -qx "$target" <<<"$targets"; then
		ok "make $target of README.md"
	else
		not_ok "make $target of README.md" 'no such target'
	fi
done
for command in 'make demo' 'make check'; do
	grep -q "^$command\b" README.md || not_ok "README.md has $command" 'it is not there'
done
exit "$failed"
