"""Everything about a training run but its data: plain values, no names of flags."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from detection.grid import Grid
from inference.settings import InferenceSettings
from training.schedule import learning_rate_factor

WANDB_MODES = ("disabled", "offline", "online")


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the weights that come out, together with the data.

    ``patch_size_zyx`` is in voxels, ``class_loss_weights`` starts with the background, ``averaging`` is none, ema or
    swa, ``gradnorm_learning_rate`` None without GradNorm, ``validation_grids`` and ``detection_defaults`` are those of
    training.validation; the other names are those of the command line.
    """

    encoder_name: str
    norm_type: str
    output_stride: int
    patch_size_zyx: tuple[int, int, int]
    epochs: int
    validate_every: int
    steps_per_epoch: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    gradient_clip: float
    use_scheduler: bool
    warmup_steps: int
    averaging: str
    ema_decay: float
    swa_start_fraction: float
    swa_rate_fraction: float
    loss_type: str
    class_loss_weights: tuple[float, ...]
    gradnorm_learning_rate: float | None
    background_fraction: float
    augmentation_level: str
    augmentation_mode: str
    tilt_axis: str
    mixup_prob: float
    precision: str
    seed: int
    inference: InferenceSettings
    validation_grids: tuple[Grid, ...]
    detection_defaults: Mapping[str, Mapping[str, float]]
    dropout: float = 0.0
    label_smoothing: float = 0.0
    filter_prob: float = 0.0
    extra_share: float = 0.0
    init_from_checkpoint: Path | None = None

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def swa_start_step(self) -> int:
        """First step whose weights enter the stochastic weight average."""
        return int(self.swa_start_fraction * self.total_steps)

    def rate_factor(self, step: int) -> float:
        """Share of the learning rate at a step; averaging over late steps needs a schedule that does not end at 0."""
        if not self.use_scheduler:
            return 1.0
        late = (self.swa_rate_fraction, self.swa_start_step) if self.averaging == "swa" else (0.0, None)
        return learning_rate_factor(step, self.total_steps, self.warmup_steps, *late)


@dataclass(frozen=True)
class Hardware:
    """Where a run computes: cpu or cuda, devices per node, nodes, Lightning's strategy, processes that cut patches."""

    device: str = "cpu"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    num_workers: int = 0
