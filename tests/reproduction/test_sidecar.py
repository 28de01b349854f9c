import hashlib
import json
import os
import shutil
import subprocess

import pytest
import torch

from reid_core import machine
from reproduction import sidecar


def test_sidecar_lists_every_file_of_the_stem_with_its_digest(tmp_path):
    for suffix in (".png", ".svg"):
        (tmp_path / f"figure3{suffix}").write_bytes(suffix.encode())
    (tmp_path / "figure3_time.png").write_bytes(b"another figure")
    record = json.loads(sidecar.write_sidecar(tmp_path / "figure3", data_source="embedded", seeds="0").read_text())
    assert record["files"] == {
        f"figure3{suffix}": hashlib.sha256(suffix.encode()).hexdigest() for suffix in (".png", ".svg")
    }
    assert record["data_source"] == "embedded"
    assert {"created", "commit", "device", "versions"} <= set(record)
    assert record["versions"]["torch"]


@pytest.mark.parametrize("gpu", [True, False])
def test_a_device_is_named_as_the_one_that_did_the_work(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    machine.device_name.cache_clear()
    try:
        assert machine.device_name("cpu").endswith("cores)")
        assert machine.device_name(torch.device("cpu")).endswith("cores)")
        assert machine.device_name(torch.device("cuda", 1)) == "GPU cuda:1"
        assert machine.device_name().startswith("GPU None") == gpu
    finally:
        machine.device_name.cache_clear()


def test_sidecar_of_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such result"):
        sidecar.write_sidecar(tmp_path / "table9.csv")


def test_a_sidecar_says_the_origin_that_its_notebook_was_given(tmp_path):
    (tmp_path / "table2.csv").write_text("a")
    origin = {"name": "03", "parameters": {"k1": 20}, "code": "c", "inputs": {"data": "d"}, "sources": {"a.py": "s"}}
    with sidecar.made_from(origin):
        record = json.loads(sidecar.write_sidecar(tmp_path / "table2.csv").read_text())
    assert record["notebook"] == {key: value for key, value in origin.items() if key != "sources"}
    assert sidecar.notebook() is None


def git(folder, *words):
    who = ["-c", "user.name=n", "-c", "user.email=e@x.org"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    run = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True, env=clean)
    return run.stdout.strip()


@pytest.fixture
def kit_in_git(tmp_path, monkeypatch):
    """A repository of somebody's thesis, with the kit's own below it as `kit`, which the machine looks at."""
    for folder, name in ((tmp_path, "thesis.tex"), (tmp_path / "kit", "notebooks/a.ipynb")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
        git(folder, "init", "-q")
        git(folder, "add", name)
        git(folder, "commit", "-qm", "first")
    monkeypatch.setattr(machine, "_REPOSITORY", tmp_path / "kit")
    machine.commit.cache_clear()
    yield tmp_path / "kit"
    machine.commit.cache_clear()


def test_the_commit_is_the_kits_own_whatever_the_environment_says(kit_in_git, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(kit_in_git.parent / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(kit_in_git.parent))
    monkeypatch.setenv("GIT_INDEX_FILE", str(kit_in_git.parent / ".git" / "index"))
    assert machine.commit() == {"id": git(kit_in_git, "rev-parse", "HEAD"), "modified": False}


def test_a_repository_around_the_kit_is_not_its_own(kit_in_git):
    shutil.rmtree(kit_in_git / ".git")
    assert machine.commit() is None


@pytest.mark.parametrize(("name", "modified"), [
    ("notebooks/new.ipynb", True), ("reproduction/new.py", True), ("notebooks/a.ipynb", True), ("notes.txt", False),
])  # fmt: skip
def test_a_source_that_git_does_not_know_counts_as_modified(kit_in_git, name, modified):
    (kit_in_git / name).parent.mkdir(exist_ok=True)
    (kit_in_git / name).write_text("y")
    assert machine.commit()["modified"] == modified


def test_a_users_settings_of_git_and_a_checkout_of_another_user_change_nothing(kit_in_git, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "git"  # git's own way to try a folder of another user's
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    head = git(kit_in_git, "rev-parse", "HEAD")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[status]\nshowUntrackedFiles = no\n")
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    assert machine.commit() == {"id": head, "modified": False}
    machine.commit.cache_clear()
    (kit_in_git / "notebooks" / "new.ipynb").write_text("y")
    assert machine.commit()["modified"]
