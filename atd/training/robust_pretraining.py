"""Pre-training of the backbone by one of the objectives, on clean or on attacked images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from atd.attacks import Attacked, fgsm, pgd
from atd.compiled import compiled_function
from atd.config import PretrainConfig
from atd.data.images import ImageSet
from atd.data.sampler import generator_for
from atd.detectors.outlier_class import outlier_log_odds
from atd.inference import filled, frozen
from atd.training.ghost_batches import RunningStatistics, ghost_batches
from atd.training.global_norm import global_batch_statistics
from atd.training.logbook import Logbook
from atd.training.mining import MinedOutliers
from atd.training.objectives import Network, Side, objective_of
from atd.training.pretraining_attack import PretrainingAttack, output_of, outputs_in
from atd.training.pretraining_validation import accuracy, rotated
from atd.training.processes import Processes
from atd.training.schedule import Length, one_cycle, set_learning_rate, update_average
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
        outliers: Outliers in batches as large, where the objective learns from them.
        validation: Held-out images on which the best epoch is chosen.
        config: Options; `objective` is given apart since the helper is trained by this task too.
        objective: The name of an objective.
        epochs: Passes over the training images.
        min_steps: Steps to be taken at least, in more passes where need be; 0 counts epochs only.
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
        outliers: Stream | None,
        validation: ImageSet,
        config: PretrainConfig,
        *,
        objective: str,
        epochs: int,
        min_steps: int = 0,
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
        self.outliers: Stream | MinedOutliers | None = outliers
        if outliers is not None and self.objective.mines:
            self.outliers = MinedOutliers(outliers, stream.steps_per_epoch, config, processes)
        self.batch_size = stream.batch_size
        self.length = Length.of(epochs, stream.steps_per_epoch, min_steps)
        self.steps_per_epoch, self.steps = self.length.between, self.length.steps
        self.rotate = not stream.images.classes
        self.average = copy.deepcopy(model) if config.ema else None
        self.overfitted = False
        self.attack = PretrainingAttack(
            model,
            self.objective,
            config,
            self._noise,
            steps=self.steps,
            micro_batches=stream.micro_batches,
            bfloat16=bfloat16,
            compiled=compiled,
        )
        self.trained_pass = output_of(model, self.objective.trained_output)
        # It takes most of a minute: too long for the short training of a helper, or on a CPU.
        if compiled and objective != "standard" and processes.device.type == "cuda":
            self.trained_pass = compiled_function(self.trained_pass)
        self.optimizer = _optimizer(model, config)

    def batches(self, start: int) -> Iterator[Any]:
        """See `Task`."""
        inside = self.stream.batches(start, self.steps, self.processes)
        match self.outliers:
            case None:
                return inside
            case MinedOutliers():
                outside = self.outliers.batches(start, self.steps, self._outlier_score)
            case _:
                outside = self.outliers.batches(start, self.steps, self.processes)
        return zip(inside, outside, strict=True)

    def _outlier_score(self, images: Tensor) -> Tensor:
        """Log-odds (N,) of the last class, in evaluation mode."""
        with frozen(self.model), torch.no_grad():
            return outlier_log_odds(filled(self.model)(images))

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

    def _noise(self, purpose: str, step: int, images: Tensor) -> Tensor:
        """Where the attack of each of this process's images starts, in the way of the attack."""
        kind = "normal" if self.config.attack == "pgd" else "uniform"
        return self._draws(purpose, step, tuple(images.shape[1:]), kind)

    def _logits(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        return outputs_in(model, images, bfloat16=self.bfloat16)

    def step(self, step: int, batch: Any) -> dict[str, Tensor]:
        """See `Task`."""
        inside, beside = self._sides(step, batch)
        rate = one_cycle(step, self.steps, self.config.lr, self.config.warmup)
        set_learning_rate(self.optimizer, rate)
        network = Network(self._passes, self._helped, self.config)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total, correct = torch.zeros((), device=inside.images.device), []
        count = self.ghosts.micro_batches
        micro_batches = zip(inside.chunks(count), beside.chunks(count), strict=True)
        for micro_batch in self.running.mean_over(micro_batches):
            loss, logits = self.objective.loss(network, *micro_batch)
            (loss / count).backward()
            total = total + loss.detach() / count
            correct.append(logits.argmax(1) == micro_batch[0].labels)
        shared = self.ghosts.span == self.processes.count
        self.processes.average_gradients(
            self.model.parameters(), () if shared else self.running.values
        )
        self.optimizer.step()
        if self.average is not None:
            update_average(self.average, self.model, self.config.ema, step)
        return {"loss": total, "accuracy": torch.cat(correct).float().mean()}

    def _sides(self, step: int, batch: Any) -> tuple[Side, Side]:
        """The training images of a step and what comes beside them, attacked."""
        (images, labels), (outliers, _) = batch if self.outliers is not None else (batch, batch)
        if self.rotate:
            labels = self._draws("turns", step, (), "rotations")
            images = rotated(images, labels)
        inside = Side(images, self.attack(step, images, labels), labels)
        match self.objective.beside:
            case "nothing":
                return inside, Side(images[:0], images[:0], labels[:0])
            case "outliers":
                others, marks = outliers, torch.zeros_like(labels)
            case "rotations":
                marks = self._draws("turns beside", step, (), "rotations")
                others = rotated(images, marks)
        return inside, Side(others, self.attack(step, others, marks, beside=True), marks)

    def _helped(self, images: Tensor) -> Tensor:
        """Class logits of the helper, without a gradient."""
        assert self.helper is not None
        with torch.no_grad():
            return self._logits(self.helper.eval(), images)

    def _passes(self, *groups: Tensor) -> Sequence[Tensor]:
        """Outputs of each group of images, which is normalised over itself, in order."""
        span, count = self.ghosts.span, len(groups)
        if span == 1:
            return [self._logits(self.trained_pass, group) for group in groups]
        # Together they need a third of the exchanges, which every process waits for.
        with global_batch_statistics(span, count, self.processes.neighbours(span)):
            logits = self._logits(self.trained_pass, torch.cat(groups)).chunk(count)
        for name, buffer in self.model.named_buffers():
            if name.endswith("num_batches_tracked"):
                buffer += count - 1
        return logits

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
        return accuracy(model, images, self.processes, attack, rotate=self.rotate)

    def warnings(self, means: dict[str, float]) -> list[str]:
        """See `Task`."""
        return [_OVERFITTED] if self.overfitted else []

    def state(self) -> dict[str, Any]:
        """See `Task`."""
        average = self.average.state_dict() if self.average is not None else None
        state = {
            "model": self.model.state_dict(),
            "average": average,
            "optimizer": self.optimizer.state_dict(),
        }
        if isinstance(self.outliers, MinedOutliers):
            state["mined"] = self.outliers.state()
        return state

    def load(self, state: dict[str, Any]) -> None:
        """See `Task`."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if isinstance(self.outliers, MinedOutliers):
            self.outliers.load(state["mined"])

    def weights(self) -> dict[str, Any]:
        """See `Task`."""
        model = self.average if self.average is not None else self.model
        return {key: value.detach().clone() for key, value in model.state_dict().items()}

    def load_weights(self, weights: dict[str, Any]) -> None:
        """See `Task`."""
        self.model.load_state_dict(weights)


def _optimizer(model: nn.Module, config: PretrainConfig) -> torch.optim.Optimizer:
    weights, rate, decay = model.parameters(), config.lr, config.weight_decay
    beta = momentum = config.momentum
    if config.optimizer == "adamw":
        return torch.optim.AdamW(weights, rate, (beta, 0.999), weight_decay=decay)
    nesterov = momentum > 0
    return torch.optim.SGD(weights, rate, momentum, weight_decay=decay, nesterov=nesterov)
