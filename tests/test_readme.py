"""README, BENCHMARKS.md, docs/flags.md and the parsers say the same."""

import importlib
import os
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

import config
from docs import flags

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "BENCHMARKS.md").read_text()
FLAGS = (ROOT / "docs" / "flags.md").read_text()
PUBLIC_DATA = (ROOT / "docs" / "public_data.md").read_text()
CLUSTER = (ROOT / "docs" / "cluster.md").read_text()
RECIPE = (ROOT / "docs" / "recipe.md").read_text()
# The commands of the Makefile, any variable of which could be a number.
MAKE = re.sub(r"\$\(\w+\)", "2", (ROOT / "Makefile").read_text().replace("$(RUN)", "python").replace("\t", ""))
MAKE = f"```bash\n{MAKE}```"
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py") if "def build_parser" in path.read_text(encoding="utf-8"))
PARSERS = [*SCRIPTS, "metrics.fbeta"]

# What the description of the published method names: flags, and values of those that have choices.
METHOD_FLAGS = {
    "prepare_mask_czi": "data_root output_dir tomo_type radius_fraction single_pixel_mask save_plots",
    "prepare_fullpublic_eval_annotations": "data_dir",
    "train": """
        encoder_name norm_type patch_size resume_from_checkpoint epochs batch_size lr use_scheduler use_swa use_ema
        use_gradnorm gradnorm_lr loss_type class_loss_weights data_root training_tomo_types augmentation_level
        augmentation_mode use_mixup mixup_prob norm_percentiles disable_global_norm radius_fraction single_pixel_mask
        comment fold run_specific_folds""",
    "eval_public_czi": "model_path limit_tomos_by_id",
    "run_experiment_evaluation": """
        experiments_dir experiment_names evaluation_strategy limit_final_eval_tomos comment""",
}
EVALUATION_FLAGS = """
    data_root output_dir tomo_type use_tta precision force_rerun sw_batch_size blend_mode norm_percentiles
    use_global_norm training_radius_fraction postprocessing_method postproc_internal_downsample hp_search_strategy
    per_class_hp_path fixed_conf_threshold fixed_nms_radius_fraction fixed_vol_frac_threshold
    fixed_cluster_radius_fraction fixed_min_cluster_vol_frac fixed_plm_gpu_peak_thresh fixed_ws_cluster_rad_frac
    conf_thresholds nms_radius_fractions vol_frac_thresholds cluster_radius_fractions min_cluster_vol_fracs
    plm_gpu_peak_threshs ms_cluster_rad_fracs ms_min_vol_fracs ws_cluster_rad_fracs ws_vol_frac_thresholds"""
METHOD_CHOICES = {
    "encoder_name": "resnet18 resnet34 resnet50 resnet101 deepfinder2",
    "norm_type": "batch instance mix",
    "loss_type": "ce focal_tversky ce_tversky tversky focal focal_tversky_pp",
    "augmentation_level": "none base advanced",
    "augmentation_mode": "anisotropic isotropic",
    "precision": "bf16 fp16 fp32",
    "blend_mode": "gaussian constant",
    "evaluation_strategy": "best_single ensemble_specialists kfold_ensemble",
    "postprocessing_method": "cc3d meanshift peak_local_max_gpu watershed",
    "hp_search_strategy": "per_class global",
}


def actions_of(name):
    """Flag -> argparse action, of one script's parser."""
    actions = importlib.import_module(name).build_parser()._actions
    return {flag: action for action in actions for flag in action.option_strings if flag not in ("-h", "--help")}


def commands(text):
    """Command lines in code blocks and in the text."""
    blocks, prose = (
        re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL),
        re.sub(r"```.*?```", "", text, flags=re.DOTALL),
    )
    lines = [*"".join(blocks).replace("\\\n", " ").splitlines(), *re.findall(r"`([^`\n]+)`", prose)]
    matches = (re.match(r"(srun )?(python (-m (metrics|benchmarks)|\w+\.py).*)", line) for line in lines)
    return [match[2] for match in matches if match]


def links(text):
    return sorted(set(re.findall(r"\]\(([^)\s]+)\)", text)))


# --- docs/flags.md ------------------------------------------------------------------------------------
@pytest.fixture
def paths_from_the_environment(monkeypatch):
    with monkeypatch.context() as patch:
        names = ("CZI_DATA_ROOT", "PUBLIC_EVAL_DATA_ROOT", "OUTPUT_ROOT", "CACHE_DIR")
        patch.setattr(os, "environ", {**os.environ, **{f"ETFINDER_{name}": "elsewhere" for name in names}})
        importlib.reload(config)
        yield
    importlib.reload(config)


@pytest.mark.usefixtures("paths_from_the_environment")
def test_the_page_of_flags_is_made_from_the_parsers(monkeypatch, tmp_path):
    assert str(config.CACHE_DIR) == "elsewhere"
    monkeypatch.setattr(flags, "PATH", tmp_path / "flags.md")
    flags.main()
    assert (tmp_path / "flags.md").read_text() == FLAGS, "docs/flags.md is out of date: run make docs"


def test_every_flag_of_every_script_is_on_the_page_once():
    cells = re.findall(r"^\| (`--.*?`) \|", FLAGS, flags=re.MULTILINE)
    counts = Counter(flag for cell in cells for flag in re.findall(r"--[\w-]+", cell))
    assert counts == Counter(dict.fromkeys((flag for name in PARSERS for flag in actions_of(name)), 1))


@pytest.mark.parametrize("name", PARSERS)
def test_every_script_is_on_the_page(name):
    assert f"| `{f'python -m {name}' if '.' in name else f'{name}.py'}` |" in FLAGS


# --- The published method -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", METHOD_FLAGS)
def test_the_flags_of_the_method_are_there(name):
    further = EVALUATION_FLAGS if name in ("eval_public_czi", "run_experiment_evaluation") else ""
    actions = actions_of(name)
    for flag in f"{METHOD_FLAGS[name]} {further}".split():
        assert f"--{flag}" in actions
        if flag in METHOD_CHOICES:
            assert set(METHOD_CHOICES[flag].split()) <= set(actions[f"--{flag}"].choices)


# --- README and BENCHMARKS.md -------------------------------------------------------------------------
def test_readme_is_short():
    assert len(README.splitlines()) <= 310


@pytest.mark.parametrize(
    "command",
    sorted({one for text in (README, BENCHMARKS, PUBLIC_DATA, CLUSTER, RECIPE, MAKE) for one in commands(text)}),
)
def test_commands_parse(command, monkeypatch):
    for name in ("ID", "MIN", "MAX", "COUNT"):  # those of a job array are tasks of one
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", "1")
    words = shlex.split(re.sub(r"\$\w+", "0", command))[1:]
    name = words.pop(1) if words[0] == "-m" else words[0].removesuffix(".py")
    importlib.import_module(name).build_parser().parse_args(words[1:])


def test_every_script_has_a_command():
    assert {name for name in PARSERS if not re.search(rf"python (-m )?{re.escape(name)}\b", README)} == set()


def test_make_targets_exist():
    named = set(re.findall(r"\bmake (\w+)[`\n]", README))
    assert {"demo", "test"} <= named <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_flags_in_the_text_exist():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    named = {flag for code in re.findall(r"`[^`\n]+`", prose) for flag in re.findall(r"--[a-z]\w+", code)}
    assert named <= {
        flag for name in [*PARSERS, "benchmarks.inference", "benchmarks.postprocessing"] for flag in actions_of(name)
    }


@pytest.mark.parametrize(
    ("file", "link"),
    [
        (file, link)
        for file in ("README.md", "BENCHMARKS.md", "docs/flags.md", "docs/public_data.md", "docs/recipe.md")
        for link in links((ROOT / file).read_text())
    ],
)
def test_links_lead_somewhere(file, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / file).parent / path if path else ROOT / file
    assert target.is_file()
    if anchor:
        titles = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_every_picture_is_shown():
    shown = {Path(link).name for text in (README, BENCHMARKS) for link in links(text)}
    assert {path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".png", ".jpg")} <= shown


def test_every_config_name_is_read():
    source = "\n".join(p.read_text() for p in [*ROOT.glob("*.py"), *ROOT.glob("*/*arguments.py")])
    names = re.findall(r"^([A-Z_]+) = ", (ROOT / "config.py").read_text(), flags=re.MULTILINE)
    unread = [name for name in names if f"config.{name}" not in source]
    assert not unread, f"config.py: nobody reads {unread}"
