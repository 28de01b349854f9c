import hashlib
import json

import pytest

from reid_core import provenance


def test_sidecar_lists_every_file_of_the_stem_with_its_digest(tmp_path):
    for suffix in (".png", ".svg"):
        (tmp_path / f"figure3{suffix}").write_bytes(suffix.encode())
    (tmp_path / "figure3_time.png").write_bytes(b"another figure")
    record = json.loads(
        provenance.write_sidecar(tmp_path / "figure3", data_source="embedded", seeds="0").read_text()
    )
    assert record["files"] == {
        f"figure3{suffix}": hashlib.sha256(suffix.encode()).hexdigest() for suffix in (".png", ".svg")
    }
    assert record["data_source"] == "embedded"
    assert {"created", "commit", "device", "versions"} <= set(record)
    assert record["versions"]["torch"]


def test_sidecar_of_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such result"):
        provenance.write_sidecar(tmp_path / "table9.csv")
