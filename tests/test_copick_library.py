"""A project that copick itself has written: import_dataset.py reads of it what copick's own functions say.

copick 1.31 needs zarr below 3 and cannot be installed beside this program. A developer makes it an environment of its
own and names its Python:

    python3 -m venv ../copick && ../copick/bin/pip install "copick==1.31.*"
    ETFINDER_COPICK_PYTHON=../copick/bin/python python -m pytest tests/test_copick_library.py

Without the variable these tests are skipped.
"""

import json
import os
import subprocess

import numpy as np
import pytest

import import_dataset
from data.czi import find_runs
from data.picks import read_run_picks
from data.tomogram import open_tomogram
from errors import InputError
from particle_config import given_table

PYTHON = os.environ.get("ETFINDER_COPICK_PYTHON")
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="ETFINDER_COPICK_PYTHON names no Python with copick"),
    pytest.mark.filterwarnings("ignore:picks do not lie"),
]

# Two projects share the static root: picks of "prior" and tomograms lie there, later ones in the overlay. Voxels are
# random, but for those at the picks of "anna", which are dark.
MAKE = """
import json, sys
import copick, numpy as np
from copick.models import PickableObject

folder = sys.argv[1]
objects = [
    PickableObject(name="membrane", is_particle=False, label=1),
    PickableObject(name="proteasome", is_particle=True, label=7, color=(10, 200, 255, 128), radius=75.0,
                   metadata={"score_weight": 2.5}),
    PickableObject(name="apo-ferritin", is_particle=True, label=3, color=(1, 2, 3, 255), radius=61.0),
]
random = np.random.default_rng(0)
shape = np.array([24, 40, 56])  # z, y, x


def points(count, shifted):
    # Positions of x, y, z in angstrom, rotations about z, and shifts in the fourth column.
    positions = random.uniform([60, 60, 60], [480, 320, 160], (count, 3))
    transforms = np.tile(np.eye(4), (count, 1, 1))
    angles = random.uniform(0, 2 * np.pi, count)
    transforms[:, 0, 0] = transforms[:, 1, 1] = np.cos(angles)
    transforms[:, 1, 0], transforms[:, 0, 1] = np.sin(angles), -np.sin(angles)
    if shifted:
        transforms[:, :3, 3] = random.uniform(-20, 20, (count, 3))
    return positions, transforms


static = copick.new_config(f"{folder}/static.json", f"{folder}/static", pickable_objects=objects)
for name in ("TS-01", "run_2"):
    run = static.new_run(name)
    run.new_picks("proteasome", "0", "prior").from_numpy(*points(3, shifted=False))
config = json.load(open(f"{folder}/static.json"))
config |= {"static_root": f"local://{folder}/static", "overlay_root": f"local://{folder}/overlay"}
json.dump(config, open(f"{folder}/config.json", "w"))
project = copick.from_file(f"{folder}/config.json")
for run in project.runs:
    run.new_picks("proteasome", "3", "anna").from_numpy(*points(9, shifted=True))
    run.new_picks("apo-ferritin", "3", "anna").from_numpy(*points(8, shifted=True), scores=random.uniform(0, 1, 8))
    run.new_picks("membrane", "3", "anna").from_numpy(*points(2, shifted=False))
    grey = random.normal(size=shape).astype(np.float32)
    for picks in run.get_picks(user_id="anna"):
        for x, y, z in np.rint(picks.full_positions() / 10.012).astype(int):
            grey[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] -= 3
    static.get_run(run.name).new_voxel_spacing(10.012).new_tomogram("wbp").from_numpy(grey, levels=2)
    fine = run.new_voxel_spacing(5.006)
    fine.new_tomogram("wbp").from_numpy(random.normal(size=2 * shape).astype(np.float32), levels=1)
    run.refresh()
    run.get_voxel_spacing(10.012).new_tomogram("denoised").from_numpy(grey + 1, levels=1)
project.get_run("TS-01").new_picks("proteasome", "4", "bert").from_numpy(*points(4, shifted=True))
project.get_run("TS-01").new_picks("proteasome", "5", "bert").from_numpy(*points(5, shifted=True))
"""

SAY = """
import json, sys
import copick

project = copick.from_file(sys.argv[1])
said = {"objects": [json.loads(one.meta.model_dump_json()) for one in project.pickable_objects], "runs": {}}
for run in project.runs:
    picks = [
        [one.user_id, one.session_id, one.pickable_object_name, one.full_positions().tolist()] for one in run.picks
    ]
    tomograms = [
        [spacing.voxel_size, one.tomo_type, one.numpy().shape, one.numpy().astype(float).sum()]
        for spacing in run.voxel_spacings for one in spacing.tomograms
    ]
    said["runs"][run.name] = {"picks": picks, "tomograms": tomograms}
print(json.dumps(said))
"""


def in_copick(program, *words):
    command = [PYTHON, "-W", "ignore", "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The folder of the project, and what copick says of it."""
    folder = tmp_path_factory.mktemp("copick")
    in_copick(MAKE, folder)
    return folder, json.loads(in_copick(SAY, folder / "config.json").splitlines()[-1])


def import_project(folder, output_dir, *flags):
    import_dataset.main(["--copick_config", str(folder / "config.json"), "--output_dir", str(output_dir), *flags])


def positions_xyz(run, table):
    return {name: points[:, ::-1] for name, points in read_run_picks(run.picks_dir, table).items()}


@pytest.mark.parametrize("tomo_type", ["wbp", "denoised"], ids=["static", "overlay"])
def test_positions_tomograms_and_table_are_those_of_copick(project, tmp_path, tomo_type):
    folder, said = project
    import_project(folder, tmp_path, "--copick_user", "anna", "--tomo_type", tomo_type)
    table = given_table(str(tmp_path / "particles.json"))
    runs = find_runs(tmp_path, tomo_type=tomo_type)
    assert {run.name for run in runs} == set(said["runs"]) == {"TS-01", "run_2"}
    for run in runs:
        wanted = {name: xyz for user, _, name, xyz in said["runs"][run.name]["picks"] if user == "anna"}
        found = positions_xyz(run, table)
        assert set(found) == set(wanted) - {"membrane"}
        for name, points in found.items():
            np.testing.assert_allclose(points, wanted[name], rtol=0, atol=1e-6)
        tomogram = open_tomogram(run.tomogram_path(tomo_type))
        [(spacing, _, shape, total)] = [
            one for one in said["runs"][run.name]["tomograms"] if one[:2] == [10.012, tomo_type]
        ]
        assert (tomogram.voxel_spacing_angstrom, list(tomogram.shape_zyx)) == (pytest.approx(spacing), shape)
        assert tomogram.read().sum(dtype=float) == pytest.approx(total)
    objects = {one["name"]: one for one in said["objects"] if one["is_particle"]}
    for particle in table:
        one = objects.pop(particle.name)
        assert particle.radius_angstrom == one["radius"]
        assert particle.colour == "#{:02x}{:02x}{:02x}".format(*one["color"][:3])
        assert particle.score_weight == one["metadata"].get("score_weight", 1.0)
    assert not objects


def test_the_picks_lie_on_the_dark_voxels(project, tmp_path, capsys):
    import_project(project[0], tmp_path, "--copick_user", "anna", "--tomo_type", "wbp")
    assert "as they should" in capsys.readouterr().out


def test_picks_of_the_static_root(project, tmp_path):
    folder, said = project
    import_project(folder, tmp_path, "--copick_user", "prior", "--tomo_type", "wbp")
    table = given_table(str(tmp_path / "particles.json"))
    for run in find_runs(tmp_path, tomo_type="wbp"):
        [wanted] = [xyz for user, _, _, xyz in said["runs"][run.name]["picks"] if user == "prior"]
        np.testing.assert_allclose(positions_xyz(run, table)["proteasome"], wanted, rtol=0, atol=1e-6)


def test_users_and_sessions_are_chosen_by_name(project, tmp_path):
    folder, said = project
    with pytest.raises(InputError, match="both pick proteasome; choose with --copick_user"):
        import_project(folder, tmp_path, "--tomo_type", "wbp")
    with pytest.raises(InputError, match="--copick_session"):
        import_project(folder, tmp_path, "--tomo_type", "wbp", "--copick_user", "bert")
    with pytest.warns(UserWarning, match="tomograms without picks, left out: run_2"):
        import_project(folder, tmp_path, "--tomo_type", "wbp", "--copick_user", "bert", "--copick_session", "5")
    [run] = find_runs(tmp_path, tomo_type="wbp")
    [wanted] = [xyz for user, session, _, xyz in said["runs"]["TS-01"]["picks"] if (user, session) == ("bert", "5")]
    found = positions_xyz(run, given_table(str(tmp_path / "particles.json")))["proteasome"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_the_config_itself_is_a_table_of_particles(project):
    folder, said = project
    table = given_table(str(folder / "config.json"))
    assert {p.name: p.radius_angstrom for p in table} == {
        one["name"]: one["radius"] for one in said["objects"] if one["is_particle"]
    }


@pytest.mark.parametrize("scheme", ["local://", "file://", ""])
def test_roots_as_copick_takes_them(project, tmp_path, scheme):
    folder, _ = project
    config = json.loads((folder / "config.json").read_text())
    roots = {key: config[key].replace("local://", scheme) for key in ("static_root", "overlay_root")}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | roots))
    assert len(json.loads(in_copick(SAY, path).splitlines()[-1])["runs"]) == 2
    import_project(tmp_path, tmp_path / "out", "--copick_user", "anna", "--tomo_type", "wbp")
    assert len(find_runs(tmp_path / "out", tomo_type="wbp")) == 2
