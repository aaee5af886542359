from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import Toy

from atd.attacks.starts import start_noise
from atd.attacks.suite import member
from atd.evaluation.subject import Subject
from atd.evaluation.worst import Attack, Group, attack_batch, join_parts

EPSILON = 8 / 255


def run(detector: nn.Module, pixels: Tensor, direction: int = 1, **attack: object) -> dict:
    chosen = Attack(**{"epsilon": EPSILON, "members": (member("pgd", 5),)} | attack)
    indices = torch.arange(len(pixels))
    subject = Subject(detector.eval(), chosen.draws, whole_blocks=True)
    return attack_batch(subject, [Group(pixels, indices, direction, chosen)])[0]


def test_start_is_a_function_of_seed_restart_and_index() -> None:
    both = start_noise((3, 4, 4), torch.tensor([7, 2]), seed=1, restart=0)
    alone = start_noise((3, 4, 4), torch.tensor([2]), seed=1, restart=0)
    assert torch.equal(both[1], alone[0])
    others = [(2, 0, 2), (1, 1, 2), (1, 0, 3)]
    for seed, restart, index in others:
        other = start_noise((3, 4, 4), torch.tensor([index]), seed=seed, restart=restart)
        assert not torch.equal(other, alone)
    many = start_noise((3, 8, 8), torch.arange(50), seed=0, restart=0)
    assert many.abs().max() <= 1
    assert abs(many.mean()) < 0.02
    assert many.std() == pytest.approx(3**-0.5, abs=0.02)


def test_suite_is_as_strong_as_its_strongest_member(convolutional, images) -> None:
    pixels = images("any", 0, 256, 12).pixels
    members = (member("pgd", 4, 2), member("apgd", 6), member("square", 40), member("noise"))
    alone = [run(convolutional, pixels, members=(member,))["attacked"] for member in members]
    together = run(convolutional, pixels, members=members)
    np.testing.assert_array_equal(together["attacked"], np.max(alone, axis=0))
    winners = np.array(alone)[together["member"], np.arange(len(pixels))]
    np.testing.assert_array_equal(winners, together["attacked"])


def test_stopped_samples_keep_a_score_past_the_limit(convolutional, images) -> None:
    pixels = images("any", 0, 256, 20).pixels
    members = (member("pgd", 3, 4),)
    whole = run(convolutional, pixels, members=members)
    limit = float(np.median(whole["attacked"]))
    stopped = run(convolutional, pixels, members=members, stop=limit)
    past = whole["attacked"] > limit
    np.testing.assert_array_equal(stopped["attacked"] > limit, past)
    np.testing.assert_allclose(stopped["attacked"][~past], whole["attacked"][~past], atol=1e-6)
    lowered = run(convolutional, pixels, -1, members=members, stop=1e9)
    np.testing.assert_array_equal(lowered["attacked"], lowered["clean"])


class Featured(Toy):
    """A score without any gradient on features that have one."""

    def features(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return (self.features(images).sum(1) * 100).round() / 100


def test_features_lead_where_the_score_has_no_gradient(images) -> None:
    pixels = images("grey", 60, 190, 8).pixels
    bright = images("bright", 240, 250, 4, seed=1).pixels / 255
    members = (member("features", 20),)
    found = run(Featured(), pixels, members=members, targets=bright)
    assert (found["attacked"] - found["clean"] > 2 * EPSILON).all()
    nothing = run(Featured(), pixels, members=members, targets=None)
    np.testing.assert_array_equal(nothing["attacked"], nothing["clean"])
    stuck = run(Featured(), pixels, members=(member("pgd", 20),))
    assert (stuck["attacked"] - stuck["clean"] < 0.5 * EPSILON).all()


def test_transfer_reaches_a_score_without_gradient(convolutional, images) -> None:
    class Hidden(Toy):
        def forward(self, images: Tensor) -> Tensor:
            return convolutional.logits(images).detach()

    pixels = images("any", 0, 256, 8).pixels
    direct = run(convolutional, pixels, members=(member("pgd", 10),))
    members = (member("transfer", 10),)
    found = run(Hidden(), pixels, members=members, sources=(convolutional.eval(),))
    np.testing.assert_allclose(found["attacked"], direct["attacked"], atol=1e-6)
    alone = run(Hidden(), pixels, members=members)
    np.testing.assert_array_equal(alone["attacked"], alone["clean"])


def test_surrogate_is_followed_and_the_score_counts(images) -> None:
    class Rounded(Featured):
        info = dataclasses.replace(Toy.info, gradient="surrogate")

        def surrogate(self, images: Tensor) -> Tensor:
            return self.features(images).sum(1)

    pixels = images("grey", 60, 190, 8).pixels
    found = run(Rounded(), pixels, members=(member("pgd", 10),))
    assert (found["attacked"] - found["clean"] > 2.5 * EPSILON).all()
    np.testing.assert_allclose(found["attacked"], found["attacked"].round(2), atol=1e-6)


def test_randomised_scores_are_averaged(images) -> None:
    class Noisy(Toy):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((1, 2, 3)) + 0.1 * torch.randn(len(images))

    pixels = images("grey", 60, 190, 40).pixels
    one, many = (run(Noisy(), pixels, members=(), draws=draws)["clean"] for draws in (1, 100))
    exact = pixels.float().mean((1, 2, 3)).numpy() / 255
    assert np.abs(many - exact).max() < 0.05 < np.abs(one - exact).max()


def test_l2_attack_stays_in_its_ball_and_leaves_square_out(convolutional, images) -> None:
    pixels = images("any", 0, 256, 8).pixels
    members = (member("square", 20), member("pgd", 5))
    found = run(convolutional, pixels, members=members, norm="l2", epsilon=0.3)
    change = found["example_attacked"] - found["example_clean"].astype(np.float32) / 255
    assert np.linalg.norm(change.reshape(len(change), -1), axis=1).max() <= 0.3 + 1e-5
    assert set(found["member"]) == {1}


@pytest.mark.parametrize("sizes", [(10,), (3, 7), (4, 4, 2)])
def test_joined_parts_do_not_depend_on_how_they_were_cut(convolutional, images, sizes) -> None:
    pixels = images("any", 0, 256, 10).pixels
    whole = join_parts([run(convolutional, pixels)])
    chosen = Attack(members=(member("pgd", 5),), epsilon=EPSILON)
    parts = []
    for rows in torch.randperm(10, generator=torch.Generator().manual_seed(0)).split(list(sizes)):
        subject = Subject(convolutional.eval(), whole_blocks=True)
        parts += attack_batch(subject, [Group(pixels[rows], rows, 1, chosen)])
    joined = join_parts(parts)
    assert joined.keys() == whole.keys()
    for key, value in whole.items():
        np.testing.assert_array_equal(joined[key], value, err_msg=key)
