/* Offsets past 4 GiB, both ways in one flow: nothing in between counts in 32 bits. (Wrapping at 16 bits is what
 * test_integrity's sizes are for.)
 * time-limit: 400 (under sanitizers, on a busy machine)
 */
#include "../unit/unit.h"
#include "sim_net.h"

int main(void)
{
	UNIT_CASE("4 GiB and some up, the answer down") {
		struct sim_config config = {
		        .seed = 1,
		        .path_count = 1,
		        .paths = {{.stripes = 2, .rate_Bps = 4000000000, .delay_us = 50, .queue_bytes = 4000000}},
		        .mss = 262144};
		struct sim *sim = sim_new(&config);

		sim_add(sim, &(struct sim_plan){
		                     .bytes = {(1ull << 32) + 100000, 100000}, .chunk = {1 << 20, 0}, .answers = true});
		UNIT_TRUE(sim_run(sim, 600ull * SIM_SECOND));
		sim_check(sim);
		sim_free(sim);
	}
	return unit_exit();
}
