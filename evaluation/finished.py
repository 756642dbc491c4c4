"""Results on disk that are finished: written as a whole, with the key of all that they depend on."""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from data.content_hash import file_hash, hash_of, table_hash
from data.files import atomic_path, files_below
from data.text_files import read_json_object
from errors import InputError, raise_scarcity
from inference.ensembles import Ensemble
from inference.maps.network_maps import NetworkMaps
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram
from particle_config import Particle

# Part of every key: count up when the same ingredients would give other results.
FORMAT = 6
# In a folder that is finished: the key, what its maker wrote down, and hashes of this and of the files.
FINISHED = ".finished.json"


@dataclass(frozen=True)
class TomogramInput:
    """A tomogram, the networks that predict it, and its reference points (a picks table; None: not known)."""

    source: SourceTomogram
    ensemble: Ensemble
    truth: pd.DataFrame | None

    @cached_property
    def truth_key(self) -> str | None:
        return None if self.truth is None else table_hash(self.truth)


def result_key(
    tomograms: Sequence[TomogramInput],
    settings: object,
    inference: InferenceSettings,
    maps: NetworkMaps,
    particles: Sequence[Particle],
    *,
    with_score_weights: bool,
) -> str:
    """32 hex digits of all that picks, or hyperparameters searched on several tomograms, depend on.

    Parameters
    ----------
    settings : a dataclass: how particles are found, or what is searched
    maps : their keys stand for checkpoints, tomograms, normalisation, windows, views and device
    with_score_weights : a search depends on them, picks do not
    """
    inputs = [{**map_ingredients(one, inference, maps), "truth": one.truth_key} for one in tomograms]
    table = [(p.name, p.radius_angstrom, p.label, *[p.score_weight] * with_score_weights) for p in particles]
    return hash_of({"format": FORMAT, "inputs": inputs, "particles": table, "settings": asdict(settings)})


def map_ingredients(one: TomogramInput, inference: InferenceSettings, maps: NetworkMaps) -> dict:
    """All that the map of a tomogram depends on, as plain values."""
    return {
        "maps": maps.keys(one.ensemble, one.source, inference),
        "combine": one.ensemble.combine.__name__,
        "merge": inference.tta_merge if one.ensemble.merges else None,
        "voxel_spacing_angstrom": one.source.voxel_spacing_angstrom,
    }


@contextmanager
def finishing(folder: Path, key: str, **notes: object) -> Iterator[Path]:
    """A folder to fill, which becomes ``folder`` as a whole when the block ends well."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        yield temporary
        files = [str(file.relative_to(temporary)) for file in files_below(temporary)]
        mark_finished(temporary, key, files, **notes)


def mark_finished(folder: Path, key: str, files: Iterable[str] = (), **notes: object) -> None:
    """Say that the folder's results are complete.

    ``files`` are those that the results consist of, ``notes`` plain values to be read back.
    """
    content = {"key": key, **notes, "files": {name: file_hash(folder / name) for name in files}}
    with atomic_path(folder / FINISHED) as temporary:
        temporary.write_text(json.dumps({**content, "hash": hash_of(content)}) + "\n", encoding="utf-8")


def finished_notes(folder: Path, key: str) -> dict | None:
    """What was written down when the folder was finished with that key; None where it was not, or is damaged."""
    path = folder / FINISHED
    if not path.is_file():
        return None
    try:
        notes = read_json_object(path)
        if notes.get("key") != key:
            return None
        expected = notes.pop("hash", None)
        if expected == hash_of(notes) and all(file_hash(folder / n) == h for n, h in notes["files"].items()):
            return notes
    except (InputError, OSError) as error:
        raise_scarcity(error)
    warnings.warn(f"{folder}: its results are damaged and made again", stacklevel=2)
    return None
