"""Training that begins with the weights of another network, such as one trained on phantoms."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from errors import InputError
from inference.checkpoints import find_checkpoints, load_checkpoint, read_description
from models import model_from_description
from particle_config import Particle
from training.settings import TrainingSettings

# Of the architecture; how many classes there are plays no part.
SAME = ("encoder_name", "norm_type", "output_stride")


def initial_checkpoint(path: Path) -> Path:
    """The checkpoint, or the only one of a folder."""
    found = find_checkpoints(path, flag="--init_from_checkpoint")
    if len(found) > 1:
        raise InputError(f"--init_from_checkpoint {path} holds {len(found)} networks; name one of them")
    return found[0].resolve()


def check_initial_weights(settings: TrainingSettings) -> None:
    """InputError where the weights to begin with are those of another kind of network."""
    path = settings.init_from_checkpoint
    if path is None:
        return
    there = {"output_stride": 1, **read_description(path).architecture}
    for name in SAME:
        if there.get(name) != getattr(settings, name):
            raise InputError(
                f"--init_from_checkpoint {path} has --{name} {there.get(name)}, not {getattr(settings, name)}; give "
                f"--{name} {there.get(name)}"
            )


def take_initial_weights(network: nn.Module, path: Path, particles: Sequence[Particle]) -> str:
    """Give a network the weights of a checkpoint; in words, what it was given.

    Where the checkpoint is of other particles, the layers that have a channel for each class keep their own.
    """
    description = read_description(path)
    there = load_checkpoint(path, description.particles)[0].state_dict()
    if [one.name for one in description.particles] == [one.name for one in particles]:
        network.load_state_dict(there)
        return f"begins with the weights of {path.name}"
    # In a network of one class more, they are the ones of another shape.
    classes = description.architecture["num_classes"]
    wider = model_from_description({**description.architecture, "num_classes": classes + 1}).state_dict()
    taken = {name: value for name, value in there.items() if value.shape == wider[name].shape}
    network.load_state_dict({**network.state_dict(), **taken})
    return f"begins with the weights of {path.name}, but for the layers of the classes: it is of other particles"
