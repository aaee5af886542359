"""What a run would be refused for, found before it: nothing is trained, downloaded or written."""

from __future__ import annotations

import contextlib

from atd.config import Config
from atd.config.values import option_types
from atd.data.images import FIT_IMAGES
from atd.data.ood_tests import open_test, required_tests
from atd.data.protocols import protocol_id_test
from atd.data.sources import open_source, split_mixture
from atd.data.torchvision_sets import NotDownloaded, no_downloads
from atd.detectors.build import build_detector
from atd.detectors.kinds import kind_class
from atd.pipeline import given_weights, stages_of
from atd.planning.plan import needs_outliers
from atd.run_state import RunState
from atd.training.fits import detector_config, fitted_detector, unfitted_detector
from atd.training.tasks import discriminator_streams, untrained_pretraining

__all__ = ["rehearse"]


def rehearse(run: RunState) -> None:
    """Goes through a run as far as it goes without training: folder, images, networks.

    On given weights a detector is fitted too, where that is quick and trains nothing. What depends
    on images that would have to be downloaded is passed over.

    Args:
        run: A run that has not begun.

    Raises:
        UserError: The one that the run would end with.
    """
    required_tests(run.config.data)
    run.folder.require_own(run.config)
    with no_downloads():
        try:
            found = run.read_images()
        except NotDownloaded:
            _open_others(run.config)
            return
    run.folder.require_images(found)
    for stage in stages_of(run.config):
        _try(stage.name, run)


def _open_others(config: Config) -> None:
    """Opens each source that is here, in the order of a run."""
    data = config.data
    outliers = (data.outliers, data.ood_val) if needs_outliers(config) else ()
    for test in required_tests(data):
        with contextlib.suppress(NotDownloaded):
            open_test(test, data)
    id_test = data.id_test or protocol_id_test(data)
    for source in (data.id, id_test, *outliers):
        for part in split_mixture(source) if source else ():
            with contextlib.suppress(NotDownloaded):
                open_source(part, split="test" if source == id_test else "train", data=data)


def _try(stage: str, run: RunState) -> None:
    """Does of a stage what takes no training."""
    given = run.ingredients
    match stage:
        case "helper" | "pretrain":
            untrained_pretraining(stage, given)
        case "weights":
            given_weights(run)
        case "atd":
            discriminator_streams(given)
            build_detector(detector_config(given))
        case "fit" if run.backbone is not None:
            options = option_types(kind_class(run.config.detector_kind).Options)
            if len(given.splits.id_train) <= FIT_IMAGES and "epochs" not in options:
                fitted_detector(given, run.backbone.eval().requires_grad_(False))
            else:
                unfitted_detector(given, run.backbone)
