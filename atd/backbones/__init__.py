"""Feature extractors: classifiers whose inner maps tell ID from OOD."""

from atd.backbones.base import Backbone
from atd.backbones.build import build_backbone
from atd.backbones.imported import allow_import

__all__ = ["Backbone", "allow_import", "build_backbone"]
