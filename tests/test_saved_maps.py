"""Maps for other programs: they lie where the tomogram lies, whatever its grid, and are there as a whole or not."""

import errno
import json
import shutil
from dataclasses import replace
from functools import partial

import mrcfile
import numpy as np
import pytest
import tiny_campaign
import torch
import zarr
from PIL import Image
from torch import nn
from torch.nn import functional

import eval_public_czi
from data.czi import Run
from data.tomogram import open_tomogram
from errors import InputError, MachineError
from evaluation.saved_maps import MAP_FORMATS, SavedMaps, label_map
from inference.predictor import Prediction, Predictor
from inference.settings import InferenceSettings
from inference.tomograms import SourceTomogram, TomogramSettings
from particle_config import PARTICLES, Particle

BLOB = (Particle("blob", 50.0, 1.0, 1, "#3cb44b"),)
SPACING = 10.0
SIGMA_ANGSTROM = 30.0
# Odd along all axes, and no two alike.
SHAPE, CENTRE_ZYX = (25, 41, 37), np.array([11.3, 26.6, 14.2])


class Bright(nn.Module):
    """Finds what is bright, at a stride: from the mean of each block of voxels."""

    divisor = 8

    def __init__(self, stride):
        super().__init__()
        self.output_stride = stride

    def forward(self, volume):
        mean = functional.avg_pool3d(volume, self.output_stride)
        return torch.cat((torch.zeros_like(mean), 2 * mean - 8), dim=1)


def predicted(source, stride):
    settings = InferenceSettings((64, 64, 64), 0.25, "gaussian", 1, "none", "fp32")
    return Predictor([Bright(stride)], settings, torch.device("cpu"))(source.voxels()[1])


def blob(size_zyx):
    """A ball at CENTRE_ZYX voxels, on voxels of that size."""
    offsets = np.moveaxis(np.indices(SHAPE), 0, -1) - CENTRE_ZYX
    return np.exp(-((offsets * size_zyx) ** 2).sum(-1) / (2 * SIGMA_ANGSTROM**2)).astype(np.float32)


def source_of(path, **settings):
    run = Run("TS_1", {"denoised": path}, path.parent / "Picks")
    return SourceTomogram(run, TomogramSettings("denoised", None, SPACING, **settings))


def mrc_source(folder, size_zyx=(SPACING,) * 3, start=(0, 0, 0), origin=(0, 0, 0), **settings):
    with mrcfile.new(folder / "tomogram.mrc") as file:
        file.set_data(blob(size_zyx))
        file.voxel_size = size_zyx[::-1]
        file.nstart = start
        file.header.origin = origin
    return source_of(folder / "tomogram.mrc", **settings)


def zarr_source(folder):
    group = zarr.create_group(folder / "tomogram.zarr", zarr_format=2)
    group.create_array("0", shape=SHAPE, dtype="float32")[:] = blob((SPACING,) * 3)
    transformations = [
        {"type": "scale", "scale": [SPACING] * 3},
        {"type": "translation", "translation": [-40.0, 0.0, 25.0]},
    ]
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    dataset = {"path": "0", "coordinateTransformations": transformations}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    return source_of(folder / "tomogram.zarr")


# --- What another program sees ------------------------------------------------------------------------
def centre_of_mass(volume, size_zyx, first_zyx):
    """In angstrom, of what stands out."""
    weights = np.where(volume > 0.05, volume, 0).astype(np.float64)
    voxel = [(weights * index).sum() / weights.sum() for index in np.indices(volume.shape)]
    return np.array(voxel) * size_zyx + first_zyx


def seen_in_mrc(path):
    """Voxels, their size and the place of the first, zyx, by the header alone."""
    with mrcfile.open(path) as file:
        header = file.header
        size = np.array([file.voxel_size[axis] for axis in "zyx"], dtype=np.float64)
        origin = np.array([header.origin[axis] for axis in "zyx"], dtype=np.float64)
        start = np.array([header.nzstart, header.nystart, header.nxstart])
        return file.data.copy(), size, origin if origin.any() else start * size


def seen_in_zarr(path, channel=None):
    group = zarr.open_group(path, mode="r", zarr_format=2)
    [image] = group.attrs["multiscales"]
    [scale, translation] = image["datasets"][0]["coordinateTransformations"]
    assert image["version"] == "0.4" and {axis.get("unit") for axis in image["axes"][-3:]} == {"angstrom"}
    voxels = group[image["datasets"][0]["path"]][:]
    assert len(image["axes"]) == len(scale["scale"]) == len(translation["translation"]) == voxels.ndim
    size, first = (np.array(values[-3:]) for values in (scale["scale"], translation["translation"]))
    return voxels if channel is None else voxels[channel], size, first


def seen(saved, name="blob", run="TS_1"):
    if saved.format == "mrc":
        return seen_in_mrc(saved.folder / run / f"{name}.mrc")
    return seen_in_zarr(saved.folder / f"{run}.zarr", 0 if saved.kind == "probability" else None)


TOMOGRAMS = {
    "plain": mrc_source,
    "nstart": partial(mrc_source, start=(30, -20, 7)),
    "origin": partial(mrc_source, start=(1, 1, 1), origin=(-123.4, 50.0, 0.0)),
    "rescaled": partial(mrc_source, size_zyx=(13.0,) * 3, origin=(5.0, 6.0, 7.0), rescale=True),
    "no-cubes": partial(mrc_source, size_zyx=(13.0, 9.0, 9.0), start=(4, 5, 6), rescale=True),
    "zarr": zarr_source,
}


@pytest.mark.parametrize("map_format", MAP_FORMATS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("made", TOMOGRAMS.values(), ids=TOMOGRAMS)
def test_a_map_lies_on_its_tomogram(tmp_path, made, stride, map_format):
    source = made(tmp_path)
    prediction = predicted(source, stride)
    see = seen_in_mrc if source.tomogram.path.suffix == ".mrc" else seen_in_zarr
    expected = centre_of_mass(*see(source.tomogram.path))
    saved = SavedMaps(tmp_path / "maps", map_format)
    saved.write(prediction, source, "key", BLOB)
    volume, size, first = seen(saved, "blob")
    assert size == pytest.approx(np.full(3, stride * SPACING)) and volume.max() > 0.9
    assert volume.shape == tuple(-(-side // stride) for side in source.tomogram.shape_zyx)
    np.testing.assert_allclose(centre_of_mass(volume, size, first), expected, atol=0.1 * SPACING)
    saved = replace(saved, kind="labels")
    saved.write(prediction, source, "key", BLOB)
    labels, *grid = seen(saved, "labels")
    np.testing.assert_array_equal(labels, volume > 0.5)
    np.testing.assert_array_equal(grid, [size, first])


# --- Files --------------------------------------------------------------------------------------------
def prediction_of(shape=(5, 6, 7), particles=PARTICLES, stride=2):
    """Each particle is sure in one corner: that of its label's bits z, y, x."""
    probability = torch.rand((len(particles) + 1, *shape), generator=torch.Generator().manual_seed(0)) / 10
    probability[0] = 0.5
    for label in range(1, len(particles) + 1):
        probability[label][corner(label)] = 1.0
    return Prediction(probability, None, stride)


def corner(label):
    return tuple(-(label >> bit & 1) for bit in (2, 1, 0))


@pytest.fixture
def source(tmp_path):
    return mrc_source(tmp_path)


def test_a_bright_corner_stays_in_its_corner(source, tmp_path):
    prediction = prediction_of()
    for map_format in MAP_FORMATS:
        SavedMaps(tmp_path, map_format).write(prediction, source, "key", PARTICLES)
    channels, *_ = seen_in_zarr(tmp_path / "TS_1.zarr")
    for channel, particle in zip(channels, PARTICLES, strict=True):
        volume, *_ = seen_in_mrc(tmp_path / "TS_1" / f"{particle.name}.mrc")
        assert volume.dtype == channel.dtype == np.float32 and volume[corner(particle.label)] == 1.0
        np.testing.assert_array_equal(volume, prediction.probability[particle.label])
        np.testing.assert_array_equal(channel, volume)


def test_labels_are_numbers_of_the_table(source, tmp_path):
    for map_format in MAP_FORMATS:
        SavedMaps(tmp_path, map_format, "labels").write(prediction_of(), source, "key", PARTICLES)
    in_mrc, in_zarr = seen_in_mrc(tmp_path / "TS_1" / "labels.mrc")[0], seen_in_zarr(tmp_path / "TS_1.zarr")[0]
    assert in_mrc.dtype == np.int8 and in_zarr.dtype == np.uint8 and np.array_equal(in_mrc, in_zarr)
    assert all(in_mrc[corner(particle.label)] == particle.label for particle in PARTICLES)
    assert np.count_nonzero(in_mrc) == len(PARTICLES)
    with mrcfile.open(tmp_path / "TS_1" / "labels.mrc") as file:
        text = " ".join(file.get_labels())
    assert "1 apo-ferritin, 2 beta-amylase" in text and "6 virus-like-particle" in text


@pytest.mark.parametrize(("count", "dtype"), [(127, np.int8), (128, np.int16), (255, np.int16)])
def test_labels_of_many_particles_do_not_wrap(source, tmp_path, count, dtype):
    particles = [replace(BLOB[0], name=f"p{label}", label=label) for label in range(1, count + 1)]
    probability = torch.zeros((count + 1, 1, 1, 2))
    probability[count, 0, 0, 1] = 1.0
    SavedMaps(tmp_path, "mrc", "labels").write(Prediction(probability, None, 1), source, "key", particles)
    volume, *_ = seen_in_mrc(tmp_path / "TS_1" / "labels.mrc")
    assert volume.dtype == dtype and volume.tolist() == [[[0, count]]]
    SavedMaps(tmp_path, "zarr", "labels").write(Prediction(probability, None, 1), source, "key", particles)
    assert seen_in_zarr(tmp_path / "TS_1.zarr")[0].tolist() == [[[0, count]]]


def test_of_equal_classes_the_first_is_the_label():
    probability = torch.tensor([[0.5, 0.2, 0.3], [0.5, 0.4, 0.3], [0.0, 0.4, 0.4]]).view(3, 1, 1, 3)
    assert label_map(probability).tolist() == [[[0, 1, 2]]]


def test_files_are_as_the_formats_ask_for(source, tmp_path):
    for kind in ("probability", "labels"):
        for map_format in MAP_FORMATS:
            SavedMaps(tmp_path, map_format, kind).write(prediction_of(), source, "key", PARTICLES)
        assert all(mrcfile.validate(path) for path in (tmp_path / "TS_1").glob("*.mrc"))
        attributes = json.loads((tmp_path / "TS_1.zarr" / ".zattrs").read_text())
        array = json.loads((tmp_path / "TS_1.zarr" / "0" / ".zarray").read_text())
        assert array["zarr_format"] == 2 and array["dimension_separator"] == "/"
        if kind == "probability":
            channels = attributes["omero"]["channels"]
            assert [axis["name"] for axis in attributes["multiscales"][0]["axes"]] == [*"czyx"]
            assert [one["label"] for one in channels] == [particle.name for particle in PARTICLES]
            assert [one["color"].lower() for one in channels] == [particle.colour[1:] for particle in PARTICLES]
            assert channels[0]["window"] == {"start": 0.0, "end": 1.0, "min": 0.0, "max": 1.0}
    image_label = attributes["image-label"]
    names = {0: "background", **{particle.label: particle.name for particle in PARTICLES}}
    assert {one["label-value"]: one["name"] for one in image_label["properties"]} == names
    assert [one["label-value"] for one in image_label["colors"]] == list(names)
    assert image_label["colors"][:2] == [
        {"label-value": 0, "rgba": [0, 0, 0, 0]},
        {"label-value": 1, "rgba": [0xE6, 0x19, 0x4B, 255]},
    ]
    for path in (tmp_path / "TS_1" / "labels.mrc", tmp_path / "TS_1.zarr"):
        tomogram = open_tomogram(path)
        assert tomogram.voxel_spacing_angstrom == 2 * SPACING and tomogram.shape_zyx == (5, 6, 7)


# --- Finished, missing, outdated ----------------------------------------------------------------------
@pytest.mark.parametrize("map_format", MAP_FORMATS)
def test_what_is_missing_damaged_or_of_another_kind_is_not_finished(source, tmp_path, map_format):
    saved, name = SavedMaps(tmp_path / "maps", map_format), source.name
    assert not saved.are_finished(name, "key", PARTICLES)
    saved.write(prediction_of(), source, "key", PARTICLES)
    assert saved.are_finished(name, "key", PARTICLES) and not saved.are_finished(name, "other", PARTICLES)
    labels = replace(saved, kind="labels")
    assert not labels.are_finished(name, "key", PARTICLES)
    labels.write(prediction_of(), source, "key", PARTICLES)
    assert labels.are_finished(name, "key", PARTICLES) and not saved.are_finished(name, "key", PARTICLES)
    part, notes = ("labels.mrc", ".finished.json") if map_format == "mrc" else ("0/.zarray", ".zattrs")
    for damage in (lambda path: path.unlink(), lambda path: path.write_text("[1]") and path.write_text("[")):
        damage(labels.path(name) / notes)
        assert not labels.are_finished(name, "key", PARTICLES)
    labels.write(prediction_of(), source, "key", PARTICLES)
    (labels.path(name) / part).unlink()
    assert not labels.are_finished(name, "key", PARTICLES)


def test_maps_of_either_format_stay_until_they_are_outdated(source, tmp_path):
    for map_format in MAP_FORMATS:
        SavedMaps(tmp_path / "maps", map_format).write(prediction_of(), source, "key", PARTICLES)
    unasked = SavedMaps(tmp_path / "maps")
    unasked.remove_outdated("TS_2", "other")
    unasked.remove_outdated("TS_1", "key")
    assert {path.name for path in unasked.folder.iterdir()} == {"TS_1", "TS_1.zarr"}
    unasked.remove_outdated("TS_1", "other")
    assert not list(unasked.folder.iterdir())


@pytest.mark.parametrize("map_format", MAP_FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_stopped_or_with_a_full_disk_the_maps_of_before_stay(source, tmp_path, map_format, error, monkeypatch):
    saved = SavedMaps(tmp_path / "maps", map_format)
    saved.write(prediction_of(), source, "key", PARTICLES)

    def files():
        return {path: path.read_bytes() for path in saved.folder.rglob("*") if path.is_file()}

    before, given = files(), []

    def stops_at_the_third(prediction, particles):
        for particle in particles:
            given.append(particle)
            if len(given) == 3:
                raise error
            yield prediction.probability[particle.label].numpy()

    monkeypatch.setattr("evaluation.saved_maps._one_by_one", stops_at_the_third)
    full = pytest.raises(MachineError, match=r"cannot write .*TS_1.*No space left on device; make room and run again")
    with full if isinstance(error, OSError) else pytest.raises(KeyboardInterrupt):
        saved.write(prediction_of(), source, "other", PARTICLES)
    assert files() == before and len(given) == 3


# --- The script ---------------------------------------------------------------------------------------
@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """The script on two tomograms of noise, with empty pictures; its results are in ``out``."""

    def draw(path, *_, **__):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path)

    monkeypatch.setattr("evaluation.runs.save_overlay", draw)
    for seed, name in enumerate(tiny_campaign.EVALUATED):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    tiny_campaign.write_checkpoint(tmp_path / "network.ckpt", fold=0, seed=1)
    words = [
        *("--model_path", tmp_path / "network.ckpt", "--data_root", tmp_path / "data"),
        *("--output_dir", tmp_path / "out", "--cache_dir", tmp_path / "cache"),
        *("--precision", "fp32", "--inference_window", "train", "--device", "cpu"),
    ]
    return lambda *more: eval_public_czi.main([str(word) for word in (*words, *more)])


def states(folder):
    """File -> when it was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_maps_are_saved_beside_finished_picks(evaluate, networks_run, tmp_path, monkeypatch, capsys):
    """Of another format or kind nothing but the maps is made, from those in the cache, and no tomogram is read."""
    out, (first, second) = tmp_path / "out", tiny_campaign.EVALUATED
    evaluate()
    assert sorted(networks_run) == [first, second] and not (out / "maps").exists()
    assert "maps      " not in capsys.readouterr().out
    picks = states(out / "picks")
    with monkeypatch.context() as patch:
        patch.setattr(SourceTomogram, "_read", lambda self: pytest.fail("nobody needs the voxels"))
        evaluate("--save_maps", "mrc")
        assert capsys.readouterr().out.count(f"maps      {out / 'maps'}\n") == 1
        in_mrc = states(out / "maps")
        assert {name for name in in_mrc if name.endswith(".mrc")} == {
            f"{run}/{particle.name}.mrc" for run in (first, second) for particle in PARTICLES
        }
        evaluate("--save_maps", "zarr")
        for run in (first, second):
            channels, size, origin = seen_in_zarr(out / "maps" / f"{run}.zarr")
            for channel, particle in zip(channels, PARTICLES, strict=True):
                volume, *_ = seen_in_mrc(out / "maps" / run / f"{particle.name}.mrc")
                np.testing.assert_array_equal(volume, channel)
            assert size.tolist() == [10.0] * 3 and origin.tolist() == [0.0] * 3 and channels.std() > 0
        assert in_mrc.items() <= states(out / "maps").items()

        everything = states(out / "maps")
        (out / "maps" / first / "ribosome.mrc").unlink()
        evaluate("--save_maps", "mrc")
        again = states(out / "maps")
        changed = {name for name in everything if again[name] != everything[name]}
        assert again.keys() == everything.keys() and changed == {n for n in in_mrc if n.startswith(f"{first}/")}

        evaluate("--save_maps", "mrc", "--map_kind", "labels")
        assert [path.name for path in (out / "maps" / first).glob("*.mrc")] == ["labels.mrc"]
        labels, *_ = seen_in_mrc(out / "maps" / first / "labels.mrc")
        channels, *_ = seen_in_zarr(out / "maps" / f"{first}.zarr")
        assert (labels[channels.max(0) > 0.5] == channels.argmax(0)[channels.max(0) > 0.5] + 1).all()
    assert len(networks_run) == 2 and states(out / "picks") == picks


def test_maps_of_another_tomogram_or_of_a_run_that_is_gone_do_not_stay(evaluate, tmp_path, capsys):
    out, (first, second) = tmp_path / "out", tiny_campaign.EVALUATED
    evaluate("--save_maps", "mrc")
    evaluate("--save_maps", "zarr")
    kept = states(out / "maps" / second)
    path = next((tmp_path / "data").rglob(f"{first}/**/denoised.mrc"))
    with mrcfile.open(path, "r+") as file:
        file.set_data(file.data[::-1].copy())
        file.voxel_size = tiny_campaign.SPACING
    evaluate()
    assert {path.name for path in (out / "maps").iterdir()} == {second, f"{second}.zarr"}
    assert states(out / "maps" / second) == kept
    evaluate("--save_maps", "mrc", "--force_rerun")
    assert {path.name for path in (out / "maps").iterdir()} == {first, second}
    assert states(out / "maps" / second) != kept
    for folder in (tmp_path / "data").rglob(first):
        shutil.rmtree(folder)
    (out / "maps" / ".half.partial").mkdir()
    capsys.readouterr()
    evaluate("--save_maps", "zarr")
    assert f"removed the results of {first}:" in capsys.readouterr().out
    assert {path.name for path in (out / "maps").iterdir()} == {second, f"{second}.zarr"}


def test_a_full_disk_is_told_in_one_line_and_the_same_command_goes_on(evaluate, tmp_path, monkeypatch):
    out, (first, second) = tmp_path / "out", tiny_campaign.EVALUATED
    original = mrcfile.new

    def full(path, *rest, **options):
        if first in str(path) and "ribosome" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr("data.volume_files.mrcfile.new", full)
        with pytest.raises(MachineError, match=rf"cannot write .*{first}.*; make room and run again"):
            evaluate("--save_maps", "mrc")
    assert not list((out / "maps").iterdir())
    picks = states(out / "picks")
    evaluate("--save_maps", "mrc")
    assert {path.name for path in (out / "maps").iterdir()} == {first, second}
    assert picks.items() <= states(out / "picks").items()


def test_a_kind_without_a_format_is_refused(evaluate, tmp_path):
    with pytest.raises(InputError, match="--map_kind has no effect without --save_maps"):
        evaluate("--map_kind", "labels")
    assert not (tmp_path / "out").exists()
