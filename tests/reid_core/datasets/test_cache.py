import hashlib
import os
import shutil
from pathlib import Path

import official_structure
import pandas as pd
import pytest

from reid_core import datasets
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
        whole = {"path": ["a,b", "ü\n"], "bits": [3, 4], "correlation": pd.Series([0.1, 1 / 3], dtype="float32")}
        return pd.DataFrame(whole).set_axis([5, 9]).iloc[: self.rows]


def change_unseen(path):
    """Other content of the same size under the old date, as a tool that keeps dates writes it."""
    stat, content = os.stat(path), Path(path).read_bytes()
    Path(path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


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
    change_unseen(table["image_path"].iloc[3])
    cache.remembered([table], 1, code, find)
    os.utime(table["image_path"].iloc[3], ns=(0, 7))  # a date alone changes nothing
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


def digests(paths):
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths]


def test_contents_are_read_once_while_the_files_stay(table, monkeypatch):
    paths = table["image_path"]
    assert cache.contents(paths) == digests(paths)
    with monkeypatch.context() as patch:
        patch.setattr(cache.files, "digest", lambda path: pytest.fail("read again"))
        assert cache.contents(list(paths)) == digests(paths)
    change_unseen(paths[0])
    assert cache.contents(paths) == digests(paths)


@pytest.mark.parametrize("other", ["a copy over it", "another file at its name", "a link set elsewhere"])
def test_other_content_under_the_old_size_and_date_is_seen(tmp_path, own_cache, other):
    path, second = tmp_path / "a.png", tmp_path / "b.png"
    path.write_bytes(b"one"), second.write_bytes(b"two")
    os.utime(path, ns=(5, 5)), os.utime(second, ns=(5, 5))
    seen = tmp_path / "link.png"
    seen.symlink_to(path)
    before = cache.contents([seen])
    if other == "a copy over it":
        shutil.copy2(second, path)
    elif other == "another file at its name":
        os.replace(second, path)
    else:
        seen.unlink(), seen.symlink_to(second)
    assert os.stat(seen).st_size == 3 and os.stat(seen).st_mtime_ns == 5
    assert before == [hashlib.sha256(b"one").hexdigest()]
    assert cache.contents([seen]) == [hashlib.sha256(b"two").hexdigest()]


def test_a_file_that_cannot_be_read_has_no_digest_until_it_can(tmp_path, own_cache):
    path = tmp_path / "late.png"
    assert cache.contents([path, tmp_path]) == ["", ""]
    path.write_bytes(b"here")
    assert cache.contents([path, tmp_path]) == [hashlib.sha256(b"here").hexdigest(), ""]


def test_digests_that_are_damaged_or_cannot_be_kept_are_made_anew(table, own_cache, monkeypatch):
    expected = cache.contents(table["image_path"])
    (kept,) = (own_cache / "digests").iterdir()
    for damage in (b"", b"0" * 64 + b"\n", b"\xff"):
        kept.write_bytes(damage)
        assert cache.contents(table["image_path"]) == expected
    (own_cache / "file").write_text("")
    monkeypatch.setenv("REID_CORE_CACHE", str(own_cache / "file"))
    assert cache.contents(table["image_path"]) == expected


def test_names_that_are_not_utf8_are_names_too(tmp_path, own_cache):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    official_structure.cuhk01(folder, 2)
    table = cuhk01.load(folder)
    assert cache.contents(table["image_path"]) == digests(table["image_path"])
    find = Finding()
    for _ in range(2):
        cache.remembered([table], 1, __file__, find)
    assert find.calls == 1
    assert datasets.load("cuhk01", folder, unreadable="refuse").equals(table)


def test_a_kept_file_is_made_once_and_whole(own_cache):
    path, made = cache.place("toy", [1, "a"]), []

    def make(temporary, text="12"):
        made.append(temporary)
        temporary.write_text(text)
        if text == "half":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.made(path, lambda temporary: make(temporary, "half"), 4, "toys")
    assert list(path.parent.iterdir()) == []
    seconds = cache.made(path, make, 4, "toys")
    assert cache.made(path, make, 4, "toys") == seconds and path.read_text() == "12" and len(made) == 2
    others = (([1], []), ([2], []), ([1], [__file__]))
    assert len({cache.place("toy", values, code) for values, code in others}) == 3
    with pytest.raises(OSError, match="for toys .REID_CORE_CACHE moves the cache"):
        cache.made(cache.place("toy", 2), make, 1 << 62, "toys")


def test_the_first_reading_of_pictures_has_a_bar_and_what_is_remembered_none(table, own_cache, monkeypatch):
    bars = []
    monkeypatch.setattr(cache.progress, "bar", lambda rows, **more: bars.append(more) or rows)
    first = cache.contents(table["image_path"])
    assert [bar["total"] for bar in bars] == [len(table)] and "delay" in bars[0]
    assert cache.contents(table["image_path"]) == first and len(bars) == 1
