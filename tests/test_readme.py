"""README, docs/flags.md and the parsers say the same."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py") if "def build_parser" in path.read_text(encoding="utf-8"))
PARSERS = [*SCRIPTS, "metrics.fbeta"]


def flags_of(name):
    parser = importlib.import_module(name).build_parser()
    return {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}


def commands():
    text = README.replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    return [line for line in blocks.splitlines() if re.match(r"python (-m metrics|\w+\.py)", line)]


# What the method's own description names, flag by flag.
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


def test_readme_is_short():
    assert len(README.splitlines()) <= 250


def test_the_page_of_flags_is_made_from_the_parsers(tmp_path):
    """Whatever the environment says; mend it by ``python -m docs.flags``."""
    script = "import docs.flags as flags, pathlib, sys; flags.PATH = pathlib.Path(sys.argv[1]); flags.main()"
    environment = {**os.environ, "ETFINDER_CACHE_DIR": "elsewhere", "ETFINDER_OUTPUT_ROOT": "elsewhere"}
    subprocess.run([sys.executable, "-c", script, tmp_path / "flags.md"], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "flags.md").read_text() == (ROOT / "docs" / "flags.md").read_text()


@pytest.mark.parametrize("name", PARSERS)
def test_every_script_and_every_flag_is_on_the_page(name):
    page = (ROOT / "docs" / "flags.md").read_text()
    assert (f"python -m {name}" if "." in name else f"{name}.py") in page
    assert all(f"`{flag}`" in page for flag in flags_of(name))


@pytest.mark.parametrize("name", METHOD_FLAGS)
def test_the_flags_of_the_method_are_there(name):
    further = EVALUATION_FLAGS if name in ("eval_public_czi", "run_experiment_evaluation") else ""
    assert {f"--{flag}" for flag in f"{METHOD_FLAGS[name]} {further}".split()} <= flags_of(name)


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    words = shlex.split(command)[1:]
    name = words.pop(1) if words[0] == "-m" else words[0].removesuffix(".py")
    importlib.import_module(name).build_parser().parse_args(words[1:])


def test_there_are_commands_and_scripts():
    assert len(commands()) >= 8 and {"train", "eval_public_czi", "prepare_mask_czi"} <= set(SCRIPTS)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w./]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_every_config_name_is_read():
    source = "\n".join(p.read_text() for p in [*ROOT.glob("*.py"), *ROOT.glob("*/*arguments.py")])
    names = re.findall(r"^([A-Z_]+) = ", (ROOT / "config.py").read_text(), flags=re.MULTILINE)
    unread = [name for name in names if f"config.{name}" not in source]
    assert not unread, f"config.py: nobody reads {unread}"
