"""Write requirements.lock from pyproject.toml with uv, and environment.yml from the lock.

`python docs/lock.py` keeps the versions that the lock has, as far as pyproject.toml allows; `--upgrade`: the newest.
"""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COMPILE = "uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --extra dev".split()
CONSTRAINTS = (
    "soupsieve<4"  # 4.1.2 wants Python 3.11.5; Debian 12 has 3.11.2. In pyproject.toml uv would install nothing
)
ENVIRONMENT = """\
# conda env create -f environment.yml && conda activate reid-core
# (or with mamba, micromamba, pixi), then `make`, which installs the kit itself into the active environment.
# Written by docs/lock.py from requirements.lock.
name: reid-core
channels: [conda-forge]
dependencies:
  - python=3.12
  - pip
  - pip:
"""


def lock(target: Path, *more: str) -> None:
    """Write the lock, with hashes, for Linux (x86-64, aarch64), macOS (arm64) and every Python that the kit takes."""
    command = [*COMPILE, "--custom-compile-command", "python docs/lock.py", "pyproject.toml", "-o", str(target), *more]
    subprocess.run([*command, "--constraints", "-"], cwd=REPOSITORY, input=CONSTRAINTS, text=True, check=True)


def environment(text: str) -> str:
    """environment.yml of a lock's text: its pins, without hashes."""
    pins = re.findall(r"^[\w.-]+==[^\\\n]+", text, re.MULTILINE)
    return ENVIRONMENT + "".join(f"      - {pin.strip()}\n" for pin in pins)


if __name__ == "__main__":
    lock(REPOSITORY / "requirements.lock", *sys.argv[1:])
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    (REPOSITORY / "environment.yml").write_text(environment(text), encoding="utf-8")
