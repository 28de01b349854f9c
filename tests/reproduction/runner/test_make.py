"""make, where folder or environment are not what it hopes for; a stub stands for Python, nothing is installed."""

import os
import shutil
import subprocess
import sys

import pytest

from reproduction.sidecar import REPOSITORY


def program(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def kit(tmp_path):
    """A folder with a space that holds what make needs, and a `python3` that only says what it is asked to do."""
    folder = tmp_path / "my kit"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    program(
        tmp_path / "bin" / "python3",
        'if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi\necho "python $*"',
    )
    return folder


def make(kit, *words, cwd=None, **environment):
    known = {"PATH": f"{kit.parent / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(["make", *words], cwd=cwd or kit, env=known | environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_a_folder_with_a_space_also_from_elsewhere_and_installs_once(kit):
    code, said = make(kit, "-f", str(kit / "Makefile"), "reproduce", "PROFILE=a b", cwd="/")
    hashed, own = "pip install --quiet --require-hashes -r requirements.lock", "pip install --quiet --no-deps -e ."
    assert code == 0 and said.index(hashed) < said.index(f"{own}[reproduction]"), said
    assert "python -m reproduction.cli reproduce --profile a b" in said
    assert (kit / ".venv" / ".reid-core-installed").is_file()
    for path in kit.iterdir():
        os.utime(path, (2e9, 2e9))
    code, said = make(kit, "test")
    assert code == 0 and "pip" not in said.replace("pytest", ""), "dates do not count"
    (kit / "requirements.lock").write_text("other==1.0\n")
    assert "pip install" in make(kit, "test")[1]
    moved = kit.with_name("moved")
    kit.rename(moved)
    assert "pip install" in make(moved, "environment")[1], "an editable installation knows its folder"


def test_a_deleted_environment_and_one_without_python_are_named(kit, tmp_path):
    code, said = make(kit, "reproduce", VIRTUAL_ENV="/gone/venv")
    assert code and "/gone/venv has no Python" in said
    (tmp_path / "conda").mkdir()
    code, said = make(kit, "reproduce", CONDA_DEFAULT_ENV="x", CONDA_PREFIX=str(tmp_path / "conda"))
    assert code and f"{tmp_path / 'conda'} has no Python" in said


def test_an_environment_without_pip_is_named(kit, tmp_path):
    program(tmp_path / "uv" / "bin" / "python", 'echo "No module named pip" >&2; exit 1')
    code, said = make(kit, "reproduce", VIRTUAL_ENV=str(tmp_path / "uv"))
    assert code and "has no pip" in said and "uv pip install pip" in said and "No module named pip" not in said


@pytest.mark.parametrize("name", ["base", "/opt/conda"])
def test_condas_base_is_not_used(kit, name):
    code, said = make(
        kit, "-n", "test", CONDA_DEFAULT_ENV=name, CONDA_PREFIX="/opt/conda", CONDA_EXE="/opt/conda/bin/conda"
    )
    assert code == 0 and f'"{kit}/.venv/bin/python" -m pytest' in said


def test_an_active_environment_is_used(kit, tmp_path):
    own, base = str(tmp_path / "own env"), "/opt/conda/bin/conda"
    conda = {"CONDA_DEFAULT_ENV": "own", "CONDA_PREFIX": own, "CONDA_EXE": base}
    for given in ({"VIRTUAL_ENV": own}, conda):
        code, said = make(kit, "-n", "lab", **given)
        assert code == 0 and f'"{tmp_path}/own env/bin/python" -m jupyterlab' in said
    assert sys.version_info >= (3, 11)


def test_uv_installs_where_it_is_found_and_pip_where_it_fails(kit):
    uv = program(kit.parent / "bin" / "uv", 'echo "uv $*"')
    code, said = make(kit, "environment")
    hashed = f"uv pip install --python {kit}/.venv/bin/python --quiet --require-hashes -r requirements.lock"
    assert code == 0 and hashed in said and "--no-deps -e .[reproduction]" in said and "-m pip install" not in said
    program(uv, 'echo "no network" >&2; exit 2')
    (kit / "requirements.lock").write_text("other==1.0\n")
    code, said = make(kit, "environment")
    assert code == 0 and "no network" in said and "python -m pip install --quiet --require-hashes" in said


def test_a_path_of_another_alphabet_under_lang_c_without_a_home(kit):
    elsewhere = kit.with_name("mein Verzeichnis für 行人")
    kit.rename(elsewhere)
    code, said = make(elsewhere, "reproduce", LANG="C", LC_ALL="C")
    assert code == 0 and "-m reproduction.cli reproduce --profile smoke" in said, said
    assert (elsewhere / ".venv" / ".reid-core-installed").is_file()


def test_an_active_environment_of_another_python_is_named_before_anything_is_installed(kit, tmp_path):
    python = program(tmp_path / "old" / "bin" / "python", '[ "$1" = -c ] && exit 3\necho "python $*"')
    code, said = make(kit, "reproduce", VIRTUAL_ENV=str(tmp_path / "old"))
    assert code and f"{python} is not Python 3.11 to 3.13" in said and "install" not in said.lower(), said
    told = (REPOSITORY / "Makefile").read_text().split("fitting = ")[1].splitlines()[0]
    assert subprocess.run([sys.executable, "-c", told]).returncode == 0
    other = told.replace("sys.version_info", "(3, 14)")
    assert subprocess.run([sys.executable, "-c", other]).returncode == 3


def test_an_environment_whose_python_is_gone_is_made_again(kit):
    (kit / ".venv" / "bin").mkdir(parents=True)
    (kit / ".venv" / "bin" / "python").symlink_to("/gone/python3.11")
    stub = kit.parent / "bin" / "python3"
    stub.write_text(stub.read_text().replace('cp "$0"', '[ "$4" = --clear ] && rm -f "$3/bin/python"; cp "$0"'))
    code, said = make(kit, "test")
    assert code == 0 and "python -m pytest" in said, said


def test_settings_of_the_shell_and_of_pip_for_elsewhere_do_not_reach_the_environment(kit, tmp_path):
    (tmp_path / "other" / "my kit").mkdir(parents=True)
    for name in ("python3", "uv"):
        stub = kit.parent / "bin" / name
        more = stub.read_text().partition("\n")[2] if stub.exists() else "exit 2\n"
        shown = 'echo "$* [$PIP_USER$PIP_TARGET|$UV_DEFAULT_INDEX $SSL_CERT_FILE|$PYTHONHOME]"'
        program(stub, f"{shown}\n{more}")
    odd = {"PIP_USER": "1", "PIP_TARGET": "/elsewhere", "PYTHONHOME": "/elsewhere", "CDPATH": f"{tmp_path / 'other'}:."}
    mirror = {"PIP_INDEX_URL": "https://mirror.example/simple", "PIP_CERT": "/own/ca.pem"}
    code, said = make(kit, "-f", "my kit/Makefile", "test", cwd=tmp_path, **odd, **mirror)
    installing = [line for line in said.splitlines() if "pip install" in line and line.endswith("|]")]
    assert code == 0 and len(installing) == 3, said
    assert all(line.endswith("[|https://mirror.example/simple /own/ca.pem|]") for line in installing), said
    assert "-m not slow [1/elsewhere| |]" in said, "the tests' own environment is the user's"


def test_lab_needs_no_home_that_can_be_written(kit, tmp_path):
    stub = kit.parent / "bin" / "python3"
    stub.write_text(stub.read_text() + 'echo "home $HOME"\n')
    for home in ("/proc/none", "", str(tmp_path)):
        code, said = make(kit, "lab", HOME=home)
        used = said.rpartition("home ")[2].strip()
        assert code == 0 and os.access(used, os.W_OK) and (used == home) == (home == str(tmp_path)), said
        if used != home:
            os.rmdir(used)


def test_lab_says_what_to_open(kit):
    code, said = make(kit, "lab")
    assert code == 0 and said.index("Open the address") < said.index("-m jupyterlab notebooks")
