"""The faults: each is brought about once, and the run is then carried to its end."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults import stops, surroundings
from tests.faults.bench import Bench, Trial

__all__ = ["FAULTS"]


FAULTS: dict[Callable[[Bench, int], Trial | list[Trial] | None], tuple[int, ...]] = {
    stops.kill: (1, 2),
    stops.kill_under_torchrun: (2,),
    stops.kill_launcher: (2,),
    stops.sigterm: (1, 2),
    stops.sigint: (1, 2),
    stops.sigterm_to_torchrun: (2,),
    stops.silent: (2,),
    surroundings.truncated: (1, 2),
    surroundings.flipped: (1, 2),
    surroundings.missing: (1, 2),
    surroundings.slow_rank: (2,),
    surroundings.clock: (1, 2),
    surroundings.full_quota: (1, 2),
    surroundings.full_tmpfs: (1, 2),
    surroundings.lost_image: (1, 2),
    stops.dead_worker: (1, 2),
    stops.other_count: (1, 2),
}
"""Every fault, and on how many processes it is tried."""
