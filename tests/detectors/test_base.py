"""What every detector does: scores, thresholds, images of any kind, wrong input."""

from __future__ import annotations

import dataclasses
import math
import threading

import numpy as np
import pytest
import torch
from making import SIZE, line_of, make_detector, some_images
from PIL import Image

from atd.data.decoding import decode
from atd.detectors.atd import ATD, ATDOptions
from atd.detectors.base import Detector
from atd.errors import UserError


@pytest.mark.parametrize("backbone", [True, False])
def test_bytes_floats_and_logits_agree(backbone):
    detector, images = make_detector(backbone).eval(), some_images()
    scores = detector.score(images)
    assert (scores.shape, scores.dtype, scores.device.type) == ((5,), torch.float32, "cpu")
    assert torch.equal(scores, detector.score(images.float() / 255))
    assert torch.equal(scores, detector.logits(images.float() / 255))
    torch.testing.assert_close(scores, detector.score(images, batch_size=2))
    assert detector.score(images[:0]).shape == (0,)


def test_scoring_uses_evaluation_mode_and_leaves_no_trace():
    detector, images = make_detector().train(), some_images()
    detector.discriminator.eval()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    scores = detector.score(images)
    assert detector.training
    assert not detector.discriminator.training
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert torch.equal(scores, detector.eval().score(images))


@pytest.mark.parametrize("unfit", [255.0, -0.1, float("nan")])
@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_calling_a_detector_on_floats_that_are_no_image_is_refused(unfit, around):
    detector, images = make_detector().eval(), some_images().float() / 255
    images[1, 0, 2, 2] = unfit
    with around(), pytest.raises(UserError, match="divide those from 0 to 255 by 255"):
        detector(images)
    assert detector.logits(images).shape == (len(images),)  # noise may leave the range


def test_a_call_can_be_compiled_exported_and_mapped():
    detector, images = make_detector().eval().requires_grad_(False), some_images().float() / 255
    expected = detector(images)
    compiled = torch.compile(detector, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images), expected)
    exported = torch.export.export(detector, (images,)).module()
    assert torch.equal(exported(images), expected)
    alone = torch.vmap(lambda image: detector(image.unsqueeze(0))[0])(images)
    torch.testing.assert_close(alone, expected)
    slopes = torch.vmap(torch.func.grad(lambda image: detector(image.unsqueeze(0)).sum()))(images)
    assert slopes.shape == images.shape


def test_logits_are_differentiable_down_to_the_pixels():
    detector = make_detector().eval()
    images = (some_images().float() / 255).requires_grad_(True)
    detector.logits(images).sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(4, SIZE, SIZE), "shape"),
        (torch.zeros(1, 1, SIZE, SIZE), "(N, 3, 8, 8)"),
        (torch.zeros(1, 3, SIZE, SIZE + 1), "shape"),
        (torch.zeros(1, 3, SIZE, SIZE, dtype=torch.int64), "int64"),
        (torch.full((1, 3, SIZE, SIZE), 255.0), "255"),
        (torch.full((1, 3, SIZE, SIZE), -0.1), "-0.1"),
        (torch.full((1, 3, SIZE, SIZE), float("nan")), "nan"),
    ],
)
def test_unfit_images_are_refused_in_one_line(images, words):
    with pytest.raises(UserError) as error:
        make_detector().score(images)
    assert words in line_of(error)


def test_predict_splits_at_the_threshold():
    images = some_images()
    detector = make_detector()
    scores = detector.score(images)
    limit = float(scores.median())
    assert torch.equal(detector.predict(images, limit), scores > limit)
    detector.config = dataclasses.replace(detector.config, threshold=limit)
    assert torch.equal(detector.predict(images), scores > limit)
    assert detector.predict(images).sum() == 2  # the median itself passes
    assert detector.predict(images, -1e9).all()


def test_predict_without_a_threshold_says_what_to_do():
    with pytest.raises(UserError) as error:
        make_detector().predict(some_images())
    assert "threshold" in line_of(error)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_out_of_distribution(value):
    class Broken(Detector):
        kind = "broken"
        Options = ATDOptions
        info = ATD.info

        def forward(self, images):
            scores = images.mean((1, 2, 3))
            return torch.where(scores > 0.5, value, scores)

    detector = Broken(None, image_size=SIZE).eval()
    images = torch.stack([torch.full((3, SIZE, SIZE), grey) for grey in (0.1, 0.9)])
    assert detector.predict(images, threshold=1e9).tolist() == [False, True]


def test_a_threshold_that_is_no_number_is_refused():
    for threshold in (math.nan, math.inf, -math.inf, "abc", [1, 2], torch.ones(2)):
        with pytest.raises(UserError, match="must be a finite number"):
            make_detector().predict(some_images(), threshold)
    for threshold in (math.nan, math.inf):
        with pytest.raises(UserError):
            make_detector().set_threshold(threshold, "given")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_half_precision_are_refused(dtype):
    with pytest.raises(UserError, match=r"call detector\.float\(\)"):
        make_detector().to(dtype).score(some_images())


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5), "0.5", 0.5])
def test_a_threshold_may_be_given_as_any_number(value):
    detector = make_detector()
    detector.set_threshold(value, "by hand")
    assert detector.threshold == 0.5
    assert type(detector.threshold) is float


def test_an_impossible_batch_size_is_refused():
    with pytest.raises(UserError, match="batch_size=0: give at least 1"):
        make_detector().score(some_images(), batch_size=0)


def test_set_threshold_keeps_how_it_was_set():
    detector = make_detector()
    detector.set_threshold(0.5, "by hand")
    assert (detector.threshold, detector.config.threshold_note) == (0.5, "by hand")


@pytest.fixture(scope="module")
def detector():
    return make_detector().eval().requires_grad_(False)


def test_arrays_in_both_layouts(detector):
    images = some_images()
    expected = detector.score(images)
    array = images.numpy()
    for given in (
        array,
        array.transpose(0, 2, 3, 1),
        array.astype(np.float32) / 255,
        array[:, ::1, ::-1][:, :, ::-1],
        list(array),
        [*array[:2], *images[2:]],
        list(array.transpose(0, 2, 3, 1)),
    ):
        assert torch.equal(detector.score(given), expected)


def test_one_image_alone(detector):
    images = some_images()
    expected = detector.score(images[:1])
    pixels = images[0].permute(1, 2, 0).numpy()
    for given in (images[0], images[0].numpy(), pixels, Image.fromarray(pixels)):
        assert torch.equal(detector.score(given), expected)


def test_pictures_and_paths_are_decoded_as_in_training(detector, tmp_path):
    images = some_images()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    paths = [tmp_path / f"{number}.png" for number in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    expected = detector.score(images)
    assert torch.equal(detector.score(pictures), expected)
    assert torch.equal(detector.score([str(paths[0]), *paths[1:]]), expected)
    assert torch.equal(detector.score(str(paths[0])), detector.score(images[0]))
    assert torch.equal(
        detector.score([paths[0], images[1], pictures[2]]), detector.score(images[:3])
    )
    large = pictures[0].resize((40, 30))
    assert torch.equal(detector.score(large), detector.score(decode(large, 3, SIZE)))
    assert torch.equal(detector.predict(paths, 0.0), expected > 0.0)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 3, SIZE, SIZE), np.uint16), "uint16"),
        (np.zeros((2, 3, SIZE, SIZE), bool), "bool"),
        (np.full((2, 3, SIZE, SIZE), 255.0), "255"),
        (np.zeros((2, SIZE, SIZE)), "shape"),
        (np.array(["a.png"]), "<U5"),
        (7, "int"),
        ([7], "int"),
        ({"a": 1}, "dict"),
        ("nowhere.png", "nowhere.png"),
        (None, "NoneType"),
    ],
)
def test_other_things_are_refused_in_one_line(detector, images, words):
    with pytest.raises(UserError) as error:
        detector.score(images)
    assert words in line_of(error)


def test_scoring_while_another_thread_trains_changes_neither():
    detector, images = make_detector().train(), some_images()
    expected = detector.score(images)
    wrong = []

    def watch():
        for _ in range(10):
            wrong.append(not torch.equal(detector.score(images), expected))

    threads = [threading.Thread(target=watch) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert detector.training
        assert all(parameter.requires_grad for parameter in detector.parameters())
    assert wrong == [False] * 40
