"""The attack on features approaches the features it is given."""

import torch
from torch import nn

from atd.attacks import feature_distance, nearest_targets, pgd


def test_the_objective_is_minus_the_squared_distance() -> None:
    objective = feature_distance(lambda x: 2 * x, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert objective(torch.tensor([[0.5, 0.5], [1.0, 2.0]])).tolist() == [0, -20]


def test_targets_are_the_nearest_candidates_of_each_sample() -> None:
    candidates = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    features = torch.tensor([[9.0, 1.0], [1.0, 2.0], [2.0, 9.0], [6.0, 0.0]])
    chosen = nearest_targets(features, candidates)
    assert torch.equal(chosen, candidates[[1, 0, 2, 1]])


def test_nearest_targets_agree_with_a_plain_search() -> None:
    generator = torch.Generator().manual_seed(0)
    features, candidates = (torch.randn(n, 8, generator=generator) for n in (40, 60))
    distances = (features[:, None] - candidates).square().sum(2)
    expected = candidates[distances.argmin(1)]
    assert torch.equal(nearest_targets(features, candidates), expected)


def test_an_attack_reaches_closer_features() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.SiLU(), nn.Linear(32, 6))
    images, others = torch.rand(10, 3, 4, 4), torch.rand(30, 3, 4, 4)
    with torch.no_grad():
        clean = network(images)
        targets = nearest_targets(clean, network(others))
    attacked = pgd(feature_distance(network, targets), images, epsilon=0.1, steps=20)
    before = (clean - targets).square().sum(1)
    assert (-attacked.values < 0.2 * before).all()
