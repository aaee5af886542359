"""What the secret of a DAAIN detector is worth: attacks that know its key, and that do not.

    python -m benchmarks.key_worth --output docs/daain_key.md

The attacker knows the network, the ID training images and the method. Adversarial images are made
against the detector itself, against a twin with the same key whose flow was fitted anew, and
against twins with other keys; all are scored by the detector. This is a benchmark and no part of
an evaluation, because a twin has to be fitted on training images, which an evaluation needs not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import atd
from atd.attacks import pgd
from atd.backbones import build_backbone
from atd.config import BackboneConfig, load
from atd.data.images import ImageSet
from atd.data.splits import DataSplits, load_splits
from atd.detectors.base import Detector
from atd.errors import run_command
from atd.files import write_text
from atd.inference import as_float
from atd.metrics import auroc
from atd.provenance import provenance

__all__ = ["KeyWorth", "key_worth", "page"]

_OTHER_KEYS = (1, 2, 3)
_CHUNK = 64


@dataclass(frozen=True)
class KeyWorth:
    """AUROC of one detector, clean and with ID and OOD images attacked.

    Attributes:
        clean: No attack.
        known: Attacked through the detector itself.
        same_key: Through a twin that has its key, and a flow fitted with another seed.
        other_keys: Through twins with other keys, one for each.
    """

    clean: float
    known: float
    same_key: float
    other_keys: list[float]

    @property
    def worth(self) -> float:
        """By how much AUROC is higher when the attacker lacks the key alone."""
        return statistics.mean(self.other_keys) - self.same_key


def key_worth(
    make: Callable[[int, int], Detector],
    inside: Tensor,
    outside: Tensor,
    *,
    epsilon: float,
    steps: int,
    others: Sequence[int] = _OTHER_KEYS,
) -> KeyWorth:
    """Attacks a detector with its key known and unknown.

    Args:
        make: Fits a detector, given the seed of its key and the seed of its flow.
        inside: ID images (N, C, H, W) in [0, 1], attacked so that scores rise.
        outside: OOD images (N, C, H, W) in [0, 1], attacked so that they fall.
        epsilon: Radius in L-infinity.
        steps: Steps of PGD; the best iterate for the attacked twin is kept.
        others: Seeds of other keys.
    """
    detector = make(42, 0)

    def through(twin: Detector) -> float:
        raised = attacked(twin.surrogate, inside, epsilon, steps)
        lowered = attacked(lambda images: -twin.surrogate(images), outside, epsilon, steps)
        return auroc(detector.score(raised).numpy(), detector.score(lowered).numpy())

    return KeyWorth(
        clean=auroc(detector.score(inside).numpy(), detector.score(outside).numpy()),
        known=through(detector),
        same_key=through(make(42, 1)),
        other_keys=[through(make(seed, 0)) for seed in others],
    )


def attacked(
    objective: Callable[[Tensor], Tensor], images: Tensor, epsilon: float, steps: int
) -> Tensor:
    """Images (N, C, H, W) moved by PGD so that the objective rises."""
    return torch.cat(
        [pgd(objective, part, epsilon=epsilon, steps=steps).images for part in images.split(_CHUNK)]
    )


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/digits.yaml", help="the image sets")
    parser.add_argument("--detector", help="whose network is read; default: one trained here")
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--images", type=int, default=200, help="of each side")
    parser.add_argument("--epochs", type=int, default=60, help="of the flow")
    parser.add_argument("--output", type=Path, default=Path("docs/daain_key.md"))
    parser.add_argument("overrides", nargs="*", help="options of the config, e.g. loader.workers=0")
    arguments = parser.parse_intermixed_args()
    started = time.monotonic()
    splits = load_splits(load(arguments.config, arguments.overrides))
    if arguments.detector:
        network: nn.Module = atd.load(arguments.detector)
    else:
        network = _trained(splits)

    def make(key_seed: int, seed: int) -> Detector:
        options = {"key_seed": key_seed, "seed": seed, "epochs": arguments.epochs}
        return atd.fit("daain", network, splits.id_train, **options)

    each = max(1, arguments.images // len(splits.ood_test))
    outside = torch.cat([_floats(images, each) for images in splits.ood_test.values()])
    inside = _floats(splits.id_test, arguments.images)
    attack = {"epsilon": arguments.epsilon, "steps": arguments.steps}
    found = key_worth(make, inside, outside, **attack)
    facts = provenance(None, seed=0, seconds=time.monotonic() - started)
    record = {
        **asdict(found),
        "worth": found.worth,
        **attack,
        "images": {"id": len(inside), "ood": len(outside)},
        "command": _command(arguments),
        "provenance": facts,
    }
    write_text(arguments.output.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    write_text(arguments.output, page(record))


def _floats(images: ImageSet, count: int) -> Tensor:
    return as_float(images.take(count, 0).fetch(range(min(count, len(images)))))


def _trained(splits: DataSplits, steps: int = 300) -> nn.Module:
    """A standard classifier of the ID training images."""
    images = as_float(splits.id_train.fetch(range(len(splits.id_train))))
    labels = splits.id_train.labels
    torch.manual_seed(0)
    network = build_backbone(
        BackboneConfig(width=8, features="last"),
        channels=images.shape[1],
        classes=len(splits.id_train.classes),
        image_size=images.shape[-1],
    )
    adam = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (128,))
        loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
    return network.eval().requires_grad_(False)


def _command(arguments: argparse.Namespace) -> str:
    given = {
        name: value for name, value in vars(arguments).items() if name != "overrides" and value
    }
    words = [f"--{name} {value}" for name, value in given.items()]
    return " ".join(["python -m benchmarks.key_worth", *words, *arguments.overrides])


def page(record: Mapping[str, Any]) -> str:
    """The page of what the JSON file beside it holds."""
    found = KeyWorth(**{field.name: record[field.name] for field in fields(KeyWorth)})
    others, images, facts = found.other_keys, record["images"], record["provenance"]
    return f"""# What DAAIN's key is worth

{rows_of(found)}

{images["id"]} ID and {images["ood"]} OOD images, each attacked by PGD of {record["steps"]} steps \
in L-infinity
{record["epsilon"]:.4f}, ID images upwards and OOD images downwards, from one start; no checks \
were run. {len(others)} other keys: \
{min(others):.3f} to {max(others):.3f}.
The key alone is worth **{found.worth:+.3f}** AUROC: other keys against the same key with a flow \
fitted anew.

    {record["command"]}

Commit {facts["commit"]}, {facts["hardware"]}, {facts["seconds"]} s, {facts["date"]}.
"""


def rows_of(found: KeyWorth) -> str:
    """The four AUROCs as a table in Markdown."""
    return f"""| the attacker | AUROC |
|---|---:|
| does nothing | {found.clean:.3f} |
| has the detector | {found.known:.3f} |
| has the key and fits the flow anew | {found.same_key:.3f} |
| has another key | {statistics.mean(found.other_keys):.3f} |"""


if __name__ == "__main__":
    main()
