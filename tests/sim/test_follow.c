/* A repair that is lost, too, on a stripe that has nothing more to say (follow_repair of session_time.c): by itself TCP
 * would wait for its timeout. */
#include "../unit/unit.h"
#include "sim_net.h"

enum { RTT_US = 50 * SIM_MS, WRITE_US = 3 * SIM_MS, WRITE_BYTES = 1000, BYTES = 4000 };

/* The client's second write is lost, and so is its repair, a round trip after the third. */
static void look(struct sim *sim, void *user)
{
	struct sim_flow *const *flow = user;
	uint64_t opened_us = *flow ? (*flow)->result_us : 0, since_us = sim->now_us - opened_us;
	bool second = opened_us && since_us > WRITE_US / 2 && since_us < WRITE_US * 3 / 2;
	bool repair = opened_us && since_us > RTT_US && since_us < RTT_US + 6 * WRITE_US;

	sim->links[0][SIM_CLIENT].loss_ppm = second || repair ? 1000000 : 0;
}

int main(void)
{
	UNIT_CASE("what was lost twice at the end has come after five round trips") {
		struct sim_flow *flow = NULL;
		struct sim_config config = {
		        .seed = 1,
		        .path_count = 1,
		        .paths = {{.stripes = 1, .rate_Bps = 12500000, .delay_us = RTT_US / 2, .queue_bytes = 625000}},
		        .step = look,
		        .user = &flow};
		struct sim *sim = sim_new(&config);

		flow = sim_add(sim, &(struct sim_plan){.bytes = {BYTES, 0},
		                                       .chunk = {WRITE_BYTES, 0},
		                                       .pause_us = {WRITE_US, 0},
		                                       .start_us = SIM_SECOND,
		                                       .never_ends = true});
		UNIT_TRUE(sim_run_until(sim, 3 * SIM_SECOND));
		UNIT_EQ(flow->ends[SIM_SERVER].read, BYTES);
		uint64_t took_us = flow->ends[SIM_SERVER].last_read_us - flow->result_us;
		if (took_us < 3 * RTT_US || took_us > 5 * RTT_US)
			UNIT_FAIL("it took %u ms", (unsigned)(took_us / 1000));
		UNIT_STR(sim->wrong, "");
		sim_free(sim);
	}
	return unit_exit();
}
