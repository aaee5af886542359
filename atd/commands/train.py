"""The command that goes from images to a trained, evaluated and reported detector."""

from __future__ import annotations

import argparse

from atd.config import Config, load, to_yaml
from atd.errors import run_command

__all__ = ["main"]

_EPILOG = """\
Runs every stage that has not finished yet; the same command again resumes. Without --config,
the bundled handwritten digits: offline, on the CPU, in under 3 minutes.

examples:
  python train.py
  python train.py --config configs/folder.yaml data.id=folder:photos run.name=photos
  python train.py --config configs/cifar10_small.yaml atd.epsilon=2/255 --dry-run
  torchrun --nproc-per-node 2 train.py --config configs/cifar10.yaml
"""


def main() -> None:
    """Runs the command; exit codes 0, 1, 2 and 130 as in `atd.errors.run_command`."""
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train an OOD detector that stays right when someone perturbs the input.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file, or the name of a shipped one")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved options and the plan, then stop"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. atd.epsilon=8/255")
    arguments = parser.parse_intermixed_args()
    config = load(arguments.config, arguments.overrides)
    if arguments.dry_run:
        print(to_yaml(config))
        print("\n".join(f"# {line}" for line in plan(config)))
        return
    _train(config)


def plan(config: Config) -> list[str]:
    """What a run with these options does, one line a stage."""
    lines = [f"run folder: {config.run.folder}", f"ID images: {config.data.id}"]
    lines.append(f"outliers: {config.data.outliers or 'the offline fallback'}")
    pretrain, atd = config.pretrain, config.atd
    if atd.features == "pixels":
        lines.append("backbone: none, the discriminator sees pixels")
    elif config.backbone.weights:
        lines.append(f"backbone: loaded from {config.backbone.weights}")
    else:
        if pretrain.objective == "hat":
            lines.append(f"helper: {pretrain.helper_epochs} epochs of standard training")
        lines.append(
            f"pretrain: {pretrain.epochs} epochs of {pretrain.objective}, "
            f"epsilon {pretrain.epsilon * 255:.3g}/255"
        )
    attack = f"PGD-{atd.steps} at epsilon {atd.epsilon * 255:.3g}/255"
    lines.append(
        f"atd: {atd.epochs} epochs, {attack if atd.adversarial else 'no attack'}, "
        f"generator {atd.generator}"
    )
    data = config.data
    listed = f"{len(data.ood_test) + len(data.near_test)} OOD sets"
    sets = f"OOD sets of protocol {data.protocol}" if data.protocol else listed
    lines.append(
        f"evaluate: {sets}, tier {config.evaluate.tier}, "
        f"epsilon {config.evaluation_epsilon * 255:.3g}/255"
    )
    return lines


def _train(config: Config) -> None:
    # Imported here so that --help, --dry-run and a typo answer at once.
    from atd.run_folder import RunFolder

    folder = RunFolder(config.run.folder)
    if folder.was_finished(config):
        problem = folder.problem()
        if not problem:
            print(f"{folder.path} is finished; its report is {folder.report / 'report.md'}")
            return
        print(f"{problem}; it is made again, from what was trained")
    from atd.pipeline import Run
    from atd.reporting.report import summary_table
    from atd.training.processes import Processes

    processes = Processes(config.run.device, config.run.timeout_minutes)
    results = Run(config, processes).execute()
    if processes.is_main:
        print(summary_table(results))
        print(f"detector: {folder.detector}\nreport:   {folder.report / 'report.md'}")
    processes.close()


if __name__ == "__main__":
    main()
