"""What a data folder holds: each set found or not, in which form, against the published numbers."""

import contextlib
import warnings
from pathlib import Path

import pandas as pd

from reid_core.datasets import cuhk01, cuhk03, cuhk03_mat, layout, market1501, own
from reid_core.datasets.table import GALLERY, SUBSET
from reid_core.progress import bar, shown
from reproduction.intake import published
from reproduction.intake.recognise import recognise, walk

COLUMNS = ("set", "form", "subset", "state", "people", "people published", "images", "images published", "digest",
           "digest published", "note")  # fmt: skip
COUNTS = ("people", "people published", "images", "images published")
_BLANK = {column: None if column in COUNTS else "" for column in COLUMNS}
OK, DIFFERS, FOUND, MISSING, BROKEN = "ok", "differs", "found", "missing", "broken"
DISTRACTORS = "market1501+500k"

_MARKET, _NP, _FAR = layout.MARKET1501_FOLDER, layout.CUHK03_NP_FOLDER, layout.DISTRACTORS_FOLDER
_ABOUT = {  # a set's title, what to place, and {form: where it lies below the data folder}
    "market1501": ("Market-1501", f"{_MARKET}/ with {', '.join(layout.SUBSET_FOLDERS.values())}", {"folders": _MARKET}),
    **{f"cuhk03_{boxes}": (f"CUHK03 {boxes}", f"{layout.CUHK03_MAT}, or {_NP}/{boxes}/",
                           {"mat": layout.CUHK03_MAT, "np": f"{_NP}/{boxes}"}) for boxes in cuhk03.BOXES},
    "cuhk01": ("CUHK01", f"{layout.CUHK01_FOLDER}/ with 0001001.png and so on", {"folders": layout.CUHK01_FOLDER}),
    DISTRACTORS: ("Market-1501 + 500k distractors (optional)", f"{_FAR}/ with the 500,000 images, or {_MARKET}/images/",
                  {"folders": _FAR}),
}  # fmt: skip
TITLES = {name: title for name, (title, _, _) in _ABOUT.items()}


def forms(root: str | Path) -> dict[str, list[str]]:
    """Which sets are there, by whether their folder or file exists: set to forms (folders, mat, np), none if absent."""
    root = Path(root).absolute()
    kinds = {"mat": Path.is_file, "folders": Path.is_dir, "np": Path.is_dir}
    found = {name: [form for form, place in places.items() if kinds[form](root / place)]
             for name, (_, _, places) in _ABOUT.items()} | {DISTRACTORS: []}  # fmt: skip
    with contextlib.suppress(FileNotFoundError):
        market1501.distractor_folder(root)
        found[DISTRACTORS] = ["folders"]
    return found


def missing(root: str | Path) -> dict[str, str]:
    """{set: why its rows are not run} for the sets of the paper that are absent; nothing is read."""
    absent = {name: TITLES[name] for name, there in forms(root).items() if not there and name != DISTRACTORS}
    if {"cuhk03_labeled", "cuhk03_detected"} <= set(absent):
        absent |= dict.fromkeys(("cuhk03_labeled", "cuhk03_detected"), cuhk03.TITLE)
    return {name: f"not run: {title} not found (see reid-core data status)" for name, title in absent.items()}


def status(root: str | Path, *, progress: bool = True) -> pd.DataFrame:
    """Everything found below a data folder, one row a set, form and subset; columns of :data:`COLUMNS`.

    `state` is "ok" (people, images and digest as published), "differs", "found" (embedded or own data, which have no
    published numbers), "missing" or "broken" (`note` says why). The digest is that of the image indices for the .mat
    (the CUHK03-NP split as released) and that of the sorted (person, camera) rows for folders. Nothing is extracted and
    no image is decoded."""
    root, rows = Path(root).absolute(), []
    found = forms(root)
    everything = [(name, form) for name, there in found.items() for form in there or [""]]
    everything += [(csv.name, "csv") for csv in sorted(root.glob("*.csv"))]
    with shown(progress):
        elsewhere = _elsewhere(root, found)
        for name, form in everything:
            try:
                if form:
                    rows += _rows(root, name, form)
                else:
                    rows.append({"set": name, "state": MISSING, "note": _what_to_do(root, name, elsewhere)})
            except (ValueError, OSError) as error:
                rows.append({"set": name, "form": form, "state": BROKEN, "note": str(error)})
    frame = pd.DataFrame([_BLANK | row for row in rows])
    if layout.data_source(root) == "embedded":
        frame.loc[frame["state"].isin([OK, DIFFERS]), "state"] = FOUND
        frame.loc[frame["state"] == MISSING, "note"] = "not rendered"
    return frame.astype({column: "Int64" for column in COUNTS})


def _elsewhere(root: Path, found: dict[str, list[str]]) -> dict[str, Path]:
    """{place: where it lies below the data folder instead} of sets that are not in their place."""
    if not root.is_dir() or all(found.values()):
        return {}
    there = {place for *_, places in _ABOUT.values() for place in places.values() if (root / place).exists()}
    try:
        with warnings.catch_warnings(action="ignore"):
            pieces = recognise(bar(walk(root, there), desc="Looking around", unit="file", delay=2), root)
    except (ValueError, OSError):  # nothing, or more than one
        return {}
    return {piece.target: root / piece.source for piece in pieces}


def _what_to_do(root: Path, name: str, elsewhere: dict[str, Path]) -> str:
    """What to do about a missing set: place it; or mend the link, or use what lies elsewhere in the data folder."""
    _, what, places = _ABOUT[name]
    note = f"place {what} in {root}"
    for place in places.values():
        if dead := layout.dead_link(root / place, root):
            note += f".{layout.hint(dead)} Put the data back there, or remove the link (it is no data) and add it again"
        elif lying := elsewhere.get(place):
            command = f"`reid-core data add {lying} --root {root}` puts it in its place"
            inside = lying in (root / place).parents
            note += f". {lying} looks like it: "
            note += f"move its images into a folder {root / place}" if inside else command
    return note


def render_text(frame: pd.DataFrame, root: str | Path) -> str:
    """The table of :func:`status` for a terminal, with what is missing and what is wrong spelled out below."""
    source = layout.data_source(root)
    lines = [f"Data folder {Path(root).absolute()} ({source} data)", ""]
    if not Path(root).is_dir():
        lines.insert(1, f"It is not there.{layout.hint(root)}")
    cells = [("set", "form", "subset", "people", "published", "images", "published", "digest", "state")]
    for row in frame.to_dict("records"):
        digest = row["digest"] + ("" if row["digest"] == row["digest published"] or source == "embedded" else " (!)")
        counts = ["" if pd.isna(row[key]) else f"{row[key]:,}" for key in COUNTS]
        about = [TITLES.get(row["set"], row["set"]), row["form"], row["subset"]]
        cells.append((*about, *counts, digest if row["digest published"] else "", row["state"]))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for cell in cells:
        aligned = (f"{text:{'>' if 3 <= n <= 6 else '<'}{widths[n]}}" for n, text in enumerate(cell))
        lines.append("  ".join(aligned).rstrip())
    notes = frame[frame["note"] != ""].drop_duplicates("note")
    if len(notes):
        lines += ["", *(f"{TITLES.get(row.set, row.set)}: {row.note}" for row in notes.itertuples())]
    if (frame["state"] == DIFFERS).any():
        text = "What differs from the published set is measured all the same, and Table 1 shows by how much; for the"
        lines += ["", text, "paper's numbers unpack or obtain that set again, whole."]
    if (frame["state"] == MISSING).any() and source == "official":
        lines += ["", "`reid-core data add PATH` links or unpacks what you have to the right place."]
    return "\n".join(lines)


def _rows(root: Path, name: str, form: str) -> list[dict]:
    if form == "csv":
        return [_row(name, form, subset, part) for subset, part in own.load(root / name).groupby(SUBSET, sort=False)]
    if name == DISTRACTORS:
        files = layout.image_files(market1501.distractor_folder(root), *market1501.DISTRACTORS)
        images, known = len(files), published.MARKET1501_DISTRACTORS
        row = {"set": name, "form": form, "subset": GALLERY, "people": 0, "people published": 0, "images": images}
        return [row | {"images published": known, "state": OK if images == known else DIFFERS}]
    base, _, boxes = name.partition("_")
    digests = {}
    if form == "mat":
        release = cuhk03_mat.index(root / layout.CUHK03_MAT, boxes)
        table, digests = cuhk03.release_table(release), cuhk03.split_digests(cuhk03.split(release))
    else:
        options = {"boxes": boxes, "form": form} if boxes else {}
        table = {"market1501": market1501, "cuhk03": cuhk03, "cuhk01": cuhk01}[base].load(root, **options)
    rows = []
    for subset, facts in published.SETS[name].items():
        row = _row(name, form, subset, table[table[SUBSET] == subset], facts)
        if digests:
            row |= {"digest": digests[subset], "digest published": cuhk03.SPLIT_DIGESTS[boxes][subset]}
            row["state"] = row["state"] if row["digest"] == row["digest published"] else DIFFERS
        rows.append(row)
    return rows


def _row(name: str, form: str, subset: str, part: pd.DataFrame, facts: published.Subset | None = None) -> dict:
    found = published.found(part)
    row = {"set": name, "form": form, "subset": subset, "people": found.people, "images": found.images}
    if facts is None:
        return row | {"state": FOUND}
    row |= {"people published": facts.people, "images published": facts.images, "digest": found.ids}
    return row | {"digest published": facts.ids, "state": OK if found == facts else DIFFERS}
