"""README's commands for one's own data as they stand there, and the code that fetches the portal's data sets."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from data.czi import find_runs
from data.picks import read_picks, write_ndjson

ROOT = Path(__file__).parents[1]
SHAPE, SPACING, RADIUS = (32, 64, 72), 10.0, 90.0
RUNS = ("TS_01", "TS_02")
# Beside the flags of README; the last of a repeated flag counts.
QUICK = {"train.py": "--epochs 1 --steps_per_epoch 2 --batch_size 2 --patch_size 32 32 32 --device cpu"}


def section(text, title):
    """The code blocks under a heading."""
    part = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, flags=re.DOTALL | re.MULTILINE)[1]
    return re.findall(r"```\w+\n(.*?)```", part, flags=re.DOTALL)


@pytest.fixture
def lab(tmp_path):
    """A folder of MRC files and a STAR file of RELION 5, under the names that README gives them."""
    rows, random = [], np.random.default_rng(0)
    (tmp_path / "tomograms").mkdir()
    for run in RUNS:
        grey = random.normal(size=SHAPE).astype(np.float32)
        centres = random.uniform([10, 10, 10], np.array(SHAPE) - 10, (6, 3))
        for centre in centres:
            distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - centre, axis=-1)
            grey[distance * SPACING <= RADIUS / 2] -= 4
        with mrcfile.new(tmp_path / "tomograms" / f"rec_{run}_10.00Apx.mrc") as file:
            file.set_data(grey)
            file.voxel_size = SPACING
        centred = (centres - np.array(SHAPE) / 2) * SPACING
        table = pd.DataFrame(centred[:, ::-1], columns=[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"])
        rows.append(table.assign(rlnTomoName=run))
    starfile.write({"particles": pd.concat(rows, ignore_index=True)}, tmp_path / "particles.star")
    return tmp_path


def as_run_here(line):
    match = re.match(r"python (\w+\.py)(.*)", line)
    return f'"{sys.executable}" "{ROOT / match[1]}"{match[2]} {QUICK.get(match[1], "")}' if match else line


def test_from_mrc_files_and_a_star_to_a_scored_network(lab):
    [block] = section((ROOT / "README.md").read_text(encoding="utf-8"), "Import your own data")
    lines = block.replace("\\\n", " ").splitlines()
    assert re.findall(r"python (\w+\.py)", block) == ["import_dataset.py", "train.py", "eval_public_czi.py"]
    program = "\n".join(map(as_run_here, lines))
    done = subprocess.run(["sh", "-e", "-c", program], cwd=lab, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "as they should" in done.stdout and "warning" not in done.stderr
    [scores] = (lab / "results").glob("*/scores.json")
    content = json.loads(scores.read_text())
    assert content["score"]["weighted_f4"] >= 0 and [one["particle"] for one in content["score"]["per_particle"]] == [
        "spike"
    ]
    picks = read_picks(scores.parent / "picks" / "TS_01" / "spike.json")
    assert picks.particle_name == "spike" and (lab / "mine" / "overlays" / "TS_01.png").is_file()


def test_the_code_that_fetches_the_portals_data_lays_them_out_as_they_are_read(tmp_path, monkeypatch):
    """The portal is played by two objects; its own client is not at hand."""
    bucket = "s3://bucket/10445/TS_1/Reconstructions"

    def download_omezarr(folder):
        (Path(folder) / "TS_1.zarr").mkdir()

    def download_points(folder):
        write_ndjson(Path(folder) / "ribosome-1.0_point.ndjson", np.ones((2, 3)))

    def download_metadata(folder):
        (Path(folder) / "ribosome-1.0.json").write_text("{}")

    tomogram = SimpleNamespace(
        s3_omezarr_dir=f"{bucket}/VoxelSpacing10.012/Tomograms/100/TS_1.zarr",
        processing="denoised",
        download_omezarr=download_omezarr,
    )
    points = SimpleNamespace(
        s3_path=f"{bucket}/VoxelSpacing4.990/Annotations/100/ribosome-1.0_point.ndjson",
        download=download_points,
        annotation_shape=SimpleNamespace(annotation=SimpleNamespace(download_metadata=download_metadata)),
    )
    client = MagicMock()
    client.Tomogram.find.return_value, client.AnnotationFile.find.return_value = [tomogram], [points]
    monkeypatch.setitem(sys.modules, "cryoet_data_portal", client)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "public_data.md").read_text(encoding="utf-8")
    [code] = [block for block in section(page, "With the portal's Python client") if "import" in block]
    exec(compile(code, "public_data.md", "exec"), {})
    [run] = find_runs(tmp_path / "10445", tomo_type="denoised")
    assert run.name == "TS_1" and run.tomogram_path("denoised").name == "TS_1.zarr"
    assert [path.name for path in run.annotation_paths] == ["ribosome-1.0_point.ndjson"]
