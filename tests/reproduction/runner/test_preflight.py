"""Cards that PyTorch cannot use, from a made-up nvidia-smi and a made-up PyTorch."""

import os

import pytest
import torch

import reid_core.machine
from reproduction import cli
from reproduction.runner import cluster, preflight, workflow
from reproduction.sidecar import REPOSITORY

PYPI = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
PASCAL, AMPERE, NEXT = "580.95, 6.0, Tesla P100-PCIE-16GB", "550.54, 8.0, NVIDIA A100", "600.1, 13.0, NVIDIA X1"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    def make(card, cuda="13.2", available=True, architectures=PYPI):
        program = tmp_path / "nvidia-smi"
        lines = card.split(";")
        fields = {3: "driver_version,compute_cap,name", 2: "driver_version,name"}[lines[0].count(",") + 1]
        program.write_text(
            f'#!/bin/sh\n[ "$1" = "--query-gpu={fields}" ] || exit 2\n' + "".join(f'echo "{line}"\n' for line in lines)
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is as before afterwards
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))

    return make


REFUSED = [
    (PASCAL, {}, ("Tesla P100", "580.95", "6.0", "sm_75", "torch==2.14.1", "cu126")),
    (PASCAL, {"available": False}, ("Tesla P100", "before Turing", "torch==2.14.1")),
    (AMPERE, {"available": False}, ("NVIDIA A100", "550.54", "a driver from version 580 on", "cu126")),
    ("470.1, Tesla T4", {"available": False}, ("Tesla T4", "470.1", "580")),
    (AMPERE, {"cuda": None, "available": False, "architectures": []}, ("built without CUDA", "--force-reinstall")),
    (NEXT, {"architectures": PYPI[:-1]}, ("NVIDIA X1", "13.0", "install the newest PyTorch")),
    ("470.1, [N/A], GRID K1", {"available": False}, ("not used", "GRID K1 (driver 470.1)", "580")),
    ("580.95, 9.0, NVIDIA H100", {"available": False}, ("NVIDIA H100", "new enough", "MIG mode", "container")),
]


@pytest.mark.parametrize("card, more, words", REFUSED)
def test_a_card_that_cannot_be_used_stops_profiles_for_a_gpu_and_is_a_line_elsewhere(
    machine, capsys, card, more, words
):
    machine(card, **more)
    with pytest.raises(ValueError) as refused:
        preflight.check({"render_sizes": "full"})
    assert all(word in str(refused.value) for word in (*words, "CUDA_VISIBLE_DEVICES=")), refused.value
    preflight.check({"render_sizes": "smoke"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: ") and all(word in line for word in words)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and reid_core.machine.choose(None).type != "cuda", "without it"


@pytest.mark.parametrize(
    "card, more",
    [(AMPERE, {}), (NEXT, {}), (PASCAL, {"architectures": ["sm_50", "sm_60"]}), (f"{PASCAL};{AMPERE}", {})],
)
def test_a_card_that_can_be_used_alone_or_beside_an_old_one_is_not_spoken_of(machine, capsys, card, more):
    machine(card, **more)
    preflight.check({"render_sizes": "none"})
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (18, "Failed to initialize NVML: Driver/library version mismatch"),
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."),
        (0, "nothing in 1 seconds"),
    ],
)
def test_a_driver_that_does_not_work_is_no_machine_without_a_card(machine, monkeypatch, capsys, tmp_path, status, said):
    machine(AMPERE, available=False)
    monkeypatch.setattr(preflight, "WAIT", 1)
    does = f'echo "{said}"; exit {status}' if status else "exec sleep 30"
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{does}\n")
    with pytest.raises(ValueError, match="Mend the driver") as refused:
        preflight.check({"render_sizes": "none"})
    assert said in str(refused.value)
    preflight.check({"render_sizes": "tiny"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: ") and said in line
    machine(AMPERE)
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{does}\n")
    preflight.check({"render_sizes": "none"})  # PyTorch finds a card all the same
    assert not capsys.readouterr().err


def test_of_several_cards_the_visible_one_counts_and_no_step_gets_an_old_one(machine, monkeypatch, capsys):
    machine(f"{PASCAL};{AMPERE}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", [(8, 0), (6, 0)].__getitem__)
    preflight.check({"render_sizes": "none"})
    assert workflow._elsewhere(None, 1, ()) is None and os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-a")
    assert cluster.local_gpus() == ["GPU-b"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: (6, 0))
    with pytest.raises(ValueError, match="Tesla P100"):
        preflight.check({"render_sizes": "none"})
    for hidden in ("-1", "NoDevFiles", "none", " "):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        preflight.check({"render_sizes": "none"})
    assert not capsys.readouterr().err


def test_without_a_card_or_with_hidden_ones_there_is_nothing_to_say(machine, monkeypatch, capsys, tmp_path):
    machine(PASCAL)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    preflight.check({"render_sizes": "full"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    preflight.check({"render_sizes": "full"})
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verb", ["plan", "reproduce"])
def test_both_verbs_ask_before_they_begin(machine, capsys, tmp_path, verb):
    machine(PASCAL)
    assert cli.main([verb, "--profile", "gpu", "-p", f"results_root={tmp_path / 'results'}"]) == 1
    said = capsys.readouterr()
    assert "Tesla P100" in said.err and "torch==2.14.1" in said.err and not said.out
    assert not (tmp_path / "results").exists()


def test_readme_prints_the_same_command():
    assert f"`{preflight.OLDER}`" in (REPOSITORY / "README.md").read_text()
