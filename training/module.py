"""The LightningModule: one network, one loss, validation by the official score."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from data.augmentation import augment, filter_frequencies, mixup, shift_statistics
from data.masks import pool_labels
from data.normalization import standardize
from data.training_volume import TrainingVolume
from errors import InputError
from inference.checkpoints import KEY, Description
from inference.predictor import Predictor
from losses.gradnorm import GradNorm
from losses.targets import as_probabilities
from particle_config import Particle
from training.averaging import AveragedWeights
from training.settings import TrainingSettings
from training.validation import HeldOut, ValidationResult, validate

GRADNORM_KEY = "gradnorm"
RECENT_SCORES_KEY = "recent_scores"
# Validations whose mean score decides which checkpoint is kept: a tomogram's F4 changes by chance from epoch to epoch,
# and the epoch of its maximum is not the best on other tomograms (BENCHMARKS.md).
SMOOTHED_VALIDATIONS = 3
SMOOTHED = "smoothed_"


class DetectionModule(pl.LightningModule):
    """Trains ``network``; its checkpoints carry ``description`` with the thresholds found on the held-out tomograms.

    Parameters
    ----------
    network : (B, 1, Z, Y, X) -> logits (B, C, Z / s, Y / s, X / s), s its output stride
    loss : logits, target -> dict of named scalar terms
    settings : of optimisation, augmentation and validation
    term_weights : weight of each term in the sum; 1 where not named
    held_out : the tomograms to validate on
    gradnorm : balances the terms from those weights on; None keeps them
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        *,
        settings: TrainingSettings,
        term_weights: Mapping[str, float],
        held_out: Sequence[TrainingVolume],
        description: Description,
        gradnorm: GradNorm | None = None,
    ) -> None:
        super().__init__()
        # Channels last is the layout in which 3D convolutions are fastest, on GPUs and CPUs alike.
        self.network = network.to(memory_format=torch.channels_last_3d)
        self.loss = loss
        self.settings = settings
        self.term_weights = dict(term_weights)
        self.held_out = tuple(held_out)
        self.description = description
        self.gradnorm = gradnorm
        self.recent_scores: dict[int, dict[str, float]] = {}  # of the last validations, by their epoch

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Augment and z-score a training batch where it will be used."""
        if not self.trainer.training:
            return batch
        # Seeded by the number of the batch: a resumed run draws what the uninterrupted one would have.
        seed, dropout_seed = batch_seeds(self.settings.seed, batch["index"])
        generator = torch.Generator().manual_seed(seed)
        single_voxels = self.description.radius_fraction == 0
        image, label = augment(
            batch["image"],
            batch["label"],
            level=self.settings.augmentation_level,
            mode=self.settings.augmentation_mode,
            tilt_axis=self.settings.tilt_axis,
            generator=generator,
            single_voxels=single_voxels,
        )
        image = filter_frequencies(image, probability=self.settings.filter_prob, generator=generator)
        image = shift_statistics(standardize(image), level=self.settings.augmentation_level, generator=generator)
        target = pool_labels(label, self.network.output_stride, single_voxels=single_voxels)
        if self.settings.mixup_prob > 0:
            soft = as_probabilities(target, len(self.description.particles) + 1)
            image, target = mixup(image, soft, probability=self.settings.mixup_prob, generator=generator)
        return {"image": image, "target": target, "seed": dropout_seed}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        torch.manual_seed(batch["seed"])  # of dropout: for the same reason
        terms = self.loss(self.network(batch["image"]), batch["target"])
        weights = self._balance(terms) if self.gradnorm else self.term_weights
        total = sum(weights.get(name, 1.0) * term for name, term in terms.items())
        count = len(batch["image"])
        for name, value in {"loss": total, **terms}.items():
            self.log(f"train_{name}", value.detach(), on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        return total

    def loss_of_guessing(self, target: Tensor) -> Tensor:
        """The loss where all classes are equally likely in every voxel of a batch's target."""
        logits = torch.zeros(len(target), len(self.description.particles) + 1, *target.shape[-3:], device=target.device)
        terms = self.loss(logits, target)
        return sum(self.term_weights.get(name, 1.0) * term for name, term in terms.items())

    def _balance(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """GradNorm's weights for this step; all processes see the same losses and norms, and keep the same weights."""
        weights = self.gradnorm.weights
        losses = torch.stack([term.detach().float() for term in terms.values()])
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # of fp16
        scale = scaler.scale(torch.ones_like(losses[0])) if scaler else 1.0
        norms = self.gradnorm.gradient_norms(terms, self.network.last_layer.parameters(), scale=scale)
        self.gradnorm.update(
            self.trainer.strategy.reduce(losses, reduce_op="mean"),
            self.trainer.strategy.reduce(norms, reduce_op="mean"),
        )
        for name, weight in weights.items():
            self.log(f"weight_{name}", weight, on_step=False, on_epoch=True, batch_size=1)
        return weights

    def validated_in(self, epoch: int) -> bool:
        """Whether the scores are those of that epoch: Lightning's are those of the last validation, whenever it was."""
        return epoch in self.recent_scores

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Find the particles of the held-out tomograms with the weights that a checkpoint would save."""
        # One process scores for all: what they decide about checkpoints must be the same.
        found = self._validated_for_all()
        weighted = weighted_f4(found.f4, self._scored_particles())
        scores = {"f4": weighted, **{f"f4_{name}": value for name, value in found.f4.items()}}
        self.log_dict({**scores, **self._smoothed(scores)}, batch_size=1)
        self.description = replace(self.description, f4=weighted, hyperparameters=found.hyperparameters)

    def _smoothed(self, scores: dict[str, float]) -> dict[str, float]:
        """Mean of each score over the last validations with this one; those before the first count as 0: no result.

        A resumed epoch replaces what it was before.
        """
        before = sorted(epoch for epoch in self.recent_scores if epoch < self.current_epoch)[1 - SMOOTHED_VALIDATIONS :]
        self.recent_scores = {**{epoch: self.recent_scores[epoch] for epoch in before}, self.current_epoch: scores}
        return {
            f"{SMOOTHED}{name}": sum(one[name] for one in self.recent_scores.values()) / SMOOTHED_VALIDATIONS
            for name in scores
        }

    def _validated_for_all(self) -> ValidationResult:
        """What the first process finds; where it fails, the others end as well, and do not wait for it for ever."""
        found = error = None
        if self.trainer.is_global_zero:
            try:
                found = self._validate()
            except Exception as failure:
                error = failure
        found, problem = self.trainer.strategy.broadcast((found, error and f"{type(error).__name__}: {error}"))
        if error is not None:
            raise error
        if problem is not None:
            raise InputError(f"validation failed in the first process: {problem}")
        return found

    def _validate(self) -> ValidationResult:
        settings = self.settings
        predict = Predictor([self.network], settings.inference, self.device)
        return validate(
            (self._predicted(volume, predict) for volume in self.held_out),
            settings.validation_grids,
            settings.detection_defaults,
            self.description,
        )

    def _predicted(self, volume: TrainingVolume, predict: Predictor) -> HeldOut:
        prediction = predict(volume.images[0][:, :, :])
        if not prediction.probability.sum().isfinite():  # diverged: it finds nothing, and LossGuard says what happened
            prediction = replace(prediction, probability=torch.zeros_like(prediction.probability))
        return HeldOut(volume.run_name, prediction, volume.truth_zyx_angstrom(self.description.particles))

    def _scored_particles(self) -> list[Particle]:
        particles = self.description.particles
        return [p for p in particles if any(len(one.centres_zyx_voxels.get(p.label, ())) for one in self.held_out)]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint[KEY] = self.description.as_plain()
        if "optimizer_states" not in checkpoint:  # weights alone, about which Lightning does not ask callbacks
            for callback in self.trainer.callbacks:
                if isinstance(callback, AveragedWeights):
                    callback.put_average(checkpoint)
            return
        checkpoint[RECENT_SCORES_KEY] = self.recent_scores
        if self.gradnorm:
            checkpoint[GRADNORM_KEY] = self.gradnorm.state_dict()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        saved = Description.from_plain(checkpoint[KEY])
        self.description = replace(self.description, f4=saved.f4, hyperparameters=saved.hyperparameters)
        self.recent_scores = checkpoint.get(RECENT_SCORES_KEY, {})  # none in those of earlier versions
        if self.gradnorm and GRADNORM_KEY in checkpoint:
            self.gradnorm.load_state_dict(checkpoint[GRADNORM_KEY])

    def configure_optimizers(self):
        settings = self.settings
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """A resumed run obeys the learning rate and weight decay of its command line, not those that were saved."""
        settings, scheduler = self.settings, self.lr_schedulers()
        scheduler.base_lrs = [settings.learning_rate] * len(scheduler.base_lrs)
        for group in self.optimizers().param_groups:
            group["initial_lr"], group["weight_decay"] = settings.learning_rate, settings.weight_decay
            group["lr"] = settings.learning_rate * settings.rate_factor(self.global_step)


def batch_seeds(seed: int, index: int) -> tuple[int, int]:
    """Seeds of what is drawn for a batch: its augmentation, and the dropout of its step.

    Of 32 bits, all that torch's generator on a CPU takes in; the patches are cut by (seed, index) itself.
    """
    augmentation, dropout = np.random.SeedSequence((seed, index, 1)).generate_state(2)
    return int(augmentation), int(dropout)


def weighted_f4(f4: Mapping[str, float], particles: Sequence[Particle]) -> float:
    """Score-weighted mean over the particles that the held-out tomograms have; 0 where none of them counts."""
    weight = sum(particle.score_weight for particle in particles)
    return sum(p.score_weight * f4[p.name] for p in particles) / weight if weight else 0.0
