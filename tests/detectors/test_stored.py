"""Detectors on the Hub, for which a folder stands in, and the card that travels with them."""

from __future__ import annotations

import os
import shutil
import socket

import huggingface_hub
import pytest
import torch
from making import line_of, make_detector, some_images

import atd
from atd.detectors.base import Detector
from atd.detectors.calibration import CalibrationSample
from atd.errors import UserError


class Hub:
    """What `HfApi` does, with folders of one folder."""

    def __init__(self, root):
        self.root = root

    def __call__(self, token=None):
        self.token = token
        return self

    def create_repo(self, *, repo_id, private, exist_ok):
        assert exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, revision, **_):
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"https://huggingface.co/{repo_id}/commit/{revision}"

    def snapshot_download(self, repo_id, *, allow_patterns, **options):
        """As in the Hub's cache: links to files that are called by their digests."""
        self.options = options
        if not (self.root / repo_id).is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError(f"404: {repo_id}\nmore words")
        snapshot = self.root / "cache" / repo_id
        shutil.rmtree(snapshot, ignore_errors=True)
        snapshot.mkdir(parents=True)
        for file in (self.root / repo_id).iterdir():
            if file.name in allow_patterns:
                os.symlink(file, snapshot / file.name)
        return str(snapshot)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.chdir(tmp_path)
    return hub


@pytest.fixture
def pushed(hub):
    detector = make_detector(threshold=0.25)
    detector.calibration = CalibrationSample(torch.linspace(0, 1, 30))
    detector.save_pretrained("local", "# A card\n")
    commit = atd.load("local").push_to_hub("me/mine", token="t", branch="main")
    assert commit == "https://huggingface.co/me/mine/commit/main"
    assert hub.token == "t"
    return hub.root / "me" / "mine"


def test_what_is_pushed_comes_back_with_all_its_files(hub, pushed):
    names = {"config.json", "model.safetensors", "README.md", "calibration.safetensors"}
    assert {file.name for file in pushed.iterdir()} == names
    assert isinstance(make_detector(), huggingface_hub.ModelHubMixin)
    detector = Detector.from_pretrained("me/mine", revision="v1")
    assert hub.options == {"revision": "v1"}
    assert torch.equal(detector.score(some_images()), make_detector().score(some_images()))
    assert (detector.threshold, detector.card) == (0.25, "# A card\n")
    assert torch.equal(detector.calibration.scores, torch.linspace(0, 1, 30))
    assert atd.load("me/mine").config == detector.config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:-1], "cannot be read"),
        (lambda content: content[:-7] + bytes([content[-7] ^ 1]) + content[-6:], "SHA-256"),
    ],
)
def test_what_was_changed_on_the_way_is_refused(pushed, change, words):
    file = pushed / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(UserError) as error:
        Detector.from_pretrained("me/mine")
    assert words in line_of(error)


def test_folders_come_first_and_a_mistyped_path_asks_nobody(hub, monkeypatch):
    make_detector(name="near").save_pretrained("me/mine")
    assert Detector.from_pretrained("me/mine").config.name == "near"
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked"))
    for word in ("me/mime", "mine", "./you/yours", "/you/yours", "a/b/c", "../yours", "you/.."):
        with pytest.raises(UserError, match="no such folder"):
            Detector.from_pretrained(word)


def test_a_repository_that_is_not_there_is_told_in_one_line(hub):
    with pytest.raises(UserError) as error:
        atd.load("you/yours")
    words = "you/yours: no such folder, and not to be had from the Hugging Face Hub: 404: you/yours"
    assert line_of(error) == words


@pytest.mark.parametrize("repository", ["you/yours", "no repository//"])
def test_without_a_network_it_says_so(tmp_path, monkeypatch, repository):
    def offline(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(UserError) as error:
        make_detector().push_to_hub(repository, token="t")
    assert line_of(error).startswith(f"{repository}: not uploaded: ")
    if repository == "you/yours":
        with pytest.raises(UserError, match="not to be had from the Hugging Face Hub: "):
            Detector.from_pretrained(repository, cache_dir=tmp_path)


def test_a_card_stays_with_its_weights(tmp_path):
    detector = make_detector()
    detector.save_pretrained(tmp_path / "one", "# Numbers\n")
    detector.save_pretrained(tmp_path / "two")
    assert (tmp_path / "two" / "README.md").read_text() == "# Numbers\n"
    with torch.no_grad():
        detector.feature_mean += 1
    detector.save_pretrained(tmp_path / "three")
    assert "Numbers" not in (tmp_path / "three" / "README.md").read_text()
    (tmp_path / "one" / "README.md").write_bytes(b"\xff\xfe")
    assert Detector.from_pretrained(tmp_path / "one").card == ""
