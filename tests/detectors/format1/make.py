"""Made the files beside it, at commit c98d5de; `atd.models` is long gone."""

import json
import sys
import tarfile
from pathlib import Path

import torch
from atd.models.detector import Detector, DetectorConfig

output = Path(sys.argv[1])
generator = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (12, 3, 8, 8), generator=generator, dtype=torch.uint8)
scores = {}
for name in ("backbone", "pixels"):
    torch.manual_seed(1)
    config = DetectorConfig(
        name=name,
        backbone={"width": 4, "features": "multi"} if name == "backbone" else None,
        classes=["a", "b", "c"],
        image_size=8,
        channels=3,
        normalisation="layer",
        threshold=0.25,
        threshold_note="made up",
        training={"run": {"name": name}},
        provenance={"seed": 1},
    )
    detector = Detector(config).eval()
    for key, value in detector.state_dict().items():
        if key.endswith(("weight", "bias")) and value.ndim > 1:
            spread = 2.5 * value[0].numel() ** -0.5
            value.copy_((torch.randn_like(value) * spread * 16).round() / 16)
        elif key.endswith(("running_mean", "feature_mean")):
            value.copy_((torch.randn_like(value) * 4).round() / 16)
        elif key.endswith(("running_var", "feature_std")):
            value.copy_(torch.randint(1, 32, value.shape) / 16)
    detector.save_pretrained(output / name)
    scores[name] = [score.hex() for score in detector.score(images).tolist()]
    with tarfile.open(output / f"{name}.tar.xz", "w:xz") as archive:
        archive.add(output / name, name)
made = {
    "torch": torch.__version__,
    "processor": torch.backends.cpu.get_cpu_capability(),
    "images": images.flatten().tolist(),
    "scores": scores,
}
(output / "expected.json").write_text(json.dumps(made) + "\n")
