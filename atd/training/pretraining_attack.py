"""The attack of robust pre-training: PGD, or a single step from a random start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from atd.attacks import default_step_size, pgd
from atd.backbones.base import Backbone
from atd.backbones.folding import FrozenPass
from atd.config import PretrainConfig
from atd.inference import at_least_float32, frozen
from atd.training.losses import kl_per_sample
from atd.training.objectives import Objective, Raises
from atd.training.schedule import attack_steps

__all__ = ["PretrainingAttack", "output_of", "outputs_in", "perturbed"]

# Length of a single step from a random start, in epsilon (Wong et al. 2020, arXiv:2001.03994).
_SINGLE_STEP = 1.25


class PretrainingAttack:
    """Attacks this process's images of a step, in evaluation mode and as the objective says.

    Args:
        model: The network that is trained; of a `Backbone` a `FrozenPass` is attacked.
        objective: What is raised.
        config: Options.
        noise: The random start of images, by purpose and step.
        steps: Steps of the whole training.
        micro_batches: In how many parts a process works off its share.
        bfloat16: Run the passes in bfloat16.
        compiled: Compile the passes through a `Backbone`.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        config: PretrainConfig,
        noise: Callable[[str, int, Tensor], Tensor],
        *,
        steps: int,
        micro_batches: int,
        bfloat16: bool,
        compiled: bool = False,
    ) -> None:
        self.model, self.objective, self.config, self.noise = model, objective, config, noise
        self.steps, self.micro_batches, self.bfloat16 = steps, micro_batches, bfloat16
        self.frozen_pass: FrozenPass | None = None
        attacked = {objective.raises, objective.raises_beside} != {"nothing"}
        if attacked and isinstance(model, Backbone):
            output = objective.attacked_output
            self.frozen_pass = FrozenPass(
                model, bfloat16=bfloat16, compiled=compiled, output=output
            )

    def __call__(
        self, step: int, images: Tensor, labels: Tensor, *, beside: bool = False
    ) -> Tensor:
        """The images (n, C, H, W) attacked; the same where nothing is raised.

        Args:
            step: The step.
            images: This process's share of a kind of images.
            labels: Their labels (n,).
            beside: They are those that come beside the training images.
        """
        config, objective = self.config, self.objective
        raises = objective.raises_beside if beside else objective.raises
        if raises == "nothing":
            return images
        draws = self.noise("attack beside" if beside else "attack", step, images)
        groups = (x.chunk(self.micro_batches) for x in (images, labels, draws))
        with self.attackable() as classify:
            attack = partial(
                perturbed,
                classify,
                config=config,
                raises=raises,
                sample_loss=objective.beside_loss if beside else objective.sample_loss,
                steps=attack_steps(step, self.steps, config.steps, config.step_schedule),
            )
            return torch.cat([attack(*part) for part in zip(*groups, strict=True)])

    @contextmanager
    def attackable(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """The network as an attack passes through it: evaluation mode, no parameter gradients."""
        if self.frozen_pass is None:
            with frozen(self.model):
                output = output_of(self.model, self.objective.attacked_output)
                yield partial(outputs_in, output, bfloat16=self.bfloat16)
        else:
            self.frozen_pass.refresh()
            yield self.frozen_pass.classify


def output_of(model: nn.Module, name: str) -> Callable[[Tensor], Tensor]:
    """What gives an output of a network, by the name of its method."""
    found: Callable[[Tensor], Tensor] = model if name == "forward" else getattr(model, name)
    return found


def outputs_in(output: Callable[[Tensor], Tensor], images: Tensor, *, bfloat16: bool) -> Tensor:
    """Outputs (N, K) of images, at least float32, of a pass in bfloat16 or not."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        outputs: Tensor = output(images)
    return at_least_float32(outputs)


def perturbed(
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    draws: Tensor,
    config: PretrainConfig,
    *,
    raises: Raises,
    sample_loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
) -> Tensor:
    """Images attacked as `pretrain.attack` says.

    PGD raises the KL divergence from the clean output, or the classification loss. A single step
    always follows the classification loss: it needs no clean output, and its gradient does not
    vanish near the image as that of KL does.

    Args:
        classify: Maps images to outputs (N, K), in the state in which it is attacked.
        images: Clean images (N, C, H, W) in [0, 1].
        labels: Their labels (N,).
        draws: Randomness shaped like the images: standard normal for `pgd`, else uniform in
            [-1, 1).
        config: Options.
        raises: `divergence` or `classification loss`.
        sample_loss: The classification loss (N,) of outputs (N, K) with labels (N,).
        steps: Steps of PGD.

    Returns:
        Images (N, C, H, W) in [0, 1], at most epsilon away.
    """

    def loss(x: Tensor) -> Tensor:
        return sample_loss(classify(x), labels)

    epsilon = config.epsilon
    if config.attack == "fgsm-rs":
        return pgd(
            loss,
            images,
            epsilon=epsilon,
            steps=1,
            step_size=_SINGLE_STEP * epsilon,
            noise=draws,
            keep="last",
        ).images
    diverges = raises == "divergence"
    # KL has no gradient at the image itself; the published start is 1e-3 N(0, 1).
    noise = 1e-3 * draws / max(epsilon, 1e-12) if diverges else draws.clamp(-1, 1)
    return pgd(
        _divergence_from(classify, images) if diverges else loss,
        images,
        epsilon=epsilon,
        steps=steps,
        step_size=config.step_size or default_step_size(epsilon, steps),
        noise=noise,
        keep="last",
    ).images


def _divergence_from(
    classify: Callable[[Tensor], Tensor], images: Tensor
) -> Callable[[Tensor], Tensor]:
    """KL of the output at other images (N, C, H, W) from that at the clean ones."""
    with torch.no_grad():
        clean = classify(images)
    return lambda x: kl_per_sample(clean, classify(x))
