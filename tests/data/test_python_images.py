"""Image sets from what a Python caller has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from atd.data.python_images import image_set, pixels_of, require_pixels
from atd.errors import UserError


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (10, 3, 8, 8), generator=generator, dtype=torch.uint8)


LABELS = torch.arange(10) % 3


class Pairs:
    """A data set of pictures, as torchvision's are without a transform."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Image.fromarray(self.images[index].permute(1, 2, 0).numpy()), int(LABELS[index])


class Stream(IterableDataset):
    def __init__(self, images):
        self.images = images

    def __iter__(self):
        yield from self.images


FORMS = {
    "bytes": lambda x: x,
    "floats": lambda x: x / 255,
    "double": lambda x: x.double() / 255,
    "array": lambda x: x.numpy(),
    "array, channels last": lambda x: x.permute(0, 2, 3, 1).numpy(),
    "list of tensors": lambda x: list(x),
    "list of arrays": lambda x: list(x.permute(0, 2, 3, 1).numpy()),
    "data set": lambda x: TensorDataset(x),
    "data set with labels": lambda x: TensorDataset(x / 255, LABELS),
    "loader": lambda x: DataLoader(TensorDataset(x, LABELS), batch_size=4),
    "pictures": Pairs,
    "stream": Stream,
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_gives_the_same_pixels(images, form):
    given = FORMS[form](images)
    sized = {"image_size": 8, "channels": 3} if form == "pictures" else {}
    found = image_set(given, name="some", **sized)
    assert torch.equal(found.fetch(range(10)), images)
    assert found.name == "some"
    labelled = form in ("data set with labels", "loader", "pictures")
    assert torch.equal(found.labels, LABELS if labelled else torch.full((10,), -1))
    assert found.classes == (("0", "1", "2") if labelled else ())


def test_labels_may_be_given_apart(images):
    for labels in (LABELS, LABELS.numpy(), LABELS.tolist()):
        found = image_set(images, name="some", labels=labels)
        assert torch.equal(found.labels, LABELS)
        assert found.classes == ("0", "1", "2")


def test_sources_and_folders(images, tmp_path):
    for index, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    for source in (f"folder:{tmp_path}", tmp_path):
        found = image_set(source, name="mine", image_size=8, channels=3)
        assert torch.equal(found.fetch(range(10)), images)
    again = image_set(found, name="again")
    assert (again.name, len(again)) == ("again", 10)
    paths = sorted(tmp_path.iterdir())
    assert len(image_set(paths, name="files", image_size=4, channels=1)) == 10


REFUSED = {
    "no size": (lambda x: ("bundled:digits", {}), "image_size"),
    "another size": (lambda x: (x, {"image_size": 16}), "(N, 3, 16, 16)"),
    "another number of channels": (lambda x: (x, {"channels": 1}), "(N, 1, 8, 8)"),
    "none": (lambda x: (x[:0], {}), "no images"),
    "empty list": (lambda x: ([], {}), "no images"),
    "too few labels": (lambda x: (x, {"labels": [1, 2]}), "10 images"),
    "labels are fractions": (lambda x: (x, {"labels": torch.rand(10)}), "whole numbers"),
    "range": (lambda x: (x.float(), {}), "[0, 1]"),
    "normalised": (lambda x: (TensorDataset(x / 128 - 1), {}), "[0, 1]"),
    "integers": (lambda x: (x.long(), {}), "int64"),
    "a number": (lambda x: (7, {}), "int"),
    "pictures without a size": (lambda x: (Pairs(x), {}), "image_size"),
    "one-hot labels": (lambda x: (TensorDataset(x, torch.eye(10)), {}), "label"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_image_set_is_refused_in_one_line(images, case):
    make, words = REFUSED[case]
    given, options = make(images)
    with pytest.raises(UserError) as error:
        image_set(given, name="some", **options)
    assert words in str(error.value)
    assert case == "no size" or "some" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_grey_array(images):
    grey = images[:, 0].numpy()
    assert image_set(grey[:, None], name="grey").fetch([0]).shape == (1, 1, 8, 8)
    assert np.array_equal(image_set(grey[..., None], name="grey").fetch([3])[0, 0], grey[3])


@pytest.mark.parametrize("kind", [">f4", ">f8", "longdouble", "<f2"])
def test_floats_of_any_width_and_byte_order_are_the_same_image(kind):
    values = (np.arange(3 * 8 * 8) % 256 / 256).reshape(1, 3, 8, 8)  # exact in every width
    found = require_pixels(values.astype(kind), 3, 8)
    assert torch.equal(found.double(), torch.from_numpy(values))


def test_an_unreadable_file_is_told_without_the_options_of_a_config(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.png: not readable as an image \(") as error:
        pixels_of(tmp_path / "a.png", 3, 8)
    assert "data.skip_corrupt" not in str(error.value)


def test_targets_that_are_no_labels_are_told_in_a_line(images):
    with pytest.raises(UserError, match="a label is not one whole number"):
        image_set([(image, {"boxes": 3}) for image in images], name="boxed")
