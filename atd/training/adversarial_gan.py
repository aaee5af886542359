"""ATD: the discriminator against attacked ID images, attacked outliers and a generator (eq. 9)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from atd.backbones.folding import FrozenPass
from atd.compiled import compiled_function
from atd.config import AtdConfig
from atd.data.images import ImageSet
from atd.detectors.atd import ATD
from atd.inference import at_least_float32, frozen
from atd.training.generated import GeneratorSide
from atd.training.generator_health import generator_warnings
from atd.training.global_norm import global_batch_statistics, normalises_over_batch
from atd.training.image_attack import ImageAttack
from atd.training.logbook import Logbook
from atd.training.losses import discriminator_loss
from atd.training.processes import Processes
from atd.training.schedule import Length, update_average
from atd.training.stream import Stream
from atd.training.validation import validate

__all__ = ["AdversarialGan"]

_VALIDATION_IMAGES = 512


class AdversarialGan:
    """Trains the discriminator and the generator; a `Task` of the training loop.

    ID images are attacked to raise the OOD logit and outliers to lower it, end to end through
    backbone and discriminator, in evaluation mode. The update then sees the same function:
    layer normalisation has no modes, and a discriminator with batch normalisation uses its
    running statistics in the update as well; they follow the real features once a step, after
    the update.

    All that the discriminator's update needs is computed for the micro-batches one after the
    other. What needs the whole batch, the generator's update above all, gets the whole batch.

    A backbone that is not trained, or that is attacked, is passed through by way of `FrozenPass`.

    Args:
        detector: Backbone and discriminator, on the device.
        generator: Makes features (or images); None trains without one.
        streams: ID images and outliers.
        validation: Held-out ID images and outliers on which, attacked, the best epoch is chosen.
        config: Options.
        processes: The processes that share the work.
        seed: The run's seed.
        bfloat16: Run the backbone in bfloat16.
        compiled: Compile the passes through a frozen backbone, and on a GPU those that train one.
    """

    stage = "atd"

    def __init__(
        self,
        detector: ATD,
        generator: nn.Module | None,
        streams: tuple[Stream, Stream],
        validation: tuple[ImageSet, ImageSet],
        config: AtdConfig,
        *,
        processes: Processes,
        seed: int,
        bfloat16: bool,
        compiled: bool = False,
    ) -> None:
        self.detector, self.generator, self.streams = detector, generator, streams
        self.generated: GeneratorSide | None = None
        self.validation = [images.take(_VALIDATION_IMAGES, seed) for images in validation]
        self.config, self.processes, self.bfloat16 = config, processes, bfloat16
        self.batch_size = streams[0].batch_size
        self.length = Length.of(config.epochs, streams[0].steps_per_epoch, config.min_steps)
        self.steps_per_epoch, self.steps = self.length.between, self.length.steps
        detector.requires_grad_(False).eval()
        detector.discriminator.requires_grad_(True)
        self.frozen_pass: FrozenPass | None = None
        if detector.backbone is not None:
            self.frozen_pass = FrozenPass(detector.backbone, bfloat16=bfloat16, compiled=compiled)
        self.trained_pass: Callable[[Tensor], Tensor] | None = None
        # As in pre-training: on a CPU, compiling it takes longer than it saves.
        if compiled and config.finetune and processes.device.type == "cuda":
            self.trained_pass = compiled_function(detector.features)
        # A backbone behind a frozen pass stays frozen; going through it in every step takes time.
        self.trained = detector if self.frozen_pass is None else detector.discriminator
        self.average = copy.deepcopy(detector) if config.ema else None
        groups: list[dict[str, Any]] = [{"params": list(detector.discriminator.parameters())}]
        if config.finetune and detector.backbone is not None:
            detector.backbone.requires_grad_(True)
            groups.append(
                {"params": list(detector.backbone.parameters()), "lr": config.finetune_lr}
            )
        self.optimizer = torch.optim.Adam(groups, lr=config.lr_discriminator, betas=(0.5, 0.999))
        if generator is not None:
            self.generated = GeneratorSide(
                generator,
                detector.discriminator,
                streams[0],
                config,
                processes=processes,
                seed=seed,
            )
        self.attack = ImageAttack(
            streams,
            (detector.config.channels, *2 * (detector.config.image_size,)),
            config,
            steps=self.steps,
            processes=processes,
            seed=seed,
        )

    def batches(self, start: int) -> Iterator[Any]:
        """See `Task`."""
        pair = [stream.batches(start, self.steps, self.processes) for stream in self.streams]
        return zip(*pair, strict=True)

    def _features(self, images: Tensor) -> Tensor:
        """Features as the discriminator sees them, differentiable in the images only."""
        if self.frozen_pass is not None:
            return self.detector.standardised(self.frozen_pass.features(images))
        return self._trained_features(images)

    def _trained_features(self, images: Tensor) -> Tensor:
        features = self.trained_pass or self.detector.features
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bfloat16):
            return at_least_float32(features(images))

    def _logits(self, images: Tensor) -> Tensor:
        """The detector's logits; only the backbone may run in lower precision."""
        logits: Tensor = self.detector.discriminator(self._features(images))
        return logits

    def step(self, step: int, batch: Any) -> dict[str, Tensor]:
        """One update of the discriminator and one of the generator (see `Task`)."""
        (inliers, _), (outliers, _) = batch
        parts = self._attacked(step, inliers, outliers)
        with torch.no_grad():
            features = [self._features(part) for part in parts]
        generated = self.generated.samples(step, features) if self.generated else None
        real = parts if self.config.finetune else features
        scalars = self._update_discriminator(real, generated)
        if self.generated is not None:
            sides = [part[len(part) // 2 :] for part in features]
            scalars |= self.generated.update(step, torch.cat(sides))
        self._follow_statistics(torch.cat(features))
        if self.frozen_pass is not None and self.config.finetune:
            self.frozen_pass.refresh()
        if self.average is not None:
            update_average(self.average, self.detector, self.config.ema, step)
        return scalars

    def _attacked(self, step: int, inliers: Tensor, outliers: Tensor) -> list[Tensor]:
        """The micro-batches of this process's share: as many ID images as outliers after them."""
        if self.config.adversarial:
            with frozen(self.trained):
                return self.attack(step, (inliers, outliers), self._logits)
        pairs = zip(
            *(x.chunk(self.streams[0].micro_batches) for x in (inliers, outliers)), strict=True
        )
        return [torch.cat(pair) for pair in pairs]

    def _update_discriminator(
        self, real: list[Tensor], generated: list[Tensor] | None
    ) -> dict[str, Tensor]:
        """One update by eq. 9, its gradient summed over the micro-batches.

        Args:
            real: Features of each micro-batch, ID first; images where the backbone is fine-tuned.
            generated: As many generated features for each micro-batch.
        """
        self.optimizer.zero_grad(set_to_none=True)
        losses, found = [], []
        for index, part in enumerate(real):
            samples = self._trained_features(part) if self.config.finetune else part
            if generated is not None:
                samples = torch.cat([samples, generated[index]])
            logits = self.detector.discriminator(samples).unflatten(0, (-1, len(part) // 2))
            fakes = logits[2] if generated is not None else None
            loss = discriminator_loss(logits[0], logits[1], fakes, self.config.alpha)
            (loss / len(real)).backward()
            losses.append(loss.detach())
            found.append(logits.detach())
        self.processes.average_gradients(
            p for g in self.optimizer.param_groups for p in g["params"]
        )
        self.optimizer.step()
        sides = torch.cat(found, 1)
        scalars = {
            "loss": torch.stack(losses).mean(),
            "logit_id": sides[0].mean(),
            "logit_outlier": sides[1].mean(),
            "logit_spread": self.processes.whole_batch(sides.flatten()).std(),
        }
        if generated is not None:
            scalars["logit_generated"] = sides[2].mean()
            scalars["generated_taken_for_id"] = (sides[2] < 0).float().mean()
        return scalars

    @torch.no_grad()
    def _follow_statistics(self, features: Tensor) -> None:
        """Moves running statistics (batch normalisation only) towards the real features."""
        discriminator = self.detector.discriminator
        if normalises_over_batch(discriminator):
            discriminator.train()
            with global_batch_statistics(self.processes.count):
                discriminator(features)
            discriminator.eval()

    def validate(self, step: int, logbook: Logbook) -> dict[str, float]:
        """Attacked and clean AUROC on held-out images (see `Task`)."""
        detector = self.detector if self.average is None else self.average
        return validate(detector, self.validation, self.config, self.processes, logbook, step)

    def warnings(self, means: dict[str, float]) -> list[str]:
        """See `Task`."""
        return generator_warnings(means)

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"detector": self.detector, "optimizer": self.optimizer}
        if self.average is not None:
            parts["average"] = self.average
        return parts if self.generated is None else parts | self.generated.parts()

    def state(self) -> dict[str, Any]:
        """See `Task`."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {**parts, "attack": self.attack.state()}

    def load(self, state: dict[str, Any]) -> None:
        """See `Task`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.attack.load(state["attack"])
        if self.frozen_pass is not None:
            self.frozen_pass.refresh()

    def weights(self) -> dict[str, Any]:
        """See `Task`."""
        detector = self.detector if self.average is None else self.average
        return {key: value.detach().clone() for key, value in detector.state_dict().items()}

    def load_weights(self, weights: dict[str, Any]) -> None:
        """See `Task`."""
        self.detector.load_state_dict(weights)
