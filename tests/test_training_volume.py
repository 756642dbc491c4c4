"""Training volumes: voxels, labels and centres of a run, and the same patches wherever the voxels are."""

import json
import shutil
from dataclasses import replace

import drawn_data
import mrcfile
import numpy as np
import pytest
import torch
import zarr

import prepare_mask_czi
from data.normalization import clip_to_percentiles
from data.patches import PatchBatches
from data.tomogram import open_tomogram
from data.training_volume import VolumeSource, check_same_spacing
from errors import InputError
from particle_config import PARTICLES


@pytest.fixture
def source(phantom, tmp_path):
    """The phantom's two training runs, with a second tomogram type added."""
    shutil.copytree(phantom / "train", tmp_path / "data" / "train")
    for path in sorted((tmp_path / "data").rglob("denoised.zarr")):
        shape = open_tomogram(path).shape_zyx
        voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        zarr.create_array(path.parent / "wbp.zarr", shape=shape, chunks=(16, 32, 32), dtype="f4")[:] = voxels
    return VolumeSource(
        data_root=tmp_path / "data",
        mask_root=tmp_path / "mask",
        tomo_types=("denoised", "wbp"),
        radius_fraction=0.5,
        norm_percentiles=(0.5, 99.5),
        particles=PARTICLES,
        cache_dir=tmp_path / "cache",
    )


def test_what_the_files_say_in_voxels_and_labels(source):
    """Points in angstrom, xyz, become centres in voxels, zyx, under the labels of the table."""
    run = source.runs()[0]
    volume = source.load(run)
    tomogram = open_tomogram(run.tomogram_path("denoised"))
    assert np.array_equal(volume.images[0], clip_to_percentiles(tomogram.read(), 0.5, 99.5))
    mask = np.asarray(volume.mask)
    assert mask.dtype == np.uint8 and mask.shape == volume.images[1].shape == tomogram.shape_zyx
    for particle in PARTICLES:
        points = json.loads((run.picks_dir / f"{particle.name}.json").read_text())["points"]
        expected = np.array([[p["location"][axis] for axis in "zyx"] for p in points]).reshape(-1, 3)
        expected /= tomogram.voxel_spacing_angstrom
        np.testing.assert_allclose(volume.centres_zyx_voxels[particle.label], expected, rtol=1e-12)
        for z, y, x in np.rint(expected).astype(int):
            assert mask[z, y, x] == particle.label


def test_without_percentiles_the_values_are_raw(source):
    run = source.runs()[0]
    volume = replace(source, norm_percentiles=None).load(run)
    assert np.array_equal(volume.images[0], open_tomogram(run.tomogram_path("denoised")).read())


def test_another_voxel_spacing_is_that_of_the_training_data(source):
    run = source.runs()[0]
    here, other = source.load(run), replace(source, voxel_spacing_angstrom=20.0).load(run)
    assert other.voxel_spacing_angstrom == 20.0
    ratio = here.voxel_spacing_angstrom / 20.0
    for label, centres in here.centres_zyx_voxels.items():
        np.testing.assert_allclose(other.centres_zyx_voxels[label], centres * ratio)


def test_batches_do_not_depend_on_where_the_voxels_are(source):
    """From the cache's files and prepared masks, and from arrays in memory."""
    painted = [source.load(run) for run in source.runs()]
    prepare_mask_czi.main(["--data_root", str(source.data_root), "--output_dir", str(source.mask_root)])
    on_disk = [source.load(run) for run in source.runs()]
    assert all(isinstance(image[:, :, :], np.memmap) for one in on_disk for image in (*one.images, one.mask))
    in_memory = [replace(one, images=tuple(map(np.array, one.images)), mask=np.array(one.mask)) for one in painted]
    settings = {"patch_size_zyx": (16, 24, 32), "batch_size": 3, "background_fraction": 0.3, "seed": 0}
    for index in range(4):
        expected, found = (PatchBatches(v, **settings)[index] for v in (in_memory, on_disk))
        assert torch.equal(expected["image"], found["image"]) and torch.equal(expected["label"], found["label"])


# --- Prepared masks -----------------------------------------------------------------------------------
def prepared(source, given=False):
    """The source after prepare_mask_czi.py, and the mask of its first run as the picks of then gave it."""
    prepare_mask_czi.main(["--data_root", str(source.data_root), "--output_dir", str(source.mask_root)])
    source = replace(source, masks_given=given)
    return source, np.array(source.labels(source.runs()[0]).mask)


def move_ribosome(run):
    """All points of the ribosome by four voxels."""
    path = run.picks_dir / "ribosome.json"
    content = json.loads(path.read_text())
    for point in content["points"]:
        point["location"]["x"] += 40.0
    path.write_text(json.dumps(content))


def drop_records(source):
    """As earlier versions left masks."""
    for path in source.mask_root.rglob("*.json"):
        path.unlink()


def test_masks_of_other_picks_are_painted_anew(source):
    source, before = prepared(source)
    first, second = source.runs()
    move_ribosome(first)
    labels = source.labels(first)
    assert labels.painted_since == "is not that of the picks" and source.labels(second).painted_since == ""
    expected = replace(source, mask_root=source.data_root / "none").labels(first).mask
    assert np.array_equal(labels.mask, expected) and not np.array_equal(expected, before)


def test_given_masks_of_other_picks_are_refused(source):
    source, _ = prepared(source, given=True)
    move_ribosome(source.runs()[0])
    with pytest.raises(InputError, match=r"TS_1_1.npy was made from other picks, .* run prepare_mask_czi.py again"):
        source.labels(source.runs()[0])


def test_masks_of_another_particle_table_are_refused(source):
    source, _ = prepared(source, given=True)
    larger = [replace(p, radius_angstrom=2 * p.radius_angstrom) if p.name == "ribosome" else p for p in PARTICLES]
    with pytest.raises(InputError, match="was made from another particle table"):
        replace(source, particles=tuple(larger)).labels(source.runs()[0])
    with pytest.raises(InputError, match="was made from another voxel size"):
        replace(source, voxel_spacing_angstrom=20.0).labels(source.runs()[0])


@pytest.mark.parametrize("given", [True, False])
def test_masks_of_an_earlier_version_are_compared_with_the_picks(source, given):
    """They carry nothing: what the picks give is taken as it is, anything else is not."""
    source, before = prepared(source, given)
    drop_records(source)
    run = source.runs()[0]
    assert isinstance(source.labels(run).mask[:, :, :], np.memmap)
    move_ribosome(run)
    if given:
        with pytest.raises(InputError, match="was made from nobody knows what"):
            source.labels(run)
    else:
        assert source.labels(run).painted_since and not np.array_equal(source.labels(run).mask, before)


def test_a_mask_that_is_missing_is_painted_or_leaves_its_run_out(source):
    source, before = prepared(source)
    first, second = source.runs()
    (source.mask_root / "segmentations_0.5" / f"{first.name}.npy").unlink()
    assert source.runs() == [first, second] and source.left_out() == {}
    labels = source.labels(first)
    assert labels.painted_since == "is missing" and np.array_equal(labels.mask, before)
    given = replace(source, masks_given=True)
    assert given.runs() == [second]
    assert given.left_out() == {first.name: f"mask in {source.mask_root / 'segmentations_0.5'}"}


def test_given_masks_that_are_not_there(source):
    for problem in ("does not exist", "holds no mask of a run"):
        with pytest.raises(InputError, match=f"--mask_dir .*: segmentations_0.5 {problem}"):
            replace(source, masks_given=True).runs()
        (source.mask_root / "segmentations_0.5").mkdir(parents=True, exist_ok=True)


def test_a_run_without_the_type_of_tomogram_is_named(source):
    first, second = source.runs()
    shutil.rmtree(first.tomogram_path("denoised"))
    only = replace(source, tomo_types=("denoised",))
    assert only.runs() == [second] and only.left_out() == {first.name: "denoised tomogram"}
    both = replace(source, tomo_types=("denoised", "wbp"))
    without, whole = both.runs()
    assert both.left_out() == {} and without.name == first.name
    assert both.types_of(without) == ["wbp"] and both.types_of(whole) == ["denoised", "wbp"]
    assert [len(both.load(run).images) for run in (without, whole)] == [1, 2]
    with pytest.raises(InputError, match=r"no run in .* has a tomogram of type 'dctf'"):
        replace(source, tomo_types=("denoised", "dctf")).runs()


def test_tomograms_are_normalised_once(source):
    """Each when it is first cut, by whoever cuts it."""
    run = source.runs()[0]
    for types in (0, 1, 1, 2, 2):
        for image in source.load(run).images[:types]:
            image[:1, 2:3, :4]
        entries = list((source.cache_dir / run.name).glob("*.npy"))
        assert len(entries) == types
        times = {entry: entry.stat().st_mtime_ns for entry in entries}
    assert times == {entry: entry.stat().st_mtime_ns for entry in times}


def test_resampled_training_data_keeps_its_places_in_angstrom(source):
    run = source.runs()[0]
    native, labels = source.labels(run), replace(source, rescale=13.0).labels(run)
    assert labels.voxel_spacing_angstrom == 13.0 and labels.content != native.content
    for label, centres in native.centres_zyx_voxels.items():
        expected = centres * native.voxel_spacing_angstrom
        np.testing.assert_allclose(labels.centres_zyx_voxels[label] * 13.0, expected, rtol=1e-9)
    volume = replace(source, rescale=13.0).load(run)
    assert {image.shape for image in volume.images} == {labels.mask.shape} != {native.mask.shape}


def test_resampling_to_the_first_run(source):
    first, second = source.runs()
    path = second.tomogram_path("denoised")
    attributes = json.loads((path / ".zattrs").read_text())
    for dataset in attributes["multiscales"][0]["datasets"]:
        transform = dataset["coordinateTransformations"][0]
        transform["scale"] = [scale * 1.3 for scale in transform["scale"]]
    (path / ".zattrs").write_text(json.dumps(attributes))
    for folder in list(path.parents):
        if folder.name.startswith("VoxelSpacing"):
            folder.rename(folder.with_name("VoxelSpacing13.016"))
    one_type = replace(source, tomo_types=("denoised",))
    labels = [one_type.labels(run) for run in one_type.runs()]
    with pytest.raises(InputError, match="--rescale"):
        check_same_spacing(labels)
    resampling = replace(one_type, rescale="first")
    labels = [resampling.labels(run) for run in resampling.runs()]
    check_same_spacing(labels)
    assert labels[1].voxel_spacing_angstrom == open_tomogram(first.tomogram_path("denoised")).voxel_spacing_angstrom


def test_resampling_to_a_first_run_whose_voxels_are_no_cubes(tmp_path):
    """Twice as thick in z: the cubes have its size in y and x, and places in angstrom stay."""
    drawn_data.write(tmp_path)

    def thick(size_yx):
        for path in tmp_path.rglob("TS_1/**/denoised.mrc"):
            with mrcfile.open(path, "r+") as file:
                file.voxel_size = (*size_yx[::-1], 2 * drawn_data.SPACING)

    thick((drawn_data.SPACING, drawn_data.SPACING))
    source = drawn_data.source_of(tmp_path, rescale="first")
    assert source.rescale_to_angstrom == drawn_data.SPACING
    first, second = (source.labels(run) for run in source.runs())
    check_same_spacing([first, second])
    assert first.mask.shape == (47, *drawn_data.SHAPE[1:]) and second.mask.shape == drawn_data.SHAPE
    for particle in PARTICLES:
        for z, y, x in drawn_data.CENTRES["TS_1"].get(particle.name, ()):
            assert np.asarray(first.mask)[z, y, x] == particle.label
    thick((14.9, 15.1))
    with pytest.raises(InputError, match=r"30 x 14\.9 x 15\.1 angstrom .* --rescale \(angstrom\)"):
        drawn_data.source_of(tmp_path, rescale="first").rescale_to_angstrom  # noqa: B018


def test_a_damaged_mask_is_painted_anew_or_refused(source):
    source, _ = prepared(source)
    run = source.runs()[0]
    path = source.mask_root / "segmentations_0.5" / f"{run.name}.npy"
    content, whole = bytearray(path.read_bytes()), np.array(source.labels(run).mask[:, :, :])
    content[500] = 200  # a label that no table has
    path.write_bytes(content)
    labels = source.labels(run)
    assert labels.painted_since == "is not that of the picks"
    np.testing.assert_array_equal(labels.mask[:, :, :], whole)
    with pytest.raises(InputError, match=rf"{run.name}\.npy is damaged; run prepare_mask_czi\.py again"):
        replace(source, masks_given=True).labels(run)


def test_masks_that_a_stopped_command_left_incomplete_are_refused(source, monkeypatch):
    save_mask, calls = prepare_mask_czi.save_mask, []

    def killed_at_the_second(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save_mask(*args)

    monkeypatch.setattr(prepare_mask_czi, "save_mask", killed_at_the_second)
    words = ["--data_root", str(source.data_root), "--output_dir", str(source.mask_root)]
    with pytest.raises(KeyboardInterrupt):
        prepare_mask_czi.main(words)
    with pytest.raises(InputError, match=r"segmentations_0\.5 is incomplete: .*; run it again"):
        replace(source, masks_given=True).runs()
    prepare_mask_czi.main(words)
    assert len(replace(source, masks_given=True).runs()) == 2
