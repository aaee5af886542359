"""Every objective of pre-training has a file, and every file is an objective that can be named."""

from __future__ import annotations

import pkgutil
from typing import get_args, get_type_hints

from atd.config import PretrainConfig
from atd.training import objectives
from atd.training.objectives import Objective, objective_of


def test_files_and_names_are_the_same():
    names = get_args(get_type_hints(PretrainConfig)["objective"])
    files = {item.name for item in pkgutil.iter_modules(objectives.__path__)} - {"base"}
    assert set(names) == files
    assert all(isinstance(objective_of(name), Objective) for name in names)


def test_one_that_raises_nothing_and_one_with_a_helper():
    assert objective_of("standard").raises == "nothing"
    assert [name for name in ("trades", "hat") if objective_of(name).helped] == ["hat"]
