"""Scripts as a user starts them, each in a process of its own in which the large libraries are imported already.

Importing them takes longer than most of what the scripts are asked for. Modules of the program are imported by each
process itself, with its own environment.
"""

import io
import multiprocessing
import os
import runpy
import signal
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


class ScriptProcess:
    """``python script words`` in a folder, at work; as subprocess.Popen, with output and errors as text.

    Parameters
    ----------
    environment : of the process; None: that of this one
    """

    def __init__(self, script, *words, environment=None, folder=ROOT):
        environment = dict(os.environ) if environment is None else environment
        self._kept = tempfile.TemporaryDirectory()
        self._files = [Path(self._kept.name) / name for name in ("out", "err")]
        self.args = [str(script), *map(str, words)]
        options = (self.args, environment, str(folder), *map(str, self._files))
        self._process = CONTEXT.Process(target=_be_the_script, args=options)
        self._process.start()

    @property
    def returncode(self):
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()

    def communicate(self, timeout=300):
        """Output and errors, when it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        with self._kept:
            return tuple(file.read_text(encoding="utf-8") for file in self._files)


def run_script_process(script, *words, environment=None, folder=ROOT, timeout=300):
    """What subprocess.run returns of a ScriptProcess."""
    process = ScriptProcess(script, *words, environment=environment, folder=folder)
    texts = process.communicate(timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, *texts)


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
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = sys.orig_argv = argv
    # Neither the tests nor another copy of the program are found by the script.
    others = [path for path in sys.path if "site-packages" in path or not Path(path or ".").is_relative_to(ROOT)]
    sys.path = [str(Path(argv[0]).resolve().parent), *others]
    try:
        runpy.run_path(argv[0], run_name="__main__")
    finally:
        sys.stdout.flush()
