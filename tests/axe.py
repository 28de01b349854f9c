"""axe-core, which finds what a page keeps from people who do not see, or have no mouse; from npm, kept in cache/."""

import shutil
import subprocess

import chromium
import pytest

from reproduction.sidecar import REPOSITORY

VERSION = "4.14.1"
FOLDER = REPOSITORY / "cache" / f"axe-core-{VERSION}"
SERIOUS = ("serious", "critical")
ASK = "axe.run(document, {resultTypes: ['violations']})"
TOLD = "found => found.violations.map(one => [one.impact, one.id, one.nodes.map(node => node.html.slice(0, 120))])"


def source() -> str:
    """Its script, fetched once; skips the test, saying why, where that cannot be."""
    script, npm = FOLDER / "node_modules" / "axe-core" / "axe.min.js", shutil.which("npm")
    if not script.is_file() and npm:
        fetch = [npm, "install", "--prefix", FOLDER, "--no-save", "--ignore-scripts", f"axe-core@{VERSION}"]
        subprocess.run(fetch, capture_output=True, timeout=300)
    if not script.is_file():
        pytest.skip(f"axe-core {VERSION} is not here, and {'npm did not bring it' if npm else 'there is no npm'}")
    return script.read_text(encoding="utf-8")


def serious(page: chromium.Page, script: str) -> list:
    """What it finds in the open page that is serious or worse: [impact, rule, elements]."""
    page.evaluate(f"{script}; undefined")
    return [one for one in page.evaluate(f"{ASK}.then({TOLD})") if one[0] in SERIOUS]
