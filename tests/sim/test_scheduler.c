#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../unit/unit.h"
#include "sim_net.h"

#define MBIT(x) ((x) * 125000ull)
static const struct row { const char *name; struct sim_path paths[2]; } rows[] = {
 {"equal", {{.stripes=8,.rate_Bps=MBIT(100),.delay_us=12500,.queue_bytes=312500},{.stripes=8,.rate_Bps=MBIT(100),.delay_us=12500,.queue_bytes=312500}}},
 {"unequal", {{.stripes=8,.rate_Bps=MBIT(300),.delay_us=5000,.queue_bytes=375000},{.stripes=8,.rate_Bps=MBIT(80),.delay_us=15000,.queue_bytes=300000}}},
 {"lossy", {{.stripes=8,.rate_Bps=MBIT(100),.delay_us=10000,.queue_bytes=250000,.loss_ppm=10000,.congestion=SIM_BBR},{.stripes=8,.rate_Bps=MBIT(30),.delay_us=30000,.queue_bytes=225000,.loss_ppm=5000,.congestion=SIM_BBR}}},
 {"slow", {{.stripes=8,.rate_Bps=MBIT(100),.delay_us=10000,.queue_bytes=250000,.congestion=SIM_BBR},{.stripes=8,.rate_Bps=MBIT(5),.delay_us=150000,.queue_bytes=187500,.loss_ppm=50000,.congestion=SIM_BBR}}},
};
int main(int argc, char **argv)
{
	unsigned seconds = argc > 2 ? atoi(argv[2]) : 10;
	for (unsigned r = 0; r < 4; r++) {
		if (argc > 1 && argv[1][0] != '-' && strcmp(argv[1], rows[r].name)) continue;
		for (uint64_t seed = 1; seed <= (argc > 3 ? (unsigned)atoi(argv[3]) : 1u); seed++) {
		double got[3];
		struct session_stats st;
		uint32_t win = 0;
		double lag = 0;
		for (unsigned k = 0; k < 3; k++) {
			struct sim_config c = {.seed = seed, .limits = {.flow_window_bytes = 16 << 20, .memory_bytes = 512 << 20}};
			c.path_count = k == 2 ? 2 : 1;
			memcpy(c.paths, rows[r].paths + (k == 1), sizeof c.paths[0]);
			if (k == 2) c.paths[1] = rows[r].paths[1];
			struct sim *sim = sim_new(&c);
			struct sim_flow *f = sim_add(sim, &(struct sim_plan){.bytes = {1ull << 40, 0}, .start_us = 3 * SIM_SECOND, .never_ends=true});
			sim_run_until(sim, 3 * SIM_SECOND + SIM_SECOND);
			uint64_t one = f->ends[1].read;
			sim_run_until(sim, (3 + seconds) * (uint64_t)SIM_SECOND);
			if (sim->wrong[0]) printf("WRONG %s\n", sim->wrong);
			got[k] = f->ends[1].read * 8e-6 / seconds;
			session_get_stats(sim->hosts[0].session, &st);
			if (k == 2) { win = f->ends[1].flow->window_bytes; lag = (f->ends[0].written - f->ends[1].read) / 1e6; }
			(void)one;
			sim_free(sim);
		}
		printf("%s seed %llu: %.1f %.1f both %.1f sum share %.3f of better %.3f reinjected %.1f MB window %.1f MB undelivered %.1f MB\n", rows[r].name, (unsigned long long)seed, got[0], got[1], got[2], got[2]/(got[0]+got[1]), got[2]/got[0], st.reinjected_bytes/1e6, win/1e6, lag);
		fflush(stdout);
		}
	}
	return 0;
}
