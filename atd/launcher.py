"""Options of a launcher that mean nothing here: told, or refused where they would do harm."""

from __future__ import annotations

from collections.abc import Mapping

from atd.errors import UserError

__all__ = ["ignored_options", "refuse_unknown_engines"]

_IGNORED = {
    "ACCELERATE_MIXED_PRECISION": ("--mixed_precision", "no", "use run.precision=bfloat16"),
    "ACCELERATE_DYNAMO_BACKEND": ("--dynamo_backend", "no", "use run.compile=true"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
        "--gradient_accumulation_steps",
        "1",
        "use run.device_batch, which changes no result",
    ),
    "ACCELERATE_GRADIENT_CLIPPING": ("--gradient_clipping", "none", "no option does that here"),
}
"""By environment variable: the option, its value where it asks for nothing, and what to do."""

_ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "--use_deepspeed",
    "ACCELERATE_USE_FSDP": "--use_fsdp",
    "ACCELERATE_USE_MEGATRON_LM": "--use_megatron_lm",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "--use_parallelism_config",
}


def refuse_unknown_engines(environment: Mapping[str, str]) -> None:
    """Stops where a launcher asks for a way to divide networks that is not supported.

    Args:
        environment: Variables of the process, e.g. `os.environ`.

    Raises:
        UserError: It does.
    """
    for name, option in _ENGINES.items():
        if environment.get(name, "false").lower() in ("true", "1", "yes"):
            raise UserError(
                f"accelerate launch {option}: every process holds whole networks here; leave it "
                "out, and use run.device_batch if memory is short"
            )


def ignored_options(environment: Mapping[str, str]) -> list[str]:
    """What a launcher was asked for and nothing here follows, one line each.

    Args:
        environment: Variables of the process, e.g. `os.environ`.
    """
    return [
        f"accelerate launch {option}={value} is ignored; {remedy}"
        for name, (option, nothing, remedy) in _IGNORED.items()
        if (value := environment.get(name, nothing)).lower() not in ("", nothing)
    ]
