"""Annotations of the CryoET Data Portal (ndjson): voxels of the VoxelSpacing folder they lie in.

Voxel 0 is the first one, whose centre is the origin of all positions. Points have no place for a score.
"""

from pathlib import Path

from data.picks import object_name_of_annotation, read_ndjson, write_ndjson
from data.voxel_spacing import folder_of_spacing, spacing_of_folder
from formats.export import Export
from formats.next_command import ARTIAX, Command, quoted
from formats.point_groups import PIXELS, UNBINNED_PIXELS, PointGroup
from formats.tomogram_names import safe_name

FIRST_ANNOTATION = 100  # the portal's number of the first one in a folder
SUFFIXES = (".ndjson",)


def recognises(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> list[PointGroup]:
    """The object's name is that of the file, the tomogram's that of the run's folder."""
    spacing = spacing_of_folder(path)
    folders = path.absolute().parts
    run = folders[folders.index("Reconstructions") - 1] if "Reconstructions" in folders else None
    # Outside of such a folder the voxels may be those of any tomogram: the size must be given.
    unit = UNBINNED_PIXELS if spacing is None else PIXELS
    points = read_ndjson(path)[:, ::-1]
    return [PointGroup(path, points, unit, run, object_name_of_annotation(path), pixel_size_angstrom=spacing)]


def write(folder: Path, export: Export) -> list[Command]:
    """``{tomogram}/Reconstructions/VoxelSpacing{s}/Annotations/{number}/{particle}-1.0_point.ndjson``.

    ArtiaX opens them as "data_portal" (ArtiaX: bundle_info.xml).
    """
    example, commands = export.example_tomogram(), []
    for tomogram in export.tomograms:
        spacing = folder_of_spacing(tomogram.voxel_size_angstrom)
        annotations = folder / safe_name(tomogram.name) / "Reconstructions" / spacing / "Annotations"
        for number, (particle, picks) in enumerate(export.of_tomogram(tomogram), start=FIRST_ANNOTATION):
            path = annotations / str(number) / f"{safe_name(particle.name)}-1.0_point.ndjson"
            write_ndjson(path, picks.coordinates_zyx_angstrom / spacing_of_folder(path))
            if tomogram is example:
                commands = [Command(f"open {quoted(path.absolute())} format data_portal", ARTIAX)]
    return commands
