"""Picks and tomograms to label masks, one per training run.

    python prepare_mask_czi.py --data_root /data/czi                         # spheres of half the radius
    python prepare_mask_czi.py --data_root /data/czi --radius_fraction 0.35 --save_plots
    python prepare_mask_czi.py --data_root /data/czi --single_pixel_mask     # one voxel per particle

Masks: {output_dir}/segmentations_{radius_fraction}/{run}.npy, beside each {run}.json, which says what it is made from,
and with --save_plots a picture {run}.png.
"""

from command_line import run_script

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from data.command_record import write_command_record
from data.czi import Run, find_runs
from data.files import complete_group, path_argument
from data.masks import make_mask, mask_folder, mask_path, mask_radii_voxels, mask_record, save_mask, unpainted
from data.names import name_argument
from data.number_ranges import SPHERE_SHARE, VOXEL_SIZE
from data.picks import read_run_picks
from data.tomogram import Tomogram, open_tomogram
from particle_config import PARTICLES
from versions import typed_command


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data_root",
        type=path_argument,
        default=config.CZI_DATA_ROOT,
        help="holds train/static/ExperimentRuns",
    )
    data.add_argument("--output_dir", type=path_argument, help="default: data_root/mask")
    data.add_argument(
        "--tomo_type",
        type=name_argument,
        default=config.TRAINING_TOMO_TYPES[0],
        help="tomogram that gives shape and voxel size",
    )
    data.add_argument("--voxel_spacing", type=VOXEL_SIZE, help="angstrom; overrides what the tomograms say")
    data.add_argument(
        "--rescale",
        type=VOXEL_SIZE,
        metavar="A",
        help="masks of tomograms resampled to this voxel size, as train.py has it",
    )
    masks = parser.add_argument_group("masks")
    masks.add_argument(
        "--radius_fraction",
        type=SPHERE_SHARE,
        default=config.RADIUS_FRACTION,
        help="sphere / particle radius",
    )
    masks.add_argument(
        "--single_pixel_mask", action="store_true", help="one voxel per particle; overrides --radius_fraction"
    )
    masks.add_argument("--save_plots", action="store_true", help="write a picture beside each mask")
    return parser


def prepare_run(
    run: Run,
    tomogram: Tomogram,
    picks: dict[str, np.ndarray],
    *,
    radius_fraction: float,
    target: Path,
    save_plot: bool,
) -> dict[str, int | str]:
    """Write the mask of one run (and its picture); return its row of the summary."""
    spacing = tomogram.voxel_spacing_angstrom
    made_from = {"voxel_spacing_angstrom": spacing, "radius_fraction": radius_fraction}
    mask = make_mask(tomogram.shape_zyx, picks, **made_from)
    if save_plot:
        from data.previews import save_mask_preview

        save_mask_preview(
            target.with_suffix(".png"),
            run_name=run.name,
            tomogram=tomogram.read(),
            mask=mask,
            picks=picks,
            voxel_spacing_angstrom=spacing,
        )
    save_mask(target, mask, mask_record(tomogram.shape_zyx, picks, **made_from))
    radii = mask_radii_voxels(PARTICLES, **made_from)
    outside = sum(
        int(unpainted(tomogram.shape_zyx, picks[p.name] / spacing, radii[p.label]).sum())
        for p in PARTICLES
        if p.name in picks
    )
    counts = {p.name: len(picks.get(p.name, ())) for p in PARTICLES}
    return {"run": run.name, **counts, "not painted": outside}


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    radius_fraction = 0.0 if args.single_pixel_mask else args.radius_fraction
    mask_root = args.output_dir or args.data_root / "mask"
    runs = find_runs(args.data_root, tomo_type=args.tomo_type, split="train")
    without = sorted({run.name for run in find_runs(args.data_root, split="train")} - {run.name for run in runs})
    if without:
        print(f"left out, without a {args.tomo_type} tomogram: {', '.join(without)}")
    # All picks and headers first: a mistake in the last run must not cost the work on the others.
    picks = {run.name: read_run_picks(run.picks_dir) for run in runs}
    options = {"voxel_spacing_angstrom": args.voxel_spacing, "rescale_to_angstrom": args.rescale}
    tomograms = {run.name: open_tomogram(run.tomogram_path(args.tomo_type), **options) for run in runs}
    with complete_group(mask_folder(mask_root, radius_fraction)):
        rows = [
            prepare_run(
                run,
                tomograms[run.name],
                picks[run.name],
                radius_fraction=radius_fraction,
                target=mask_path(mask_root, run.name, radius_fraction),
                save_plot=args.save_plots,
            )
            for run in tqdm(runs, desc="masks", unit="run", disable=None)
        ]
    write_command_record(mask_folder(mask_root, radius_fraction), typed_command(__file__, argv))
    summary = pd.DataFrame(rows)
    print(summary.to_string(index=False))
    if summary["not painted"].any():
        print("not painted: particles outside the tomogram; are --voxel_spacing and the picks right?")
    print(f"{len(rows)} masks in {mask_folder(mask_root, radius_fraction)}")


if __name__ == "__main__":
    run_script(main)
