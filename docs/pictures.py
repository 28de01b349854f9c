"""The pictures of README.md, from a finished smoke run, in headless Chromium.

    python docs/pictures.py

writes docs/report.png: the report of results/smoke on a wide screen and, in the dark, on a phone.
"""

import io
import sys
from pathlib import Path

from PIL import Image

from reid_core.provenance import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests"))
import chromium

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


def taken(page: chromium.Page) -> Image.Image:
    """What the window shows."""
    return Image.open(io.BytesIO(page.image())).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    with chromium.page(chromium.find()) as page:
        save(report(page, REPOSITORY / "results" / "smoke"), REPOSITORY / "docs" / "report.png")


if __name__ == "__main__":
    main()
