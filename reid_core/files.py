"""Files: written whole or not at all, one digest, room on the disk."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded where tensors are written: most commands do without
    from torch import Tensor


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
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}-", dir=path.parent))
    try:
        target = temporary if folder else temporary / path.name
        yield target
        if folder:
            temporary.chmod(0o755)
        os.replace(target, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_dead(folder: str | os.PathLike, name: str | None = None) -> None:
    """Remove the temporaries that `replacing` made in `folder` in processes that have been killed since.

    `name`: of those, only what was to become this file or folder.
    """
    for stale in Path(folder).glob(".*.*-*"):
        made, _, owner = stale.name[1:].rpartition(".")
        pid = owner.partition("-")[0]
        dead = pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists()
        if dead and name in (None, made):
            shutil.rmtree(stale, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write `text` (UTF-8) to `path` in one step; return the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Raise OSError when the disk of `folder` has less than `size` bytes free."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < size:
        raise OSError(
            f"{folder} has {free / 2**20:,.0f} MiB free and needs {size / 2**20:,.0f} MiB for {purpose}. "
            "Make room, or choose another folder."
        )


def write_tensors(target: Path, tensors: "dict[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
    """Write a .safetensors file in one step. Raises OSError when it cannot be written, as on a disk full by now."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(target) as temporary:
        try:
            save_file(
                {name: x.detach().cpu().contiguous() for name, x in tensors.items()}, temporary, metadata
            )
        except SafetensorError as error:
            raise OSError(
                f"{target} cannot be written: {error}. Make room; the same command continues."
            ) from error
        temporary.chmod(0o644)
