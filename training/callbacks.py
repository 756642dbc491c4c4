"""What happens around the steps of training: signals, a check of the loss, progress."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor
from tqdm import tqdm

from errors import InputError

# Reading the loss makes the device wait: seldom.
STEPS_BETWEEN_CHECKS = 20
# Times the loss of guessing: above it in the end, training has failed. A network that learns nothing stays near 1.
DIVERGED = 5.0


class SignalsBetweenSteps(Callback):
    """Ctrl-C, SIGTERM, and the signal by which SLURM asks for a checkpoint, wait for the end of the step.

    In the middle of one, part of the state is that of the next step already, and the run could not be resumed exactly.
    A second Ctrl-C does not wait. Put it behind the callbacks that a step ends with.
    """

    def __init__(self) -> None:
        self.handlers: dict[int, Callable] = {}
        self.pending: list[tuple[int, FrameType | None]] = []

    @contextmanager
    def hearing_sigterm(self) -> Iterator[None]:
        """Around a training: Lightning hears SIGTERM neither before its first step nor after its last."""
        self.handlers[signal.SIGTERM] = _terminate
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
            self._deliver()
        finally:
            signal.signal(signal.SIGTERM, before)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in (signal.SIGINT, signal.SIGUSR1):
            handler = signal.getsignal(number)
            if callable(handler):
                self.handlers[number] = handler
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.pending:
            self.handlers[number](number, frame)
        self.pending.append((number, frame))

    def _deliver(self) -> None:
        while self.pending:
            number, frame = self.pending.pop(0)
            self.handlers[number](number, frame)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx) -> None:
        # Lightning itself ends all processes of a training at the same step.
        if not trainer.received_sigterm:
            self._deliver()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx) -> None:
        self.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()
        self._deliver()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        # What Lightning itself has set meanwhile stays: it lets nothing disturb its way out.
        for number in (signal.SIGINT, signal.SIGUSR1):
            if signal.getsignal(number) == self._note:
                signal.signal(number, self.handlers[number])


def _terminate(*_: object) -> None:
    raise SIGTERMException


class LossGuard(Callback):
    """Ends a run that has diverged with an error, all its processes at once.

    It has when the loss is no number any more, when a weight is none at the end of an epoch, or when the loss is far
    above that of guessing at the end of the run.
    """

    def __init__(self, fold: int) -> None:
        self.fold = fold
        self.bad_checks = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx) -> None:
        if trainer.global_step % STEPS_BETWEEN_CHECKS == 0:
            good = trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(outputs["loss"])), all=True)
            self.bad_checks = 0 if good else self.bad_checks + 1
            if self.bad_checks == 2:  # one overflow is forgiven: fp16 skips such steps
                self._stop(trainer, "the loss is no number any more")
        if trainer.global_step == pl_module.settings.total_steps:
            loss, guessing = float(outputs["loss"]), float(pl_module.loss_of_guessing(batch["target"]))
            if not trainer.strategy.reduce_boolean_decision(not loss > DIVERGED * guessing, all=True):
                self._stop(trainer, f"the loss is {loss:.3g}, that of guessing {guessing:.3g},")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before a checkpoint is written."""
        if not all(bool(torch.isfinite(weight).all()) for weight in pl_module.network.state_dict().values()):
            self._stop(trainer, "the weights are no numbers any more")

    def _stop(self, trainer: Trainer, problem: str) -> None:
        raise InputError(
            f"fold {self.fold}: {problem} at step {trainer.global_step}; lower --lr or use --precision fp32 "
            f"(checkpoints of fold {self.fold} are from before)"
        )


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
        if trainer.global_step % STEPS_BETWEEN_CHECKS == 0:
            self._show(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is None:
            return
        self._show(trainer)
        if self.bar.disable:
            metrics = trainer.callback_metrics
            loss = "" if self.loss is None else f"loss {float(self.loss):.4f} "
            print(
                f"fold {self.fold} epoch {trainer.current_epoch} step {trainer.global_step} "
                f"{loss}f4 {float(metrics['f4']):.4f}",
                flush=True,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _show(self, trainer: Trainer) -> None:
        # A run resumed before a validation has no loss yet.
        values = {} if self.loss is None else {"loss": f"{float(self.loss):.3f}"}
        if "f4" in trainer.callback_metrics:
            values["F4"] = f"{float(trainer.callback_metrics['f4']):.3f}"
        self.bar.set_postfix(values)
