"""environment.yml, the lock file and the Makefile make one environment; the pip part installs for real (slow)."""

import os
import subprocess
import sys
import venv

import pytest
import yaml

from reproduction.sidecar import REPOSITORY


def test_environment_yml_is_python_pip_the_lock_file_and_the_kit():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    names = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert [name.partition("=")[0] for name in names] == ["python", "pip"]
    assert pip == ["-r requirements.lock", "-e .[reproduction]"]


def test_the_lock_file_pins_every_dependency_of_the_project():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert extras["dev"][0] == "reid-core[reproduction]"
    wanted = project["dependencies"] + extras["reproduction"] + extras["dev"][1:]
    lines = [line for line in (REPOSITORY / "requirements.lock").read_text().splitlines() if line[:1] not in ("", "#")]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert all("==" in line and "/" not in line for line in lines), "exact versions, no addresses"
    for requirement in wanted:
        name = requirement.split(">")[0].split("<")[0].split("=")[0].strip().lower()
        assert name in pinned, name


@pytest.mark.slow
def test_the_pip_part_installs_into_an_empty_environment_and_imports_the_kit(tmp_path):
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    source = tmp_path / "kit"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(source)], check=True)
    words = [word for line in pip for word in line.split()]
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words], cwd=source, env=clean,
        check=True,
    )  # fmt: skip
    code = (
        "import importlib, pkgutil, reid_core\n"
        "for module in pkgutil.walk_packages(reid_core.__path__, 'reid_core.'): importlib.import_module(module.name)\n"
        "from reid_core import model\n"
        "print(model.HCN(10).widths['r5'])"
    )
    found = subprocess.run([python, "-c", code], env=clean, capture_output=True, text=True, cwd=tmp_path)
    assert found.stdout.strip() == "2048", found.stderr
    subprocess.run([python, "-m", "pip", "check"], check=True, env=clean)
    assert sys.version_info[:2] in ((3, 11), (3, 12))
