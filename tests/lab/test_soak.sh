#!/bin/bash
# A short soak: two paths with keys, mixed flows, flapping paths, dying stripes, restarted daemons; tests/soak/run.sh tells what
# must hold. The longer one is `make soak`. About 50 s. time-limit: 240
exec "$(dirname "${BASH_SOURCE[0]}")/../soak/run.sh" --seconds 52 --seed 37 --rate 12 --gap 900 --idle 3000
