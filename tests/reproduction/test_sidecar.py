import hashlib
import json

import pytest
import torch

from reid_core import machine
from reproduction import sidecar


def test_sidecar_lists_every_file_of_the_stem_with_its_digest(tmp_path):
    for suffix in (".png", ".svg"):
        (tmp_path / f"figure3{suffix}").write_bytes(suffix.encode())
    (tmp_path / "figure3_time.png").write_bytes(b"another figure")
    record = json.loads(
        sidecar.write_sidecar(tmp_path / "figure3", data_source="embedded", seeds="0").read_text()
    )
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
