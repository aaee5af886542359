"""Feature extractors: classifiers whose inner maps tell ID from OOD."""

from atd.backbones.base import Backbone
from atd.backbones.build import build_backbone

__all__ = ["Backbone", "build_backbone"]
