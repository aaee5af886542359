"""Training state: comes back bit for bit, or not at all."""

from __future__ import annotations

import contextlib
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from atd.errors import UserError
from atd.training.checkpoint import load_newest, load_state, save_state, state_file

tensors = st.sampled_from(
    [
        torch.arange(6.0).view(2, 3),
        torch.arange(6.0).view(2, 3).T,
        torch.tensor(3),
        torch.zeros(0),
        torch.tensor([True, False]),
        torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.tensor([1.5, -0.0, float("nan"), float("inf")], dtype=torch.bfloat16),
    ]
)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | tensors
)
keys = st.text(max_size=4) | st.integers(-3, 3)
states = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def same(one, other):
    if isinstance(one, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and torch.equal(one.nan_to_num(7), other.nan_to_num(7))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(state=states)
@settings(max_examples=60)
def test_any_state_comes_back(tmp_path_factory, state):
    file = tmp_path_factory.mktemp("state") / "a" / "b.safetensors"
    save_state(file, state)
    assert same(state, load_state(file))
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimizer_goes_on_where_it_was(tmp_path, kind):
    def make():
        torch.manual_seed(0)
        network = nn.Linear(3, 2)
        if kind == "sgd":
            return network, torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        return network, torch.optim.Adam(network.parameters(), lr=0.1, betas=(0.5, 0.999))

    def train(network, optimizer, steps):
        for step in steps:
            optimizer.zero_grad()
            network(torch.ones(1, 3) * step).square().sum().backward()
            optimizer.step()

    network, optimizer = make()
    train(network, optimizer, range(3))
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    save_state(tmp_path / "state", state)
    train(network, optimizer, range(3, 6))
    other, other_optimizer = make()
    loaded = load_state(tmp_path / "state")
    other.load_state_dict(loaded["network"])
    other_optimizer.load_state_dict(loaded["optimizer"])
    train(other, other_optimizer, range(3, 6))
    assert torch.equal(network.weight, other.weight)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    file = tmp_path_factory.mktemp("written") / "state"
    save_state(file, {"step": 12, "best": float("-inf"), "weights": {0: torch.arange(20.0)}})
    return file.read_bytes()


@given(where=st.integers(0, 10**6))
@settings(max_examples=200)
def test_a_flipped_bit_anywhere_is_noticed(tmp_path_factory, written, where):
    damaged = bytearray(written)
    damaged[where // 8 % len(written)] ^= 1 << where % 8
    file = tmp_path_factory.mktemp("flipped") / "state"
    file.write_bytes(damaged)
    with pytest.raises(UserError, match="damaged") as error:
        load_state(file)
    assert str(file) in str(error.value)


@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path_factory, written, share):
    file = tmp_path_factory.mktemp("cut") / "state"
    file.write_bytes(written[: int(share * len(written))])
    with pytest.raises(UserError, match="damaged"):
        load_state(file)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x80\x04."])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_state(tmp_path / "state")


def test_a_file_without_our_metadata_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "state")
    with pytest.raises(UserError, match="damaged"):
        load_state(tmp_path / "state")


@pytest.mark.parametrize("where", ["os.replace", "safetensors.torch.save_file", "os.fsync"])
def test_a_failed_write_keeps_the_old_state(tmp_path, monkeypatch, where):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    file = tmp_path / "state"
    save_state(file, {"step": 1, "weights": torch.ones(3)})
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        with pytest.raises(UserError) as error:
            save_state(file, {"step": 2, "weights": torch.zeros(3)})
    assert "No space left" in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    assert load_state(file)["step"] == 1


def test_a_folder_that_cannot_be_made_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_state(tmp_path / "file" / "state", {"step": 1})


@given(
    keep=st.integers(1, 4),
    saves=st.integers(1, 6),
    stop=st.integers(0, 6),
    hurt=st.sets(st.integers(0, 3)),
)
@settings(max_examples=150)
def test_a_stop_between_any_two_renames_leaves_a_good_state(
    tmp_path_factory, keep, saves, stop, hurt
):
    """`hurt` files are damaged, as long as one good state is left."""
    folder = tmp_path_factory.mktemp("states")
    file = state_file(folder, "toy")
    for step in range(saves):
        save_state(file, {"step": step}, keep)
    present = sorted(folder.iterdir(), key=lambda entry: len(entry.name))
    assert len(present) == min(keep, saves)
    damaged = [present[at] for at in sorted(hurt) if at < len(present)][: len(present) - 1]
    for entry in damaged:
        entry.write_bytes(entry.read_bytes()[:-1] + b"!")
    newest_good = max(
        saves - 1 - number
        for number in range(len(present))
        if (file if number == 0 else folder / f"toy.{number}.safetensors") not in damaged
    )
    said = []
    assert load_newest(folder, "toy", said.append)[1]["step"] == newest_good
    assert len(said) == sum(entry.name.endswith(".damaged") for entry in folder.iterdir())
    replace, left = os.replace, stop

    def renamed(*arguments):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        replace(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", renamed)
        with contextlib.suppress(KeyboardInterrupt):
            save_state(file, {"step": saves}, keep)
    assert load_newest(folder, "toy", said.append)[1]["step"] in (newest_good, saves)


def test_states_of_other_stages_and_strangers_are_not_taken(tmp_path):
    for name in ("toys.safetensors", "toy.old.safetensors", "a.toy.1.safetensors", "toy.tmp"):
        save_state(tmp_path / name, {"step": 1})
    assert load_newest(tmp_path, "toy", print) is None
