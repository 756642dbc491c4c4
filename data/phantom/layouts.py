"""The two folder layouts a phantom data set is written in: training tree and data portal."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data.challenge_layout import training_folders, write_pyramid
from data.files import atomic_path
from data.phantom.scene import Placement
from data.picks import write_ndjson, write_picks
from data.text_files import read_text
from errors import InputError
from particle_config import Particle, normalised_name

# The portal's spelling where it is not the table's; further rows keep their own name.
PORTAL_OBJECT_NAMES = {
    "apo-ferritin": "ferritin_complex",
    "ribosome": "cytosolic_ribosome",
    "virus-like-particle": "virus_like_capsid",
}
FIRST_PORTAL_ID = 100
# In the folders of a run: a key of all that it is made from.
MADE_FROM = ".made_from"


def portal_folder(root: Path, run_name: str) -> Path:
    return root / "public" / run_name


def nominal_spacing_folder(voxel_spacing_angstrom: float) -> str:
    """The training tree's folder name, rounded to whole angstrom when that is within 0.05.

    The challenge calls its 10.012 angstrom ``VoxelSpacing10.000``: readers must take the size from the file.
    """
    nominal = float(round(voxel_spacing_angstrom))
    is_near = abs(nominal - voxel_spacing_angstrom) < 0.05
    return f"VoxelSpacing{nominal if is_near else voxel_spacing_angstrom:.3f}"


def other_runs(root: Path, run_names: Iterable[str]) -> list[str]:
    """Names of runs in the data set that are none of these."""
    folders = [*training_folders(root, "x")[0].parent.glob("*"), *portal_folder(root, "x").parent.glob("*")]
    names = {folder.name for folder in folders if folder.is_dir() and not folder.name.startswith(".")}
    return sorted(names - set(run_names))


def runs_to_make(folders: Mapping[str, Sequence[Path]], key: str) -> list[str]:
    """Names of the runs (run -> its folders) that are not there yet, made from what the key stands for.

    InputError where a folder holds something else.
    """
    for folder in (folder for of in folders.values() for folder in of):
        if folder.exists() and _key_of(folder) != key:
            raise InputError(
                f"{folder} exists, made with other flags or by an earlier version; choose another --output_dir "
                "or give --overwrite"
            )
    return [name for name, of in folders.items() if not all(folder.exists() for folder in of)]


def _key_of(folder: Path) -> str | None:
    try:
        return read_text(folder / MADE_FROM).strip()
    except InputError:
        return None


def _write_key(folder: Path, key: str) -> None:
    (folder / MADE_FROM).write_text(key + "\n", encoding="ascii")


# --- Runs ---------------------------------------------------------------------------------------------
def write_training_run(
    root: Path,
    run_name: str,
    tomograms: Mapping[str, np.ndarray],
    truth: Mapping[str, Placement],
    voxel_spacing_angstrom: float,
    key: str,
) -> None:
    """Tomograms by type and one picks JSON per particle; both folders appear only when complete, with their key."""
    static, overlay = training_folders(root, run_name)
    with atomic_path(overlay) as folder:
        (folder / "Picks").mkdir(parents=True)
        _write_key(folder, key)
        for name, placement in truth.items():
            write_picks(
                folder / "Picks" / f"{name}.json",
                particle_name=name,
                run_name=run_name,
                coordinates_zyx_angstrom=placement.coordinates_zyx_angstrom,
                rotations_xyz=rotations_xyz(placement),
                trust_orientation=True,
            )
    with atomic_path(static) as folder:
        spacing_folder = folder / nominal_spacing_folder(voxel_spacing_angstrom)
        spacing_folder.mkdir(parents=True)
        _write_key(folder, key)
        for tomo_type, volume in tomograms.items():
            write_pyramid(spacing_folder / f"{tomo_type}.zarr", volume, voxel_spacing_angstrom)


def write_portal_run(
    root: Path,
    run_name: str,
    tomograms: Mapping[str, np.ndarray],
    truth: Mapping[str, Placement],
    voxel_spacing_angstrom: float,
    particles: Iterable[Particle],
    key: str,
) -> None:
    """Tomograms 100, 101, ... with metadata and one annotation per particle, as the data portal has them."""
    with atomic_path(portal_folder(root, run_name)) as folder:
        spacing_folder = folder / "Reconstructions" / f"VoxelSpacing{voxel_spacing_angstrom:.3f}"
        for number, (tomo_type, volume) in enumerate(tomograms.items(), start=FIRST_PORTAL_ID):
            tomogram_folder = spacing_folder / "Tomograms" / str(number)
            tomogram_folder.mkdir(parents=True)
            write_pyramid(tomogram_folder / f"{run_name}.zarr", volume, voxel_spacing_angstrom)
            metadata = {
                "run_name": run_name,
                "voxel_spacing": voxel_spacing_angstrom,
                "processing": tomo_type,
                "reconstruction_method": "WBP",
                "size": dict(zip("zyx", volume.shape, strict=True)),
                "omezarr_dir": f"{run_name}.zarr",
            }
            _write_json(tomogram_folder / "tomogram_metadata.json", metadata)
        for number, particle in enumerate(particles, start=FIRST_PORTAL_ID):
            annotation_folder = spacing_folder / "Annotations" / str(number)
            annotation_folder.mkdir(parents=True)
            write_annotation(annotation_folder, particle, truth[particle.name], voxel_spacing_angstrom)
        _write_key(folder, key)


def write_annotation(folder: Path, particle: Particle, placement: Placement, voxel_spacing_angstrom: float) -> None:
    """One ndjson, locations in voxels, and its metadata.

    The portal holds plain and oriented points; even labels become oriented, so that readers meet both.
    """
    object_name = PORTAL_OBJECT_NAMES.get(particle.name, normalised_name(particle.name))
    is_oriented = particle.label % 2 == 0
    suffix = "orientedpoint" if is_oriented else "point"
    write_ndjson(
        folder / f"{object_name}-1.0_{suffix}.ndjson",
        placement.coordinates_zyx_angstrom / voxel_spacing_angstrom,
        rotations_xyz(placement) if is_oriented else None,
    )
    metadata = {
        "annotation_object": {"name": object_name.replace("_", " ")},
        "object_count": len(placement.coordinates_zyx_angstrom),
        "ground_truth_status": True,
        "files": [{"format": "ndjson", "shape": "OrientedPoint" if is_oriented else "Point"}],
    }
    _write_json(folder / f"{object_name}-1.0.json", metadata)


def rotations_xyz(placement: Placement) -> np.ndarray:
    """The rotations as they act on xyz vectors, as files have them."""
    return placement.rotations_zyx[:, ::-1, ::-1]


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
