"""What several test files need."""

import pytest

import make_phantom_dataset


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """A tiny data set in both layouts: two training runs, one portal run without prepared picks."""
    root = tmp_path_factory.mktemp("phantom")
    make_phantom_dataset.main(
        ["--output_dir", str(root), "--num_train", "2", "--num_eval", "1", "--shape", "32", "64", "64"]
    )
    return root
