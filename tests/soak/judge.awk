# judge: the lines of both ends of the soak's flows (flow_end.h), joined. Names what may never be, a line each, after `bad: `;
# the last line is `flows=N whole=N broken=N aborted=N bad=N pair=N direct=N`, of the clients' sides and, where each went, the
# servers'. Variables: source, the client's address; strict=1: nothing but a lost session may break a flow that went through the
# pair, within 3 s of one of the times (HH:MM:SS) in losses.
function value(key, i) {
	for (i = 1; i <= NF; i++)
		if (index($i, key "=") == 1)
			return substr($i, length(key) + 2)
	return ""
}

function bad(why, line) {
	bads++
	print "bad: " why ": " line
}

function seconds(clock, part) {
	split(clock, part, ":")
	return part[1] * 3600 + part[2] * 60 + part[3]
}

function explained(side, id, i, count, times, late) {
	count = split(losses, times, " ")
	for (i = 1; i <= count; i++) {
		late = seconds(at[side, id]) - seconds(times[i])
		if (late >= -3 && late <= 3)
			return 1
	}
	return 0
}

/^side=/ {
	side = value("side"); id = value("id"); verdict = value("verdict"); kind = value("kind")
	if (verdict == "cut" || verdict == "wrong" || verdict == "hung")
		bad(verdict, $0)
	if (side == "server") {
		from = value("from")
		if (from == source) direct++; else pair++
	}
	if (kind == "none" || kind == "sized" || kind == "unsized")
		next
	line[side, id] = $0
	state[side, id] = verdict
	at[side, id] = value("at")
	if (side == "server") through_pair[id] = from != source
	sent[side, id] = value("sent"); received[side, id] = value("received")
	sent_sha[side, id] = value("sent_sha256"); received_sha[side, id] = value("received_sha256")
	if (side == "client") {
		ids[id] = kind
		count[verdict]++
		flows++
		expected[id] = value("to_send")
	}
}

# What one end took whole, the other must have sent, and its SHA-256 must be the same.
function compare(id, from, to) {
	if (received[to, id] == sent[from, id] && received_sha[to, id] != sent_sha[from, id])
		bad("SHA-256 differs", line[to, id])
	if (state[to, id] == "whole" && received[to, id] != sent[from, id])
		bad("more or less than was sent", line[to, id])
}

END {
	for (id in ids) {
		if (ids[id] == "refused") {
			if (state["client", id] != "broken")
				bad("connected where nobody listens", line["client", id])
			continue
		}
		if (!(("server", id) in line)) {
			if (state["client", id] == "whole")
				bad("the server knows nothing of it", line["client", id])
			continue
		}
		if (strict && through_pair[id]) {
			if (state["client", id] == "broken" && ids[id] != "crash" && !explained("client", id))
				bad("broken for no reason", line["client", id])
			if (state["server", id] == "broken" && ids[id] !~ /^(abort|leave)$/ && !explained("server", id))
				bad("broken for no reason", line["server", id])
		}
		compare(id, "client", "server")
		compare(id, "server", "client")
		# Here the server answers only what it has got.
		if (state["client", id] == "whole" && ids[id] ~ /^(request|upload|chat|idle)$/ &&
		    received["server", id] != expected[id])
			bad("answered, but not received", line["server", id])
	}
	printf "flows=%d whole=%d broken=%d aborted=%d bad=%d pair=%d direct=%d\n", flows, count["whole"], count["broken"],
		count["aborted"], bads, pair, direct
}
