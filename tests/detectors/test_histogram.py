import numpy as np
import torch

from atd.detectors.histogram import Histogram


def fitted(count=500, size=3, bins=10):
    values = torch.randn(count, size, generator=torch.Generator().manual_seed(0))
    histogram = Histogram()
    histogram.fit(values, bins)
    return histogram, values


def reference(seen, values, bins):
    scores = np.zeros(len(values))
    for one, dimension in zip(seen.T, values.T, strict=True):
        density, edges = np.histogram(one, bins, density=True)
        place = np.searchsorted(edges, dimension, side="right") - 1
        outside = (dimension < edges[0]) | (dimension > edges[-1])
        found = np.where(outside, 0, density[place.clip(0, bins - 1)])
        scores += -np.log(found + 0.1)
    return scores / seen.shape[1]


def test_it_is_the_mean_of_log_densities():
    histogram, seen = fitted()
    values = 1.5 * torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    expected = reference(seen.numpy(), values.numpy(), 10)
    off = np.abs(histogram(values).numpy() - expected) > 1e-4
    assert off.mean() <= 0.01  # values that lie on an edge, to rounding


def test_the_stand_in_meets_it_in_the_middle_of_bins_and_grows_outside():
    histogram, _ = fitted()
    places = torch.arange(10)[:, None] + 0.5
    middles = histogram.low + places * histogram.width
    torch.testing.assert_close(histogram.soft(middles), histogram(middles))
    far = histogram.low - torch.tensor([[1.0], [2.0], [3.0]]) * histogram.width
    assert (histogram.soft(far).diff() > 0).all()


def test_what_never_changed_has_a_finite_cost():
    histogram = Histogram()
    histogram.fit(torch.ones(20, 2), 5)
    scores = histogram(torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    assert scores.isfinite().all()
    assert scores[0] < scores[1]
