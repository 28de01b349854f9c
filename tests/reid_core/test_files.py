import errno
import fcntl
import os
import platform
import re
import subprocess
import sys
import time
import warnings

import pytest

from reid_core import files


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_names_what_was_to_be_written(tmp_path):
    target = tmp_path / "a.txt"
    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(OSError, match="a.txt") as full, files.replacing(target):
            raise OSError(number, os.strerror(number))
        assert full.value.errno == number and not list(tmp_path.iterdir())
    with pytest.raises(OSError) as other, files.replacing(target):
        raise OSError(errno.EIO, "broken")
    assert other.value.filename is None


def test_a_folder_appears_whole(tmp_path):
    with files.replacing(tmp_path / "run", folder=True) as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "run").exists()
    assert (tmp_path / "run" / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_write_text_makes_missing_folders(tmp_path):
    assert files.write_text(tmp_path / "a" / "b.txt", "é").read_text(encoding="utf-8") == "é"


def test_names_that_are_not_utf8_are_written_byte_by_byte(tmp_path):
    written = files.write_text(tmp_path / "a.csv", os.fsdecode(b"M\xfcller.png"))
    assert written.read_bytes() == b"M\xfcller.png"


HOLD = """
import sys
from reid_core import files
with files.locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a file till its input is closed."""
    command = [sys.executable, "-c", HOLD, tmp_path / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_lock_that_another_holds_is_refused_or_waited_for(tmp_path, holder, monkeypatch):
    held_by = re.escape(f"{platform.node()}, process {holder.pid}")
    with (
        pytest.raises(RuntimeError, match=f"at work.*{held_by}"),
        files.locked(tmp_path / "lock", RuntimeError("at work")),
    ):
        pytest.fail("held by two")
    said = []
    monkeypatch.setattr(files.progress, "say", lambda text: (said.append(text), holder.stdin.close()))
    with files.locked(tmp_path / "lock") as held:
        assert held and str(tmp_path / "lock") in said[0] and f"{platform.node()}, process {holder.pid}" in said[0]
        assert holder.wait(30) == 0


def test_a_folder_is_locked_without_a_file_of_its_own(tmp_path):
    with files.locked(tmp_path) as held:
        assert held and list(tmp_path.iterdir()) == []
        with pytest.raises(ValueError, match="mine"), files.locked(tmp_path, ValueError("mine")):
            pytest.fail("held twice")
    with files.locked(tmp_path, ValueError("mine")) as held:
        assert held


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on_with_one_warning(tmp_path, monkeypatch, number):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with warnings.catch_warnings(record=True) as said:
        for _ in range(3):
            with files.locked(tmp_path / "lock", RuntimeError("busy")) as held:
                assert not held
    assert len(said) == 1 and f"file system of {tmp_path} has no locks" in str(said[0].message)


def test_another_failure_to_lock_is_no_missing_lock(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(OSError, match="Input/output"), files.locked(tmp_path / "lock"):
        pytest.fail("gone on")


def test_only_the_dead_of_this_machine_are_removed_unless_alone(tmp_path, monkeypatch):
    with files.replacing(tmp_path / "a.npy", folder=True) as living:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 2**30)
            dead = files.replacing(tmp_path / "b.npy", folder=True)
            dead.__enter__()
            patch.setattr(files, "_HOST", "node-7.cluster")
            elsewhere = files.replacing(tmp_path / "c.npy", folder=True)
            there = elsewhere.__enter__()
        (tmp_path / ".hidden.of-mine").mkdir()
        files.remove_dead(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([living, there, tmp_path / ".hidden.of-mine"])
        files.remove_dead(tmp_path, "c.npy", alone=True)
        assert sorted(tmp_path.iterdir()) == sorted([living, tmp_path / ".hidden.of-mine"])


def left_by(folder, *, host=files._HOST, boot=files._BOOT, process=None, age=0.0):
    """A temporary of a process on some machine, last changed `age` seconds ago; of this one unless told."""
    temporary = folder / f".a.npy.{host}.{boot}.{process or os.getpid()}-abcd_123"
    temporary.mkdir()
    os.utime(temporary, (time.time() - age,) * 2)
    return temporary


@pytest.mark.parametrize(
    ("left", "removed"),
    [
        ({}, False),
        ({"age": 10 * files.A_DAY}, False),  # of a living process, however old
        ({"process": 2**30}, True),
        ({"boot": "00000000x1"}, False),  # before this start, or another machine of the same name
        ({"boot": "00000000x1", "age": 1.1 * files.A_DAY}, True),
        ({"boot": f"{files._BOOT[:8]}x1", "process": 2**30}, False),  # a container beside this one: not to be seen
        ({"boot": f"{files._BOOT[:8]}x1", "process": 2**30, "age": 1.1 * files.A_DAY}, True),
        ({"host": "node-7.cluster", "process": 2**30}, False),
        ({"host": "node-7.cluster", "process": 2**30, "age": 0.9 * files.A_DAY}, False),
        ({"host": "node-7.cluster", "age": 1.1 * files.A_DAY}, True),
    ],
)
def test_a_shared_folder_keeps_what_another_machine_may_be_writing(tmp_path, left, removed):
    temporary = left_by(tmp_path, **left)
    files.remove_dead(tmp_path)
    assert temporary.exists() != removed


def test_a_file_written_to_for_days_elsewhere_is_alive_while_it_grows(tmp_path):
    temporary = left_by(tmp_path, host="node-7")
    (temporary / "a.npy").write_text("1")
    os.utime(temporary, (0, 0))
    files.remove_dead(tmp_path)
    assert temporary.exists()
