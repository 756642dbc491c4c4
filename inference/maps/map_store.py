"""Probability maps kept on disk, so that no network runs twice on the same tomogram.

An entry is ``{folder}/{run}-{key}.zarr.zip``. Its key stands for all that the map depends on: the contents of the
checkpoints and of the tomogram, and every setting that changes a probability.

A map is rounded before it is used, the first time too, so that a command which finds its maps on disk gives the very
numbers of the one that made them.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from data.files import atomic_path
from data.locks import Held, locked
from errors import InputError, os_error, raise_scarcity
from inference.maps.map_files import Shape, read_map, write_map
from inference.predictor import Prediction

SUFFIX = ".zarr.zip"
LOCKS = ".locks"
GB = 1e9


@dataclass(frozen=True)
class MapStore:
    """Probability maps below ``folder``; several processes may use it at once.

    Attributes
    ----------
    folder : of all entries
    limit_gb : in 10^9 bytes; beyond it the entries that were not used for longest are removed. The newest stays, even
        where it alone is larger.
    """

    folder: Path
    limit_gb: float

    def load_or_make(
        self,
        run_name: str,
        key: str,
        make: Callable[[], tuple[str, Prediction]],
        *,
        device: torch.device,
        remake: bool = False,
        shape: Shape | None = None,
    ) -> tuple[str, Prediction]:
        """The stored map and its key; made first when there is none, or ``remake`` is set.

        A map is rounded in place to what the store will give. ``make`` also returns the key that the map turned out to
        have, under which it is stored. An entry whose map is not of ``shape`` (see read_map) is made again. Of several
        processes that want the same map one makes it and the others wait. Killed at any moment, a process leaves either
        the whole entry or none.

        Raises
        ------
        ValueError : a probability that is not a number
        """
        path = self._path(run_name, key)
        if not remake and not os.access(self.folder / LOCKS, os.W_OK):  # another user's store can be read alone
            prediction = self._read(path, device, shape)
            if prediction is not None:
                return key, prediction
        with self._locked(path):
            prediction = None if remake else self._read(path, device, shape)
            if prediction is not None:
                return key, prediction
            made_key, prediction = make()
            if made_key == key:
                return key, self._write(path, prediction)
        with self._locked(self._path(run_name, made_key)):
            return made_key, self._write(self._path(run_name, made_key), prediction)

    def holds(self, run_name: str, key: str) -> bool:
        """Whether there is such a map, sound or not."""
        return self._path(run_name, key).is_file()

    def _path(self, run_name: str, key: str) -> Path:
        return self.folder / f"{run_name}-{key}{SUFFIX}"

    @contextmanager
    def _locked(self, path: Path, timeout: float = -1) -> Iterator[None]:
        """Hold the lock of an entry, which ends with the process; Held when another holds it for longer."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder / LOCKS / f"{path.name}.lock", timeout=timeout, shared=True))
            except OSError as error:
                raise os_error(error, f"cannot write {self.folder}", advice="choose another folder") from error
            yield

    def _read(self, path: Path, device: torch.device, shape: Shape | None) -> Prediction | None:
        """The entry; None when there is none, or none that can be trusted."""
        if not path.is_file():
            return None
        try:
            prediction = read_map(path, device, shape)
        except PermissionError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); choose another folder") from error
        except Exception as error:  # damaged metadata fails in as many ways as there are keys
            raise_scarcity(error)
            warnings.warn(f"{path} is damaged and made again", stacklevel=4)
            return None
        with suppress(OSError):  # another user's entry stays as old as it is
            path.touch()
        return prediction

    def _write(self, path: Path, prediction: Prediction) -> Prediction:
        self._remove_temporary(path)
        with atomic_path(path) as temporary:
            write_map(temporary, prediction)
            self._make_room(path, temporary.stat().st_size)
        return prediction

    def _make_room(self, coming: Path, size: int) -> None:
        """Remove what killed processes left, then the entries that were not used for longest; none that is in use."""
        with self._locked(self.folder / "eviction"):
            for temporary in self.folder.glob(f".*{SUFFIX}.*.partial"):
                entry = self.folder / f"{temporary.name[1:].split(SUFFIX)[0]}{SUFFIX}"
                with self._unless_in_use(entry) as free:
                    if free:
                        self._remove_temporary(entry)
            entries = [entry for entry in self.folder.glob(f"*{SUFFIX}") if entry != coming]
            states = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry) for entry in entries)
            excess = size + sum(size for _, size, _ in states) - self.limit_gb * GB
            for _, entry_size, entry in states:
                if excess <= 0:
                    return
                with self._unless_in_use(entry) as free:
                    if free:
                        with suppress(PermissionError):  # another user's
                            entry.unlink(missing_ok=True)
                            excess -= entry_size

    def _remove_temporary(self, path: Path) -> None:
        """What processes left that were killed while they wrote this entry; only for the holder of its lock."""
        for temporary in self.folder.glob(".*.partial"):  # one pattern, since compiled patterns stay in memory
            if temporary.name.startswith(f".{path.name}."):
                shutil.rmtree(temporary, ignore_errors=True)

    @contextmanager
    def _unless_in_use(self, entry: Path) -> Iterator[bool]:
        try:
            with self._locked(entry, timeout=0):
                yield True
        except Held:
            yield False
