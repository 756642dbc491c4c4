"""Weight averages over the steps of a run, and what they need to be scored and saved."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging


def ema_weight(step: int, decay: float) -> float:
    """Weight of the weights after step ``step`` (from 0) in their exponential moving average.

    The decay rises from 0.1 to ``decay``, so that the first weights are soon forgotten: Lightning's own average
    has no warm-up, and with a decay of 0.999 a run of a thousand steps would still carry a third of its random start.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


def swa_weight(step: int, start_step: int) -> float:
    """The same for stochastic weight averaging (arXiv 1803.05407): the plain mean over all steps from ``start_step``.

    Before that step the average follows the weights.
    """
    return 1 / (1 + max(0, step - start_step))


class AveragedWeights(WeightAveraging):
    """Average of weights and buffers, updated once per optimizer step; validation and checkpoints see the average.

    Parameters
    ----------
    weight_of_step : weight that the newest weights get in the average, 0..1, by the number of the step
    """

    def __init__(self, weight_of_step: Callable[[int], float]) -> None:
        super().__init__(use_buffers=True)
        self.weight_of_step = weight_of_step
        self.swapped = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx) -> None:
        if trainer.global_step > self._latest_update_step:
            # Counted on the host: torch's own average asks the device how often it was updated, and waits.
            first = self._latest_update_step == 0
            self._update(pl_module, 1.0 if first else self.weight_of_step(self._latest_update_step))
            self._latest_update_step = trainer.global_step

    @torch.no_grad()
    def _update(self, pl_module: LightningModule, weight: float) -> None:
        average = self._average_model.module
        averaged, current = [*average.parameters(), *average.buffers()], [*pl_module.parameters(), *pl_module.buffers()]
        floating = [values.is_floating_point() for values in averaged]
        torch._foreach_lerp_(
            list(itertools.compress(averaged, floating)), list(itertools.compress(current, floating)), weight
        )
        for counter, newest, is_float in zip(averaged, current, floating, strict=True):
            if not is_float:  # the counters of batch norm
                counter.copy_(newest)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)
        self.swapped = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        self.swapped = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """While the two are swapped (SLURM may want a checkpoint at any time) each still goes under its own name."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.swapped:
            average, current = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, current

    def put_average(self, checkpoint: dict[str, Any]) -> None:
        """The average as the weights of a checkpoint that holds nothing else."""
        if not self.swapped:  # swapped, the weights in it are the average already
            average = self._average_model.module.state_dict()
            checkpoint["state_dict"] = {name: average[name] for name in checkpoint["state_dict"]}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A run interrupted while it validates gets its own weights back before they are saved."""
        if self.swapped:
            self.on_validation_epoch_end(trainer, pl_module)
