"""The gallery: which picks it shows, from tomograms read once; whole by itself, the same for the same inputs."""

import base64
import io
import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from html_pages import BROWSER, Reader, opened
from PIL import Image

from data.picks import picks_table
from data.tomogram import open_tomogram
from evaluation.report import gallery_figures
from evaluation.report.gallery import MOST_OVERLAYS, write_gallery
from evaluation.report.grey_pictures import GAP, OVERLAY_WIDTH, grey_picture, small_overlay
from evaluation.report.particle_sheets import GROUP, GalleryTomogram, cut_sheets, shown_groups, sorted_by_value
from particle_config import Particle

pytestmark = pytest.mark.pictures

NASTY = "<b>$x_1$</b> & $\\frac{\"'"
PARTICLES = (
    Particle("ribosome", 60.0, 1.0, 1, "#3cb44b"),
    Particle(NASTY, 50.0, 1.0, 2, "#e6194b"),
)
SPACING, SHAPE = 10.0, (30, 40, 50)


class Volumes:
    """Tomograms in memory that know how often, and with how many others, they are there."""

    def __init__(self, count, shape=SHAPE, spacing_zyx=(SPACING,) * 3):
        self.reads, self.alive, self.most_alive = [], 0, 0
        self.tomograms = [GalleryTomogram(f"TS_{k}", self._reader(k, shape), spacing_zyx) for k in range(count)]

    def _reader(self, number, shape):
        volumes = self

        class Counted(np.ndarray):
            def __del__(self):
                if self.base is not None and getattr(self, "is_whole", False):
                    volumes.alive -= 1

        def read():
            self.reads.append(number)
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
            voxels = np.random.default_rng(number).normal(size=shape).astype(np.float32).view(Counted)
            voxels.is_whole = True
            return voxels

        return read


def picks_of(names, count=4, seed=0, particles=PARTICLES, **columns):
    rng = np.random.default_rng(seed)
    high = np.array(SHAPE) * SPACING
    tables = [
        picks_table(name, one.name, rng.uniform(0, high, (count, 3)), rng.uniform(size=count)).assign(**columns)
        for name in names
        for one in particles
    ]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without charts, for what only their texts and small pictures say."""
    for name in ("radial_profile", "value_histogram"):
        monkeypatch.setattr(gallery_figures, name, lambda *_: "data:image/svg+xml;base64,")


def written(folder, picks, tomograms=None, particles=PARTICLES, **options):
    tomograms = Volumes(3).tomograms if tomograms is None else tomograms
    path = write_gallery(folder / "gallery.html", tomograms, picks, particles, **{"title": "Picks", **options})
    return path.read_text(encoding="utf-8")


def tiles(page):
    """Particle, class, texts of each small picture in turn."""
    found = re.findall(
        r'<li class="tile (\w*)".*?alt="(.*?)">\s*<span class="value.*?">(.*?)</span>(.*?)</li>', page, re.S
    )
    return [(name, kind, value.strip(), about) for kind, name, value, about in found]


def pixels(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        return np.asarray(image.convert("LA"))


# --- The page as a whole ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """All that a page can have, and names that are markup elsewhere."""
    folder = tmp_path_factory.mktemp("gallery")
    matplotlib.image.imsave(folder / "a.png", np.zeros((40, 60)))
    volumes = Volumes(3)
    tomograms = [*volumes.tomograms, replace(volumes.tomograms[0], name=NASTY)]
    picks = picks_of([one.name for one in tomograms], 30, confidence=np.linspace(0.1, 0.9, 30))
    hits = [True, False, None] * (len(picks) // 3)
    overlays = {NASTY: folder / "a.png", "TS_1": folder / "a.png"}
    texts = {"title": NASTY, "comment": NASTY, "command": f"python {NASTY}"}
    return written(folder, picks, tomograms, hits=hits, overlays=overlays, **texts)


def test_it_is_well_formed_and_names_are_text(full):
    reader = Reader(full)
    assert "<b>$" not in full and reader.text.count(NASTY) > 10
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {attributes["href"][1:] for tag, attributes in reader.tags if tag == "a"} <= set(ids)
    assert all(attributes["alt"] for tag, attributes in reader.tags if tag == "img")


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(full):
    reader = Reader(full)
    assert "http" not in full.replace("http-equiv", "")
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object"}
    assert all(source["src"].startswith("data:image/") for tag, source in reader.tags if tag == "img")
    assert not re.findall(r"url\(|@import", full)
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    for picture in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", full):
        content = base64.b64decode(picture)
        assert b'href="http' not in content and b"url(http" not in content and b"<script" not in content


@pytest.mark.skipif(BROWSER is None, reason="no browser at hand")
def test_a_browser_asks_nobody_and_complains_of_nothing(tmp_path, full):
    (tmp_path / "page.html").write_text(full, encoding="utf-8")
    page, said, asked = opened(tmp_path / "page.html", tmp_path)
    assert 'id="tomograms"' in page and "CONSOLE" not in said and asked == []


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    picks = picks_of(["TS_0", "TS_1"])
    first, second = (written(tmp_path / name, picks) for name in "ab")
    assert first == second and "data:image/svg" in first


def test_what_is_written_is_whole_or_not_there(tmp_path, undrawn):
    def fails():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        written(tmp_path, picks_of(["TS_0"]), [GalleryTomogram("TS_0", fails, (10.0,) * 3)])
    assert list(tmp_path.iterdir()) == []


# --- Which picks are shown ----------------------------------------------------------------------------
@pytest.mark.parametrize("count", [0, 1, 2, 95, 96, 97, 98, 1000])
def test_the_best_the_worst_and_some_in_between(count):
    groups = shown_groups(count)
    rows = np.concatenate(groups)
    assert len(rows) == min(count, 3 * GROUP) and np.all(np.diff(rows) > 0)
    if count:
        assert rows[0] == 0 and rows[-1] == count - 1
    if count > 3 * GROUP:
        assert [len(group) for group in groups] == [GROUP] * 3
        assert np.ptp(np.diff(groups[1])) <= 1


def test_they_are_sorted_by_confidence_where_all_have_one_and_else_by_score():
    picks = picks_table("TS", "a", np.zeros((3, 3)), [0.2, 0.9, 0.9], None, None, [0.5, 0.1, 0.7])
    picks["x"] = [1.0, 2.0, 3.0]
    assert sorted_by_value(picks)[0]["x"].tolist() == [3, 1, 2] and sorted_by_value(picks)[1] == "confidence"
    picks.loc[1, "confidence"] = np.nan
    assert sorted_by_value(picks)[0]["x"].tolist() == [2, 3, 1] and sorted_by_value(picks)[1] == "score"
    bare = picks[["experiment", "particle_type", "x", "y", "z"]]
    assert sorted_by_value(bare)[0]["x"].tolist() == [1, 2, 3] and sorted_by_value(bare)[1] is None


def test_a_large_sheet_says_what_it_shows(tmp_path, undrawn):
    count = 150
    picks = picks_of(["TS_0", "TS_1"], count // 2, particles=PARTICLES[:1])
    page = written(tmp_path, picks)
    shown, text = tiles(page), Reader(page).text
    values = [float(value) for _, _, value, _ in shown]
    assert len(shown) == 3 * GROUP and values == sorted(values, reverse=True)
    assert f"{3 * GROUP} of {count} picks are shown below" in text
    assert f"The {GROUP} of highest score" in text and f"{GROUP} evenly spaced in between" in text
    assert f"The {GROUP} of lowest score that were accepted" in text


def test_tile_says_where_it_is_and_whether_it_is_a_hit(tmp_path, undrawn):
    points = [[100.0, 200.0, 250.0], [150.0, 100.0, 120.0], [150.0, 260.0, 170.0]]
    picks = picks_table("TS_2", "ribosome", points, [0.5, 0.7, 0.6])
    page = written(tmp_path, picks, hits=[True, None, np.bool_(False)])
    shown = tiles(page)
    assert [(kind, value) for _, kind, value, _ in shown] == [("", "0.70"), ("false", "0.60 ✗"), ("hit", "0.50 ✓")]
    about = Reader(f"<p>{shown[2][3]}</p>").text
    assert "TS_2" in about and "x, y, z: 250, 200, 100 Å" in about and "voxel 25, 20, 10" in about
    assert "✓ 1 hit ✗ 1 false pick 1 not known" in Reader(page).text
    assert "✓" not in written(tmp_path, picks)


def test_picks_at_the_border_are_shown_and_left_out_of_the_mean(tmp_path, undrawn):
    points = [[150.0, 200.0, 250.0], [0.0, 200.0, 250.0], [150.0, 390.0, 250.0]]
    page = written(tmp_path, picks_table("TS_0", "ribosome", points, [0.9, 0.8, 0.7]))
    assert len(tiles(page)) == 3
    assert "Mean of 1 pick; 2 cut by the border are left out." in Reader(page).text
    page = written(tmp_path, picks_table("TS_0", "ribosome", points[1:], [0.8, 0.7]))
    assert len(tiles(page)) == 2 and "There is no mean: all picks lie at the border" in Reader(page).text


def test_a_page_of_nothing_and_of_picks_without_values(tmp_path):
    page = written(tmp_path, picks_of(["TS_0"]).iloc[:0])
    assert "No picks were found" in Reader(page).text and "nan" not in Reader(page).text and tiles(page) == []
    bare = picks_of(["TS_0"])[["experiment", "particle_type", "x", "y", "z"]]
    text = Reader(written(tmp_path, bare)).text
    assert "neither confidence nor score" in text and "All 4 picks" in text and "threshold" not in text
    text = Reader(written(tmp_path, picks_of(["TS_0"], 1, particles=PARTICLES[:1]))).text
    assert "The only pick" in text and "1 pick, score" in text and "2 tomograms without picks: TS_1, TS_2." in text


def test_counts_of_every_tomogram_are_there(tmp_path, undrawn):
    tomograms = [replace(one, name=f"T{k}") for k, one in enumerate(Volumes(40).tomograms)]
    page = written(tmp_path, picks_of(["T3"], 4), tomograms)
    rows = re.findall(r"<tr><td>(T\d+)</td>(.*?)</tr>", page, re.S)
    assert [name for name, _ in rows] == [one.name for one in tomograms]
    assert re.findall(r">(\d+)</td>", rows[3][1]) == ["4", "4", "8"] and 'class="long"' in page


def test_unknown_names_and_hits_of_another_length_are_errors(tmp_path):
    picks = picks_of(["TS_0"])
    with pytest.raises(ValueError, match="experiment 'TS_9'"):
        written(tmp_path, picks.replace({"experiment": {"TS_0": "TS_9"}}))
    with pytest.raises(ValueError, match="particle_type 'ribosome'"):
        written(tmp_path, picks, particles=PARTICLES[1:])
    with pytest.raises(ValueError, match="1 hits for 8 picks"):
        written(tmp_path, picks, hits=[True])


# --- Memory and reading -------------------------------------------------------------------------------
def test_each_tomogram_is_read_once_and_alone(tmp_path, undrawn):
    volumes = Volumes(6)
    picks = picks_of(["TS_4", "TS_1", "TS_0", "TS_5"])
    written(tmp_path, picks, volumes.tomograms)
    assert volumes.reads == [0, 1, 4, 5] and volumes.most_alive == 1 and volumes.alive == 0


def test_tomograms_whose_picks_are_not_shown_are_not_read(monkeypatch, tmp_path, undrawn):
    monkeypatch.setattr("evaluation.report.particle_sheets.GROUP", 1)
    monkeypatch.setattr("evaluation.report.particle_sheets.MOST_AVERAGED", 2)
    volumes = Volumes(5)
    picks = picks_of([one.name for one in volumes.tomograms], 1, particles=PARTICLES[:1])
    picks["score"] = [0.9, 0.8, 0.7, 0.6, 0.5]
    written(tmp_path, picks, volumes.tomograms)
    assert volumes.reads == [0, 1, 4]  # the best, one in between, the worst


# --- Pictures -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("spacing", [(10.0, 10.0, 10.0), (20.0, 8.0, 10.0)], ids=str)
def test_a_particle_is_in_the_middle_of_its_sheet_and_darker(spacing):
    shape = tuple(round(n / s) for n, s in zip((400, 480, 560), spacing, strict=True))
    centres = np.array([[121.3, 130.9, 140.2], [248.8, 307.7, 395.1]])
    grid = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"), -1)
    noise = np.random.default_rng(0).normal(0, 0.02, shape)
    voxels = 5 + noise - sum(np.exp(-((grid - c) ** 2).sum(-1) / (2 * 25.0**2)) for c in centres)
    picks = picks_table("TS", "ribosome", centres, [0.9, 0.8]).assign(hit=None)
    tomogram = GalleryTomogram("TS", lambda: voxels, spacing)
    [sheet] = cut_sheets([tomogram], picks, PARTICLES[:1], finest_spacing_angstrom=min(spacing))
    middle = sheet.box.samples // 2
    for image in (sheet.cutouts[0].xy, sheet.cutouts[1].xz, sheet.mean[middle], sheet.mean[:, middle]):
        row, column = np.unravel_index(np.argmin(image), image.shape)
        assert max(abs(row - middle), abs(column - middle)) <= 1
    assert len(sheet.profiles) == 2 and sheet.profiles.mean(0).argmin() <= 1
    assert abs(sheet.profiles[:, -1].mean()) < 0.2 * abs(sheet.profiles[:, 0].mean())


def test_the_first_row_is_drawn_lowest_and_the_outside_is_transparent():
    xy = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, np.nan]])
    image = pixels(grey_picture([xy, xy + 1], 0.0, 4.0))
    assert image.shape == (4 + GAP, 3, 2)
    assert image[0, :2, 0].tolist() == [192, 255] and image[1, :, 0].tolist() == [1, 64, 128]
    assert image[..., 1].astype(bool).tolist() == [[1, 1, 0], [1] * 3, *[[0] * 3] * GAP, [1, 1, 0], [1] * 3]


def test_the_grey_range_is_not_that_of_a_single_pick(tmp_path, undrawn):
    """Gold beside one particle does not make the others flat."""
    volumes = Volumes(1)
    plain = volumes.tomograms[0].read()
    plain[10:14, 10:14, 10:14] = -1e4
    picks = picks_of(["TS_0"], 40, particles=PARTICLES[:1])
    page = written(tmp_path, picks, [replace(volumes.tomograms[0], read=lambda: plain)])
    sources = re.findall(r'<li class="tile .*?src="(.*?)"', page, re.S)
    spreads = [pixels(source)[..., 0].std() for source in sources]
    assert np.median(spreads) > 20


def test_overlays_are_made_small_and_some_are_left_out(tmp_path, undrawn):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 2 * OVERLAY_WIDTH, 4), dtype=np.uint8)).save(tmp_path / "a.png")
    with Image.open(io.BytesIO(base64.b64decode(small_overlay(tmp_path / "a.png").split(",")[1]))) as image:
        assert image.size == (OVERLAY_WIDTH, 45)
    tomograms = Volumes(40).tomograms
    picks = pd.concat([picks_of([one.name], k, particles=PARTICLES[:1]) for k, one in enumerate(tomograms)])
    page = written(
        tmp_path / "out", picks, tomograms, overlays=dict.fromkeys((t.name for t in tomograms), tmp_path / "a.png")
    )
    captions = re.findall(r"<figcaption>(TS_\d+): (\d+) picks?</figcaption>", page)
    counts = [int(count) for _, count in captions]
    assert len(captions) == MOST_OVERLAYS and counts == sorted(counts, reverse=True) and {0, 39} <= set(counts)
    assert f"{MOST_OVERLAYS} of 40 tomograms are shown" in Reader(page).text and "28 are not" in Reader(page).text


def test_charts_of_many_and_of_few_picks():
    radii = np.array([0.0, 10.0, 20.0])
    profiles = np.array([[1.0, 2.0, np.nan], [2.0, 2.0, np.nan]])
    assert gallery_figures.radial_profile(radii, profiles, 15.0).startswith("data:image/svg")
    for values in (np.array([0.5]), np.array([-3.0, 12.0, 4.0]), np.array([7.0, 7.0])):
        assert gallery_figures.value_histogram(values, [None, True, False][: len(values)], "score")


def test_a_tomogram_on_disk_is_taken_as_it_is_opened(tmp_path, phantom, undrawn):
    path = next(phantom.rglob("denoised.zarr"))
    tomogram = GalleryTomogram.of("TS", open_tomogram(path))
    assert tomogram.read().shape == (32, 64, 64) and len(set(tomogram.voxel_spacing_zyx_angstrom)) == 1
    assert len(tiles(written(tmp_path, picks_table("TS", "ribosome", [[100.0, 300.0, 300.0]], [0.5]), [tomogram]))) == 1
