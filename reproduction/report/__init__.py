"""report.html: one page with every verdict, table and figure of a profile, that opens offline.

Images and styles are inside the page, so nothing is loaded from anywhere; the same results make the same bytes.
Only the links to the executed notebooks and to the result files need the results folder around the page.
"""

import base64
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2

from reid_core import files
from reproduction import words
from reproduction.report import sections, sources

FOLDER = Path(__file__).resolve().parent


def write(results: Path, facts: Mapping[str, str] | None = None) -> Path:
    """Write `<results>/report.html` from a profile's results folder, in one step; return its path.

    claims.csv must be there, or, while a profile is at work, the `facts` that it will have (`sources.FACTS`); any other
    table, figure, run or executed notebook that is absent is said so on the page. On official data no picture of a
    person enters the page, wherever it lies.

    Raises FileNotFoundError without both, ValueError when a table lacks its columns, when results of embedded
    and official data are mixed, or when a verdict is in no known words."""
    found = sources.read(results, facts)
    return files.write_text(found.path / "report.html", render("report", sections.everything(found)))


def render(name: str, values: Mapping[str, Any]) -> str:
    """The page of the template `<name>.html.j2` with the script `<name>.js`, the only one that its policy lets run."""
    how = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, **how)
    filters = (words.duration, words.interval, words.number, words.text, words.typeset)
    environment.filters |= {one.__name__: one for one in filters}
    style, script = ((FOLDER / file).read_text(encoding="utf-8") for file in ("report.css", f"{name}.js"))
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    return environment.get_template(f"{name}.html.j2").render(style=style, script=script, digest=digest, **values)
