"""What happens around training: weight averaging, checkpoints, progress."""

from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, WeightAveraging
from torch import Tensor
from tqdm import tqdm


def ema_decay_at(updates: int, decay: float) -> float:
    """Decay of the ``updates``-th average: from 0.1 up to ``decay``, so that the first weights are soon forgotten."""
    return min(decay, (1 + updates) / (10 + updates))


class ExponentialAveraging(WeightAveraging):
    """Exponential moving average of weights and buffers, once per optimizer step.

    Validation and checkpoints see the averaged weights: what is scored is what is saved. Lightning's own EMA has
    no warm-up: with a decay of 0.999 a run of a thousand steps would still carry a third of its random start.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=self._average)
        self.decay = decay

    def _average(self, averaged: list[Tensor], current: list[Tensor], _: Tensor) -> None:
        if not averaged[0].is_floating_point():  # the counters of batch norm
            torch._foreach_copy_(averaged, current)
            return
        # Steps are counted on the host: reading the device's counter would make it wait.
        weight = 1 - ema_decay_at(self._latest_update_step, self.decay)
        torch._foreach_lerp_(averaged, current, weight)


def checkpoint_callbacks(folder: Path, fold: int, particle_names: list[str]) -> list[ModelCheckpoint]:
    """The best generalist, the best specialist of each particle, and the last state."""

    def best(metric: str, label: str) -> ModelCheckpoint:
        return ModelCheckpoint(
            dirpath=folder,
            filename=f"fold_{fold}-best-{label}-epoch={{epoch}}-f4={{{metric}:.3f}}",
            auto_insert_metric_name=False,
            monitor=metric,
            mode="max",
            save_top_k=1,
        )

    last = ModelCheckpoint(dirpath=folder, filename=f"fold_{fold}-last", enable_version_counter=False)
    return [best("f4", "fscore"), *(best(f"f4_{name}", name) for name in particle_names), last]


class TrainingProgress(Callback):
    """One bar over all steps with loss, F4 and time left; without a terminal, one line per epoch."""

    def __init__(self, fold: int) -> None:
        self.fold = fold
        self.bar: tqdm | None = None
        self.loss: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar = tqdm(
                total=trainer.estimated_stepping_batches,
                initial=trainer.global_step,
                desc=f"fold {self.fold}",
                unit="step",
                dynamic_ncols=True,
                disable=None,
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx) -> None:
        if self.bar is None:
            return
        self.loss = outputs["loss"].detach()
        self.bar.update(1)
        # Reading the loss makes the device wait: seldom.
        if trainer.global_step % 20 == 0:
            self._show(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is None:
            return
        self._show(trainer)
        if self.bar.disable:
            metrics = trainer.callback_metrics
            print(
                f"fold {self.fold} epoch {trainer.current_epoch} step {trainer.global_step} "
                f"loss {float(self.loss):.4f} f4 {float(metrics['f4']):.4f}",
                flush=True,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _show(self, trainer: Trainer) -> None:
        values = {"loss": f"{float(self.loss):.3f}"}
        if "f4" in trainer.callback_metrics:
            values["F4"] = f"{float(trainer.callback_metrics['f4']):.3f}"
        self.bar.set_postfix(values)
