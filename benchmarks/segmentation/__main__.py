"""DAAIN on semantic segmentation, from nothing to a page.

    python -m benchmarks.segmentation --scale small --output docs/segmentation.md

Scenes are made, a small network is trained on them and DAAIN fitted to it. Judged are weather,
colours, flips and unknown objects, attacks of the segmentation, attacks of both at once, and
attacks of the detector with its key known and unknown. `--scale smoke` tries it in seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atd.detectors.daain import DAAIN, DAAINOptions
from atd.errors import run_command
from atd.files import write_text
from atd.metrics import auroc
from atd.provenance import provenance
from benchmarks.key_worth import key_worth
from benchmarks.segmentation import weather
from benchmarks.segmentation.attacks import Attack, attacks, evading
from benchmarks.segmentation.judging import detectors, fitted, map_auroc, table_of
from benchmarks.segmentation.network import mean_iou, trained
from benchmarks.segmentation.page import page
from benchmarks.segmentation.scenes import Scenes, make_scenes

__all__ = ["SCALES", "Scale", "measure"]


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    size: int
    width: int
    training: int
    tested: int
    training_steps: int
    attack_steps: int
    points: int
    epochs: int
    other_keys: tuple[int, ...] = (1, 2, 3)
    epsilon: float = 8 / 255


SCALES = {
    "smoke": Scale(
        size=32, width=8, training=48, tested=8, training_steps=20, attack_steps=2, points=48,
        epochs=2, other_keys=(1,),
    ),
    "small": Scale(
        size=48, width=32, training=800, tested=100, training_steps=1500, attack_steps=20,
        points=512, epochs=60,
    ),
}  # fmt: skip


def measure(scale: Scale) -> dict[str, Any]:
    """Everything that the page shows."""
    started = time.monotonic()
    training = make_scenes(scale.training, scale.size, "train", seed=0)
    test = make_scenes(scale.tested, scale.size, "test", seed=1)
    strange = make_scenes(scale.tested, scale.size, "test", seed=2, unknown=True)
    network = trained(training, width=scale.width, steps=scale.training_steps, seed=0)

    def make(key_seed: int, seed: int) -> DAAIN:
        options = {"points": scale.points, "epochs": scale.epochs, "key_seed": key_seed}
        return fitted(network, training, DAAINOptions(**options), seed)

    detector = make(42, 0)
    attack = Attack(network, scale.epsilon, scale.attack_steps)
    anomalies = {
        "fog": weather.fog(test.images, 0),
        "frost": weather.frost(test.images, 1),
        "colour jitter": weather.colour_jitter(test.images, 2),
        "upside down": weather.upside_down(test.images, 3),
        "unknown objects": strange.images,
        **attacks(attack, training.take(scale.tested), test),
    }
    truths = {"upside down": test.labels.flip(1), "unknown objects": strange.labels}
    ious = {
        name: mean_iou(network, images, truths.get(name, test.labels))
        for name, images in {"clean": test.images, **anomalies}.items()
    }
    outside = torch.cat([anomalies[name] for name in ("fog", "frost", "unknown objects")])
    few = outside[torch.randperm(len(outside), generator=torch.Generator().manual_seed(0))]
    return {
        "scale": asdict(scale),
        "parameters": sum(p.numel() for p in network.parameters()),
        "dimensions": len(detector.places),
        "mean_iou": ious,
        "anomalies": table_of(detectors(detector), test.images, anomalies),
        "map_auroc": map_auroc(detector, strange),
        "both_at_once": _both_at_once(attack, detector, make, test),
        "key": asdict(
            key_worth(
                make,
                test.images,
                few[: scale.tested],
                epsilon=scale.epsilon,
                steps=scale.attack_steps,
                others=scale.other_keys,
            )
        ),
        "provenance": provenance(None, seed=0, seconds=time.monotonic() - started),
    }


def _both_at_once(
    attack: Attack, detector: DAAIN, make: Callable[[int, int], DAAIN], test: Scenes
) -> dict[str, dict[str, float]]:
    """The untargeted attack that also deceives a detector: this one, or one of another key."""
    inside = detector.score(test.images)
    found = {}
    for name, twin in (("the detector", detector), ("another key", make(1, 0))):
        images: Tensor = evading(attack, twin, test, twin.score(test.images))
        found[name] = {
            "auroc": auroc(inside.numpy(), detector.score(images).numpy()),
            "mean_iou": mean_iou(attack.network, images, test.labels),
        }
    return found


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--output", type=Path, default=Path("docs/segmentation.md"))
    arguments = parser.parse_args()
    found = measure(SCALES[arguments.scale])
    write_text(arguments.output.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
    if arguments.output.suffix == ".md":
        write_text(arguments.output, page(found, arguments.scale, arguments.output))


if __name__ == "__main__":
    main()
