"""Images of the training are noticed by where they lie, and nothing else is."""

from __future__ import annotations

import pytest

from atd.deciding.trained_on import overlap


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "my" / "images" / "class0").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "my")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["my/images", "my/images/", "my", ".", "my/images/class0/a.png", "link/images"]
)
@pytest.mark.parametrize("source", ["folder:my/images", "bundled:digits + folder:my/images"])
def test_at_under_or_above_the_folder_of_the_training(source, name):
    said = overlap({"data": {"id": source}}, ["elsewhere", name])
    assert said.startswith(f"--id {name}: the detector was trained with data.id=folder:my/images;")


@pytest.mark.parametrize("name", ["new/images", "my/images2", "my/other", "-"])
def test_elsewhere_is_no_matter(name):
    assert overlap({"data": {"id": "folder:my/images"}}, [name]) is None


@pytest.mark.parametrize(
    "record",
    [{}, {"data": None}, {"data": {"id": 3}}, {"data": {"id": "folder:\0"}}, {"data": {"id": ""}}]
    + [{"data": {"id": source}} for source in ("bundled:digits", "list:my/images", "cifar10")],
)
def test_a_record_that_names_no_folder_is_no_matter(record):
    assert overlap(record, ["my/images"]) is None
