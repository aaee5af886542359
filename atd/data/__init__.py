"""Images by name: sources, splits, sample order and augmentation."""

from atd.data.augment import augment, draw
from atd.data.fetching import batches
from atd.data.images import ImageSet
from atd.data.sampler import generator_for, positions_to_indices
from atd.data.sources import load_source
from atd.data.splits import DataSplits, load_splits

__all__ = [
    "DataSplits",
    "ImageSet",
    "augment",
    "batches",
    "draw",
    "generator_for",
    "load_source",
    "load_splits",
    "positions_to_indices",
]
