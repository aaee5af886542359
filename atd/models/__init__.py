"""What computes a score: backbones, generators, discriminators and the detector."""

from atd.models.backbones import build_backbone
from atd.models.detector import Detector, DetectorConfig
from atd.models.gan import FeatureDiscriminator, FeatureGenerator

__all__ = [
    "Detector",
    "DetectorConfig",
    "FeatureDiscriminator",
    "FeatureGenerator",
    "build_backbone",
]
