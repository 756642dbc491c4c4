"""The kinds of files that are damaged by benchmarks/fuzz.py: a small valid sample of each, and how it is read.

What is read comes back as plain values, which can be compared. ``AGAIN`` stands for a file that is told to be damaged
and made again from others.
"""

import atexit
import contextlib
import csv
import gzip
import io
import json
import math
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import torch
import zarr

import eval_public_czi
import pick_particles
import run_experiment_evaluation
from data.czi import find_runs
from data.masks import make_mask, mask_path, mask_record, save_mask
from data.number_ranges import NumberRange
from data.picks import POINT_TYPES, read_ndjson, read_picks, read_picks_table, write_ndjson, write_picks
from data.portal_metadata import TOMOGRAM_METADATA, spacing_of_metadata
from data.thresholds import read_thresholds, write_thresholds
from data.tomogram import open_tomogram
from data.tomogram_cache import TomogramCache
from data.tomogram_cache import _open as open_entry
from data.training_volume import VolumeSource
from evaluation.campaign.experiments import _arguments
from evaluation.exports import read_curves, read_run_table, write_curves, write_run_table
from evaluation.finished import finished_notes, finishing
from evaluation.ownership import Command, owned
from formats import read_points
from formats.copick_project import read_project
from formats.imod import HEADER, NANOMETRE, OBJECT
from formats.point_groups import coordinates_zyx_angstrom
from formats.star import read_tilt_series
from formats.table import read_name_map
from inference.checkpoints import KEY, NETWORK_PREFIX, Description, load_checkpoint
from inference.maps.map_store import MapStore
from inference.maps.timings import Timings
from inference.predictor import Prediction
from metrics.threshold_curve import ThresholdCurve
from models import build_model
from particle_config import PARTICLES, read_table
from tests import tiny_campaign
from training.experiment import FoldResult, check_same_arguments, check_same_runs, finished_folds
from training.metrics_table import read_metrics

AGAIN = "made again"
SHAPE, SPACING = (8, 10, 12), 10.0
POINTS = np.array([[10.0, 20.0, 30.0], [40.5, 50.25, 60.125], [70.0, 1.0, 2.0]])
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    write : makes the sample in a folder, and gives the path that ``read`` takes
    has_checksum : every change must be seen; else another value may be read, if it is ``right``
    right : of the path and the value read, by a second and simple reading
    share : of the damaged files that its turn would be, where each takes long
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    has_checksum: bool = False
    right: Callable[[Path, object], bool] = lambda path, value: True
    share: float = 1.0


def voxels() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def _are_finite(values: object) -> bool:
    return bool(np.isfinite(np.asarray(values, dtype=np.float64)).all())


def _are_close(expected: object, found: object) -> bool:
    first, second = (np.asarray(one, dtype=np.float64).reshape(-1, 3) for one in (expected, found))
    return first.shape == second.shape and np.allclose(first, second, rtol=1e-6, atol=1e-4)


# --- Picks --------------------------------------------------------------------------------------------
def _write_picks(folder: Path) -> Path:
    path = folder / "Picks" / "ribosome.json"
    more = {"scores": np.array([0.5, 0.25, 1.0]), "uncertainties": np.array([0.1, np.nan, 0.3])}
    write_picks(path, particle_name="ribosome", run_name="R", coordinates_zyx_angstrom=POINTS, **more)
    return path


def _picks(path: Path) -> object:
    found = read_picks(path)
    scores = None if found.scores is None else found.scores.tolist()
    return found.particle_name, found.coordinates_zyx_angstrom.tolist(), scores, str(found.uncertainties)


def _json_points(path: Path, value: tuple) -> bool:
    points = json.loads(path.read_text(encoding="utf-8-sig")).get("points") or []
    shifts = [[row[3] for row in point.get("transformation_", np.eye(4).tolist())[:3]] for point in points]
    expected = [[p["location"][a] + s["xyz".index(a)] for a in "zyx"] for p, s in zip(points, shifts, strict=True)]
    return _are_finite(value[1]) and _are_close(expected, value[1])


def _write_ndjson(folder: Path) -> Path:
    path = folder / "ribosome-1.0_point.ndjson"
    write_ndjson(path, POINTS)
    return path


def _ndjson_points(path: Path, value: list) -> bool:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    expected = [[row["location"][axis] for axis in "zyx"] for row in rows if row.get("type", "point") in POINT_TYPES]
    return len(rows) == len(value) and _are_close(expected, value)


def _write_csv(folder: Path) -> Path:
    path = folder / "picks.csv"
    rows = [f"R,ribosome,{x},{y},{z},0.5" for z, y, x in POINTS.tolist()]
    path.write_text("\n".join(["experiment,particle_type,x,y,z,score", *rows]) + "\n")
    return path


def _csv_points(path: Path, value: dict) -> bool:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if any(row.values())]
    points = np.array([value[axis] for axis in "xyz"]).T
    expected = [[float(row[axis]) for axis in "xyz"] for row in rows]
    return _are_finite(points) and _are_close(expected, points)


def _points(path: Path) -> list:
    """Any format: tomogram, particle and zyx in angstrom."""
    options = {"shape_zyx": SHAPE, "voxel_spacing_angstrom": SPACING, "pixel_size_angstrom": SPACING}
    return [
        (group.tomogram_name, group.particle_name, coordinates_zyx_angstrom(group, **options).tolist())
        for group in read_points(path)
    ]


def _finite_points(path: Path, value: list) -> bool:
    return all(_are_finite(points) for _, _, points in value)


def _text(name: str, content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return write


def _binary(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return write


def _star_rows(path: Path, value: list) -> bool:
    """As many points as there are rows in loops that have coordinates; names of columns stand before the first row."""
    count, has_points, in_names = 0, False, True
    for line in path.read_text(encoding="utf-8-sig").split("\n"):
        if line.startswith("data_"):
            has_points, in_names = False, True
        elif in_names and line.startswith("_"):
            has_points = has_points or "Coordinate" in line
        elif has_points and line.strip() and not line.startswith(("loop_", "#")):
            count, in_names = count + 1, False
    return _finite_points(path, value) and count == sum(len(points) for _, _, points in value)


def _dynamo_points(path: Path, value: list) -> bool:
    lines = [line.split("#")[0].split() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    rows = np.array([[float(word) for word in words] for words in lines if words])
    if not rows.size:
        return not value
    expected = np.sort((rows[:, 23:26] + np.nan_to_num(rows[:, 3:6]) - 1) * SPACING, axis=0)[:, ::-1]
    found = np.concatenate([points for _, _, points in value])
    return _are_finite(found) and _are_close(expected, np.sort(found, axis=0))


STAR = """data_optics

loop_
_rlnOpticsGroup #1
_rlnTomoTiltSeriesPixelSize #2
1 2.5

data_particles

loop_
_rlnTomoName #1
_rlnCenteredCoordinateXAngst #2
_rlnCenteredCoordinateYAngst #3
_rlnCenteredCoordinateZAngst #4
_rlnOpticsGroup #5
TS_1 10.0 20.0 -30.0 1
TS_1 1.5 2.5 3.5 1
TS_2 4.0 -5.0 6.0 1
"""
RELION4 = """data_particles

loop_
_rlnTomoName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnCoordinateZ #4
_rlnOriginXAngst #5
_rlnOriginYAngst #6
_rlnOriginZAngst #7
_rlnTomoTiltSeriesPixelSize #8
TS_1 10.0 20.0 30.0 0.5 0 0 2.5
TS_2 4.0 5.0 6.0 0 0 -1 2.5
"""
TOMOGRAMS = """data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoSizeX #3
_rlnTomoSizeY #4
_rlnTomoSizeZ #5
TS_1 2.5 4000 4000 2000
TS_2 2.5 4000 4000 2000
"""
NAMED = "tomogram\tparticle\tx_voxels\ty_voxels\tz_voxels\tscore\nTS_1\tspike\t1\t2.5\t3\t0.5\nTS_2\tncp\t4\t5\t6\t1\n"
NAPARI = "index,axis-0,axis-1,axis-2\n0,1.0,2.0,3.0\n1,4.5,5.5,6.5\n"
MARKERS = """<marker_set name="ribosome">
<marker id="1" x="10.0" y="20.0" z="30.0" r="1" g="0" b="0" radius="75"/>
<marker id="2" x="1.5" y="2.5" z="3.5" r="1" g="0" b="0" radius="75"/>
</marker_set>
"""
EMAN = json.dumps(
    {
        "boxes_3d": [[1.0, 2.0, 3.0, "manual", 0.5, 0], [4, 5, 6, "manual", 0.25, 0]],
        "class_list": {"0": {"name": "ribosome", "boxsize": 32}},
        "apix_unbin": 2.5,
    }
)
TABLE = "\n".join(" ".join(str(column % 7 + row) for column in range(35)) for row in range(3)) + "\n"


def _imod() -> bytes:
    head = struct.pack(
        HEADER, *(b"IMODV1.2", b"model", 12, 10, 8, 1, 0, 1, 1, 0, 255, 0, 0, 0, 1, 1, 1, 0, 0, 0, 3, 128),
        *(1.0, NANOMETRE, 0, 0, 0, 0),
    )  # fmt: skip
    one = b"OBJT" + struct.pack(OBJECT, b"ribosome", b"", 1, 0, 0, 1, 1, 0, 0, 5, *[0] * 8, 0, 0)
    points = np.array([[1.5, 2.5, 3.0], [4.5, 5.5, 6.0]], ">f4")
    return head + one + b"CONT" + struct.pack(">iIii", len(points), 0, 0, 0) + points.tobytes() + b"IEOF"


def _motl() -> bytes:
    header = bytes([6, 0, 0, 5]) + struct.pack("<3i", 20, 2, 1)
    rows = np.arange(40, dtype="<f4").reshape(2, 20)
    return header.ljust(512, b"\0") + rows.tobytes()


def _write_copick(folder: Path) -> Path:
    """Only the config is damaged."""
    run = folder / "project" / "ExperimentRuns" / "R"
    _write_zarr(2)(run / "VoxelSpacing10.000").rename(run / "VoxelSpacing10.000" / "wbp.zarr")
    write_picks(run / "Picks" / "me_0_spike.json", particle_name="spike", run_name="R", coordinates_zyx_angstrom=POINTS)
    objects = [{"name": "spike", "is_particle": True, "label": 1, "radius": 75, "color": [1, 2, 3, 255]}]
    content = {
        "config_type": "filesystem",
        "pickable_objects": objects,
        "static_root": "project",
        "overlay_root": "project",
    }
    (folder / "config.json").write_text(json.dumps(content))
    return folder / "config.json"


# --- Tomograms ----------------------------------------------------------------------------------------
def _write_zarr(zarr_format: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
        scale = [{"type": "scale", "scale": [SPACING] * 3}]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        multiscales = [{"version": "0.4", "axes": axes, "datasets": datasets}]
        attributes = {"multiscales": multiscales} if zarr_format == 2 else {"ome": {"multiscales": multiscales}}
        path = folder / "a.zarr"
        group = zarr.create_group(path, zarr_format=zarr_format, attributes=attributes)
        array = group.create_array("0", shape=SHAPE, chunks=(8, 8, 8), dtype="float32")
        array[:] = voxels()
        return path

    return write


def _write_mrc(folder: Path) -> Path:
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(voxels())
        file.voxel_size = SPACING
        file.header.label[0] = "a sample"  # instead of the time, by which the same number would be other damage
    return folder / "a.mrc"


def _write_packed_mrc(folder: Path) -> Path:
    plain = _write_mrc(folder)
    packed = folder / "a.mrc.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
    return packed


def _tomogram(path: Path) -> object:
    found = open_tomogram(path)
    return found.shape_zyx, found.voxel_spacing_angstrom, found.read().tobytes()


def _is_tomogram(path: Path, value: tuple) -> bool:
    shape, spacing, content = value
    return (
        _are_finite(np.frombuffer(content, np.float32))
        and 0 < spacing < math.inf
        and len(content) == 4 * math.prod(shape)
    )


def _is_whole_zarr(path: Path, value: tuple) -> bool:
    """Chunks of Blosc are as long as they say, and reading again gives the same."""
    whole = all(
        struct.unpack_from("<I", file.read_bytes(), 12)[0] == file.stat().st_size for file in path.glob("0/[0-9]*")
    )
    return whole and _is_tomogram(path, value) and _tomogram(path) == value


def _mrc_voxels(path: Path, value: tuple) -> bool:
    """The shape and, of floats, the voxels that the header's numbers give."""
    content = path.read_bytes()
    order = ">" if content[212] == 0x11 else "<"
    x, y, z, mode = struct.unpack_from(f"{order}4i", content)
    (extended,) = struct.unpack_from(f"{order}i", content, 92)
    if mode != 2 or content[212] not in (0x11, 0x44):
        return _is_tomogram(path, value)
    found = np.frombuffer(value[2], np.float32)
    expected = np.frombuffer(content, f"{order}f4", x * y * z, 1024 + extended)
    return _is_tomogram(path, value) and value[0] == (z, y, x) and np.array_equal(found, expected)


def _write_metadata(folder: Path) -> Path:
    (folder / TOMOGRAM_METADATA).write_text(json.dumps({"voxel_spacing": SPACING, "processing": "raw"}))
    return folder / "a.mrc"


# --- Own files ----------------------------------------------------------------------------------------
def _write_masked_run(folder: Path) -> Path:
    """A run with its mask: only the mask is damaged."""
    static = folder / "data" / "train" / "static" / "ExperimentRuns" / "R" / "VoxelSpacing10.000"
    static.mkdir(parents=True)
    _write_mrc(static).rename(static / "denoised.mrc")
    picks = static.parents[3] / "overlay" / "ExperimentRuns" / "R" / "Picks" / "ribosome.json"
    write_picks(picks, particle_name="ribosome", run_name="R", coordinates_zyx_angstrom=POINTS)
    made_from = {"voxel_spacing_angstrom": SPACING, "radius_fraction": 0.2}
    points = {"ribosome": POINTS}
    path = mask_path(folder, "R", 0.2)
    save_mask(path, make_mask(SHAPE, points, **made_from), mask_record(SHAPE, points, **made_from))
    return folder


def _mask(folder: Path) -> object:
    source = VolumeSource(folder / "data", folder, ("denoised",), 0.2, None, PARTICLES, folder / "cache")
    [run] = find_runs(folder / "data")
    return np.asarray(source.labels(run).mask[:, :, :]).tobytes()


def _write_cached(folder: Path) -> Path:
    tomogram = open_tomogram(_write_mrc(folder))
    TomogramCache(folder / "cache").load(tomogram, None, run_name="R", tomo_type="raw")
    [path] = folder.glob("cache/R/*.npy")
    return path


def _cached(path: Path) -> object:
    entry = open_entry(path, SHAPE)
    return AGAIN if entry is None else np.asarray(entry).tobytes()


def prediction() -> Prediction:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand((len(PARTICLES) + 1, *SHAPE), generator=generator)
    return Prediction(maps / maps.sum(0), torch.rand(maps.shape, generator=generator) / 10, 1)


def _write_map(folder: Path) -> Path:
    _map(folder)
    return folder


def _map(folder: Path) -> object:
    shape = (len(PARTICLES), *SHAPE)
    store = MapStore(folder, limit_gb=1.0)
    _, found = store.load_or_make("R", "key", lambda: ("key", prediction()), device=CPU, shape=shape)
    return found.probability.numpy().tobytes(), found.variance.numpy().tobytes(), found.stride


@cache
def _checkpoint_bytes() -> bytes:
    import io

    torch.manual_seed(0)
    architecture = {"encoder_name": "deepfinder2", "norm_type": "batch", "num_classes": len(PARTICLES) + 1}
    description = Description(
        architecture=architecture,
        particles=PARTICLES,
        patch_size_zyx=(32, 32, 32),
        norm_percentiles=(0.5, 99.5),
        radius_fraction=0.5,
        tomo_types=("denoised",),
        voxel_spacing_angstrom=SPACING,
        fold=0,
        validation_runs=("R",),
        training_runs=("S",),
        hyperparameters={"peak_local_max_gpu": {"ribosome": {"peak_threshold": 0.4}}},
        f4=0.5,
    )
    weights = {NETWORK_PREFIX + name: value for name, value in build_model(**architecture).state_dict().items()}
    file = io.BytesIO()
    torch.save({"state_dict": weights, KEY: description.as_plain()}, file)
    return file.getvalue()


def _checkpoint(path: Path) -> object:
    network, description = load_checkpoint(path)
    return repr(asdict(description)), [weight.numpy().tobytes() for weight in network.state_dict().values()]


VALUES = {p.name: {"peak_threshold": 0.4, "nms_radius_fraction": 0.8} for p in PARTICLES}


def _write_thresholds(folder: Path) -> Path:
    write_thresholds(folder / "thresholds.json", {"search": {"hyperparameters": {"method": VALUES}}}, PARTICLES)
    return folder / "thresholds.json"


def _thresholds(path: Path) -> object:
    return read_thresholds(
        path, method="method", ranges=dict.fromkeys(VALUES["ribosome"], NumberRange(0, 100)), particles=PARTICLES
    )


def _are_thresholds(path: Path, value: list) -> bool:
    numbers = [n for one in value for values in one["method"].values() for n in values.values()]
    return _are_finite(numbers) and min(numbers) >= 0


def _write_finished(folder: Path) -> Path:
    columns = {"experiment": ["R"], "particle_type": ["ribosome"], "x": [1.5], "y": [2.5], "z": [3.5]}
    table = pd.DataFrame(columns | {"score": [0.5], "uncertainty": [0.1], "size_voxels": [5.0], "confidence": [0.9]})
    with finishing(folder / "R", "key", picks=1, counts=[[1, 0, 0]], windows_zyx=[(8, 8, 8)]) as item:
        write_run_table(item, table)
        write_curves(item, {"ribosome": ThresholdCurve(np.array([0.5]), np.array([0.5]))})
    return folder / "R"


def _finished(folder: Path) -> object:
    notes = finished_notes(folder, "key")
    if notes is None:
        return AGAIN
    curve = read_curves(folder)["ribosome"]
    return notes["picks"], notes["counts"], read_run_table(folder).to_csv(), curve.scores.tolist()


def _write_arguments(folder: Path) -> Path:
    content = {
        "data_root": "/data",
        "voxel_spacing": None,
        "runs": {"R": "0" * 32},
        "training_tomo_types": ["denoised"],
    }
    (folder / "args.json").write_text(json.dumps({**content, "lr": 0.001, "epochs": 5}))
    return folder


def _saved_arguments(folder: Path) -> object:
    found = _arguments(folder)
    check_same_arguments(folder, found, (), "advice")
    check_same_runs(folder, found.get("runs", {}), folder)
    return repr(found)


def _write_parameters(folder: Path) -> Path:
    with owned(folder, Command("python a.py --x 1", {"x": 1}, {"a": "0"}), results=(), temporary=()):
        (folder / "scores.json").write_text("{}")
    return folder


def _parameters(folder: Path) -> object:
    with owned(folder, Command("python a.py --x 1", {"x": 1}, {"a": "0"}), results=("scores.json",), temporary=()):
        return "owned"


def _write_result(folder: Path) -> Path:
    content = {"fold": 0, "validation_runs": ["R"], "checkpoint": "a.ckpt", "f4": 0.5, "hyperparameters": {}}
    (folder / "fold_0").mkdir()
    (folder / "fold_0" / "result.json").write_text(json.dumps(content))
    return folder


def _results(folder: Path) -> object:
    found: dict[int, FoldResult] = finished_folds(folder)
    return repr(found) if found else AGAIN


def _write_timings(folder: Path) -> Path:
    timings = Timings(folder / "timings.jsonl")
    for number in range(3):
        timings.write(work="network", key=str(number), seconds=number + 0.5)
    return folder / "timings.jsonl"


def _timings(path: Path) -> object:
    table = Timings(path).read()
    return float(table["seconds"].sum()), table["work"].fillna("").tolist()


def _write_metrics(folder: Path) -> Path:
    table = pd.DataFrame({"epoch": [0, 1], "step": [10, 20], "f4": [0.25, 0.5], "train_loss": [1.0, 0.5]})
    table.to_csv(folder / "metrics.csv", index=False)
    return folder / "metrics.csv"


def _metrics(path: Path) -> object:
    table = read_metrics(path)
    return table[table["epoch"] < 5].to_csv() if len(table) else AGAIN


def _write_particles(folder: Path) -> Path:
    rows = [{"name": "spike", "radius_angstrom": 75, "aliases": ["s"]}, {"name": "ncp", "radius_angstrom": 50.5}]
    (folder / "particles.json").write_text(json.dumps(rows))
    return folder / "particles.json"


# --- Folders of results -------------------------------------------------------------------------------
# What a command leaves for others, pictures apart.
TABLES = ("*.csv", "scores.json", "summary.json", "picks/*/[!.]*.json", "*/*/*/picks/*/[!.]*.json", "thresholds.json")


@cache
def _world() -> Path:
    """Data, networks and maps that all folders of results share."""
    folder = Path(tempfile.mkdtemp(prefix="etfinder-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return tiny_campaign.make(folder)


def _pick(out: Path) -> None:
    world = _world()
    network = next((world / "checkpoints" / "df2").glob("fold_0-*.ckpt"))
    words = ("--model_path", network, "--tomograms", world / "public", "--fixed_plm_gpu_peak_thresh", 0.1)
    pick_particles.main(list(map(str, (*words, *_flags(out)))))


def _evaluate(out: Path) -> None:
    world = _world()
    network = next((world / "checkpoints" / "df2").glob("fold_0-*.ckpt"))
    words = ("--model_path", network, "--data_root", world / "public", "--hp_search_strategy", "global")
    eval_public_czi.main(list(map(str, (*words, *_flags(out)))))


def _compare(out: Path) -> None:
    words = tiny_campaign.command(_world(), "--postprocessing_method", "cc3d", experiments=("df2",), output=out)
    run_experiment_evaluation.main([*words, "--hp_search_strategy", "global"])


def _flags(out: Path) -> tuple[object, ...]:
    where = ("--output_dir", out, "--cache_dir", _world() / "cache")
    return (*where, "--precision", "fp32", "--inference_window", "train")


def _results_of(command: Callable[[Path], None]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        _again(command)(folder / "out")
        return folder / "out"

    return write


def _again(command: Callable[[Path], None]) -> Callable[[Path], object]:
    """The tables of a folder of results after its command was given again."""

    def read(out: Path) -> object:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            command(out)
        found = {path for pattern in TABLES for path in out.glob(pattern)}
        return {str(path.relative_to(out)): path.read_text() for path in sorted(found)}

    return read


KINDS: dict[str, Kind] = {
    "picks JSON": Kind(_write_picks, _picks, right=_json_points),
    "ndjson": Kind(_write_ndjson, lambda path: read_ndjson(path).tolist(), right=_ndjson_points),
    "CSV": Kind(_write_csv, lambda path: read_picks_table(path).to_dict("list"), right=_csv_points),
    "STAR of RELION 5": Kind(_text("a.star", STAR), _points, right=_star_rows),
    "STAR of RELION 4": Kind(_text("a.star", RELION4), _points, right=_star_rows),
    "tomograms.star": Kind(_text("tomograms.star", TOMOGRAMS), lambda path: repr(read_tilt_series(path))),
    "table": Kind(_text("a.tsv", NAMED), _points, right=_finite_points),
    "napari": Kind(_text("a.csv", NAPARI), _points, right=_finite_points),
    "name map": Kind(_text("a.csv", "picks,meant\nTS_1,TS_01\nTS_2,TS_02\n"), read_name_map),
    "IMOD text": Kind(_text("a.coords", "1 1 10.5 20.5 3\n1 1 1.5 2.5 4\n"), _points, right=_finite_points),
    "copick config": Kind(_write_copick, lambda path: repr(read_project(path, tomo_type="wbp").groups)),
    "EMAN2": Kind(_text("a_info.json", EMAN), _points, right=_finite_points),
    "ChimeraX": Kind(_text("a.cmm", MARKERS), _points, right=_finite_points),
    "Dynamo": Kind(_text("a.tbl", TABLE), _points, right=_dynamo_points),
    "IMOD": Kind(_binary("a.mod", _imod), _points, right=_finite_points),
    "motive list": Kind(_binary("a.em", _motl), _points, right=_finite_points),
    "particle table": Kind(_write_particles, lambda path: repr(read_table(path))),
    "zarr v2": Kind(_write_zarr(2), _tomogram, right=_is_whole_zarr),
    "zarr v3": Kind(_write_zarr(3), _tomogram, right=_is_tomogram),
    "MRC": Kind(_write_mrc, _tomogram, right=_mrc_voxels),
    "packed MRC": Kind(_write_packed_mrc, _tomogram, has_checksum=True),
    "portal metadata": Kind(_write_metadata, spacing_of_metadata),
    "mask": Kind(_write_masked_run, _mask, has_checksum=True),
    "tomogram cache": Kind(_write_cached, _cached, right=lambda path, value: len(value) == 4 * math.prod(SHAPE)),
    "probability map": Kind(_write_map, _map, has_checksum=True),
    "checkpoint": Kind(_binary("a.ckpt", _checkpoint_bytes), _checkpoint, has_checksum=True),
    "thresholds": Kind(_write_thresholds, _thresholds, right=_are_thresholds),
    "finished results": Kind(_write_finished, _finished, has_checksum=True),
    "args.json": Kind(_write_arguments, _saved_arguments),
    "run_parameters.json": Kind(_write_parameters, _parameters),
    "result.json": Kind(_write_result, _results),
    "timings": Kind(_write_timings, _timings, right=lambda path, value: math.isfinite(value[0])),
    "metrics.csv": Kind(_write_metrics, _metrics),
    "folder of picks": Kind(_results_of(_pick), _again(_pick), has_checksum=True, share=0.05),
    "folder of an evaluation": Kind(_results_of(_evaluate), _again(_evaluate), has_checksum=True, share=0.05),
    "folder of a campaign": Kind(_results_of(_compare), _again(_compare), has_checksum=True, share=0.05),
}
# What of a sample is damaged, where that is not all of its files.
DAMAGED = {"mask": "segmentations_*/*", "tomogram cache": "cache/*/*.npy", "probability map": "*.zip"}
DAMAGED |= {"run_parameters.json": "run_parameters.json", "copick config": "config.json"}
