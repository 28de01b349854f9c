"""One row of Table 2 or 3 by one call: a published method or a plain reference on one set, timed.

What each of the three times holds: *features* reads all images that the method uses and describes each alone (the
training images too where there is learning); *train* learns; *match* compares all queries with the gallery, and
re-ranks. Features and networks that are kept on disk report the seconds that they once took, not their reading.
"""

import difflib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from reid_core import features, weight_files, xqda
from reid_core.baselines import colour_histogram
from reid_core.baselines.kissme import KISSME
from reid_core.baselines.null_space import NullSpace
from reid_core.baselines.scsp import SCSP
from reid_core.baselines.scsp_features import RegionFeatures, layer_weights
from reid_core.datasets.table import PERSON
from reid_core.distance import squared_euclidean
from reid_core.matching import Matching, Split, people
from reid_core.model import ResNet50Baseline, load_backbone
from reproduction import cached, similarity
from reproduction.experiment import Experiment
from reproduction.gated import Gated
from reproduction.tables import ADAPTED, RECREATED, REFERENCE

_ROWS, NOTES = yaml.safe_load_all(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Outcome:
    """What one method made of one set.

    `distance` (Q, G) float32 is smaller for what is more alike, `squared` or not. The seconds are those above, 0 where
    there is nothing to learn; `faithful` is how near the row comes to its paper, a key of `tables.FAITHFUL`;
    `note` is for the reader of the table; `run` names the run folder of what was trained on the kit's loop."""

    distance: np.ndarray
    squared: bool
    seconds_features: float
    seconds_train: float
    seconds_match: float
    faithful: str
    note: str
    run: str | None = None


class Clock(Counter):
    """Seconds spent under each name.

    >>> clock = Clock()
    >>> with clock("train"):
    ...     pass
    >>> clock["train"] < 1, clock["match"]
    (True, 0)
    """

    @contextmanager
    def __call__(self, name: str):
        started = time.perf_counter()
        yield
        self[name] += time.perf_counter() - started

    def outcome(self, distance, faithful, note, *, squared=True, run=None, **seconds) -> Outcome:
        """The seconds counted here, and those of `seconds`, which were spent before."""
        times = (self[name] + seconds.get(name, 0.0) for name in ("features", "train", "match"))
        return Outcome(distance, squared, *times, faithful, note, run)


@dataclass(frozen=True)
class Task:
    """A set to retrieve from, which all methods take: its name, its image tables, settings of matching and a seed.
    Rows that learn the same from it share that (:meth:`once`): the plain and the re-ranked one have one XQDA."""

    kit: Experiment
    name: str
    images: Split
    how: Matching = field(default_factory=Matching)
    seed: int = 0
    _learnt: dict = field(default_factory=dict, repr=False, compare=False)

    def lomo(self, retinex: bool, unit_length: bool = False) -> tuple[Split, float]:
        """LOMO features (N, 26960) float32 of the three parts, memory-mapped, of length sqrt(3) as released (with
        `unit_length` each divided by it, in memory), and the seconds that they once took."""
        parts = [cached.lomo_features(table, retinex=retinex) for table in self.images]
        scaled = similarity.unit if unit_length else lambda rows: rows
        return Split(*(scaled(part.values) for part in parts)), sum(part.seconds for part in parts)

    def once(self, learn: Callable[[], Any], *key) -> tuple[Any, float]:
        """What `learn` made at the first call with this key, and the seconds that it took."""
        if key not in self._learnt:
            started = time.perf_counter()
            self._learnt[key] = learn(), time.perf_counter() - started
        return self._learnt[key]

    def taught_by(self, rows=slice(None)) -> str:
        """What a method learns from, counted: some rows of the training table, or all."""
        train, used = self.images.train, self.images.train.iloc[rows]
        return f"Learns from {len(used):,} of {len(train):,} training images, {used[PERSON].nunique():,} people."


def colour(task: Task, *, bins: int) -> Outcome:
    """Whole-image RGB histogram, squared Hellinger distance; learns nothing."""
    clock = Clock()
    with clock("features"):
        query, gallery = (colour_histogram.extract(table, bins=bins) for table in task.images[1:])
    with clock("match"):
        distance = squared_euclidean(query, gallery)
    return clock.outcome(distance, REFERENCE, NOTES["colour"].format(bins=bins))


def lomo_euclidean(task: Task, *, retinex: bool) -> Outcome:
    """LOMO and squared Euclidean distance; learns nothing."""
    clock = Clock()
    query, gallery = (cached.lomo_features(table, retinex=retinex) for table in task.images[1:])
    with clock("match"):
        distance = squared_euclidean(query.values, gallery.values)
    return clock.outcome(distance, REFERENCE, NOTES["lomo_euclidean"], features=query.seconds + gallery.seconds)


def lomo_xqda(task: Task, *, retinex: bool, unit_length: bool, reranked: bool = False) -> Outcome:
    """LOMO and XQDA of [19], with the training pairs of [13], whose evaluation brings every feature to unit length;
    XQDA's regularisation tells the two apart."""
    clock, seed, ids = Clock(), 5489 + task.seed, people(task.images.train)
    (train, query, gallery), seconds = task.lomo(retinex, unit_length)
    learner = xqda.XQDA(task.how.xqda_solver, random_state=seed)
    metric, learning = task.once(lambda: learner.fit(train, *ids), "XQDA", retinex, unit_length)
    with clock("match"):
        distance = task.how.reranked(query, gallery, metric) if reranked else metric.distance(query, gallery)
    taught = task.taught_by(np.concatenate(xqda.official_pairs(*ids, seed)))
    said = NOTES["lomo_xqda"]
    note = f"{said['retinex'][retinex]} {said['unit_length'][unit_length]} {taught}"
    return clock.outcome(distance, ADAPTED, note, features=seconds, train=learning)


def dns(task: Task, *, retinex: bool, reranked: bool = False) -> Outcome:
    """The discriminative null space of [20] on LOMO, in which distances are Euclidean."""
    clock = Clock()
    (train, *test), seconds = task.lomo(retinex)
    learner, learning = task.once(lambda: NullSpace().fit(train, *people(task.images.train)), "DNS", retinex)
    pair, projecting = task.once(lambda: [learner.transform(part) for part in test], "DNS, projected", retinex)
    with clock("match"):
        distance = task.how.reranked(*pair) if reranked else squared_euclidean(*pair)
    note = f"{NOTES['dns']} {task.taught_by()}"
    return clock.outcome(distance, ADAPTED, note, features=seconds, train=learning, match=projecting)


def kissme(task: Task, *, retinex: bool, n_components: int) -> Outcome:
    """KISSME on LOMO after PCA."""
    clock = Clock()
    (train, query, gallery), seconds = task.lomo(retinex)
    with clock("train"):
        learner = KISSME(n_components, task.seed).fit(train, *people(task.images.train))
    with clock("match"):
        distance = learner.distance(query, gallery)
    note = f"{NOTES['kissme'].format(n_components=n_components)} {task.taught_by()}"
    return clock.outcome(distance, REFERENCE, note, features=seconds)


def scsp(
    task: Task, *, n_components: int, n_images: int, n_queries: int, global_weight: float, reranked: bool = False
) -> Outcome:
    """SCSP of [3]: four cues in the whole image and four stripes, ADMM. Training includes the whitening."""
    clock, table, key = Clock(), task.images.train, (n_components, n_images, n_queries, global_weight)
    regions = RegionFeatures(n_components, n_images, task.seed)
    learner = SCSP(layer_weights(global_weight), n_queries=n_queries, random_state=task.seed)
    _, whitening = task.once(lambda: regions.fit(table), "whitening", *key)
    (train, *pair), seconds = task.once(lambda: [regions.transform(part) for part in task.images], "regions", *key)
    learner, learning = task.once(lambda: learner.fit(train, *people(table)), "SCSP", *key)
    with clock("match"):
        distance = similarity.reranked(learner, *pair, task.how) if reranked else learner.distance(*pair)
    counts = {"queries": learner.n_queries_, "images": len(table), "whitening": min(n_images, len(table))}
    times = {"features": seconds, "train": whitening + learning}
    return clock.outcome(distance, ADAPTED, NOTES["scsp"].format(**counts), squared=False, **times)


def gated(task: Task, *, passes: float, learning_rate: float, width: int) -> Outcome:
    """The gated Siamese network of [21], re-created: trained in the run folder gated-<set>-seed<n>, or found there."""
    clock, run = Clock(), task.kit.run("gated", task.name, task.seed)
    learner = Gated(passes, learning_rate=learning_rate, width=width, random_state=task.seed)
    learner.fit(task.images.train, run.folder, data_root=task.kit.data)
    with clock("features"):
        query, gallery = map(learner.look, task.images[1:])
    with clock("match"):
        distance = learner.compare(query, gallery)
    note = f"{NOTES['gated'].format(passes=passes)} {task.taught_by()}"
    return clock.outcome(distance, RECREATED, note, train=learner.seconds_, run=run.name)


def imagenet(task: Task, *, weights: str, backbone: str) -> Outcome:
    """A ResNet as ImageNet left it: pooled map at 224x224, unit length, squared Euclidean distance.

    `weights`: "imagenet" (torchvision's IMAGENET1K_V1 in torch's cache, not downloaded) or a local file.
    Raises FileNotFoundError where they are not there."""
    if reason := why_not(IMAGENET, weights=weights, backbone=backbone):
        raise FileNotFoundError(reason)
    network = ResNet50Baseline(2, backbone).eval()  # its classifier is not used
    initial = load_backbone(network, weights)
    clock = Clock()
    how = {"data_root": task.kit.data, "height": 224, "width": 224}
    with clock("features"):
        query, gallery = (features.extract(network, table, **how).values for table in task.images[1:])
    with clock("match"):
        distance = squared_euclidean(query, gallery)
    note = f"{NOTES['imagenet'].format(backbone=backbone)} {initial.note}".rstrip()
    return clock.outcome(distance, REFERENCE, note)


def why_not(method: str, *, weights="imagenet", backbone="resnet50", **_) -> str | None:
    """Why a method cannot run here, or None: pretrained weights that are not present.

    >>> why_not("DNS [20]") is None
    True
    """
    chosen(method)
    if method != IMAGENET or (path := weight_files.located(weights, backbone)).is_file():
        return None
    return f"The ImageNet weights {path} are not there; put torchvision's of {backbone} there, or leave the row out."


@dataclass(frozen=True)
class Method:
    """A row of the tables: its name, the function behind it, its settings with their values, whether it re-ranks."""

    name: str
    function: Callable[..., Outcome]
    settings: Mapping[str, object]
    reranked: bool = False

    def run(self, task: Task) -> Outcome:
        return self.function(task, **self.settings, **({"reranked": True} if self.reranked else {}))


IMAGENET = "ImageNet ResNet-50"
FUNCTIONS = {function.__name__: function
             for function in (colour, imagenet, lomo_euclidean, kissme, lomo_xqda, scsp, dns, gated)}  # fmt: skip
METHODS = {name: Method(name, FUNCTIONS[function], *rest) for name, (function, *rest) in _ROWS.items()}


def chosen(entry: str | Mapping[str, Mapping]) -> Method:
    """A method as a profile names it: its row's name, or {name: settings}.
    Raises ValueError for a method that does not exist or a setting that it does not have.

    >>> chosen({"Gated [21]": {"passes": 10}}).settings
    {'passes': 10, 'learning_rate': 0.001, 'width': 32}
    """
    settings = {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((entry, settings),) = entry.items()
    if not isinstance(entry, str) or entry not in METHODS:
        close = difflib.get_close_matches(str(entry), METHODS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(METHODS)}."
        raise ValueError(f"There is no method {entry!r}; {hint}")
    own, settings = METHODS[entry].settings, {} if settings is None else settings
    if not isinstance(settings, Mapping):
        raise ValueError(f"{entry} has the settings {settings!r}; write them as {{name: value}}.")
    if unknown := [name for name in settings if name not in own]:
        raise ValueError(f"{entry} has no setting {unknown[0]!r}; it has {', '.join(own) or 'none'}.")
    return replace(METHODS[entry], settings={**own, **settings})


def entries(methods: Iterable[str | Mapping[str, Mapping]]) -> list[Method]:
    """The methods of a profile's `literature`, in its order. Raises ValueError for no list (a lone name of plain
    papermill), for a method twice, and what :func:`chosen` raises."""
    if isinstance(methods, (str, Mapping)):
        remedy = "it is a list of methods, such as [LOMO]. Plain papermill takes it as -y '{literature: [LOMO]}'."
        raise ValueError(f"literature is {methods!r}; {remedy}")
    asked = [chosen(entry) for entry in methods]
    names = [method.name for method in asked]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"literature names {twice[0]!r} twice; a row is measured once.")
    return asked


def not_run(methods: Iterable[str | Mapping[str, Mapping]]) -> dict[str, str]:
    """{row: why it is not run} for rows of the literature that `methods` leaves out or that cannot run here."""
    asked = {method.name: method.settings for method in entries(methods)}
    reasons = {name: "not run: not in this profile's literature" for name in METHODS if name not in asked}
    lacking = [name for name, settings in asked.items() if why_not(name, **settings)]
    return reasons | dict.fromkeys(lacking, "not run: its pretrained weights are not here")
