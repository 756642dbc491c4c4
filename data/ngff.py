"""Metadata of OME-Zarr (NGFF 0.4 and 0.5): the image in a group, its scales and their units."""

import warnings

import zarr

# NGFF wants the first name of each; programs write the others as well.
ANGSTROM_PER_UNIT = {
    **dict.fromkeys(("angstrom", "angstroms", "ångström", "å", "a"), 1.0),
    **dict.fromkeys(("nanometer", "nanometers", "nanometre", "nm"), 10.0),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micron", "um", "µm", "μm"), 1e4),
    **dict.fromkeys(("picometer", "pm"), 0.01),
    **dict.fromkeys(("millimeter", "mm"), 1e7),
    **dict.fromkeys(("meter", "m"), 1e10),
}


def image_of(node: zarr.Array | zarr.Group) -> tuple[zarr.Array | zarr.Group, str]:
    """The image itself and its place in the group: bioformats2raw puts images into numbered groups; the first is it."""
    attributes = dict(node.attrs)
    inside = "bioformats2raw.layout" in attributes.get("ome", attributes)
    if not inside or multiscale_of(attributes) or not isinstance(node.get("0"), zarr.Group):
        return node, ""
    if isinstance(node.get("1"), zarr.Group):
        warnings.warn(f"{node.store_path}: holds several images; the first, 0, is read", stacklevel=6)
    return node["0"], "0"


def multiscale_of(attributes: dict) -> dict:
    """The first multiscales entry of NGFF 0.4 or 0.5 attributes; empty when there is none."""
    entries = attributes.get("ome", attributes).get("multiscales", [])
    return entries[0] if entries else {}
