"""The pictures of README.md, from a finished smoke run, in headless Chromium.

    python docs/pictures.py

writes docs/report.png: the report of results/smoke on a wide screen and, in the dark, on a phone; and
docs/explorer.png: the explorer of notebook 08 in JupyterLab.
"""

import io
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image

from reproduction.runner import notebooks
from reproduction.sidecar import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests"))
import chromium
import lab

SHARP, MARGIN = 1.5, 6  # pixels of the picture to one of the page, and pixels around it
COLOURS = 192  # of a picture in the page: few shades, a third of the bytes


def report(page: chromium.Page, folder: Path) -> Image.Image:
    """The head of the report with its first verdicts, and beside it Table 3 as a phone shows it in the dark."""
    address = (folder / "report.html").resolve().as_uri()
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    page.look(1240, 1090)
    page.open(address)
    wide = taken(page)
    page.look(390, 1090, dark=True)
    page.open(address + "#table3")
    phone = taken(page)
    whole = Image.new("RGB", (wide.width + phone.width + 24, wide.height), "#8a8f96")
    whole.paste(wide, (0, 0))
    whole.paste(phone, (wide.width + 24, 0))
    return whole


def explorer(folder: Path) -> Image.Image:
    """The explorer on a query of Market-1501 that has matches, junk and its own camera, from a notebook in `folder`."""
    book = nbformat.read(notebooks.find("08"), as_version=4)
    number = next(i for i, cell in enumerate(book.cells) if "explorer.Explorer" in cell.source)
    del book.cells[number + 1 :]  # what follows writes results
    nbformat.write(book, folder / "explorer.ipynb")
    with lab.opened(chromium.find(), folder, folder) as opened, opened.notebook("explorer.ipynb"):
        opened.start_all()
        last = len(opened.end()) - 1
        page, cell = opened.page, f"{lab.CELLS}[{last}].node"
        for words, value, said in (
            ("data set", "Market-1501", "Market-1501, query "),
            ("query", "by number", "query 0:"),
            ("number", "17", "query 17:"),
        ):
            opened.choose(words, value)
            page.until(f"{cell}.querySelector('.widget-html-content').innerText.includes('{said}')", 120)
        page.look(1400, 1800, scale=SHARP)
        opened.scroll_to(last)
        left, top, right, bottom = page.until(
            f"""(seen => seen.every(part => part.bottom < innerHeight) && [
                seen[0].left, seen[0].top, seen.at(-1).right, seen.at(-1).bottom
            ])([...{cell}.querySelectorAll('.jp-OutputArea-output')]
            .map(part => part.getBoundingClientRect()).filter(part => part.height > 20))""",
            30,
        )
        corners = (left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN)
        return taken(page).crop([round(SHARP * corner) for corner in corners])


def taken(page: chromium.Page) -> Image.Image:
    """What the window shows."""
    return Image.open(io.BytesIO(page.image())).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    with chromium.page(chromium.find()) as page:
        save(report(page, REPOSITORY / "results" / "smoke"), REPOSITORY / "docs" / "report.png")
    with tempfile.TemporaryDirectory() as folder:
        save(explorer(Path(folder)), REPOSITORY / "docs" / "explorer.png")


if __name__ == "__main__":
    main()
