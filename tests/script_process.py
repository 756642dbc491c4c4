"""Scripts as a user starts them, each in a process of its own in which the large libraries are imported already.

Importing them takes longer than most of what the scripts are asked for. Modules of the program are imported by each
process itself, with its own environment.
"""

import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Imported once, by the process that all of these are forked from.
LIBRARIES = (
    *("torch", "pytorch_lightning", "monai.networks.blocks", "monai.losses", "pandas", "zarr", "mrcfile", "cc3d"),
    *("scipy.ndimage", "scipy.signal", "scipy.spatial", "skimage.segmentation", "sklearn.cluster"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "starfile"),
)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(LIBRARIES))


def run_script_process(script, *words, environment=None, folder=ROOT, timeout=300):
    """``python script words`` in a folder; what subprocess.run returns, with output and errors as text.

    Parameters
    ----------
    environment : of the process; None: that of this one
    """
    environment = dict(os.environ) if environment is None else environment
    with tempfile.TemporaryDirectory() as kept:
        files = [Path(kept) / name for name in ("out", "err")]
        argv = [str(script), *map(str, words)]
        process = CONTEXT.Process(target=_be_the_script, args=(argv, environment, str(folder), *map(str, files)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(argv, timeout)
        return subprocess.CompletedProcess(
            argv, process.exitcode, *(file.read_text(encoding="utf-8") for file in files)
        )


def _be_the_script(argv, environment, folder, out, err):
    for number, name in enumerate((os.devnull, out, err)):
        file = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, mode, closefd=False), encoding="utf-8", write_through=True)
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = sys.orig_argv = argv
    # Neither the tests nor another copy of the program are found by the script.
    others = [path for path in sys.path if "site-packages" in path or not Path(path or ".").is_relative_to(ROOT)]
    sys.path = [str(Path(argv[0]).resolve().parent), *others]
    try:
        runpy.run_path(argv[0], run_name="__main__")
    finally:
        sys.stdout.flush()
