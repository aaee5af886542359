"""The log of a run that is taken up again."""

from __future__ import annotations

import json

from atd.training.logbook import Logbook


def test_damaged_lines_are_left_out_with_a_count(tmp_path, capsys):
    lines = [json.dumps({"stage": stage, "step": step}) for stage in ("a", "b") for step in (1, 2)]
    file = tmp_path / "stats.jsonl"
    file.write_text("\n".join([*lines, '{"stage": "b", "st', "[]"]))
    Logbook(tmp_path).forget_after("b", 1)
    assert file.read_text().splitlines() == lines[:3]
    assert capsys.readouterr().err == f"{file}: 2 damaged line(s) left out\n"
    Logbook(tmp_path).forget_after("b", 1)
    assert not capsys.readouterr().err
