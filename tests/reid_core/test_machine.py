import os
import resource

import psutil
import pytest
import torch

from reid_core import machine


def test_what_pytorch_keeps_of_a_gpus_memory_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30)
    assert machine.free_memory("cuda:0") == 45


def test_free_memory_is_what_the_system_says():
    assert 0 < machine.free_memory(torch.device("cpu")) < 1 << 50


def test_the_smaller_of_machine_and_container_is_free(monkeypatch):
    available = psutil.virtual_memory().available
    monkeypatch.setattr(machine, "_left_in_groups", lambda: [1 << 62, 900 << 20])
    assert machine.free_memory("cpu") == 900 << 20
    monkeypatch.setattr(machine, "_left_in_groups", lambda: [1 << 62])
    assert machine.free_memory("cpu") == pytest.approx(available, rel=0.5)


def test_a_limit_of_the_shell_is_seen(monkeypatch):
    own = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (own + (100 << 20), -1))
    assert machine.free_memory("cpu") <= 200 << 20
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 20, -1))
    assert machine.free_memory("cpu") == 0


def group(folder, version, limit, usage, cache):
    folder.mkdir(parents=True, exist_ok=True)
    names = {1: machine._V1, 2: machine._V2}[version]
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cache}\n")


@pytest.mark.parametrize(
    "own, groups, left",
    [
        ("0::/job/step", {"job/step": (2, "max", 30, 0), "job": (2, 100, 60, 20)}, [60]),
        ("0::/job", {"job": (2, 100, 60, 20), "": (2, 50, 40, 0)}, [60, 10]),
        ("5:cpu,memory:/batch/7\n0::/", {"memory/batch/7": (1, 100, 60, 20), "memory": (1, 900, 500, 0)}, [60, 400]),
        ("4:memory:/docker/ab", {"memory": (1, 100, 60, 20)}, [60]),  # named as outside, seen as the root
        ("0::/../../pod", {"pod": (2, 100, 60, 20)}, [60]),  # of a namespace above
        ("9:name=systemd:/job\n3:cpuset:/job", {"memory/job": (1, 100, 60, 20)}, []),
        ("0::/", {}, []),
    ],
)  # fmt: skip
def test_limits_of_every_group_above_are_seen(tmp_path, own, groups, left):
    for name, facts in groups.items():
        group(tmp_path / "groups" / name, *facts)
    (tmp_path / "own").write_text(own + "\n")
    assert machine._left_in_groups(tmp_path / "own", tmp_path / "groups") == left


@pytest.mark.parametrize(
    "own, files, found",
    [
        ("0::/job/step", {"job/step/cpu.max": "max 100000", "job/cpu.max": "150000 100000", "cpu.max": "40"}, [2]),
        ("3:cpu,cpuacct:/docker/ab", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, [1]),
        ("3:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ("3:cpuset:/job", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, []),
    ],
)
def test_a_containers_share_of_the_processor_is_seen(tmp_path, monkeypatch, own, files, found):
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "own").write_text(own + "\n")
    assert machine._quotas(tmp_path / "own", tmp_path / "groups") == found
    monkeypatch.setattr(machine, "_quotas", lambda: found)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64), raising=False)
    assert machine.cores() == (found or [64])[0]


def test_a_system_without_control_groups_has_no_limit_by_them(tmp_path):
    assert machine._left_in_groups(tmp_path / "none", tmp_path) == machine._quotas(tmp_path / "none", tmp_path) == []


def test_apples_gpu_is_taken_where_pytorch_has_it_and_cuda_does_not(monkeypatch):
    assert machine.choose(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine.choose(None).type == "mps" and machine.choose("cpu").type == "cpu"
    assert machine.device_name.__wrapped__().endswith("(GPU by MPS)")
    assert machine.device_name.__wrapped__("cpu").endswith(f"({machine.cores()} cores)")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machine.choose(None).type == "cuda"
