"""Fills a backbone with weights from disk, and with the normalisation that belongs to them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.backbones.build import default_stem_stride
from atd.backbones.checkpoints import (
    head_left_behind,
    is_detector_folder,
    read_checkpoint,
    read_description,
)
from atd.backbones.matching import Match, best_match, refuse_misfit
from atd.config import BackboneConfig
from atd.config.values import build
from atd.errors import UserError, first_line
from atd.regular_files import require_regular

__all__ = ["Loaded", "adopted", "load_weights", "require_weights"]

_MEAN = re.compile(r"(^|\.)(?!running_)(\w*_)?(mean|mu)$")
_STD = re.compile(r"(^|\.)(\w*_)?(std|sigma)$")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a weight file.

    Attributes:
        head: Whether the class logits came with it; if not, they are all zero.
        notices: What the user should know, a line each.
    """

    head: bool = True
    notices: list[str] = field(default_factory=list)


def adopted(config: BackboneConfig, image_size: int) -> BackboneConfig:
    """The options of a backbone whose weights lie in a detector folder: those of the folder.

    Args:
        config: The options as given.
        image_size: Height and width of an image, which decides on a stem's stride.

    Returns:
        The options with architecture, width, activation, stem and additions of the folder's
        backbone; as given where `backbone.weights` is no detector folder.

    Raises:
        UserError: The folder's description is damaged.
    """
    folder = Path(config.weights)
    if not config.weights or not is_detector_folder(folder):
        return config
    description = read_description(folder)
    options = {**description["backbone"], "weights": ""}
    try:
        made = build(BackboneConfig, options, "backbone", stored=True, ignore_unknown=True)
        stride = made.stem_stride or default_stem_stride(int(description["image_size"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: {first_line(error)}") from None
    return dataclasses.replace(
        config,
        architecture=made.architecture,
        width=made.width,
        activation=made.activation,
        outlier_class=made.outlier_class,
        denoising=made.denoising,
        stem_stride=0 if stride == default_stem_stride(image_size) else stride,  # type: ignore[arg-type]
    )


def require_weights(path: Path) -> None:
    """Refuses a place without weights, before hours of reading images.

    Raises:
        UserError: There is neither a plain file nor the folder of a detector.
    """
    if path.is_dir():
        read_description(path)
        return
    try:
        require_regular(path)
    except UserError as error:
        raise UserError(f"backbone.weights: {error}") from None


def load_weights(
    backbone: Backbone,
    path: str | Path,
    *,
    needs_head: bool = True,
    keep_normalisation: bool = False,
) -> Loaded:
    """Fills a backbone with weights, and with the input normalisation stored beside them.

    Args:
        backbone: The network, built as the weights need it; it is unchanged after an error.
        path: A state dict (`.safetensors`, `.pt`, `.pth`, ...), nested and prefixed as it may be,
            in this project's, the library's or RobustBench's layout, or a detector folder.
        needs_head: Whether class logits of just `backbone.classes` classes are needed.
        keep_normalisation: Keep the backbone's mean and deviation whatever the file says.

    Returns:
        Whether the head was among them, and notices.

    Raises:
        UserError: The file is missing, damaged or of another kind, or its weights are not this
            network's, not finite, or for another number of classes than a head that is needed.
    """
    path = Path(path)
    require_weights(path)
    inner = _inner_prefix(backbone)
    expected = {
        key.removeprefix(inner): value
        for key, value in backbone.state_dict().items()
        if key not in ("mean", "std")
    }
    match = best_match(path, read_checkpoint(path), expected)
    head_name = backbone.head_name.removeprefix(inner)
    notices: list[str] = []
    head = _head_or_refusal(path, match, expected, head_name, needs_head, backbone.classes, notices)
    for key, value in expected.items():
        if key not in match.found and not value.is_floating_point():
            match.found[key] = value  # counters and index tables, which not every file holds
    needed = {key: value for key, value in expected.items() if head or not _under(key, head_name)}
    unknown = {
        name: value
        for name, value in match.unknown.items()
        if not _is_normalisation(name) and (head or not _under(name, head_name))
    }
    refuse_misfit(path, backbone.title, dataclasses.replace(match, unknown=unknown), needed)
    for key, value in needed.items():
        _check_values(path, key, match.found[key], value.dtype)
    normalisation = {} if keep_normalisation else _normalisation(path, backbone, match, notices)
    _tell_of_others(match, notices)
    state = {inner + key: match.found[key] for key in needed}
    with torch.no_grad():
        backbone.load_state_dict(state | normalisation, strict=False)
        if not head:
            for parameter in backbone.get_submodule(backbone.head_name).parameters():
                parameter.zero_()
    return Loaded(head, [f"{path}: {notice}" for notice in notices])


def _inner_prefix(backbone: Backbone) -> str:
    """What a wrapper puts before the names of the network that it holds."""
    own = [key for key in backbone.state_dict() if key not in ("mean", "std")]
    return "model." if all(key.startswith("model.") for key in own) else ""


def _under(key: str, layer: str) -> bool:
    return key.startswith(f"{layer}.")


def _head_or_refusal(
    path: Path,
    match: Match,
    expected: Mapping[str, Tensor],
    head: str,
    needed: bool,
    classes: int,
    notices: list[str],
) -> bool:
    """Whether the file's head is to be loaded."""
    keys = [key for key in expected if _under(key, head)]
    present = [key for key in keys if key in match.found]
    fits = all(match.found[key].shape == expected[key].shape for key in present)
    outdated = _is_outdated(path)
    if len(present) == len(keys) and fits and not outdated:
        return True
    if not (len(match.found) - len(present)):
        return True  # another network altogether, which is told better
    weight = match.found.get(f"{head}.weight")
    if weight is not None and weight.shape[1:] != expected[f"{head}.weight"].shape[1:]:
        return True  # not a matter of classes
    if outdated:
        why = "was not trained further when ATD fine-tuned the features it reads (atd.finetune)"
    elif weight is None:
        why = "is not in the file"
    else:
        why = f"tells apart {len(weight)} classes, but the ID data has {classes}"
    if needed:
        raise UserError(
            f"{path}: its head ({head}) {why}; this detector reads class logits: choose a "
            "detector.kind that reads features (atd, mahalanobis, knn) or weights whose head was "
            "trained on these classes"
        )
    notices.append(
        f"its head ({head}) {why}: it is left out, and all class logits of this backbone are zero"
    )
    return False


def _is_outdated(path: Path) -> bool:
    """Whether the head is that of a detector folder whose features have changed since."""
    folder = path.parent if path.name == "model.safetensors" else path
    if not is_detector_folder(folder):
        return False
    description = read_description(folder)
    return head_left_behind(description.get("kind"), description.get("training"))


def _check_values(path: Path, key: str, value: Tensor, like: torch.dtype = torch.float32) -> None:
    plain = value.layout is torch.strided and not value.is_meta and not value.is_quantized
    if not plain or value.is_complex() or value.is_floating_point() != like.is_floating_point:
        raise UserError(f"{path}: {key} holds no plain numbers ({value.dtype}, {value.layout})")
    if value.is_floating_point() and not value.isfinite().all():
        raise UserError(f"{path}: {key} holds values that are not finite; the file is damaged")


def _is_normalisation(name: str) -> bool:
    return bool(_MEAN.search(name) or _STD.search(name))


def _normalisation(
    path: Path, backbone: Backbone, match: Match, notices: list[str]
) -> dict[str, Tensor]:
    """The mean and deviation that belong to the weights, where they can be known."""
    mean, std = (_one_of(path, match, pattern, backbone) for pattern in (_MEAN, _STD))
    if mean is not None and std is not None:
        if mean.max() > 10 or std.max() > 10:
            notices.append("its normalisation is for values from 0 to 255, and is divided by 255")
            mean, std = mean / 255, std / 255
        if not (std > 0).all():
            raise UserError(f"{path}: its normalisation divides by {float(std.min()):g}")
        return {"mean": mean, "std": std}
    source, found = "those of the ID images", {}
    if backbone.customary is not None and backbone.mean.shape[1] == len(backbone.customary[0]):
        source = "those usual for this network"
        pairs = zip(("mean", "std"), backbone.customary, strict=True)
        found = {key: torch.tensor(values).view_as(backbone.mean) for key, values in pairs}
    elif not (backbone.mean.any() or (backbone.std != 1).any()):
        return {}
    used = [found.get("mean", backbone.mean), found.get("std", backbone.std)]
    words = " and std ".join(str([round(v, 4) for v in value.flatten().tolist()]) for value in used)
    notices.append(
        f"no normalisation is stored in it; images are normalised by {source}: mean {words} "
        "(backbone.mean and backbone.std set others)"
    )
    return found


def _one_of(
    path: Path, match: Match, pattern: re.Pattern[str], backbone: Backbone
) -> Tensor | None:
    """A statistic of the input among the tensors that are not the network's."""
    values: list[Tensor] = []
    for key, value in match.rest.items():
        if pattern.search(key) and value.numel() in (1, backbone.mean.numel()):
            _check_values(path, key, value)
            filled = value.to(backbone.mean).reshape(-1, 1, 1).expand(backbone.mean.shape[1:])
            values.append(filled[None].contiguous())
    if any(not value.equal(values[0]) for value in values):
        raise UserError(
            f"{path}: holds several normalisations of the input; say which one by backbone.mean "
            "and backbone.std"
        )
    return values[0] if values else None


def _tell_of_others(match: Match, notices: list[str]) -> None:
    """Says which tensors of the file were not used."""
    others = [
        key
        for key in match.rest
        if not _is_normalisation(key) and not key.endswith(("num_batches_tracked", "n_averaged"))
    ]
    if others:
        some = ", ".join(others[:3]) + (" ..." if others[3:] else "")
        notices.append(f"{len(others)} tensors beside the network's are not used: {some}")
    if match.others:
        others_too = ", ".join(match.others[:3])
        notices.append(f"the weights under {match.where} are taken, not those under {others_too}")
