"""The LightningModule: one network, one loss, validation by the official score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from data.augmentation import augment_base, mixup
from data.normalization import standardize
from inference.checkpoints import KEY, Description
from inference.predictor import InferenceSettings, Predictor
from losses.targets import as_probabilities
from metrics.fbeta import MATCH_RADIUS_FRACTION
from metrics.threshold_curve import threshold_curve
from particle_config import Particle
from postprocessing import detect
from postprocessing.detections import Detections

# Validation finds peaks by this method; thresholds are read off its F4 curve.
VALIDATION_METHOD = "peak_local_max_gpu"
# Peaks below are not looked at when the F4 curve is drawn.
LOWEST_PEAK = 0.02


@dataclass(frozen=True)
class Optimisation:
    """AdamW, and its learning rate over the run: linear warm-up, then cosine decay to 0 (or constant)."""

    learning_rate: float
    weight_decay: float
    use_scheduler: bool
    warmup_steps: int
    total_steps: int


@dataclass(frozen=True)
class Augmentation:
    """level none or base; mode anisotropic or isotropic; mixup_prob 0 for none; seed of everything drawn."""

    level: str
    mode: str
    mixup_prob: float
    seed: int


@dataclass(frozen=True)
class Validation:
    """How the held-out tomogram is scored; truth: particle name -> (N, 3) zyx angstrom."""

    truth: Mapping[str, np.ndarray]
    inference: InferenceSettings
    nms_radius_fraction: float


class DetectionModule(pl.LightningModule):
    """Trains ``network``; its checkpoints carry ``description`` with the thresholds found on the held-out tomogram.

    Parameters
    ----------
    network : (B, 1, Z, Y, X) -> logits (B, C, Z, Y, X)
    loss : logits, target -> dict of named scalar terms
    term_weights : weight of each term in the sum; 1 where not named
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        *,
        term_weights: Mapping[str, float],
        optimisation: Optimisation,
        augmentation: Augmentation,
        validation: Validation,
        description: Description,
    ) -> None:
        super().__init__()
        # Channels last is the layout in which 3D convolutions are fastest, on GPUs and CPUs alike.
        self.network = network.to(memory_format=torch.channels_last_3d)
        self.loss = loss
        self.term_weights = dict(term_weights)
        self.optimisation = optimisation
        self.augmentation = augmentation
        self.validation = validation
        self.description = description

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Augment and z-score a training batch where it will be used."""
        if not self.trainer.training:
            return batch
        image, label = batch["image"], batch["label"]
        # Seeded by the number of the batch: a resumed run draws what the uninterrupted one would have.
        generator = torch.Generator().manual_seed(self.augmentation.seed * 2**32 + batch["index"])
        if self.augmentation.level == "base":
            image, label = augment_base(image, label, mode=self.augmentation.mode, generator=generator)
        image, target = standardize(image), label
        if self.augmentation.mixup_prob > 0:
            soft = as_probabilities(label, len(self.description.particles) + 1)
            image, target = mixup(image, soft, probability=self.augmentation.mixup_prob, generator=generator)
        return {"image": image, "target": target}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        terms = self.loss(self.network(batch["image"]), batch["target"])
        total = sum(self.term_weights.get(name, 1.0) * term for name, term in terms.items())
        self.log("train_loss", total.detach(), on_step=False, on_epoch=True)
        for name, term in terms.items():
            self.log(f"train_{name}", term.detach(), on_step=False, on_epoch=True)
        return total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Find the particles of the held-out tomogram with the weights that a checkpoint would save."""
        predictor = Predictor([self.network], self.validation.inference, self.device)
        probability = predictor(batch["volume"])
        found = detect(
            probability,
            method=VALIDATION_METHOD,
            particles=self.description.particles,
            voxel_spacing_angstrom=self.description.voxel_spacing_angstrom,
            trained_radius_fraction=self.description.radius_fraction,
            hyperparameters={
                particle.name: {
                    "peak_threshold": LOWEST_PEAK,
                    "nms_radius_fraction": self.validation.nms_radius_fraction,
                }
                for particle in self.description.particles
            },
        )
        f4, thresholds = self._score(found)
        self.log_dict({f"f4_{name}": value for name, value in f4.items()})
        self.log("f4", weighted_f4(f4, self._scored_particles()))
        self.description = replace(
            self.description,
            f4=weighted_f4(f4, self._scored_particles()),
            hyperparameters={
                VALIDATION_METHOD: {
                    name: {
                        "peak_threshold": threshold,
                        "nms_radius_fraction": self.validation.nms_radius_fraction,
                    }
                    for name, threshold in thresholds.items()
                }
            },
        )

    def _score(self, found: Mapping[str, Detections]) -> tuple[dict[str, float], dict[str, float]]:
        """Each particle's F4 at the threshold that its F4 curve recommends, and that threshold."""
        f4, thresholds = {}, {}
        for particle in self.description.particles:
            detections = found[particle.name]
            curve = threshold_curve(
                [(detections.coordinates_zyx * self.description.voxel_spacing_angstrom, detections.scores)],
                [self.validation.truth.get(particle.name, np.empty((0, 3)))],
                MATCH_RADIUS_FRACTION * particle.radius_angstrom,
            )
            thresholds[particle.name] = curve.best_threshold()
            f4[particle.name] = curve.f_beta_at(thresholds[particle.name])
        return f4, thresholds

    def _scored_particles(self) -> list[Particle]:
        return [p for p in self.description.particles if len(self.validation.truth.get(p.name, ()))]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint[KEY] = self.description.as_plain()

    def configure_optimizers(self):
        settings = self.optimisation
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        if not settings.use_scheduler:
            return optimizer
        warmup = max(1, min(settings.warmup_steps, settings.total_steps // 10))
        scheduler = torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.05, total_iters=warmup),
                torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, settings.total_steps - warmup)),
            ],
            milestones=[warmup],
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def weighted_f4(f4: Mapping[str, float], particles: Sequence[Particle]) -> float:
    """Score-weighted mean over the particles that the held-out tomogram has; 0 where none of them counts."""
    weight = sum(particle.score_weight for particle in particles)
    return sum(p.score_weight * f4[p.name] for p in particles) / weight if weight else 0.0
