/* One engine against a far end that sends whatever it likes, and an owner that does anything the contract allows, in
 * any order.
 *
 * The input is a schedule: its first byte chooses the role, then each operation is a byte and its arguments. Frames are
 * well-formed on the wire as far as it takes to reach the engine's own rules (fuzz_frame_reader is about the wire).
 * After each operation the engine's invariants are looked at; what it writes is read back and must be well-formed.
 */
#include <string.h>

#include "../../common/core/memory.h"
#include "../../common/core/parity.h"
#include "../../common/core/session_internal.h"
#include "fuzz.h"

enum { STRIPES = 10, APPS = 24, OPERATIONS_MAX = 600, MEMORY_BYTES = 1 << 20, START_US = 1000000 };

struct input {
	const uint8_t *at, *end;
};

struct app {
	struct flow *flow; /* NULL: free */
	bool ended;
};

struct link {
	struct stripe *stripe;      /* NULL: free */
	struct frame_reader reader; /* of what the engine writes */
	struct stripe_info info;
	bool greeted;
};

static struct world {
	struct session *session;
	bool server;
	uint64_t now_us;
	struct link links[STRIPES];
	struct app apps[APPS];
	bool running; /* inside session_run */
} world;

static uint8_t byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static uint32_t word(struct input *in)
{
	uint32_t high = byte(in);

	return high << 8 | byte(in);
}

/* --- The owner ----------------------------------------------------------------------------------------------------*/

static struct app *app_of(const struct flow *flow)
{
	struct app *app = flow->user;

	FUZZ_CHECK(app >= world.apps && app < world.apps + APPS && app->flow == flow);
	return app;
}

static struct app *free_app(void)
{
	for (unsigned i = 0; i < APPS; i++)
		if (!world.apps[i].flow)
			return &world.apps[i];
	return NULL;
}

static void on_result(void *user, struct flow *flow, enum open_status status)
{
	FUZZ_CHECK(world.running && !world.server);
	struct app *app = app_of(flow);
	if (status != OPEN_CONNECTED)
		*app = (struct app){0};
}

static void on_open(void *user, struct flow *flow)
{
	FUZZ_CHECK(world.running && world.server && !flow->user);
	struct app *app = free_app();
	if (!app) {
		flow_connected(flow, OPEN_LIMIT);
		return;
	}
	*app = (struct app){.flow = flow};
	flow->user = app;
}

static void on_readable(void *user, struct flow *flow)
{
	struct iovec slice;

	FUZZ_CHECK(world.running);
	app_of(flow);
	FUZZ_CHECK(flow_at_end(flow) || flow_peek(flow, &slice, 1));
}

static void on_writable(void *user, struct flow *flow)
{
	FUZZ_CHECK(world.running);
	app_of(flow);
}

static void on_ended(void *user, struct flow *flow, enum reset_reason reason)
{
	FUZZ_CHECK(world.running);
	*app_of(flow) = (struct app){0};
}

static void on_event(void *user, const struct session_event_info *info)
{
	FUZZ_CHECK(info->path < SESSION_PATHS_MAX);
}

/* --- The stripes' sockets -----------------------------------------------------------------------------------------*/

static void lose(struct link *link)
{
	struct stripe *stripe = link->stripe;

	*link = (struct link){0};
	session_stripe_lost(stripe, world.now_us);
}

/* What the engine says must make sense by itself. */
static void read_back(struct link *link, const uint8_t *bytes, size_t len)
{
	const uint8_t *at = bytes, *end = bytes + len;
	struct frame f;
	int got;

	while ((got = frame_reader_next(&link->reader, &at, end, &f)) > 0) {
		enum frame_type first = world.server ? FRAME_WELCOME : FRAME_HELLO;
		FUZZ_CHECK(link->greeted == (f.type != FRAME_HELLO && f.type != FRAME_WELCOME));
		FUZZ_CHECK(link->greeted || f.type == first);
		FUZZ_CHECK(!world.server || f.type != FRAME_OPEN);
		FUZZ_CHECK(world.server || f.type != FRAME_OPEN_RESULT);
		link->greeted = true;
	}
	FUZZ_CHECK(got == 0);
}

static void write_out(struct link *link, size_t most)
{
	struct iovec slices[4];
	unsigned count;

	while (most && (count = stripe_output_peek(link->stripe, slices, 4)) > 0) {
		size_t len = slices[0].iov_len < most ? slices[0].iov_len : most;
		read_back(link, slices[0].iov_base, len);
		stripe_output_consume(link->stripe, len);
		link->info.notsent_bytes += (uint32_t)len;
		most -= len;
	}
}

static void on_output(void *user, struct stripe *stripe)
{
	struct link *link = stripe->user;

	FUZZ_CHECK(world.running && link->stripe == stripe);
	if (stripe->error)
		lose(link);
	else if (stripe->id % 3)
		write_out(link, SIZE_MAX);
}

static void on_measure(void *user, struct stripe *stripe)
{
	struct link *link = stripe->user;

	FUZZ_CHECK(world.running && link->stripe == stripe);
	session_stripe_info(stripe, &link->info, 60000, world.now_us);
}

static const struct session_ops ops = {.flow_result = on_result,
                                       .flow_open = on_open,
                                       .flow_readable = on_readable,
                                       .flow_writable = on_writable,
                                       .flow_ended = on_ended,
                                       .stripe_output = on_output,
                                       .stripe_measure = on_measure,
                                       .event = on_event};

static void feed(struct link *link, const uint8_t *bytes, size_t len)
{
	if (session_stripe_in(link->stripe, bytes, len, world.now_us)) {
		FUZZ_CHECK(link->stripe->error);
		lose(link);
	}
}

static void connect_stripe(struct input *in)
{
	struct hello hello = {.path = byte(in) % SESSION_PATHS_MAX, .index = byte(in) % 8, .stripes = 8};
	struct link *link = world.links;

	while (link < world.links + STRIPES && link->stripe)
		link++;
	if (link == world.links + STRIPES)
		return;
	hello.backup = hello.index == 7;
	hello.reinject_percent = hello.path % 2 ? 100 : (uint8_t)hello.path;
	link->stripe = world.server ? session_stripe_accepted(world.session, &hello, link, world.now_us)
	                            : session_stripe_dialled(world.session, &hello, link, world.now_us);
	if (link->stripe && !world.server && byte(in) % 8) {
		uint8_t head[FRAME_HEAD_MAX];
		struct frame f = {.type = FRAME_WELCOME};
		f.welcome.incarnation[0] = byte(in) < 250 ? 1 : 2;
		feed(link, head, frame_encode_head(head, &f));
	}
}

/* --- What the far end sends ---------------------------------------------------------------------------------------*/

/* Near what matters: the starts, ends and edges of the flow's windows. */
static uint64_t offset_near(struct input *in, const struct flow *flow)
{
	uint8_t choice = byte(in);
	uint64_t nudge = word(in), base = 0;

	if (choice & 64)
		nudge %= 4;
	if (flow && flow->state != FLOW_ENDED) {
		const uint64_t bases[] = {0,
		                          flow->ingress.next,
		                          flow->ingress.edge,
		                          flow->ingress.highest,
		                          flow->egress.acked,
		                          flow->egress.sent,
		                          flow->egress.end,
		                          flow->egress.edge};
		base = bases[choice % 8];
	} else if (choice % 8 == 7) {
		base = FRAME_OFFSET_MAX;
	}
	if (choice & 128)
		return base > nudge ? base - nudge : 0;
	return base + nudge < FRAME_OFFSET_MAX ? base + nudge : FRAME_OFFSET_MAX;
}

static void send_frame(struct input *in, struct link *link)
{
	static uint8_t bytes[FRAME_HEAD_MAX + FRAME_PAYLOAD_MAX];
	struct frame f = {.type = (enum frame_type)(FRAME_PING + byte(in) % (FRAME_PARITY - FRAME_PING + 1))};
	uint8_t ids = byte(in);
	const struct flow *flow;
	uint32_t len;

	if (f.type >= FRAME_OPEN)
		f.flow = ids == 255 ? UINT32_MAX - 3 : 1u + ids % 32;
	flow = f.flow ? session_find_flow(world.session, f.flow) : NULL;
	switch (f.type) {
	case FRAME_PING:
	case FRAME_PONG:
		f.token = byte(in);
		break;
	case FRAME_OPEN:
		f.open.syn = (struct syn){.src = {.family = ADDR_IPV4}, .dst = {.family = ADDR_IPV4, .port = 80}};
		f.open.window_edge = offset_near(in, NULL);
		f.flags = byte(in) & FRAME_FLAG_COPY;
		f.payload_len = byte(in) % 4 ? 0 : word(in) % 3000;
		break;
	case FRAME_OPEN_RESULT:
		f.result.status = byte(in) % 4 ? OPEN_CONNECTED : (enum open_status)(byte(in) % OPEN_STATUS_COUNT);
		f.result.window_edge = offset_near(in, flow);
		break;
	case FRAME_DATA:
		f.flags = byte(in) % 4;
		f.offset = offset_near(in, flow);
		f.payload_len = word(in) % (byte(in) % 4 ? 200 : FRAME_PAYLOAD_MAX + 1);
		break;
	case FRAME_BLOCK:
		f.flags = byte(in) % 4;
		f.offset = offset_near(in, flow);
		f.payload_len = word(in) % (PARITY_SYMBOL_BYTES + 1);
		f.block.rows = (uint8_t)(1 + byte(in) % PARITY_ROWS_MAX);
		uint64_t back = byte(in) % 4 ? 100u * byte(in) : word(in);
		f.block.start = back < f.offset ? f.offset - back : 0;
		if (f.offset + f.payload_len - f.block.start > PARITY_BLOCK_MAX_BYTES)
			f.block.start = f.offset;
		break;
	case FRAME_PARITY:
		f.flags = byte(in) % 4 ? 0 : FRAME_FLAG_FIN;
		f.block.start = flow && flow->ingress.block && byte(in) % 8 ? flow->ingress.block->start
		                                                            : offset_near(in, flow);
		f.block.len = 1 + (byte(in) % 4 ? 100u * byte(in) : word(in) * 5u) % PARITY_BLOCK_MAX_BYTES;
		f.block.rows = (uint8_t)(1 + byte(in) % PARITY_ROWS_MAX);
		f.block.row = byte(in) % f.block.rows;
		f.payload_len = PARITY_SYMBOL_BYTES;
		break;
	case FRAME_ACK:
		f.ack.offset = offset_near(in, flow);
		f.ack.edge = offset_near(in, flow);
		break;
	case FRAME_RESET:
		f.reason = (enum reset_reason)(1 + byte(in) % (RESET_SESSION - 1));
		break;
	default:
		break;
	}
	len = frame_encode_head(bytes, &f);
	memset(bytes + len, ids, f.payload_len);
	len += f.payload_len;
	uint32_t cut = byte(in) % 8 ? len : word(in) % (len + 1);
	feed(link, bytes, cut);
	if (link->stripe && cut < len && byte(in) % 4)
		feed(link, bytes + cut, len - cut);
}

static void send_raw(struct input *in, struct link *link)
{
	uint8_t bytes[64];
	size_t len = byte(in) % sizeof bytes;

	for (size_t i = 0; i < len; i++)
		bytes[i] = byte(in);
	feed(link, bytes, len);
}

/* --- What the owner does ------------------------------------------------------------------------------------------*/

static void write_app(struct input *in, struct app *app)
{
	struct iovec slices[8];
	size_t wish = 1 + word(in), used = byte(in) % 4 ? wish : wish / 2, total = 0;
	unsigned count;

	if (app->ended)
		return;
	count = flow_reserve(app->flow, wish, slices, 1 + byte(in) % 8);
	for (unsigned i = 0; i < count; i++) {
		size_t len = slices[i].iov_len < used - total ? slices[i].iov_len : used - total;
		memset(slices[i].iov_base, 0xa5, len);
		total += len;
	}
	FUZZ_CHECK(total <= wish);
	if (count)
		flow_commit(app->flow, total);
}

static void read_app(struct input *in, struct app *app)
{
	struct iovec slices[8];
	unsigned count = flow_peek(app->flow, slices, 8);
	uint8_t sum = 0;
	size_t total = 0;

	for (unsigned i = 0; i < count; i++) {
		for (size_t k = 0; k < slices[i].iov_len; k += 1 + k / 2)
			sum ^= ((const uint8_t *)slices[i].iov_base)[k];
		total += slices[i].iov_len;
	}
	flow_consume(app->flow, byte(in) % 4 ? total : total / 2 + (sum & 0));
	if (flow_at_end(app->flow))
		flow_end_taken(app->flow);
}

static void open_app(struct input *in)
{
	struct syn syn = {.src = {.family = ADDR_IPV6}, .dst = {.family = ADDR_IPV6, .port = 443}};
	struct app *app = free_app();

	if (world.server || !app)
		return;
	app->flow = session_open(world.session, &syn, app, world.now_us);
	app->ended = false;
}

static void app_operation(struct input *in, unsigned operation, struct app *app)
{
	if (!app->flow)
		return;
	switch (operation) {
	case 0:
		write_app(in, app);
		break;
	case 1:
		read_app(in, app);
		break;
	case 2:
		if (!app->ended)
			flow_end(app->flow);
		app->ended = true;
		break;
	case 3:
		if (byte(in) % 2)
			break;
		flow_reset(app->flow, (enum reset_reason)(1 + byte(in) % 3));
		*app = (struct app){0};
		break;
	default:
		if (world.server && app->flow->state == FLOW_CONNECTING) {
			enum open_status status =
			        byte(in) % 4 ? OPEN_CONNECTED : (enum open_status)(byte(in) % OPEN_STATUS_COUNT);
			flow_connected(app->flow, status);
			if (status != OPEN_CONNECTED)
				*app = (struct app){0};
		}
		break;
	}
}

static void stripe_operation(struct input *in, unsigned operation, struct link *link)
{
	if (!link->stripe)
		return;
	switch (operation) {
	case 0:
		write_out(link, word(in));
		break;
	case 1: /* the kernel sent, and heard, some */
		link->info.in_flight_bytes += link->info.notsent_bytes;
		link->info.notsent_bytes = 0;
		link->info.srtt_us = 1000 * word(in);
		link->info.rate_Bps = 100 * word(in);
		link->info.in_recovery = byte(in) % 4 == 0;
		if (byte(in) % 2) {
			link->info.delivered += link->info.in_flight_bytes;
			link->info.in_flight_bytes = 0;
		}
		session_stripe_info(link->stripe, &link->info, word(in), world.now_us);
		break;
	default:
		if (byte(in) % 2)
			lose(link);
		break;
	}
}

static void run_engine(void)
{
	world.running = true;
	session_run(world.session, world.now_us);
	world.running = false;
	FUZZ_CHECK(session_next_us(world.session) >= world.now_us);
}

/* --- What must hold -----------------------------------------------------------------------------------------------*/

static void check_flow(const struct flow *flow)
{
	const struct egress *e = &flow->egress;
	const struct ingress *i = &flow->ingress;
	uint32_t lost = 0, repeats = 0;
	uint64_t at = e->sent;

	if (flow->state == FLOW_ENDED || flow->state == FLOW_RESETTING || flow->state == FLOW_REFUSED) {
		FUZZ_CHECK(!e->store.page_count && !i->store.page_count && !flow->promised_bytes);
		return;
	}
	FUZZ_CHECK(e->acked <= e->sent && e->sent <= e->end + e->fin);
	FUZZ_CHECK(i->delivered <= i->next && i->highest <= i->edge);
	FUZZ_CHECK(i->end == UINT64_MAX || i->highest <= i->end);
	FUZZ_CHECK(flow->promised_bytes >= i->edge - i->delivered || i->end != UINT64_MAX);
	for (uint32_t r = e->record_count; r-- > 0;) {
		const struct egress_record *record = egress_record_at(e, r);
		FUZZ_CHECK(record->offset + record->len + record->fin == at);
		at = record->offset;
		lost += !record->stripe;
		repeats += record->repeat;
		FUZZ_CHECK(record->stripe || !record->repeat);
		FUZZ_CHECK(!record->stripe || session_find_stripe(world.session, record->stripe));
	}
	FUZZ_CHECK(at <= e->acked || !e->record_count);
	FUZZ_CHECK(e->lost == lost && e->repeats == repeats);
}

static void check_world(void)
{
	const struct session *session = world.session;
	uint64_t promised = 0, pages = 0;
	uint32_t flows = 0, up = 0;

	for (uint32_t i = 0; i < session->hash_size; i++)
		for (const struct flow *flow = session->hash[i]; flow; flow = flow->hash_next) {
			check_flow(flow);
			promised += flow->promised_bytes;
			pages += flow->ingress.store.page_count;
			flows++;
		}
	FUZZ_CHECK(promised == session->promised_bytes);
	FUZZ_CHECK(promised <= (uint64_t)session->ingress_pool.limit * PAGE_BYTES);
	FUZZ_CHECK(pages == session->ingress_pool.used);
	FUZZ_CHECK(session->egress_pool.used <= session->egress_pool.limit);
	FUZZ_CHECK(flows == session->flow_count && flows <= session->config.limits.flows);
	for (unsigned i = 0; i < STRIPES; i++) {
		const struct stripe *stripe = world.links[i].stripe;
		up += stripe && (stripe->state == STRIPE_UP || stripe->state == STRIPE_STALE);
	}
	FUZZ_CHECK(up == session->stripes_up);
}

/* --- The schedule -------------------------------------------------------------------------------------------------*/

static void operate(struct input *in)
{
	uint8_t operation = byte(in);
	struct link *link = &world.links[operation / 32 % STRIPES];

	switch (operation % 32) {
	case 0:
		connect_stripe(in);
		break;
	case 1:
		open_app(in);
		break;
	case 2:
		session_goaway(world.session, world.now_us);
		break;
	case 3:
		world.now_us += 1000000ull * byte(in);
		run_engine();
		break;
	case 4:
		memory_fail_after(1 + byte(in) % 16);
		break;
	case 5:
		memory_fail_after(0);
		break;
	case 6:
		if (link->stripe)
			send_raw(in, link);
		break;
	case 7:
	case 8:
	case 9:
		stripe_operation(in, operation % 32 - 7, link);
		break;
	case 10:
	case 11:
	case 12:
	case 13:
	case 14:
	case 15:
	case 16:
	case 17:
		app_operation(in, operation % 32 < 15 ? operation % 32 - 10 : operation % 32 - 15,
		              &world.apps[byte(in) % APPS]);
		break;
	case 18:
	case 19:
	case 20:
	case 21:
	case 22:
		world.now_us += word(in);
		run_engine();
		break;
	default:
		if (link->stripe)
			send_frame(in, link);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	uint64_t live = memory_live();

	memset(&world, 0, sizeof world);
	world.now_us = START_US;
	world.server = byte(&in) & 1;
	struct session_config config = {.role = world.server ? SESSION_SERVER : SESSION_CLIENT,
	                                .limits = {.flows = 12,
	                                           .flow_window_bytes = 200000,
	                                           .memory_bytes = MEMORY_BYTES,
	                                           .timeout_us = 30000000}};
	world.session = session_new(&config, &ops, &world, world.now_us);
	FUZZ_CHECK(world.session);
	for (unsigned i = 0; i < OPERATIONS_MAX && in.at < in.end; i++) {
		operate(&in);
		check_world();
	}
	memory_fail_after(0);
	run_engine();
	check_world();
	session_free(world.session);
	FUZZ_CHECK(memory_live() == live);
	return 0;
}
