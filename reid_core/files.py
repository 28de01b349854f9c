"""Files: written whole or not at all, one lock, one digest, room on the disk."""

import contextlib
import errno
import glob
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from reid_core import progress

try:
    import fcntl
except ImportError as error:
    raise ImportError("reid_core runs on Linux and macOS; on Windows use it inside WSL: `wsl --install`.") from error

if TYPE_CHECKING:  # loaded where tensors are written: most commands do without
    from torch import Tensor

# What flock says on a file system without locks; EBADF is NFS's answer for a folder, which cannot be opened to write.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
FULL = {errno.ENOSPC, errno.EDQUOT}
A_DAY = 86400.0  # seconds after which another machine's temporary counts as left behind


def _boot(system=Path("/proc")) -> str:
    """This start of the machine and, where containers share it, the room in which process numbers count."""
    with contextlib.suppress(OSError):
        boot = (system / "sys/kernel/random/boot_id").read_text()[:8]
        return f"{boot}x{(system / 'self/ns/pid').stat().st_ino}"
    return f"{int(psutil.boot_time()):08x}x0"


_HOST, _BOOT = platform.node(), _boot()  # in a temporary's name: several machines may share a folder


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, folder: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends without an exception.

    With `folder`, the temporary path is an empty folder and `path` must not exist yet or be an empty folder.
    On an exception (Ctrl-C too) the temporary is removed and `path` stays as it was.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with replacing(target) as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('1 2 3', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.{_HOST}.{_BOOT}.{os.getpid()}-", dir=path.parent))
    try:
        target = temporary if folder else temporary / path.name
        yield target
        if folder:
            temporary.chmod(0o755)
        os.replace(target, path)
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)  # of what was to be written
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_dead(folder: str | os.PathLike, name: str | None = None, *, alone: bool = False) -> None:
    """Remove the temporaries that `replacing` made in `folder` (for `name` there) in processes killed since.
    Those of other machines, containers and starts, whose processes cannot be seen from here, stay for a day after the
    last change: two machines may have one name, and another start be another machine. `alone` at work: all go."""
    for stale in Path(folder).glob(f".{glob.escape(name) if name else '*'}.*"):
        if alone or _dead(stale):
            shutil.rmtree(stale, ignore_errors=True)


def _dead(temporary: Path) -> bool:
    owner = re.fullmatch(r"(.+)\.(\d+)-[a-z0-9_]{8}(?:-old)?", temporary.name)
    if owner is None:  # nothing of `replacing`
        return False
    if owner[1].endswith(f".{_HOST}.{_BOOT}"):
        return not psutil.pid_exists(int(owner[2]))
    with contextlib.suppress(OSError):  # gone by now
        return max(p.stat().st_mtime for p in (temporary, *temporary.rglob("*"))) < time.time() - A_DAY
    return False


@contextlib.contextmanager
def locked(path: str | os.PathLike, busy: Exception | None = None) -> Iterator[int | None]:
    """Hold the lock of a file, made where it is missing, or of a folder; gives its handle, None where it is not held.
    The system lets go of it when the process ends, however it ends. Where another process holds it, raises `busy`, or
    without one says so and waits. Where the file system knows no locks, goes on without one after a warning."""
    path = Path(path)
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    held = True
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = (os.pread(handle, 300, 0).decode(errors="replace") if path.is_file() else "") or "another process"
            if busy is not None:
                busy.args = (f"{busy} (The lock {path} is held by {who}.)",)
                raise busy from None
            progress.say(f"Waiting for {who}, which holds {path} ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            held = False
            place = f"The file system of {path if path.is_dir() else path.parent} has no locks ({error.strerror})"
            warnings.warn(f"{place}; let no second process work there.", stacklevel=3)
        if held and not path.is_dir():  # a word for who waits
            os.truncate(handle, 0)
            os.pwrite(handle, f"{_HOST}, process {os.getpid()}".encode(), 0)
        yield handle if held else None
    finally:
        os.close(handle)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write `text` (UTF-8; of names that are not, their own bytes) to `path` in one step; return the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    return Path(path)


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Raise OSError when the disk of `folder` has less than `size` bytes free."""
    if (free := shutil.disk_usage(folder).free) < size:
        room = f"{free / 2**20:,.0f} MiB free and needs {size / 2**20:,.0f} MiB"
        raise OSError(f"{folder} has {room} for {purpose}. Make room, or choose another folder.")


def write_tensors(target: Path, tensors: "dict[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
    """Write a .safetensors file in one step. Raises OSError when it cannot be written, as on a disk full by now."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    with replacing(target) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"{target} cannot be written: {error}. Make room; the same command continues.") from error
        temporary.chmod(0o644)
