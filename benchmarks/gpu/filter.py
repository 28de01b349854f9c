"""Re-ranking on a GPU before and after the search multiplied at TF32 (reid_core/reranking/tf32.py), in one process.

    PYTHONPATH=. python benchmarks/gpu/filter.py [--large] [--before]

Made features of 2,048 dimensions, made on the GPU: people as in benchmarks/retrieval/tasks.py, a spectrum k^-1, and
isotropic ones; and, as the worst case, isotropic ones of very unequal length, whose bound excludes nothing. At
Market-1501's size (3,368 x 19,732), the least of --turns turns, in turns: the float32 product of all pairs, the search
before and after, its stages one by one (with other ways that were thought of), re-ranking before and after; then how
the results differ. --large: 3,368 x 519,732, people, features on the host, streamed into the evaluation, once; what was
before is projected from the search of a sixteenth of the rows, and with --before run whole, which takes another minute.
Before is the search as it was, kept here, with pairs gathered 1,024 at a time.

What was expected before anything was measured, of an H200 (float32 50 TFLOP/s, TF32 405, copies 4.26 TB/s), in ms at
23,100 images: float32 product of the queries' rows 6.4, TF32 product of the others 4.6, their 1.8 GB of distances
written once and read once 0.9, looking at the queries' as before 1.8, 470,000 pairs finished at 56 KB each 6.2, cutting
the factors 0.6: 20.5, with launches and selection 25, where it took 55. Re-ranking: 81 to about 50, or 46 where the
larger gathering of pairs counts in the weights, too: 1.6 to 1.75 times as fast. At 523,100 (here the queries' rows go
through TF32 as well): product 2.8 s, passes 0.5, pairs 0.2: the search about 4.5 s where its product alone took 21.6,
re-ranking 46 to 20 to 26 s: 1.8 to 2.3 times as fast.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks/retrieval")]

import tasks  # noqa: E402

from reid_core import reranking  # noqa: E402
from reid_core.distance import expand, inner_products, matmul_precision  # noqa: E402
from reid_core.reranking import neighbours, sparse_rows, tf32  # noqa: E402
from reid_core.reranking.neighbours import Neighbours, nearest, points  # noqa: E402

K, DIMENSIONS, QUERIES, BLOCK = 21, 2048, 3368, 8192
KINDS = ("people", "spectrum", "isotropic", "unequal")


def made(kind: str, n: int, device) -> tuple[torch.Tensor, pd.DataFrame]:
    """Features (n, 2048) float32 on the device, of length 1 (unless unequal), and whose they are."""
    random = torch.Generator(device).manual_seed(0)
    n_people = max(8, n // 30)
    person, camera = (torch.randint(0, most, (n,), device=device, generator=random) for most in (n_people, 6))
    normal = lambda *shape: torch.randn(*shape, DIMENSIONS, device=device, generator=random)  # noqa: E731
    groups, cameras = normal(max(2, n_people // 6)), 0.35 * normal(6)
    people = groups[torch.arange(n_people, device=device) % len(groups)] + 0.45 * normal(n_people)
    scale = torch.arange(1, DIMENSIONS + 1, device=device) ** (-0.5 if kind == "spectrum" else 0)
    x = torch.empty((n, DIMENSIONS), device=device)
    for start in range(0, n, BLOCK):
        own = slice(start, min(start + BLOCK, n))
        block = normal(own.stop - start)
        if kind == "people":
            block *= 1 + 2.5 * torch.rand((len(block), 1), device=device, generator=random)
            block = (block + people[person[own]] + cameras[camera[own]]).clamp_(min=0)
        elif kind == "spectrum":
            block = (block + people[person[own]]) * scale
        elif kind == "unequal":
            x[own] = block * torch.exp(3 * torch.randn((len(block), 1), device=device, generator=random))
            continue
        x[own] = block / block.norm(dim=1, keepdim=True)
    return x, pd.DataFrame({"person_id": 1 + person.cpu().numpy(), "camera_id": camera.cpu().numpy()})


def nearest_before(cloud, k: int, *, corner=None, rows: int | None = None) -> Neighbours:
    """The search as it was: full rows in float32 and torch's selection; of the first `rows` only, where given."""
    n, n_corner, device = len(cloud), 0 if corner is None else len(corner), cloud.norms.device
    index = torch.empty((n, k), dtype=torch.int32, device=device)
    distance, farthest = torch.empty((n, k), device=device), torch.empty(n, device=device)
    height = max(1, neighbours.TORCH_CELLS // n)
    for start in range(0, rows or n, height):
        own = slice(start, min(start + height, n))
        block = expand(inner_products(cloud.left[own], cloud.right), cloud.norms[own], cloud.norms, floor=cloud.floor)
        block.diagonal(start).zero_()
        if start < n_corner:
            corner[own] = block[: n_corner - start, n_corner:]
        farthest[own] = block.amax(1)
        distance[own], found = block.topk(k, largest=False)
        index[own] = found.int()
    return Neighbours(index, distance, farthest)


@contextlib.contextmanager
def as_before():
    with patch.object(reranking, "nearest", nearest_before):
        with patch.object(neighbours, "sampled_products", gathered):
            yield


def gathered(left, right, row, column, at_once: int = 1024) -> torch.Tensor:
    parts = [left.new_empty(0)]
    for start in range(0, len(row), at_once):
        pairs = slice(start, start + at_once)
        parts.append((left[row[pairs]] * right[column[pairs]]).sum(1))
    return torch.cat(parts)


class Clock:
    """Least seconds of what ran under each name, with the device waited for."""

    def __init__(self, device):
        self.least, self.device = {}, device

    def __call__(self, name: str, task):
        self.wait()
        begun = time.perf_counter()
        result = task()
        self.wait()
        self.last = time.perf_counter() - begun
        self.least[name] = min(self.least.get(name, np.inf), self.last)
        return result

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def product(x) -> None:
    for start in range(0, len(x), BLOCK):
        inner_products(x[start : start + BLOCK], x)


def stages(cloud, clock: Clock, rows: slice) -> None:
    """What Filter.search does with a panel, step by step, and other ways to do its steps (in brackets)."""
    sieve = clock("  factors cut", lambda: tf32.Filter(cloud, K))
    left = sieve.left[rows]
    with matmul_precision("tf32"):
        made = clock("  product at TF32, with the columns' part", lambda: torch.addmm(sieve.bias, left, sieve.right.T))
        clock("  (product at TF32 alone)", lambda: left @ sieve.right.T)
    cells = made.view(len(made), -1, sieve.groups)
    low, high = clock("  least and largest of groups", lambda: torch.aminmax(cells, dim=1))
    clock("  (the two by themselves)", lambda: (cells.amin(1), cells.amax(1)))
    clock("  threshold", lambda: (high.topk(K).values[:, -1:], low.amin(1, keepdim=True)))
    row, column, _ = clock("  all up to the candidates", lambda: sieve.candidates(rows))
    clock("  pairs finished", lambda: cloud.pair_distance(row, column, rows))
    clock("  (gathered, 16,384 at a time)", lambda: gathered(cloud.left[rows], cloud.right, row, column, 1 << 14))
    clock("  the whole panel", lambda: sieve.search(rows))


def precision_of_pairs(cloud, rows: slice) -> str:
    """How far the products of a panel's pairs are off in parts of what float32 may lose, and whether bits repeat."""
    row, column, _ = tf32.Filter(cloud, K).candidates(rows)
    if len(row) == 0:
        return "no pairs"
    row = row + rows.start
    found = neighbours.sampled_products(cloud.left, cloud.right, row, column)
    again = neighbours.sampled_products(cloud.left, cloud.right, row, column)
    mixed = torch.randperm(len(row), device=row.device)
    shuffled = neighbours.sampled_products(cloud.left, cloud.right, row[mixed], column[mixed])
    exact = torch.cat([(cloud.left[r].double() * cloud.right[c].double()).sum(1)
                       for r, c in zip(row.split(1 << 14), column.split(1 << 14), strict=True)])  # fmt: skip
    lengths = cloud.left.double().norm(dim=1)[row] * cloud.right.double().norm(dim=1)[column]
    other = gathered(cloud.left, cloud.right, row, column, 1 << 14)
    off, off_gathered = (float(((x - exact).abs() / lengths).max()) / 2**-24 for x in (found, other))
    repeats, anyhow = torch.equal(found, again), torch.equal(found[mixed], shuffled)
    return (f"{len(row):,} pairs: off by at most {off:.2f} units (2^-24 |x| |y|), gathered ones by {off_gathered:.2f}; "
            f"bits repeat: {repeats}, in another order of the pairs: {anyhow}")  # fmt: skip


def differences(before: Neighbours, after: Neighbours) -> str:
    """Where lists differ, and by how much in distance: no more than float32 rounds, where the filter is exact."""
    lists = int((before.index != after.index).any(1).sum())
    sets = int((before.index.sort(1).values != after.index.sort(1).values).any(1).sum())
    apart, far = ((a - b).abs().max() for a, b in zip(list(vars(before).values())[1:], list(vars(after).values())[1:],
                                                      strict=True))  # fmt: skip
    return (f"of {len(before.index):,} lists {lists} differ in order and {sets} in whom they hold; distances differ by "
            f"at most {apart:.1e}, the farthest by {far:.1e}")  # fmt: skip


def of_kind(kind: str, n: int, n_query: int, turns: int, device) -> None:
    x, _ = made(kind, n, device)
    query, gallery = x[:n_query].clone(), x[n_query:].clone()
    cloud, clock = points(x), Clock(device)
    corner = torch.empty((n_query, n - n_query), device=device)
    rows = slice(n_query, min(n, n_query + neighbours.TORCH_CELLS // n))
    crowded = [0]

    def search(self, rows):
        found = unchanged(self, rows)
        crowded.append(crowded.pop() + int(found[3].sum()))
        return found

    unchanged = tf32.Filter.search
    for turn in range(turns + 1):
        if turn == 1:
            clock.least.clear()  # the first was to warm up
        clock("float32 product of all pairs", lambda: product(x))
        before = clock("search before", lambda: nearest_before(cloud, K, corner=corner))
        after = clock("search after", lambda: nearest(cloud, K, corner=corner))
        stages(cloud, clock, rows)
        with as_before():
            old = clock("re-ranking before", lambda: reranking.k_reciprocal(query, gallery, progress=False))
        new = clock("re-ranking after", lambda: reranking.k_reciprocal(query, gallery, progress=False))
    with patch.object(tf32.Filter, "search", search):
        nearest(cloud, K, corner=corner)
    row, *_ = tf32.Filter(cloud, K).candidates(rows)
    print(f"\n{kind}, {n_query:,} x {n - n_query:,}; stages are of a panel of {rows.stop - rows.start:,} rows; ms:")
    for name, seconds in clock.least.items():
        print(f"  {name:44} {1e3 * seconds:9.2f}")
    for what in ("search", "re-ranking"):
        print(f"  {what}: {clock.least[f'{what} before'] / clock.least[f'{what} after']:.2f} times as fast")
    off = (old - new).abs()
    print(f"  pairs finished a row {len(row) / (rows.stop - rows.start):.1f}; rows left to float32 "
          f"{crowded[0] / (n - n_query):.2%}; {differences(before, after)}; results by at most {float(off.max()):.1e}, "
          f"{float((off > 1e-5).float().mean()):.1e} of them by more than 1e-5")  # fmt: skip
    print(f"  {precision_of_pairs(cloud, rows)}", flush=True)


def projected_search(x) -> float:
    """Seconds of the search before, from a sixteenth of the panels."""
    cloud, n, clock = points(x), len(x), Clock(x.device)
    height = max(1, neighbours.TORCH_CELLS // n)
    rows = min(n, -(-n // 16 // height) * height)
    nearest_before(cloud, K, rows=height)
    clock("part", lambda: nearest_before(cloud, K, rows=rows))
    return clock.last * n / rows


def large(n: int, n_query: int, whole: bool, device) -> None:
    """With distractors, streamed into the evaluation."""
    x, table = made("people", n, device)
    projected, x, seconds = projected_search(x), x.cpu().numpy(), {}
    for name, context in {"after": contextlib.nullcontext, "before": as_before}.items():
        if name == "before" and not whole:
            break
        clock = Clock(device)
        with context():
            search = reranking.nearest
            timed = lambda *args, search=search, clock=clock, **more: clock(  # noqa: E731
                "search", lambda: search(*args, **more)
            )
            with patch.object(reranking, "nearest", timed):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                    torch.cuda.empty_cache()
                tables = table[:n_query], table[n_query:]
                taken, _ = tasks.rerank_and_score_stream(x[:n_query], x[n_query:], tables, device=device.type)
        seconds[name] = taken.wall
        peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0
        print(f"{name}, {n:,} images: {taken.wall:.1f} s, of which the search {clock.last:.1f} s; {peak:.1f} GiB",
              flush=True)  # fmt: skip
        if name == "after":
            past = taken.wall - clock.last + projected
            print(f"before, projected: the search of a sixteenth of the rows, times that, {projected:.1f} s, with what "
                  f"else there is {past:.1f} s, so {past / taken.wall:.2f} times as fast", flush=True)  # fmt: skip
    if whole:
        print(f"{seconds['before'] / seconds['after']:.2f} times as fast")


@contextlib.contextmanager
def code_of_gpus():
    """On the CPU the code that a GPU runs."""
    joined = reranking._joined
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(tf32, "computes_tf32", lambda device: True))
        stack.enter_context(patch.object(sparse_rows, "_on_cpu", lambda matrix: False))
        stack.enter_context(patch.object(reranking, "_joined", lambda q, g, device, as_array: joined(q, g, device, 0)))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--images", type=int, nargs=2, default=[23_100, 523_100], help="of both sizes")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="also with 500,000 distractors")
    parser.add_argument("--before", action="store_true", help="there what was before in full, not projected")
    parser.add_argument("--device", default="cuda", help="cpu tries the script itself, with the filter in its place")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    print(torch.__version__, torch.cuda.get_device_name() if device.type == "cuda" else "CPU", flush=True)
    with code_of_gpus() if device.type == "cpu" else contextlib.nullcontext():
        for kind in asked.kinds:
            of_kind(kind, asked.images[0], asked.queries, asked.turns, device)
        if asked.large:
            large(asked.images[1], asked.queries, asked.before, device)


if __name__ == "__main__":
    main()
