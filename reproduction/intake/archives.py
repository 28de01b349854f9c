"""Unpacking ZIP archives that nobody vouches for.

Nothing is written outside the target, no links and no special files are made, sizes are bounded before the first
byte is written, and an unpacking that does not finish leaves nothing.
"""

import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from reid_core import progress

MAX_FILES = 700_000  # Market-1501 with the 500k distractors has 540,000
MAX_BYTES = 64 * 2**30
MAX_FILE_BYTES = 16 * 2**30
MAX_RATIO = 100  # images do not shrink; bounds what a small archive can claim to hold
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ALWAYS_ALLOWED = 64 * 2**20


def members(archive: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of a ZIP by name, after every check that needs no unpacking.
    Raises ValueError where it is no ZIP or a damaged one, or a member is encrypted, leads outside, is a link or a
    special file, occurs twice, or is larger (or there are more) than any of the data sets has."""
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, UnicodeDecodeError) as error:
        remedy = "Copy or download it again; archives of another kind are to be unpacked first, and the folder added"
        raise ValueError(f"{archive} is not a whole ZIP archive ({error}). {remedy}.") from error
    files: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = _checked_name(archive, info)
        if name.endswith("/"):
            continue
        if (name := str(PurePosixPath(name))) in files:
            raise ValueError(f"{archive} holds {info.filename!r} twice, which no archive for the kit does.")
        files[name] = info
    if len(files) > MAX_FILES:
        raise ValueError(f"{archive} holds {len(files):,} files; the largest data set has fewer than {MAX_FILES:,}.")
    return files


def _checked_name(archive: Path, info: zipfile.ZipInfo) -> str:
    """The member's name with slashes, which some archives of Windows have the other way round."""
    name, kind = info.filename.replace("\\", "/"), stat.S_IFMT(info.external_attr >> 16)
    outside = PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
    if outside or ":" in name or "\0" in info.orig_filename:
        raise ValueError(f"{archive} is refused: its member {name!r} would be written outside the target folder.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ValueError(f"{archive} is refused: its member {name!r} is a link or a special file, not a plain file.")
    if info.flag_bits & 0x1:
        remedy = "Unpack it with the owners' password and add the folder instead"
        raise ValueError(f"{archive} is encrypted ({name!r}). {remedy}.")
    if info.compress_type not in _METHODS:
        how = f"a method that is not known here ({info.compress_type}; 9 is Deflate64, Windows' own for large files)"
        remedy = "Unpack it with the program that made it and add the folder instead"
        raise ValueError(f"{archive} packs {name!r} by {how}. {remedy}.")
    return name


def unpack(archive: Path, target: Path, place: Callable[[str], PurePosixPath | None]) -> None:
    """Unpack the members for which `place(name)` gives a path below the empty folder `target`.

    On any exception (Ctrl-C too) the folder is emptied. Raises ValueError as :func:`members`, or for a member whose
    content is damaged or larger than the archive declares; OSError for too little disk space (before anything is
    written), or a write that fails."""
    wanted = {name: (info, below) for name, info in members(archive).items() if (below := place(name)) is not None}
    total = _bounded(archive, [info for info, _ in wanted.values()])
    free = shutil.disk_usage(target).free
    if total > free:
        room = f"{total / 2**30:.2f} GiB unpacked, but only {free / 2**30:.2f} GiB are free in {target}"
        raise OSError(28, f"{archive} needs {room}. Free some space, or choose a folder on another disk")
    try:
        with (
            zipfile.ZipFile(archive) as file,
            progress.bar(total=total, desc=f"Unpacking {archive.name}", unit="B", unit_scale=True) as bar,
        ):
            for info, below in wanted.values():
                _write(archive, file, info, below, target)
                bar.update(info.file_size)
    except BaseException:
        for left in target.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        raise


def _bounded(archive: Path, infos: list[zipfile.ZipInfo]) -> int:
    total = sum(info.file_size for info in infos)
    packed = sum(info.compress_size for info in infos)
    largest = max(infos, key=lambda info: info.file_size, default=None)
    if largest is not None and largest.file_size > MAX_FILE_BYTES:
        size, most = (f"{size / 2**30:.0f} GiB" for size in (largest.file_size, MAX_FILE_BYTES))
        why = f"{largest.filename!r} declares {size}; no file of the data sets is larger than {most}"
        raise ValueError(f"{archive} is refused: {why}.")
    if total > MAX_BYTES or total > max(_ALWAYS_ALLOWED, MAX_RATIO * packed):
        size = f"{total / 2**30:.1f} GiB in {packed / 2**20:.1f} MiB packed"
        raise ValueError(f"{archive} is refused: it declares {size}, which no archive for the kit does.")
    return total


def _write(archive: Path, file: zipfile.ZipFile, info: zipfile.ZipInfo, below: PurePosixPath, target: Path) -> None:
    info.filename = str(below)  # where `extract` puts it, below the target whatever it is
    try:
        file.extract(info, target)
    except OSError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError ...
        what = f"{archive} is damaged at {info.orig_filename!r} ({error})"
        raise ValueError(f"{what}. Copy or download it again.") from error
