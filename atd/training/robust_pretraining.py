"""Pre-training of the backbone by one of the objectives, on clean or on attacked images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atd.attacks import Attacked, fgsm, pgd
from atd.backbones.base import Backbone
from atd.backbones.folding import FrozenPass
from atd.compiled import compiled_function
from atd.config import PretrainConfig
from atd.data.images import ImageSet, batches
from atd.data.sampler import generator_for
from atd.inference import at_least_float32, filled, frozen
from atd.training.ghost_batches import RunningStatistics, ghost_batches
from atd.training.global_norm import global_batch_statistics
from atd.training.logbook import Logbook
from atd.training.objectives import Network, objective_of
from atd.training.pretraining_attack import perturbed
from atd.training.processes import Processes
from atd.training.schedule import attack_steps, one_cycle, set_learning_rate, update_average
from atd.training.stream import Stream

__all__ = ["RobustPretraining"]

_CLEAN_IMAGES = 2048
_ATTACKED_IMAGES = 512
_VALIDATION_STEPS = 20

_OVERFITTED = (
    "PGD-20 succeeds where FGSM fails: the network has learnt to defeat its own attack "
    "(catastrophic overfitting); use pretrain.attack=pgd, more pretrain.steps or a smaller "
    "pretrain.epsilon"
)


class RobustPretraining:
    """Trains a classifier to be right on attacked images; a `Task` of the training loop.

    The images are attacked in evaluation mode; the objective (`atd.training.objectives`) says what
    the attack raises and what the network then learns.

    Images without labels are trained on by rotation prediction (Gidaris et al. 2018): by which of
    0, 90, 180 or 270 degrees was an image rotated? So a flat folder can be used.

    Args:
        model: The classifier, on the device.
        helper: The standard-trained network, where the objective is helped by one.
        stream: Training images.
        validation: Held-out images on which the best epoch is chosen.
        config: Options; `objective` is given apart since the helper is trained by this task too.
        objective: The name of an objective.
        epochs: Passes over the training images.
        stage: Name of the stage.
        processes: The processes that share the work.
        seed: The run's seed.
        bfloat16: Run the network's passes under bfloat16 autocast.
        compiled: Compile the attack's passes through a `Backbone`, and on a GPU those that train
            the network.

    Raises:
        UserError: The batch does not divide into ghost batches, or these not into micro-batches.
    """

    def __init__(
        self,
        model: nn.Module,
        helper: nn.Module | None,
        stream: Stream,
        validation: ImageSet,
        config: PretrainConfig,
        *,
        objective: str,
        epochs: int,
        stage: str,
        processes: Processes,
        seed: int,
        bfloat16: bool,
        compiled: bool = False,
    ) -> None:
        self.ghosts = ghost_batches(model, stream, config.ghost_batch, processes.count, stage)
        self.running = RunningStatistics(model)
        self.model, self.helper, self.stream = model, helper, stream
        self.validation = validation.take(_CLEAN_IMAGES, seed)
        self.config, self.objective, self.stage = config, objective_of(objective), stage
        self.processes, self.seed, self.bfloat16 = processes, seed, bfloat16
        self.batch_size = stream.batch_size
        self.steps_per_epoch = stream.steps_per_epoch
        self.steps = epochs * self.steps_per_epoch
        self.rotate = not stream.images.classes
        self.average = copy.deepcopy(model) if config.ema else None
        self.overfitted = False
        self.frozen_pass: FrozenPass | None = None
        if self.objective.raises != "nothing" and isinstance(model, Backbone):
            self.frozen_pass = FrozenPass(model, bfloat16=bfloat16, compiled=compiled)
        self.trained_pass: Callable[[Tensor], Tensor] = model
        # It takes most of a minute: too long for the short training of a helper, or on a CPU.
        if compiled and objective != "standard" and processes.device.type == "cuda":
            self.trained_pass = compiled_function(model)
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )

    def batches(self, start: int) -> Iterator[Any]:
        """See `Task`."""
        return self.stream.batches(start, self.steps, self.processes)

    def _draws(self, purpose: str, step: int, shape: tuple[int, ...], kind: str) -> Tensor:
        """This process's share of draws for the whole batch, equal for any process count."""
        device = self.processes.device
        generator = generator_for(self.stage, purpose, self.seed, step, device=device)
        shape = (self.batch_size, *shape)
        if kind == "rotations":
            draws = torch.randint(4, shape, generator=generator, device=device)
        elif kind == "uniform":
            draws = 2 * torch.rand(shape, generator=generator, device=device) - 1
        else:
            draws = torch.randn(shape, generator=generator, device=device)
        return draws[self.stream.share]

    def _logits(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits: Tensor = model(images)
        return at_least_float32(logits)

    def step(self, step: int, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """See `Task`."""
        images, labels = batch
        if self.rotate:
            labels = self._draws("turns", step, (), "rotations")
            images = _rotated(images, labels)
        rate = one_cycle(step, self.steps, self.config.lr, self.config.warmup)
        set_learning_rate(self.optimizer, rate)
        attacked = images
        if self.objective.raises != "nothing":
            attacked = self._attack(step, images, labels)
        network = Network(self._passes, self._helped, self.config)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total, correct, count = torch.zeros((), device=images.device), [], self.ghosts.micro_batches
        micro_batches = zip(*(x.chunk(count) for x in (images, attacked, labels)), strict=True)
        for micro_batch in self.running.mean_over(micro_batches):
            loss, logits = self.objective.loss(network, *micro_batch)
            (loss / count).backward()
            total = total + loss.detach() / count
            correct.append(logits.argmax(1) == micro_batch[-1])
        shared = self.ghosts.span == self.processes.count
        self.processes.average_gradients(
            self.model.parameters(), () if shared else self.running.values
        )
        self.optimizer.step()
        if self.average is not None:
            update_average(self.average, self.model, self.config.ema, step)
        return {"loss": total, "accuracy": torch.cat(correct).float().mean()}

    def _helped(self, images: Tensor) -> Tensor:
        """Class logits of the helper, without a gradient."""
        assert self.helper is not None
        with torch.no_grad():
            return self._logits(self.helper.eval(), images)

    def _passes(self, *groups: Tensor) -> Sequence[Tensor]:
        """Class logits of each group of images, which is normalised over itself, in order."""
        span, count = self.ghosts.span, len(groups)
        if span == 1:
            return [self._logits(self.trained_pass, group) for group in groups]
        # Together they need a third of the exchanges, which every process waits for.
        with global_batch_statistics(span, count, self.processes.neighbours(span)):
            logits = self._logits(self.model, torch.cat(groups)).chunk(count)
        for name, buffer in self.model.named_buffers():
            if name.endswith("num_batches_tracked"):
                buffer += count - 1
        return logits

    def _attack(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """This process's images, attacked in evaluation mode."""
        config = self.config
        kind = "normal" if config.attack == "pgd" else "uniform"
        draws = self._draws("attack", step, tuple(images.shape[1:]), kind)
        steps = attack_steps(step, self.steps, config.steps, config.step_schedule)
        groups = (x.chunk(self.stream.micro_batches) for x in (images, labels, draws))
        with self._attackable() as classify:
            raises = self.objective.raises
            attack = partial(perturbed, classify, config=config, raises=raises, steps=steps)
            return torch.cat([attack(*part) for part in zip(*groups, strict=True)])

    @contextmanager
    def _attackable(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """The network as an attack passes through it: evaluation mode, no parameter gradients."""
        if self.frozen_pass is None:
            with frozen(self.model):
                yield partial(self._logits, self.model)
        else:
            self.frozen_pass.refresh()
            yield self.frozen_pass.classify

    def validate(self, step: int, logbook: Logbook) -> dict[str, float]:
        """Accuracy on held-out images: clean, after FGSM and after PGD-20 (see `Task`)."""
        model = self.average if self.average is not None else self.model
        clean = self._accuracy(model, self.validation)
        if self.objective.raises == "nothing":
            return {"val_accuracy": clean, "selection": clean}
        subset, epsilon = self.validation.take(_ATTACKED_IMAGES, self.seed), self.config.epsilon
        single = self._accuracy(model, subset, partial(fgsm, epsilon=epsilon))
        attack = partial(pgd, epsilon=epsilon, steps=_VALIDATION_STEPS)
        robust = self._accuracy(model, subset, attack)
        self.overfitted = single > 2 * robust and single > clean / 2
        return {
            "val_accuracy": clean,
            "val_fgsm_accuracy": single,
            "val_pgd20_accuracy": robust,
            "selection": robust,
        }

    def _accuracy(
        self, model: nn.Module, images: ImageSet, attack: Callable[..., Attacked] | None = None
    ) -> float:
        mine = self.processes.turns(len(images))
        correct: list[bool] = []
        classify = filled(model)
        with frozen(model):
            for pixels, labels, indices in batches(images, mine):
                x = pixels.to(self.processes.device).float() / 255
                y = labels.to(self.processes.device)
                if self.rotate:
                    y = indices.to(self.processes.device) % 4
                    x = _rotated(x, y)
                if attack is not None:
                    x = attack(partial(_loss_of, classify, y), x).images
                with torch.no_grad():
                    correct += (classify(x).argmax(1) == y).tolist()
        everyone = self.processes.gather(correct)
        return sum(everyone) / len(everyone)

    def warnings(self, means: dict[str, float]) -> list[str]:
        """See `Task`."""
        return [_OVERFITTED] if self.overfitted else []

    def state(self) -> dict[str, Any]:
        """See `Task`."""
        average = self.average.state_dict() if self.average is not None else None
        return {
            "model": self.model.state_dict(),
            "average": average,
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """See `Task`."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def weights(self) -> dict[str, Any]:
        """See `Task`."""
        model = self.average if self.average is not None else self.model
        return {key: value.detach().clone() for key, value in model.state_dict().items()}

    def load_weights(self, weights: dict[str, Any]) -> None:
        """See `Task`."""
        self.model.load_state_dict(weights)


def _rotated(images: Tensor, multiples: Tensor) -> Tensor:
    """Rotates each image (N, C, S, S) by its own multiple (N,) of 90 degrees."""
    rotated = torch.stack([images.rot90(k, (2, 3)) for k in range(4)], dim=1)
    return rotated[torch.arange(len(images), device=images.device), multiples]


def _loss_of(classify: Callable[[Tensor], Tensor], labels: Tensor, images: Tensor) -> Tensor:
    return F.cross_entropy(classify(images), labels, reduction="none")
