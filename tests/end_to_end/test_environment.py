"""environment.yml, the lock file and the Makefile make one environment; the pip part installs for real (slow)."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv

import pytest
import yaml

from reproduction.sidecar import REPOSITORY


@pytest.fixture(scope="module")
def lock(script):
    return script("docs/lock.py")


def environment():
    """The names of environment.yml and the pins of its pip part."""
    found = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    (pip,) = [item["pip"] for item in found if isinstance(item, dict)]
    return [item for item in found if isinstance(item, str)], pip


def test_environment_yml_is_python_pip_and_the_pins_of_the_lock_file(lock):
    """Each pin for itself: micromamba looks for a file that `-r` names in /tmp, pixi reads no `-e`."""
    names, pip = environment()
    assert [name.partition("=")[0] for name in names] == ["python", "pip"]
    text = (REPOSITORY / "requirements.lock").read_text()
    assert lock.environment(text) == (REPOSITORY / "environment.yml").read_text()
    assert len(pip) == sum(line[0] not in " #" for line in text.splitlines()) > 100
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", pin) for pin in pip)


def test_every_pin_has_hashes_and_one_command_makes_the_lock_again(lock, tmp_path):
    text = (REPOSITORY / "requirements.lock").read_text()
    for pin in re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in pin, pin
    assert "python docs/lock.py" in text.splitlines()[1]
    if not shutil.which("uv"):
        pytest.skip("needs uv, and its index")
    made = tmp_path / "requirements.lock"
    made.write_text(text)
    try:
        lock.lock(made)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"uv reaches no index ({error})")
    assert made.read_text() == text


@pytest.mark.parametrize("python", ("3.11", "3.12", "3.13"))
@pytest.mark.parametrize("platform", ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin"))
def test_uv_finds_a_file_of_every_pin_for_each_platform(tmp_path, monkeypatch, platform, python):
    """In the repository: uv reads its pyproject.toml, too (a constraint there made it refuse the whole lock)."""
    if not shutil.which("uv"):
        pytest.skip("needs uv, and its index")
    monkeypatch.setenv("MACOSX_DEPLOYMENT_TARGET", "14.0")
    built = [f"--no-binary={name}" for name in ("connection-pool", "stopit")]  # Snakemake's; pure Python, no wheels
    command = ["uv", "pip", "install", "--dry-run", "--require-hashes", "--no-deps", "--only-binary=:all:", *built]
    where = ["--target", str(tmp_path), "--python-platform", platform, "--python-version", python]
    done = subprocess.run([*command, *where, "-r", "requirements.lock"], cwd=REPOSITORY, capture_output=True, text=True)
    if re.search("error sending request|Failed to fetch", done.stderr):
        pytest.skip(f"uv reaches no index ({done.stderr})")
    assert re.search("Would install 1[789][0-9] packages", done.stderr), done.stderr


def test_the_lock_file_pins_every_dependency_of_the_project():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert extras["dev"][0] == "reid-core[cluster,onnx]" and extras["cluster"][0] == "reid-core[reproduction]"
    wanted = [name for extra in extras.values() for name in extra if not name.startswith("reid-core[")]
    wanted += project["dependencies"]
    assert len(wanted) > 25
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    lines = [line for line in lines if line[:1] not in ("", "#", " ")]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert all("==" in line and "/" not in line for line in lines), "exact versions, no addresses"
    for requirement in wanted:
        name = requirement.split(">")[0].split("<")[0].split("=")[0].strip().lower()
        assert name in pinned, name


@pytest.mark.slow
def test_the_pip_part_installs_into_an_empty_environment_and_imports_the_kit(tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    source = tmp_path / "kit"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(source)], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *environment()[1]], cwd=source, env=clean, check=True)
    subprocess.run([*install, "--no-deps", "-e", ".[reproduction]"], cwd=source, env=clean, check=True)
    code = (
        "import importlib, pkgutil, reid_core\n"
        "for module in pkgutil.walk_packages(reid_core.__path__, 'reid_core.'): importlib.import_module(module.name)\n"
        "from reid_core import model\n"
        "print(model.HCN(10).widths['r5'])"
    )
    found = subprocess.run([python, "-c", code], env=clean, capture_output=True, text=True, cwd=tmp_path)
    assert found.stdout.strip() == "2048", found.stderr
    subprocess.run([python, "-m", "pip", "check"], check=True, env=clean)
    assert sys.version_info[:2] in ((3, 11), (3, 12), (3, 13))


def test_the_devcontainer_takes_the_locks_versions_with_pytorch_from_the_cpu_index(tmp_path):
    text = (REPOSITORY / ".devcontainer" / "devcontainer.json").read_text()
    container = json.loads(re.sub(r"^//.*$", "", text, flags=re.MULTILINE))
    script, index = container["postCreateCommand"].split()[1:]
    assert index == "https://download.pytorch.org/whl/cpu" and "make lab" in container["postStartCommand"]
    stub = tmp_path / "bin" / "python3"
    stub.parent.mkdir()
    stub.write_text(
        '#!/bin/bash\nmkdir -p "$3/bin"\n'
        'printf \'#!/bin/bash\\necho "$@"\\nfor f in "$@"; do [ ! -f "$f" ] || cat "$f"; done\\n\' > "$3/bin/pip"\n'
        'chmod +x "$3/bin/pip"\n'
    )
    stub.chmod(0o755)
    told = {"PATH": f"{stub.parent}:/usr/bin:/bin", "VIRTUAL_ENV": str(tmp_path / "env")}
    done = subprocess.run(["bash", script, index], cwd=REPOSITORY, env=told, capture_output=True, text=True, check=True)
    said, pins = done.stdout.splitlines(), [pin.replace(" ", "") for pin in environment()[1]]
    first, *rest = [line.replace(" ", "") for line in said]
    assert first.startswith("install--quiettorch==") and "torchvision==" in first and index in first
    there = [pin for pin in pins if not pin.startswith(("nvidia-", "cuda-", "triton"))]
    assert [line for line in rest if re.match(r"[\w.-]+==", line)] == there
    assert (tmp_path / "env" / ".reid-core-installed").read_text().endswith(f"{REPOSITORY}\n")
