"""Image sets and their division."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atd.data.images import HeldPixels, ImageSet, join, pick


def make_set(size, name="some", classes=(), channels=1):
    tensor = torch.arange(size * channels * 4, dtype=torch.int64).reshape(size, channels, 2, 2)
    pixels = HeldPixels((tensor % 256).to(torch.uint8), [f"{name} #{i}" for i in range(size)])
    labels = torch.arange(size) % len(classes) if classes else None
    return ImageSet.of(name, pixels, labels, classes)


def test_subsets_of_subsets_keep_pixels_labels_and_names_together():
    whole = make_set(20, classes=("a", "b", "c"))
    part = whole.subset(torch.tensor([3, 5, 7, 11])).subset(torch.tensor([1, 3]))
    assert torch.equal(part.fetch([0, 1]), whole.fetch([5, 11]))
    assert part.labels.tolist() == [2, 2]
    assert part.names() == ["some #5", "some #11"] == [part.name_of(0), part.name_of(1)]
    assert part.classes == whole.classes


def test_unlabelled_sets_have_label_minus_one():
    assert make_set(3).labels.tolist() == [-1, -1, -1]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.data())
def test_pick_divides_without_loss_and_in_proportion(labels, data):
    labels = torch.tensor(labels)
    count = data.draw(st.integers(0, len(labels)))
    picked, rest = pick(labels, count, 0, "x")
    assert len(picked) == count
    assert sorted([*picked.tolist(), *rest.tolist()]) == list(range(len(labels)))
    sizes, taken = Counter(labels.tolist()), Counter(labels[picked].tolist())
    for label, size in sizes.items():
        assert abs(taken[label] - size * count / len(labels)) < 2
        if size > 1 and count <= len(labels) / 2:
            assert taken[label] < size


def test_pick_depends_on_its_arguments_only():
    labels = torch.zeros(1000, dtype=torch.int64)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    once = pick(labels, 100, 0, "x")[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(17)
    assert torch.equal(once, pick(labels, 100, 0, "x")[0])
    assert not torch.equal(once, pick(labels, 100, 1, "x")[0])
    assert not torch.equal(once, pick(labels, 100, 0, "y")[0])


def test_pick_is_the_same_for_good():
    """Guards published splits: other numbers here mean other test sets for everybody."""
    labels = torch.arange(30) % 3
    assert pick(labels, 6, 0, "golden")[0].tolist() == [5, 7, 10, 15, 24, 29]


def test_take_is_stable_and_zero_means_all():
    whole = make_set(50)
    assert whole.take(0, 0) is whole
    assert whole.take(60, 0) is whole
    assert len(whole.take(7, 0)) == 7
    assert whole.take(7, 0).rows.tolist() == whole.take(7, 0).rows.sort().values.tolist()
    assert whole.take(7, 0).rows.tolist() != whole.take(7, 1).rows.tolist()


def test_join_merges_classes_by_name():
    one, other = make_set(4, "one", ("cat", "dog")), make_set(3, "other", ("dog", "emu"))
    both = join([one, other], "both")
    assert both.classes == ("cat", "dog", "emu")
    assert [both.classes[label] for label in both.labels] == [
        *["cat", "dog", "cat", "dog"],
        *["dog", "emu", "dog"],
    ]
    assert torch.equal(
        both.fetch([5, 0, 6]), torch.cat([other.fetch([1]), one.fetch([0]), other.fetch([2])])
    )
    assert both.name_of(5) == "other #1"
    assert not join([one, make_set(2)], "mixed").classes


def test_channel_statistics():
    images = make_set(100, channels=3)
    mean, deviation = images.channel_statistics()
    values = images.fetch(range(100)).double() / 255
    assert torch.allclose(mean.double(), values.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(deviation.double(), values.std((0, 2, 3), correction=0), atol=1e-6)
    flat = ImageSet.of("flat", HeldPixels(torch.full((3, 1, 2, 2), 9, dtype=torch.uint8), "abc"))
    assert flat.channel_statistics()[1] == pytest.approx(1 / 255)
