"""The unit of work of picking: all that is found in one tomogram, and of it what is wanted, with a picture.

What was found is kept beside it, so that another selection costs neither networks nor detection.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data.content_hash import hash_of
from data.tomogram import Tomogram, open_tomogram
from errors import InputError, one_line
from evaluation.detector import Detector
from evaluation.exports import read_run_table, write_run_picks, write_run_table
from evaluation.finished import FINISHED, TomogramInput, finished_notes, finishing
from evaluation.overlays import save_overlay
from evaluation.runs import Output, TomogramTask, find_particles, is_finished, missing_maps
from evaluation.saved_maps import SavedMaps
from evaluation.selection import Selection, select
from evaluation.work import FAILURES
from inference.maps.network_maps import NetworkMaps
from inference.tomograms import SourceTomogram
from particle_config import Particle

# All that was found in a tomogram, and the wanted picks; folders of tomograms.
FOUND, PICKS, OVERLAYS = ".found", "picks", "overlays"
# Count up when the same ingredients would give other files.
FORMAT = 1
# Sides of a mask against those of its tomogram: what rounding in binning explains.
MASK_TOLERANCE = 0.02


@dataclass(frozen=True)
class PickingTask:
    """All that is asked of one tomogram; a unit of work, see evaluation.work.TomogramWork.

    Attributes
    ----------
    mask : a file; None: no mask
    folder : of the results of all tomograms
    """

    source: SourceTomogram
    detector: Detector
    selection: Selection
    mask: Path | None
    folder: Path
    saved_maps: SavedMaps

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def picks_dir(self) -> Path:
        return self.folder / PICKS / self.name

    @property
    def picture(self) -> Path:
        return self.folder / OVERLAYS / f"{self.name}.png"

    @property
    def detection_task(self) -> TomogramTask:
        detector = self.detector
        output = Output(self.folder / FOUND / self.name, detector.detection, saved_maps=self.saved_maps)
        return TomogramTask(TomogramInput(self.source, detector.ensemble, None), detector.inference, (output,))

    @property
    def found_dir(self) -> Path:
        """Where all that was found is kept."""
        return self.detection_task.outputs[0].picks_dir

    @property
    def wanted(self) -> list[Particle]:
        return [particle for particle in self.detector.particles if particle.name in self.selection.particles]

    def do(self, maps: NetworkMaps, progress: Callable[[float], None] = lambda voxels: None) -> "PickingRecord":
        begin = time.perf_counter()
        [found] = find_particles(self.detection_task, maps, self.detector.particles, progress)
        if found.error is not None:
            return self.failed(found.error)
        try:
            notes = _notes(self, maps)
            if notes is not None:
                return PickingRecord(self.name, notes["counts"], found.windows_zyx)
            counts = _select(self, maps)
        except FAILURES as error:
            return self.failed(error)
        return PickingRecord(self.name, counts, found.windows_zyx, time.perf_counter() - begin)

    def failed(self, error: Exception) -> "PickingRecord":
        return PickingRecord(self.name, error=error)

    def needs_voxels(self, maps: NetworkMaps) -> bool:
        try:
            found = is_finished(self.detection_task, maps, self.detector.particles, picks_alone=True)
            return not found or _notes(self, maps) is None
        except FAILURES:  # comes again, and is noted, when its turn comes
            return False

    def missing_maps(self, maps: NetworkMaps) -> set[str]:
        return missing_maps(self.detection_task, maps)

    @staticmethod
    def in_words(record: "PickingRecord") -> str:
        if record.error is not None:
            return f"{record.run_name}: {one_line(record.error)}"
        counts = ", ".join(f"{count} {name}" for name, count in record.counts.items() if count)
        how = "finished before" if record.seconds is None else f"{record.seconds:.1f} s"
        return f"{record.run_name}: {sum(record.counts.values())} picks{f' ({counts})' if counts else ''}, {how}"


@dataclass(frozen=True)
class PickingRecord:
    """What is known of a tomogram once its files are written, or why there are none.

    Attributes
    ----------
    counts : particle name -> number of wanted picks
    windows_zyx : in which networks took the tomogram, voxels; each size once
    seconds : None when it was found done
    error : one of FAILURES
    """

    run_name: str
    counts: dict[str, int] | None = None
    windows_zyx: Sequence[Sequence[int]] = ()
    seconds: float | None = None
    error: Exception | None = None


def _select(task: PickingTask, maps: NetworkMaps) -> dict[str, int]:
    """Write the wanted picks of a tomogram, and a picture of them; the number of each particle."""
    source = task.source
    shape, voxel_size = source.tomogram.file_grid
    picks = select(
        read_run_table(task.found_dir),
        task.selection,
        shape_zyx=shape,
        voxel_size_zyx_angstrom=voxel_size,
        mask=None if task.mask is None else _read_mask(task.mask, shape),
    )
    number = picks["particle_type"].value_counts()
    counts = {particle.name: int(number.get(particle.name, 0)) for particle in task.wanted}
    save_overlay(
        task.picture,
        source.voxels()[0],
        picks=picks,
        truth=None,
        voxel_spacing_angstrom=source.voxel_spacing_angstrom,
        particles=task.wanted,
        title=source.name,
    )
    with finishing(task.picks_dir, _key(task, maps), counts=counts) as folder:
        write_run_table(folder, picks)
        write_run_picks(folder, source.name, picks, task.wanted)
    return counts


def _read_mask(path: Path, shape_zyx: Sequence[int]) -> np.ndarray:
    """The mask of a tomogram of that shape; InputError where it is not of the same volume."""
    return check_mask(path, shape_zyx).read()


def check_mask(path: Path, shape_zyx: Sequence[int]) -> Tomogram:
    """The opened mask; InputError unless its sides are those of the tomogram, all binned alike."""
    # Its voxel size does not matter, and programs that write masks often leave it out.
    opened = open_tomogram(path, voxel_spacing_angstrom=1.0)
    binning = np.array(shape_zyx) / opened.shape_zyx
    # A binned side may be a voxel shorter.
    slack = MASK_TOLERANCE + binning.mean() / np.array(shape_zyx)
    if (np.abs(binning / binning.mean() - 1) > slack).any():
        mask, tomogram = (" x ".join(map(str, shape)) for shape in (opened.shape_zyx, shape_zyx))
        raise InputError(
            f"{path} has {mask} voxels (z, y, x), its tomogram {tomogram}; its mask must be of the same volume"
        )
    return opened


def _key(task: PickingTask, maps: NetworkMaps) -> str:
    found = json.loads((task.found_dir / FINISHED).read_text(encoding="utf-8"))["key"]
    return hash_of(
        {
            "format": FORMAT,
            "found": found,
            "selection": asdict(task.selection),
            "mask": None if task.mask is None else maps.hashes.of(task.mask),
            "colours": [particle.colour for particle in task.wanted],
        }
    )


def _notes(task: PickingTask, maps: NetworkMaps) -> dict | None:
    """What was written down about finished picks; None where they are to be selected."""
    notes = finished_notes(task.picks_dir, _key(task, maps))
    return notes if task.picture.is_file() else None
