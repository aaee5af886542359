"""Typed options: YAML file + command-line overrides -> frozen dataclasses."""

from atd.config.loading import config_hash, find_config, load, restore, to_yaml
from atd.config.options import Config, DataConfig, EvaluateConfig, LoaderConfig, RunConfig, Scale
from atd.config.training import AtdConfig, BackboneConfig, PretrainConfig

__all__ = [
    "AtdConfig",
    "BackboneConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "LoaderConfig",
    "PretrainConfig",
    "RunConfig",
    "Scale",
    "config_hash",
    "find_config",
    "load",
    "restore",
    "to_yaml",
]
