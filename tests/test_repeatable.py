"""The same command twice gives the same bytes; what made a result is written down beside it."""

import json

import pytest
import tiny_campaign
import torch

import eval_public_czi
import prepare_mask_czi
import train
from data.content_hash import content_hash
from versions import versions

QUICK = [
    "--epochs",
    "1",
    "--steps_per_epoch",
    "2",
    "--batch_size",
    "2",
    "--patch_size",
    "16",
    "16",
    "16",
    "--fold",
    "0",
]


def trained_and_picked(data, root):
    """Weights, and the bytes of the picks, of one seed."""
    words = [
        "--data_root",
        data,
        "--output_dir",
        root,
        "--experiment_name",
        "run",
        "--precision",
        "fp32",
        "--lr",
        "1e-5",
        *QUICK,
    ]
    train.main([str(word) for word in words])
    words = ["--model_path", root / "run", "--data_root", data, "--output_dir", root / "out", "--precision", "fp32"]
    words += ["--cache_dir", root / "cache", "--fixed_plm_gpu_peak_thresh", "0.01", "--use_tta"]
    eval_public_czi.main([str(word) for word in words])
    weights = torch.load(root / "run" / "fold_0-last.ckpt", weights_only=True)["state_dict"]
    return weights, (root / "out" / "submission.csv").read_bytes()


@pytest.mark.filterwarnings("ignore:networks were trained on")
def test_the_same_seed_gives_the_same_picks(tmp_path):
    for seed, name in enumerate(("TS_1", "TS_2")):
        tiny_campaign.write_run(tmp_path / "data", name, seed)
    found = [trained_and_picked(tmp_path / "data", tmp_path / name) for name in ("once", "again")]
    assert all(torch.equal(found[0][0][name], weight) for name, weight in found[1][0].items())
    assert found[0][1] == found[1][1] and found[0][1].count(b"\n") > 10

    # What made them.
    [made] = json.loads((tmp_path / "once" / "run" / "args.json").read_text())["made_with"]
    assert made["versions"] == versions() and made["command"].startswith("python ")
    record = json.loads((tmp_path / "once" / "out" / "run_parameters.json").read_text())
    assert record["versions"]["torch"] and "python" in record["versions"] and "etfinder" in record["versions"]
    [checkpoint] = (tmp_path / "once" / "run").glob("fold_0-best-fscore-*.ckpt")
    assert record["networks"] == {checkpoint.name: content_hash(checkpoint)}
    [tomogram] = (tmp_path / "data").rglob("TS_1/**/denoised.mrc")
    assert record["data"]["TS_1"]["tomogram"] == content_hash(tomogram) and len(record["data"]["TS_2"]["truth"]) == 32


def test_data_says_what_made_it(tmp_path):
    tiny_campaign.write_run(tmp_path, "TS_1", 1)
    prepare_mask_czi.main(["--data_root", str(tmp_path)])
    record = json.loads((tmp_path / "mask" / "segmentations_0.5" / "run_parameters.json").read_text())
    assert record["versions"] == versions() and f"--data_root {tmp_path}" in record["command"]
