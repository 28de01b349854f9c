"""Links from claims and from Figure 5 to single queries of explorer.html, where that page is there and holds them."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from reproduction import paper, results_folder
from reproduction.report.further import WORDS
from reproduction.report.sources import Results

DATA = '<script type="application/json" id="data">'  # of explorer.html, before what it holds


def held(found: Results) -> dict[str, dict[str, Any]]:
    """What explorer.html holds, by set; nothing where it is not there."""
    page = found.private / results_folder.EXPLORER
    text = page.read_text(encoding="utf-8").partition(DATA)[2].partition("</script>")[0] if page.is_file() else ""
    return {one["name"]: one for one in json.loads(text)["sets"] if "seeds" in one} if text else {}


def of_claim(found: Results, sets: Mapping[str, Any], claim: str) -> list[dict[str, str]]:
    """The queries that gain and lose most in AP by what a claim compares; none for a claim that compares otherwise."""
    name, *models = WORDS["queries"].get(claim, (None,))
    keys = [f"{model}-{paper.PRINTED_METRIC[name]}-reranked" for model in models]
    return _links(found, sets[name], *keys) if name in sets else []


def of_figure5(found: Results, sets: Mapping[str, Any]) -> list[dict[str, str]]:
    """The queries that Figure 5 shows."""
    drawn = found.sidecars.get("figure5", {})
    keys = "combined-xqda-reranked", "baseline-xqda-reranked"
    return _links(found, sets[drawn["set"]], *keys, drawn["queries"]) if drawn.get("set") in sets else []


def _links(found: Results, one: dict[str, Any], ours: str, theirs: str, chosen=None) -> list[dict[str, str]]:
    """Gains and addresses of the `chosen` queries, {why: number}, else of the largest gain and loss; first seed."""
    seed, methods = next(iter(one["seeds"].items()))
    ap = {method["key"]: method["ap"] for method in methods}
    lines = zip(one["queries"], ap.get(ours, ()), ap.get(theirs, ()), strict=False)
    gains = {query[0]: a - b for query, a, b in lines if None not in (a, b)}
    if gains and not chosen:
        chosen = {"largest gain": max(gains, key=gains.get), "largest loss": min(gains, key=gains.get)}
    page = found.link(found.private / results_folder.EXPLORER)
    shown = urlencode({"set": one["name"], "seed": seed, "upper": ours, "lower": theirs})
    return [{"query": query, "why": why, "gain": gains[query], "address": f"{quote(page)}#{shown}&query={query}"}
            for why, query in (chosen or {}).items() if query in gains]  # fmt: skip
