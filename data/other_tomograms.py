"""Files of tomograms that are not read here, and how they become MRC."""

from pathlib import Path

IMOD_TIFF = "convert it with IMOD: tif2mrc {name} {stem}.mrc; TIFF has no voxel size, so give --voxel_spacing"
EMAN2 = "convert it with EMAN2: e2proc3d.py {name} {stem}.mrc"
PYTHON = (
    "convert it with Python: mrcfile.write('{stem}.mrc', numpy.load('{name}').astype('float32'), voxel_size=ANGSTROM)"
)
# Ending -> what to do.
ADVICE = {
    **dict.fromkeys((".tif", ".tiff"), IMOD_TIFF),
    **dict.fromkeys((".em", ".hdf", ".hdf5", ".h5", ".spi", ".vol", ".dm3", ".dm4"), EMAN2),
    ".npy": PYTHON,
    ".zip": "unpack it: a zarr is a folder",
    ".star": "give the tomograms that it lists; a tomograms.star of RELION belongs to --tomograms_star",
    ".mdoc": "give the tomograms made from it",
}


def how_to_convert(path: Path) -> str:
    """What a person can do with a file that is neither MRC nor zarr, in words that follow its name."""
    ending = path.suffix.lower()
    advice = ADVICE.get(ending, "convert it to MRC")
    return f"neither MRC nor zarr; {advice.format(name=path.name, stem=path.stem)}"
