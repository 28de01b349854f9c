"""Writers of the official data sets' file structure with pictures of a few pixels, for tests and rehearsals.

Names, folders, cells, references and counts are those of the official files; the pictures are noise.
`small` writes all three sets at a size for unit tests, `full` at the official counts from the official identity
and camera arrays, which :func:`protocols` finds.
"""

import io
import os
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

TRAIN, QUERY, GALLERY = "train", "query", "gallery"
FOLDERS = {TRAIN: "bounding_box_train", QUERY: "query", GALLERY: "bounding_box_test"}
MARKET1501, CUHK03_MAT = "Market-1501-v15.09.15", "cuhk03_release/cuhk-03.mat"


def protocols() -> Path | None:
    """The folder of the official identity, camera and split arrays, if it is there."""
    given = os.environ.get("REID_PROTOCOLS")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "protocols"
    return folder if (folder / "market1501.npz").is_file() else None


def pixels(seed: int = 0, count: int = 16, height: int = 16, width: int = 8) -> np.ndarray:
    """(count, height, width, 3) uint8 noise in blocks, so that JPEG keeps the pictures apart."""
    blocks = np.random.default_rng(seed).integers(0, 256, (count, height // 4, width // 4, 3), dtype=np.uint8)
    return blocks.repeat(4, axis=1).repeat(4, axis=2)


def encoded(form: str, seed: int = 0, count: int = 16) -> list[bytes]:
    """The same pictures as files: "jpeg" or "png"."""
    files = []
    for picture in pixels(seed, count):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, form)
        files.append(buffer.getvalue())
    return files


def _write(folder: Path, names: list[str], contents: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for position, name in enumerate(names):
        (folder / name).write_bytes(contents[position % len(contents)])


def market1501(root: Path, rows: dict[str, list[tuple[int, int]]], *, extra: int = 0, seed: int = 1) -> Path:
    """Market-1501 from (person, camera) rows a subset; `extra` images more in images/, as in the 500k set."""
    base = Path(root) / MARKET1501
    base.mkdir(parents=True, exist_ok=True)
    for subset, ids in rows.items():
        names = [
            f"{f'{person:04d}' if person >= 0 else person}_c{camera}s1_{number:06d}_00.jpg"
            for number, (person, camera) in enumerate(ids, 1)
        ]
        _write(base / FOLDERS[subset], names, encoded("jpeg", seed + list(FOLDERS).index(subset)))
        (base / FOLDERS[subset] / "Thumbs.db").write_bytes(b"clutter of a file manager")
    (base / "readme.txt").write_text("official readme\n")
    if extra:
        names = [f"0000_c{number % 6 + 1}s0_{number:06d}_00.jpg" for number in range(extra)]
        _write(base / "images", names, encoded("jpeg", seed + 3))
    return base


def cuhk01(root: Path, people: int, *, seed: int = 5) -> Path:
    """CUHK01's campus/ folder: four images a person."""
    folder = Path(root) / "CUHK01" / "campus"
    names = [f"{person:04d}{image:03d}.png" for person in range(1, people + 1) for image in range(1, 5)]
    _write(folder, names, encoded("png", seed))
    return folder


def cuhk03_names(people: list[int], missing: float, seed: int) -> list[str]:
    """File names pair_person_view_image.png, some images missing but the first two of each view."""
    rng = np.random.default_rng(seed)
    return [
        f"{pair}_{person:03d}_{(image - 1) // 5 + 1}_{image:02d}.png"
        for pair, number in enumerate(people, 1)
        for person in range(1, number + 1)
        for image in range(1, 11)
        if (image - 1) % 5 < 2 or rng.random() >= missing
    ]


def cuhk03_mat(
    path: Path, names: dict[str, list[str]], *, testsets: int = 20, test_people: int = 100, seed: int = 9
) -> Path:
    """cuhk-03.mat as MATLAB v7.3 writes it: a 512-byte header, cells as object references, reversed axes.

    `names` maps labeled and detected to pair_person_view_image.png; pictures are shared between cells.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512, libver="earliest") as file:
        references = file.create_group("#refs#")

        def store(name: str, value: np.ndarray, kind: bytes, empty: bool = False) -> h5py.Reference:
            data = references.create_dataset(name, data=value)
            data.attrs["MATLAB_class"] = np.bytes_(kind)
            if empty:
                data.attrs["MATLAB_empty"] = np.uint32(1)
            return data.ref

        def cell(group: h5py.Group, name: str, content: np.ndarray) -> h5py.Reference:
            data = group.create_dataset(name, data=content.T, dtype=h5py.ref_dtype)
            data.attrs["MATLAB_class"] = np.bytes_(b"cell")
            return data.ref

        empty = store("empty", np.zeros(2, np.uint64), b"double", empty=True)
        people = _people_per_pair(names["labeled"] + names["detected"])
        for boxes, offset in (("detected", 0), ("labeled", 1)):
            pictures = [
                store(f"{boxes}{number}", picture.transpose(2, 1, 0), b"uint8")
                for number, picture in enumerate(pixels(seed + offset))
            ]
            cells = [np.full((number, 10), empty, dtype=h5py.ref_dtype) for number in people]
            for number, name in enumerate(names[boxes]):
                pair, person, _, image = (int(part) for part in name[:-4].split("_"))
                cells[pair - 1][person - 1, image - 1] = pictures[number % len(pictures)]
            pairs = [cell(references, f"{boxes}_pair{number}", content) for number, content in enumerate(cells)]
            cell(file, boxes, np.array(pairs, dtype=h5py.ref_dtype)[:, None])
        rng = np.random.default_rng(seed)
        everyone = [(pair, person) for pair, number in enumerate(people[:3], 1) for person in range(1, number + 1)]
        sets = []
        for number in range(testsets):
            chosen = rng.choice(len(everyone), min(test_people, len(everyone) // 2), replace=False)
            sets.append(store(f"testset{number}", np.array(everyone, float)[np.sort(chosen)].T, b"double"))
        cell(file, "testsets", np.array(sets, dtype=h5py.ref_dtype)[:, None])
    with open(path, "r+b") as file:
        header = b"MATLAB 7.3 MAT-file, Platform: PCWIN64, Created on: Mon Jun 09 2014 HDF5 schema 1.00 ."
        file.write(header.ljust(124) + b"\x00\x02IM")
    return path


def _people_per_pair(names: list[str]) -> list[int]:
    people = [0] * 5
    for name in names:
        pair, person = (int(part) for part in name.split("_")[:2])
        people[pair - 1] = max(people[pair - 1], person)
    return people


def cuhk03_np(root: Path, boxes: str, rows: dict[str, list[tuple[int, int]]], *, seed: int = 13) -> Path:
    """One kind of boxes as CUHK03-NP folders from (person, camera) rows a subset."""
    base = Path(root) / "cuhk03-np" / boxes
    for subset, ids in rows.items():
        names = [f"{person:04d}_c{camera}_{number}.png" for number, (person, camera) in enumerate(ids, 1)]
        _write(base / FOLDERS[subset], names, encoded("png", seed + list(FOLDERS).index(subset)))
    return base


def small_market1501_rows() -> dict[str, list[tuple[int, int]]]:
    """6 training people, 4 test people in three cameras, two images each; junk and distractors."""
    return {
        TRAIN: [(person, camera) for person in range(2, 13, 2) for camera in (1, 2, 3) for _ in range(2)],
        QUERY: [(person, camera) for person in (1, 3, 5, 7) for camera in (1, 2)],
        GALLERY: [(-1, 1), (-1, 4), (0, 2), (0, 3), (0, 3)]
        + [(person, camera) for person in (1, 3, 5, 7) for camera in (1, 2, 3) for _ in range(2)],
    }


SMALL_PAIRS = [12, 6, 3, 2, 2]


def small(root: Path) -> Path:
    """All three sets, CUHK03 as the .mat, a few people each."""
    root = Path(root)
    market1501(root, small_market1501_rows())
    names = {"labeled": cuhk03_names(SMALL_PAIRS, 0.3, 1), "detected": cuhk03_names(SMALL_PAIRS, 0.3, 2)}
    cuhk03_mat(root / CUHK03_MAT, names, test_people=5)
    cuhk01(root, 7)
    return root


def full(root: Path, arrays: Path, *, cuhk03: str = "mat") -> Path:
    """All three sets at the official counts; CUHK03 as "mat", "np" or "both"."""
    root = Path(root)
    market = np.load(arrays / "market1501.npz")
    market1501(
        root,
        {
            subset: list(
                zip(market[f"{subset}_person_id"].tolist(), market[f"{subset}_camera_id"].tolist(), strict=True)
            )
            for subset in FOLDERS
        },
    )
    split = {boxes: np.load(arrays / f"cuhk03_np_{boxes}.npz") for boxes in ("labeled", "detected")}
    if cuhk03 in ("mat", "both"):
        cuhk03_mat(root / CUHK03_MAT, {boxes: array["file_name"].tolist() for boxes, array in split.items()})
    if cuhk03 in ("np", "both"):
        for boxes, array in split.items():
            ids = np.stack([array["person_id"], array["camera_id"]], axis=1)
            cuhk03_np(root, boxes, {subset: [tuple(row) for row in ids[array[subset]].tolist()] for subset in FOLDERS})
    cuhk01(root, 971)
    return root
