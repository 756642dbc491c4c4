"""Points of napari: a CSV of voxels z, y, x with further columns as properties, and a script that opens it.

Columns index, axis-0, axis-1, axis-2 (napari: utils/io.py); formats.table reads them. Voxel i is drawn at i. Unlike
3dmod and ChimeraX, napari draws y downwards: the same picks look flipped beside these, and are not.
"""

from pathlib import Path

import pandas as pd

from data.files import atomic_path
from data.picks import PICK_COLUMNS, TABLE_COLUMNS
from formats.export import Export, PickedTomogram
from formats.next_command import Command, shell_command
from formats.table import NAPARI
from formats.tomogram_names import safe_name

NAME, PARTICLE = TABLE_COLUMNS[:2]
INDEX = "index"

SCRIPT = '''"""Show the tomogram {name} and its picks. Needs napari, pandas, and mrcfile or zarr."""

from pathlib import Path

import napari
import pandas as pd

TOMOGRAM = Path({path!r})
PICKS = Path(__file__).with_name({picks!r})
# Radius in voxels and colour of each particle.
PARTICLES = {particles!r}

if TOMOGRAM.suffix == ".zarr":
    import zarr

    node = zarr.open(TOMOGRAM, mode="r")
    volume = node if hasattr(node, "shape") else node["0"]
else:
    import mrcfile

    volume = mrcfile.read(TOMOGRAM)

viewer = napari.Viewer(title={name!r})
viewer.add_image(volume, name={name!r}, colormap="gray")
for particle, picks in pd.read_csv(PICKS, dtype={{{tomogram!r}: str, {particle!r}: str}}).groupby({particle!r}):
    radius, colour = PARTICLES[particle]
    points = picks[["axis-0", "axis-1", "axis-2"]]
    viewer.add_points(
        points.to_numpy(), name=particle, size=2 * radius, face_color="transparent", border_color=colour,
        features=picks.drop(columns=points.columns), out_of_slice_display=True,
    )
napari.run()
'''


def write(folder: Path, export: Export) -> list[Command]:
    """``{tomogram}.csv`` with all particles, and ``view_{tomogram}.py``."""
    for tomogram in export.tomograms:
        name = safe_name(tomogram.name)
        with atomic_path(folder / f"{name}.csv") as temporary:
            _table(export, tomogram).to_csv(temporary, index_label=INDEX)
        particles = {
            particle.name: (round(particle.radius_angstrom / tomogram.voxel_size_angstrom, 2), particle.colour)
            for particle, _ in export.of_tomogram(tomogram)
        }
        with atomic_path(folder / f"view_{name}.py") as temporary:
            text = SCRIPT.format(
                name=tomogram.name,
                path=str(tomogram.path),
                picks=f"{name}.csv",
                particles=particles,
                tomogram=NAME,
                particle=PARTICLE,
            )
            temporary.write_text(text, encoding="utf-8")
    example = export.example_tomogram()
    if example is None:
        return []
    return [shell_command("python", folder.absolute() / f"view_{safe_name(example.name)}.py")]


def _table(export: Export, tomogram: PickedTomogram) -> pd.DataFrame:
    table = export.table(tomogram)
    voxels = table[["x", "y", "z"]].to_numpy() / tomogram.voxel_size_zyx_angstrom[::-1]
    kept = [NAME, PARTICLE, *(column for column in PICK_COLUMNS if column in table)]
    axes = pd.DataFrame(voxels, columns=list(NAPARI))[list(NAPARI[::-1])]
    return pd.concat([axes, table[kept]], axis=1)
