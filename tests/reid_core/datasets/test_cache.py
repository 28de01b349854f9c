import os

import official_structure
import pandas as pd
import pytest

from reid_core.datasets import cache, cuhk01


@pytest.fixture
def table(tmp_path):
    official_structure.cuhk01(tmp_path, 2)
    return cuhk01.load(tmp_path)


class Finding:
    """Counts its calls; finds rows of every kind, or none."""

    def __init__(self, rows=2):
        self.calls, self.rows = 0, rows

    def __call__(self):
        self.calls += 1
        whole = {
            "path": ["a,b", "ü\n"],
            "bits": [3, 4],
            "correlation": pd.Series([0.1, 1 / 3], dtype="float32"),
        }
        return pd.DataFrame(whole).set_axis([5, 9]).iloc[: self.rows]


@pytest.mark.parametrize("rows", [2, 0])
def test_what_was_found_comes_back_as_it_was_without_looking_again(table, rows):
    find = Finding(rows)
    first = cache.remembered([table], {"bits": 20}, __file__, find)
    again = cache.remembered([table], {"bits": 20}, __file__, find)
    pd.testing.assert_frame_equal(first, again, check_index_type=False)
    assert find.calls == 1


def test_changed_files_rows_settings_and_code_are_looked_at_again(table, tmp_path):
    find, code = Finding(), tmp_path / "code.py"
    code.write_text("1")
    cache.remembered([table], 1, code, find)
    cache.remembered([table], 2, code, find)
    cache.remembered([table.iloc[1:]], 1, code, find)
    code.write_text("2")
    cache.remembered([table], 1, code, find)
    os.utime(table["image_path"].iloc[3], ns=(0, 7))
    cache.remembered([table], 1, code, find)
    os.unlink(table["image_path"].iloc[3])
    cache.remembered([table], 1, code, find)
    assert find.calls == 6


def test_a_damaged_memory_or_a_cache_that_cannot_be_written_only_costs_time(table, own_cache, monkeypatch):
    find = Finding()
    cache.remembered([table], 1, __file__, find)
    (kept,) = (own_cache / "found").iterdir()
    kept.write_text("{")
    cache.remembered([table], 1, __file__, find)
    (own_cache / "file").write_text("")
    monkeypatch.setenv("REID_CORE_CACHE", str(own_cache / "file"))
    assert len(cache.remembered([table], 1, __file__, find)) == 2
    assert find.calls == 3
