"""A plan for many GPUs: arithmetic from counted operations, a recipe and stated assumptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atd.config import Config
from atd.evaluation.tiers import resolve_tier
from atd.training.processes import Processes
from benchmarks import floor
from benchmarks.scaling.tasks import Work, WorkSize

__all__ = [
    "CLUSTERS",
    "DATASETS",
    "Assumptions",
    "Cluster",
    "Counts",
    "arithmetic",
    "count",
    "stages",
]

DATASETS = {"ImageNet-200": 1_281_167 * 200 // 1000, "ImageNet-1k": 1_281_167}
"""Training images; ImageNet-200 has a fifth of the classes of about equal size."""

_BATCH = 8
"""Images on which operations are counted; an evaluation fills smaller batches up."""


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What the plan takes for granted; nothing of it was measured here."""

    peak: float = 989e12
    """Operations per second of a GPU in bfloat16 (H100 SXM, data sheet, dense)."""
    peak_float32: float = 67e12
    """The same in float32, in which evaluation runs."""
    share_float32: float = 0.35
    """Share of that peak that a step reaches."""
    share: float = 0.35
    """Share of the peak in bfloat16 that a step reaches at best."""
    cautious_share: float = 0.10
    """The same where memory, not arithmetic, is what convolutions wait for."""
    link: float = 0.8 * 450e9
    """Bytes per second between GPUs of a machine: 80 % of NVLink 4, one direction."""
    network: float = 0.8 * 50e9
    """Bytes per second of a machine to others: 80 % of one InfiniBand port of 400 Gb/s."""
    latency: float = 30e-6
    """Seconds of a small exchange within a machine."""
    network_latency: float = 60e-6
    """Seconds of a small exchange between machines."""
    cores: int = 96
    """CPU cores of a machine that decode images."""
    test_images: int = 100_000
    """Images that are evaluated, ID and OOD together."""


@dataclass(frozen=True)
class Cluster:
    """Machines with GPUs and what is trained on them at once.

    Attributes:
        nodes: Machines.
        gpus: GPUs of each.
        batch: Images per step over all GPUs (ATD: ID images, and as many outliers).
    """

    nodes: int
    gpus: int
    batch: int

    @property
    def processes(self) -> int:
        """GPUs in all."""
        return self.nodes * self.gpus


CLUSTERS = (Cluster(1, 8, 1024), Cluster(4, 8, 1024), Cluster(4, 8, 4096))


@dataclass(frozen=True)
class Counts:
    """What a step of a stage needs, counted on the product's own step.

    Attributes:
        base: Operations per image without the attack.
        attack: Operations per image and step of the attack.
        gradients: Bytes of gradients that a step averages.
        norms: Exchanges of batch statistics in a step.
    """

    base: float
    attack: float
    gradients: int
    norms: int

    def flops(self, steps: int) -> float:
        """Operations per image with an attack of so many steps."""
        return self.base + steps * self.attack


@dataclass(frozen=True)
class Stage:
    """The arithmetic of a stage on a cluster; times in seconds per step.

    Attributes:
        compute: Operations of a GPU's share at the stated rate.
        reduce: Averaging the gradients.
        norms: Exchanging batch statistics.
        images: Images per step over all GPUs.
        decoded: Images per second that each machine can decode.
        nodes: Machines.
        gpus: GPUs in all.
    """

    compute: float
    reduce: float
    norms: float
    images: int
    decoded: float
    nodes: int
    gpus: int

    @property
    def seconds(self) -> float:
        """A step whose images are there in time."""
        return self.compute + self.reduce + self.norms

    @property
    def efficiency(self) -> float:
        """Share of the step that is not spent on exchanges."""
        return self.compute / self.seconds

    @property
    def needed(self) -> float:
        """Images per second that each machine has to decode to keep up."""
        return self.images / self.nodes / self.seconds

    @property
    def rate(self) -> float:
        """Images per second, no more than are decoded."""
        return self.nodes * min(self.needed, self.decoded)

    def hours(self, images: int) -> float:
        """Time for so many images."""
        return images / self.rate / 3600


def count(name: str, size: WorkSize, exchanges_per_norm: int) -> Counts:
    """Counts operations of a step with torch's flop counter, at one and at two attack steps.

    Args:
        name: `helper`, `hat`, `atd` or `evaluation`.
        size: The network and the images; `steps` is ignored.
        exchanges_per_norm: Exchanges of a layer of batch normalisation, forward and backward.
    """
    found = []
    for steps in (1, 2):
        work = Work(Processes("cpu"), dataclasses.replace(size, steps=steps), _BATCH)
        found.append(_operations(work, name))
    attack = found[1] - found[0]
    if name == "evaluation":
        return Counts(found[0] - attack, attack, 0, 0)
    gradients = sum(parameter.nbytes for group in work.trained(name) for parameter in group)
    norms = work.norm_passes(name) * exchanges_per_norm
    return Counts(found[0] - attack, attack, gradients, norms)


def _operations(work: Work, name: str) -> float:
    """Operations per image of a step."""
    images: list[int] = []
    flops = floor.count(lambda: images.append(work.do(name))).flops
    return flops / images[0]


def _ring(bytes_: float, members: int, bandwidth: float) -> float:
    """Seconds of an all-reduce over a ring, whose members send their share twice around."""
    return 2 * (members - 1) / members * bytes_ / bandwidth


def stages(
    counts: dict[str, Counts],
    cluster: Cluster,
    steps: Mapping[str, int],
    decode_rate: float,
    given: Assumptions,
) -> dict[str, Stage]:
    """The stages of a recipe on a cluster.

    Gradients are reduced within each machine, then between machines, after the backward pass:
    nothing of it is hidden behind computation.

    Args:
        counts: By stage, from `count`.
        cluster: The machines.
        steps: Steps of the attack in each stage.
        decode_rate: Images per second that one core decodes.
        given: The assumptions.

    Returns:
        The stages by name; `evaluation` exchanges nothing and runs in float32.
    """
    several = cluster.nodes > 1
    latency = given.network_latency if several else given.latency
    decoded = given.cores * decode_rate
    found = {}
    for name, counted in counts.items():
        rate = given.share * given.peak
        if name == "evaluation":
            rate = given.share_float32 * given.peak_float32
        images = cluster.batch * (2 if name == "atd" else 1)
        reduced = _ring(counted.gradients, cluster.gpus, given.link)
        reduced += _ring(counted.gradients, cluster.nodes, given.network)
        found[name] = Stage(
            compute=counted.flops(steps[name]) * images / cluster.processes / rate,
            reduce=reduced + (latency if counted.gradients else 0.0),
            norms=counted.norms * latency,
            images=images,
            decoded=decoded,
            nodes=cluster.nodes,
            gpus=cluster.processes,
        )
    return found


def hours(found: dict[str, Stage], config: Config, images: int, tested: int) -> dict[str, float]:
    """Hours of each stage of a recipe.

    Args:
        found: The stages.
        config: The recipe; its numbers of epochs matter.
        images: ID images for training.
        tested: Images that are evaluated.
    """
    shown = {
        "helper": config.pretrain.helper_epochs * images,
        "hat": config.pretrain.epochs * images,
        "atd": 2 * config.atd.epochs * images,
        "evaluation": tested,
    }
    return {name: stage.hours(shown[name]) for name, stage in found.items()}


def arithmetic(
    counts: dict[str, Counts], config: Config, decode_rate: float, given: Assumptions
) -> list[dict[str, Any]]:
    """The whole plan as plain numbers, one entry for each data set and cluster."""
    steps = {
        "helper": 0,
        "hat": config.pretrain.steps,
        "atd": config.atd.steps,
        "evaluation": resolve_tier(config.evaluate).steps,
    }
    rows = []
    for dataset, images in DATASETS.items():
        for cluster in CLUSTERS:
            found = stages(counts, cluster, steps, decode_rate, given)
            rows.append(
                {
                    "dataset": dataset,
                    "nodes": cluster.nodes,
                    "gpus": cluster.processes,
                    "batch": cluster.batch,
                    "steps": steps,
                    "share": given.share,
                    "hours": hours(found, config, images, given.test_images),
                    "stages": {name: _plain(stage) for name, stage in found.items()},
                }
            )
    return rows


def _plain(stage: Stage) -> dict[str, float]:
    return {
        "images_per_second_per_gpu": stage.rate / stage.gpus,
        "compute_ms": 1000 * stage.compute,
        "reduce_ms": 1000 * stage.reduce,
        "norms_ms": 1000 * stage.norms,
        "efficiency": stage.efficiency,
        "decode_needed": stage.needed,
        "decode_possible": stage.decoded,
    }
