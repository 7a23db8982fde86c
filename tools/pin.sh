# pin: for many connections. Puts process $1 (tx_proxy) on one CPU and sets the array $pin, a prefix for clients on its
# lab's source, to the same. Else a client's first data races, on another CPU, with the ACK before it; kernels before 6.19
# then find no socket now and again, and reset the connection (some one in 20,000). On a real network both come through
# one queue of the network card.
# shellcheck shell=bash disable=SC2034
pin_with() {
	local cpu
	cpu=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)
	pin=(taskset -c "$cpu")
	taskset -cp "$cpu" "$1" >/dev/null
}
