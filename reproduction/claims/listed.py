"""The claims of the paper's text, as data: claims.yaml, and nothing that was measured."""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Claim:
    """One claim: where it stands, what it says, and what would confound our verdict on it."""

    key: str
    section: str
    text: str
    paper: str
    threshold: str
    confound: str = ""
    verdict: str = ""  # of a claim that the paper itself decides, or that nothing here can


FILE = Path(__file__).with_name("claims.yaml")
CLAIMS = tuple(Claim(**one) for one in yaml.safe_load(FILE.read_text(encoding="utf-8")))
