"""Rendering a whole data folder: workers, progress, and nothing half-written."""

import ctypes
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from reid_core import files, machine
from reid_core.datasets.layout import CUHK01_FOLDER, CUHK03_MAT, EMBEDDED_MARK, MARKET1501_FOLDER, SUBSET_FOLDERS
from reid_core.progress import bar as progress_bar
from reid_core.progress import shown
from reproduction.embedded import layouts, plan
from reproduction.embedded.scene.shot import World
from reproduction.embedded.sizes import Sizes, bytes_needed
from reproduction.embedded.strengths import FULL, Strengths

VERSION = 5
"""Version of the renderer: rises whenever the same seed and sizes would give other bytes."""

BATCH = 16
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def render(
    root: str | os.PathLike, sizes: Sizes, seed: int = 0, *, strengths: Strengths = FULL, workers: int | None = None,
    progress: bool = True, replace: bool = False,
) -> Path:  # fmt: skip
    """Render the embedded data sets in their official layouts below `root`; return its absolute path.

    Everything is drawn into a temporary folder beside `root` that takes its name at the end, so an
    interruption leaves nothing behind. The same sizes, seed, strengths and `VERSION` give the same bytes for any number
    of workers (with the same NumPy, Pillow and HDF5). A root that holds this rendering already is left as it is.

    Parameters
    ----------
    root : data folder to make: Market-1501-v15.09.15/, cuhk03_release/cuhk-03.mat, CUHK01/campus/ and, written
        last, embedded.json (version, seed, sizes, counts, digest of all images).
    sizes : `Sizes.full()`, `.smoke()`, `.tiny()`, `.share(fraction)` or explicit counts.
    seed : of people, cameras, poses and the split of people; not negative.
    strengths : how hard the pictures are.
    workers : processes; None for one a usable core.
    progress : show one bar with images a second and time left.
    replace : replace another embedded rendering at `root`. Nothing else is ever replaced.

    Raises FileExistsError where `root` holds another rendering and `replace` is false, or something else; OSError for
    too little free space, found before anything is drawn; ValueError for sizes that no layout can hold, a negative
    seed or fewer than one worker.
    """
    root = Path(root).resolve()
    sizes.checked()
    if seed < 0:
        raise ValueError(f"The seed of the embedded data must not be negative, but it is {seed}.")
    if (workers := machine.cores() if workers is None else workers) < 1:
        raise ValueError(f"Rendering needs at least one worker, but workers is {workers}.")
    order = ordered(sizes, seed, strengths)
    if holds(root, order, replace):
        return root
    existing = next(folder for folder in root.parents if folder.exists())
    files.require_space(existing, bytes_needed(sizes), "rendering the embedded data; smaller sizes need less")
    files.remove_dead(root.parent, root.name)
    with files.replacing(root, folder=True) as folder:
        with shown(progress):
            counts, digest = render_into(folder, sizes, seed, strengths, workers)
        record = json.dumps(order | {"counts": counts, "digest": digest}, indent=2)
        (folder / EMBEDDED_MARK).write_text(record + "\n")
        retired = folder.with_name(f"{folder.name}-old")
        if root.exists():
            root.rename(retired)
    shutil.rmtree(retired, ignore_errors=True)
    return root


def ordered(sizes: Sizes, seed: int, strengths: Strengths = FULL) -> dict:
    """What a rendering is known by; embedded.json begins with it."""
    return {"renderer_version": VERSION, "seed": seed, "sizes": sizes.as_dict(), "strengths": asdict(strengths)}


def holds(root: Path, order: dict, replace: bool) -> bool:
    """Whether root holds just this rendering; raise FileExistsError where rendering there would do harm."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        record = json.loads((root / EMBEDDED_MARK).read_text())
        found = {"renderer_version": record["renderer_version"]} | {key: record.get(key) for key in order}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        foreign = f"{root} holds something that is not embedded data (it has no readable {EMBEDDED_MARK})."
        raise FileExistsError(f"{foreign} Choose another folder for the embedded data.") from error
    if found != order and not replace:
        differ = ", ".join(f"{k} {found[k]} instead of {order[k]}" for k in order if found[k] != order[k])
        remedy = "Choose another folder, or pass replace=True to replace it."
        raise FileExistsError(f"{root} holds another rendering of the embedded data: {differ}. {remedy}")
    return found == order


def render_into(folder: Path, sizes: Sizes, seed: int, strengths: Strengths, workers: int) -> tuple[dict, str]:
    """Write all three data sets below folder; return their counts and the digest of all images."""
    market, campus = plan.market1501(sizes.market1501, seed), plan.cuhk03(sizes.cuhk03, seed)
    early, mat = plan.cuhk01(sizes.cuhk01), folder / CUHK03_MAT
    for place in (*(f"{MARKET1501_FOLDER}/{name}" for name in SUBSET_FOLDERS.values()), CUHK01_FOLDER):
        (folder / place).mkdir(parents=True)
    mat.parent.mkdir()
    parts = (
        (plan.MARKET1501, sizes.market1501.train_people + sizes.market1501.test_people, market),
        (plan.CUHK03, sizes.cuhk03.people, campus),
        (plan.CUHK01, sizes.cuhk01.people, early),
    )
    jobs = [
        (World(seed, number, people, strengths), folder, items[k : k + BATCH])
        for number, people, items in parts
        for k in range(0, len(items), BATCH)
    ]
    total = len(market) + sum(f.labeled + f.detected for f in campus) + len(early)
    digest = hashlib.sha256()
    with (
        layouts.CUHK03Writer(mat, sizes.cuhk03) as writer,
        drawn(jobs, workers) as results,
        progress_bar(total=total, desc="Rendering pedestrians", unit="img") as bar,
    ):
        for batch in results:
            for box, content in batch:
                if box is not None:
                    writer.add(*box)
                digest.update(content)
            bar.update(len(batch))
        writer.finish(plan.cuhk03_testsets(sizes.cuhk03, seed))
    forms = {form: sum(getattr(f, form) for f in campus) for form in ("labeled", "detected")}
    kinds = dict(Counter(image.kind for image in market))
    return {"market1501": kinds, "cuhk03": forms, "cuhk01": {"campus": len(early)}}, digest.hexdigest()


@contextmanager
def drawn(jobs: list, workers: int) -> Iterator[Iterator[list]]:
    """The results of `layouts.draw` for all jobs, in order, from a pool of processes or from this one.

    Workers are forked on Linux, so that notebooks and scripts without a main guard can render; they touch nothing but
    NumPy, Pillow and their own files. On macOS that is not safe beside threads. Ctrl-C ends them through their parent.
    """
    if workers == 1:
        yield map(layouts.draw, jobs)
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside the threads of a notebook's kernel
        pool = context.Pool(workers, initializer=become_worker)
    with pool:  # leaving it terminates the workers
        yield pool.imap(layouts.draw, jobs)


def become_worker() -> None:
    """Leave Ctrl-C to the parent, and on Linux end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
