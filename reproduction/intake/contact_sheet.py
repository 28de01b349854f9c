"""Near-duplicates to look at: a CSV file and a contact sheet.

Both show or name people of the data sets: for official data they belong in a folder that git ignores.
"""

from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from reid_core import files, images
from reid_core.datasets.table import portable_paths

_IMAGE, _GAP, _TEXT, _COLUMNS = (64, 128), 6, 48, 4
_CELL, _HEAD = 220, 20  # width of a pair with its caption, height of the title
_LETTERS = 12  # pixels: 7 points where the sheet is as wide as a printed page


def write_audit(
    pairs: pd.DataFrame, folder: str | Path, root: str | Path, *, source: str = "", shown: int = 100
) -> tuple[Path, Path]:
    """Write `near_duplicates.csv` (all pairs, portable paths) and `near_duplicates.png` (the first `shown`).

    Parameters
    ----------
    pairs : what :func:`reproduction.intake.near_duplicates.find` returned; may be empty.
    folder : where to write; made if need be.
    root : the data root that the CSV's paths are relative to.
    source : what the pictures are, printed on the sheet; as from `reproduction.plots.source_text`.
    shown : how many pairs the sheet shows, the first ones.

    Returns the two paths, of the CSV file and of the sheet.
    """
    folder = Path(folder)
    paths = {column: portable_paths(pairs[column], root) for column in ("train_path", "test_path")}
    saved = pairs.assign(**paths, correlation=pairs["correlation"].round(4))
    csv = files.write_text(folder / "near_duplicates.csv", saved.to_csv(index=False, lineterminator="\n"))
    with files.replacing(folder / "near_duplicates.png") as temporary:
        draw(pairs.head(shown), total=len(pairs), source=source).save(temporary)
    return csv, folder / "near_duplicates.png"


def draw(pairs: pd.DataFrame, *, total: int | None = None, source: str = "") -> Image.Image:
    """The pairs side by side, training image left, test image right, under each what it is; `source` at the end."""
    height = _IMAGE[1] + _TEXT
    columns = min(_COLUMNS, max(1, len(pairs)))
    rows = -(-len(pairs) // columns)
    bottom = _HEAD + rows * (height + 2 * _GAP)
    sheet = Image.new("RGB", (max(columns * _CELL, 560), bottom + (_HEAD if source else 0)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LETTERS)
    pen.text((_GAP, bottom), source, fill="dimgray", font=font)
    total = len(pairs) if total is None else total
    title = f"Near-duplicates, training image left, test image right: {len(pairs):,} of {total:,} pairs."
    none = "No near-duplicates between training and test images."
    pen.text((_GAP, 4), title if total else none, fill="black", font=font)
    for number, pair in enumerate(pairs.itertuples()):
        row, column = divmod(number, columns)
        left, top = column * _CELL + _GAP, _HEAD + row * (height + 2 * _GAP)
        for position, path in enumerate((pair.train_path, pair.test_path)):
            sheet.paste(images.rgb(path).resize(_IMAGE), (left + position * (_IMAGE[0] + _GAP), top))
        caption = (
            f"{pair.train_set}: {pair.train_person} c{pair.train_camera}\n"
            f"{pair.test_set} {pair.test_subset}: {pair.test_person} c{pair.test_camera}\n"
            f"{pair.bits} bits, correlation {pair.correlation:.3f}"
        )
        pen.multiline_text((left, top + _IMAGE[1] + 2), caption, fill="black", font=font, spacing=1)
    return sheet
