"""What is transferred in table 2."""

from __future__ import annotations

import torch

from atd.attacks.objective import PerSample
from atd.attacks.suite import Situation
from atd.experiments.transferred import _TransferredFgsm


def test_the_single_step_is_transferred_even_where_it_does_not_hurt_the_source():
    images = torch.full((2, 3, 4, 4), 0.5)
    given = Situation(
        images=images,
        objective=PerSample(lambda x: x.mean((1, 2, 3)), ()),
        epsilon=0.1,
        norm="linf",
        indices=torch.arange(2),
        seed=0,
        restart=0,
        group=torch.zeros(2, dtype=torch.long),
        sources=(lambda x: -((x.mean((1, 2, 3)) - 0.52) ** 2),),  # the whole step is too far
    )
    torch.testing.assert_close(_TransferredFgsm().run(given).images, images + 0.1)
