"""The small trainings that faults happen to."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["HELD", "STREAMED", "write_config"]

HELD = "images in memory"
STREAMED = "images read from files by a worker"

_CONFIG = """\
run: {{name: faults, device: cpu, save_minutes: 0.01}}
data:
  id: "{id}"
  outliers: "bundled:capitals"
  ood_test: ["bundled:lowercase"]
  image_size: 8
  channels: 1
  augment: crop
  id_limit: 64
  outlier_limit: 48
  ood_limit: 4
backbone: {{width: 4, features: last}}
pretrain: {{epochs: {pretrain}, helper_epochs: {helper}, batch_size: 8, steps: 2,
  epsilon: 0.05, ema: 0.9}}
atd: {{epochs: {atd}, batch_size: 8, steps: 2, epsilon: 0.05, latent_dim: 8}}
evaluate: {{tier: smoke, steps: 2, limit: 4, baselines: []}}
loader: {{workers: {workers}, memory_mb: {memory}}}
"""


def write_config(kind: str, work: Path) -> Path:
    """Writes the config of a training of a few seconds (`HELD` or `STREAMED`) and its images."""
    file = work / f"{'held' if kind == HELD else 'streamed'}.yaml"
    if kind == HELD:
        text = _CONFIG.format(
            id="bundled:digits", helper=3, pretrain=3, atd=3, workers=0, memory=1024
        )
    else:
        images = work / "images"
        _write_images(images)
        text = _CONFIG.format(
            id=f"folder:{images}", helper=2, pretrain=3, atd=2, workers=1, memory=0
        )
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def _write_images(folder: Path) -> None:
    """Eighty random images in two classes."""
    from PIL import Image

    pixels = torch.randint(
        256, (80, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    for index, image in enumerate(pixels):
        file = folder / "ab"[index % 2] / f"{index:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(file)
