"""macOS, as far as Linux can play it, and Windows, which gets one sentence."""

import subprocess
import sys

from reproduction.sidecar import REPOSITORY

# After the packages that ask for the system at their import, what macOS does not have is taken away.
MACOS = """
import importlib, io, os, pathlib, pkgutil, select, signal, sys
import h5py, matplotlib.pyplot, nbclient, numpy, pandas, papermill, psutil, scipy.linalg, seaborn, torch, torchvision
for name in ("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "posix_fallocate", "memfd_create", "pidfd_open",
             "sendfile", "splice", "copy_file_range", "eventfd", "O_DIRECT", "O_TMPFILE", "unshare", "setns"):
    if hasattr(os, name):
        delattr(os, name)
del select.epoll
sys.platform = "darwin"
def without_proc(real):
    def found(file, *more, **named):
        if str(file).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "macOS has no such folder", str(file))
        return real(file, *more, **named)
    return found
io.open, os.stat = without_proc(io.open), without_proc(os.stat)
import reid_core, reproduction
for package in (reid_core, reproduction):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
from reid_core import files, machine
from reproduction.embedded import rendering
print(machine.cores() > 0, machine.free_memory("cpu") > 0, machine.device_name())
with files.locked(pathlib.Path(sys.argv[1]) / "lock"), rendering.drawn([], 2) as results:
    print(list(results))
"""
WINDOWS = """
import argparse, importlib.util, os, shutil, sys
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
from reproduction import cli
os.name = "nt"
sys.exit(cli.main(["plan"]))
"""
LIBRARY = "import sys; sys.modules['fcntl'] = None; import reid_core.files"


def python(code, *words):
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_every_module_imports_and_the_main_path_works_without_what_linux_alone_has(tmp_path):
    done = python(MACOS, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True True ") and done.stdout.endswith("[]\n")


def test_windows_gets_one_sentence():
    done = python(WINDOWS)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "inside WSL" in done.stderr, done.stderr
    assert "inside WSL" in python(LIBRARY).stderr.splitlines()[-1]
