import os
import stat
import struct
import zipfile
from pathlib import PurePosixPath

import pytest

from reproduction.intake import archives


def write(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


@pytest.fixture
def target(tmp_path):
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def unpack(archive, target):
    archives.unpack(archive, target, PurePosixPath)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_wanted_members_land_where_they_are_placed(tmp_path, target):
    archive = write(tmp_path / "a.zip", [("x/", ""), ("x/1.jpg", b"one"), ("x/2.txt", b"two")])
    archives.unpack(archive, target, lambda name: PurePosixPath("set") / name if name.endswith("jpg") else None)
    assert tree(target) == ["set/x/1.jpg"]
    assert (target / "set/x/1.jpg").read_bytes() == b"one"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg",
        "/etc/evil.jpg",
        "a/../../evil.jpg",
        "a\\..\\evil.jpg",
        "c:/evil.jpg",
        "C:\\evil.jpg",
        "..\\evil.jpg",
        "\\evil.jpg",
        "\\\\server\\evil.jpg",
    ],  # fmt: skip
)
def test_no_member_leads_outside(tmp_path, target, name):
    archive = write(tmp_path / "a.zip", [("ok.jpg", b""), (name, b"evil")])
    with pytest.raises(ValueError, match="would be written outside the target folder"):
        unpack(archive, target)
    assert tree(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path, target, kind):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("query")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc")
        archive.writestr("query/0001_c1.jpg", b"")
    with pytest.raises(ValueError, match="'query' is a link or a special file"):
        unpack(tmp_path / "a.zip", target)
    assert tree(target) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_given_twice_is_refused(tmp_path, target):
    with pytest.raises(ValueError, match="holds 'a.jpg' twice"):
        unpack(write(tmp_path / "a.zip", [("a.jpg", b"1"), ("a.jpg", b"2")]), target)


def test_sizes_are_bounded_before_anything_is_written(tmp_path, target, monkeypatch):
    bomb = write(tmp_path / "bomb.zip", [(f"{n}.jpg", bytes(2**20)) for n in range(3)])
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED", 2**20)
    with pytest.raises(ValueError, match="declares 0.0 GiB in 0.0 MiB packed, which no archive"):
        unpack(bomb, target)
    monkeypatch.undo()
    for limit, value, message in (
        ("MAX_BYTES", 2**21, "which no archive"),
        ("MAX_FILE_BYTES", 2**19, "no file of the data sets is larger"),
        ("MAX_FILES", 2, "holds 3 files; the largest data set has fewer than 2"),
    ):
        monkeypatch.setattr(archives, limit, value)
        with pytest.raises(ValueError, match=message):
            unpack(bomb, target)
        monkeypatch.undo()
    assert tree(target) == []


def test_a_size_that_lies_is_caught_and_leaves_nothing(tmp_path, target):
    archive = write(tmp_path / "a.zip", [("ok.jpg", b"fine"), ("a.jpg", os.urandom(5000))], zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = content.rindex(signature) + offset
        assert struct.unpack_from("<I", content, at) == (5000,)
        struct.pack_into("<I", content, at, 100)
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="a.zip is damaged at 'a.jpg'"):
        unpack(archive, target)
    assert tree(target) == []


def test_a_damaged_member_is_named_and_leaves_nothing(tmp_path, target):
    archive = write(tmp_path / "a.zip", [("ok.jpg", b"fine"), ("a.jpg", bytes(range(256)) * 20)], zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[content.index(bytes(range(256))) + 100] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="a.zip is damaged at 'a.jpg'.*download it again"):
        unpack(archive, target)
    assert tree(target) == []


def test_truncated_and_other_files_are_no_archive(tmp_path, target):
    archive = write(tmp_path / "a.zip", [("a.jpg", os.urandom(5000))])
    archive.write_bytes(archive.read_bytes()[:3000])
    (tmp_path / "b.zip").write_bytes(b"Rar!\x1a\x07\x00")
    for name in ("a.zip", "b.zip"):
        with pytest.raises(ValueError, match=f"{name} is not a whole ZIP archive"):
            unpack(tmp_path / name, target)


def test_an_encrypted_archive_is_refused(tmp_path, target):
    archive = write(tmp_path / "a.zip", [("a.jpg", b"secret")], zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.rindex(signature) + offset] |= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="is encrypted .*password"):
        unpack(archive, target)


def test_an_interrupted_unpacking_leaves_nothing(tmp_path, target, monkeypatch):
    archive = write(tmp_path / "a.zip", [(f"d/{n}.jpg", b"x") for n in range(5)])
    write_one, seen = archives._write, []

    def interrupted(*given):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(given)
        write_one(*given)

    monkeypatch.setattr(archives, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, target)
    assert list(target.iterdir()) == []


def test_too_little_disk_space_is_seen_before_writing(tmp_path, target, monkeypatch):
    archive = write(tmp_path / "a.zip", [("a.jpg", bytes(1000))])
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 999}))
    with pytest.raises(OSError, match="GiB unpacked, but only 0.00 GiB are free") as caught:
        unpack(archive, target)
    assert caught.value.errno == 28 and tree(target) == []


def test_the_other_slashes_of_windows_are_slashes(tmp_path, target):
    archive = write(tmp_path / "a.zip", [("x\\", ""), ("x\\y\\1.jpg", b"one"), ("Müller/2.jpg", b"two")])
    assert sorted(archives.members(archive)) == ["Müller/2.jpg", "x/y/1.jpg"]
    unpack(archive, target)
    assert tree(target) == ["Müller/2.jpg", "x/y/1.jpg"] and (target / "x/y/1.jpg").read_bytes() == b"one"
    with pytest.raises(ValueError, match="holds .* twice"):
        unpack(write(tmp_path / "b.zip", [("x/1.jpg", b"1"), ("x\\1.jpg", b"2")]), target)
