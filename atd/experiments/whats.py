"""What `python -m atd.reproduce` can make."""

from __future__ import annotations

__all__ = ["WHATS"]

WHATS = {
    "detectors": ("detectors", "every kind of detector on one backbone a seed"),
    "objectives": ("detectors", "scores read off backbones trained in every way"),
    "speeds": ("speeds", "images per second of every kind, on a machine that is idle otherwise"),
    "findings": ("findings", "the released recipe of ATD and ours under three attacks"),
    "own_images": ("own_images", "folders of one's own (--data), each within a run.budget"),
    "table1": ("tables", "the methods of the ATD paper, its attack and a stronger one"),
    "table2": ("transferred", "attacks on other methods, transferred to ATD"),
    "table3": ("tables", "the paper's ablations"),
    "table4": ("attack_target", "attacks on the classifier and on the detector"),
    "table5": ("tables", "ATD and ATOM"),
    "certificate": ("certificate", "the AUROC that no L2 attack can take away"),
    "figure1": ("figures", "AUROC against the radius of the attack"),
    "figure2": ("figures", "how an attack shifts the scores of both sides"),
    "figure4": ("toy", "the paper's example in two dimensions, in its six settings"),
}
"""By WHAT the file beside this one that has its function `reproduce_WHAT`, and what it makes.

The function takes an `atd.experiments.order.Order`; it is imported when it is wanted.
"""
