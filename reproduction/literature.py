"""One row of Table 2 or 3 by one call: a published method or a plain reference on one set, timed.

What each of the three times holds: *features* reads all images that the method uses and describes each alone (the
training images too where there is learning); *train* learns; *match* compares all queries with the gallery, and
re-ranks. Features and networks that are kept on disk report the seconds that they once took, not their reading.
"""

import difflib
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from reid_core import features, weight_files, xqda
from reid_core.baselines import colour_histogram
from reid_core.baselines.kissme import KISSME
from reid_core.baselines.null_space import NullSpace
from reid_core.baselines.scsp import SCSP
from reid_core.baselines.scsp_features import RegionFeatures, layer_weights
from reid_core.distance import squared_euclidean
from reid_core.matching import Matching, Split, people
from reid_core.model import ResNet50Baseline, load_backbone
from reproduction import cached
from reproduction.experiment import Experiment
from reproduction.gated import Gated
from reproduction.tables import ADAPTED, RECREATED, REFERENCE


@dataclass(frozen=True)
class Outcome:
    """What one method made of one set.

    distance: (Q, G) float32, smaller is more alike; `squared` says of which kind it is.
    seconds_features, seconds_train, seconds_match: as above; 0 where there is nothing to learn.
    faithful: how near the row comes to its paper, a key of `reproduction.tables.FAITHFUL`.
    note: what stands behind the row, for the reader of the table.
    run: name of the run folder of what was trained on the kit's loop.
    """

    distance: np.ndarray
    squared: bool
    seconds_features: float
    seconds_train: float
    seconds_match: float
    faithful: str
    note: str
    run: str | None = None


class Clock:
    """Seconds spent under each name.

    >>> clock = Clock()
    >>> with clock("train"):
    ...     pass
    >>> clock["train"] < 1, clock["match"]
    (True, 0.0)
    """

    def __init__(self):
        self._seconds = {}

    @contextmanager
    def __call__(self, name: str):
        started = time.perf_counter()
        yield
        self._seconds[name] = self[name] + time.perf_counter() - started

    def __getitem__(self, name: str) -> float:
        return self._seconds.get(name, 0.0)

    def outcome(self, distance, faithful, note, *, squared=True, run=None, **seconds) -> Outcome:
        """The seconds counted here, unless `seconds` gives those of features or train."""
        reading, learning = (seconds.get(name, self[name]) for name in ("features", "train"))
        return Outcome(distance, squared, reading, learning, self["match"], faithful, note, run)


@dataclass(frozen=True)
class Task:
    """A set to retrieve from, which all methods take: its name, its image tables, settings of matching and a seed.

    Rows that learn the same from it share that: the plain and the re-ranked one have one XQDA.
    """

    kit: Experiment
    name: str
    images: Split
    how: Matching = field(default_factory=Matching)
    seed: int = 0
    _learnt: dict = field(default_factory=dict, repr=False, compare=False)

    def lomo(self, retinex: bool) -> tuple[Split, float]:
        """LOMO features (N, 26960) float32 of the three parts, memory-mapped, and the seconds that they once took."""
        parts = [cached.lomo_features(table, retinex=retinex) for table in self.images]
        return Split(*(part.values for part in parts)), sum(part.seconds for part in parts)

    def xqda(self, retinex: bool) -> tuple[xqda.XQDA, float]:
        """XQDA on the LOMO features of the training images, and the seconds it took."""
        if retinex not in self._learnt:
            values = cached.lomo_features(self.images.train, retinex=retinex).values
            started = time.perf_counter()
            learner = xqda.XQDA(self.how.xqda_solver, random_state=5489 + self.seed)
            learner.fit(values, *people(self.images.train))
            self._learnt[retinex] = learner, time.perf_counter() - started
        return self._learnt[retinex]


def colour(task: Task, *, bins: int) -> Outcome:
    """Whole-image RGB histogram, squared Hellinger distance; learns nothing."""
    clock = Clock()
    with clock("features"):
        query, gallery = (colour_histogram.extract(table, bins=bins) for table in task.images[1:])
    with clock("match"):
        distance = squared_euclidean(query, gallery)
    return clock.outcome(distance, REFERENCE, f"Joint RGB histogram, {bins}x{bins}x{bins} bins.")


def lomo_euclidean(task: Task, *, retinex: bool) -> Outcome:
    """LOMO and squared Euclidean distance; learns nothing."""
    clock = Clock()
    query, gallery = (cached.lomo_features(table, retinex=retinex) for table in task.images[1:])
    with clock("match"):
        distance = squared_euclidean(query.values, gallery.values)
    seconds = query.seconds + gallery.seconds
    return clock.outcome(distance, REFERENCE, "LOMO without a learnt metric.", features=seconds)


def lomo_xqda(task: Task, *, retinex: bool, reranked: bool = False) -> Outcome:
    """LOMO and XQDA of [19], with the training pairs of [13]; `reranked` by k-reciprocal neighbours."""
    clock = Clock()
    (_, query, gallery), seconds = task.lomo(retinex)
    metric, learning = task.xqda(retinex)
    with clock("match"):
        distance = task.how.reranked(query, gallery, metric) if reranked else metric.distance(query, gallery)
    closed = "its Retinex is the published algorithm, not the authors' closed binary."
    note = f"LOMO by the published description; {closed}" if retinex else "LOMO without its Retinex."
    return clock.outcome(distance, ADAPTED, note, features=seconds, train=learning)


def lomo_xqda_reranked(task: Task, *, retinex: bool) -> Outcome:
    """:func:`lomo_xqda`, re-ranked: what the paper prints as LOMO+XQDA."""
    return lomo_xqda(task, retinex=retinex, reranked=True)


def _learnt_on_lomo(task: Task, learner, retinex: bool, faithful: str, note: str) -> Outcome:
    clock = Clock()
    (train, query, gallery), seconds = task.lomo(retinex)
    with clock("train"):
        learner.fit(train, *people(task.images.train))
    with clock("match"):
        distance = learner.distance(query, gallery)
    return clock.outcome(distance, faithful, note, features=seconds)


def dns(task: Task, *, retinex: bool) -> Outcome:
    """The discriminative null space of [20] on LOMO."""
    note = (
        "Measured: the null space of LOMO alone. The second feature is for this set the authors' own re-implementation "
        "of Lisanti et al.'s (ICDSC 2014), which they did not release."
    )
    return _learnt_on_lomo(task, NullSpace(), retinex, ADAPTED, note)


def kissme(task: Task, *, retinex: bool, n_components: int) -> Outcome:
    """KISSME on LOMO after PCA."""
    note = f"KISSME on {n_components} principal components of LOMO."
    return _learnt_on_lomo(task, KISSME(n_components, task.seed), retinex, REFERENCE, note)


def scsp(task: Task, *, n_components: int, n_images: int, n_queries: int, global_weight: float) -> Outcome:
    """SCSP of [3]: four cues in the whole image and four stripes, ADMM. Training includes the whitening."""
    clock = Clock()
    regions = RegionFeatures(n_components, n_images, task.seed)
    learner = SCSP(layer_weights(global_weight), n_queries=n_queries, random_state=task.seed)
    with clock("train"):
        regions.fit(task.images.train)
    with clock("features"):
        train, query, gallery = map(regions.transform, task.images)
    with clock("train"):
        learner.fit(train, *people(task.images.train))
    with clock("match"):
        distance = learner.distance(query, gallery)
    note = (
        "After the authors' release, which covers one image a person in two cameras: matches and non-matches of "
        "several images are averaged (our reading), and the features are whitened on training images only."
    )
    return clock.outcome(distance, ADAPTED, note, squared=False)


def gated(task: Task, *, passes: float, learning_rate: float, width: int) -> Outcome:
    """The gated Siamese network of [21], re-created; `passes` over the training images is its budget.

    It is trained in the run folder gated-<set>-seed<n>, or found there.
    """
    clock, run = Clock(), task.kit.run("gated", task.name, task.seed)
    learner = Gated(passes, learning_rate=learning_rate, width=width, random_state=task.seed)
    learner.fit(task.images.train, run.folder, data_root=task.kit.data)
    with clock("features"):
        query, gallery = map(learner.look, task.images[1:])
    with clock("match"):
        distance = learner.compare(query, gallery)
    note = (
        f"Re-created, trained from random weights ({passes:g} passes over the images): the matching gate by its "
        "published equations, in a small network of ours; the authors' network is not rebuilt (they released no code)."
    )
    return clock.outcome(distance, RECREATED, note, train=learner.seconds_, run=run.name)


def imagenet(task: Task, *, weights: str, backbone: str) -> Outcome:
    """A ResNet as ImageNet left it: pooled map at 224x224, unit length, squared Euclidean distance.

    `weights` is "imagenet" (torchvision's IMAGENET1K_V1 in torch's cache, not downloaded here) or a local file.
    Raises FileNotFoundError where they are not there.
    """
    if reason := why_not(IMAGENET, weights=weights, backbone=backbone):
        raise FileNotFoundError(reason)
    network = ResNet50Baseline(2, backbone).eval()  # its classifier is not used
    initial = load_backbone(network, weights)
    clock = Clock()
    with clock("features"):
        query, gallery = (
            features.extract(network, table, data_root=task.kit.data, height=224, width=224).values
            for table in task.images[1:]
        )
    with clock("match"):
        distance = squared_euclidean(query, gallery)
    note = f"A {backbone} trained on ImageNet, never on people."
    return clock.outcome(distance, REFERENCE, f"{note} {initial.note}".rstrip())


def why_not(method: str, *, weights="imagenet", backbone="resnet50", **_) -> str | None:
    """Why a method cannot run here, or None: pretrained weights that are not present.

    >>> why_not("DNS [20]") is None
    True
    """
    chosen(method)
    if method != IMAGENET:
        return None
    if (path := weight_files.located(weights, backbone)).is_file():
        return None
    return f"The ImageNet weights {path} are not there; put torchvision's of {backbone} there, or leave the row out."


@dataclass(frozen=True)
class Method:
    """A row of the tables: its name, the function behind it, and every setting of that with its value."""

    name: str
    function: Callable[..., Outcome]
    settings: Mapping[str, object]

    def run(self, task: Task) -> Outcome:
        """The method on one set."""
        return self.function(task, **self.settings)


IMAGENET = "ImageNet ResNet-50"
LOMO = {"retinex": True}
METHODS = {
    method.name: method
    for method in (
        Method("Colour histogram", colour, {"bins": 8}),
        Method(IMAGENET, imagenet, {"weights": "imagenet", "backbone": "resnet50"}),
        Method("LOMO", lomo_euclidean, LOMO),
        Method("KISSME on LOMO", kissme, LOMO | {"n_components": 100}),
        Method("LOMO+XQDA", lomo_xqda, LOMO),
        Method("LOMO+XQDA [19]", lomo_xqda_reranked, LOMO),
        Method("SCSP [3]", scsp, {"n_components": 120, "n_images": 1500, "n_queries": 1500, "global_weight": 1.1}),
        Method("DNS [20]", dns, LOMO),
        Method("Gated [21]", gated, {"passes": 50, "learning_rate": 1e-3, "width": 32}),
    )
}


def chosen(entry: str | Mapping[str, Mapping]) -> Method:
    """A method as a profile names it: its row's name, or {name: settings}.

    Raises ValueError for a method that does not exist or a setting that it does not have.

    >>> chosen({"Gated [21]": {"passes": 10}}).settings
    {'passes': 10, 'learning_rate': 0.001, 'width': 32}
    """
    settings = {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        (entry, settings), *_ = entry.items()
    if not isinstance(entry, str) or entry not in METHODS:
        close = difflib.get_close_matches(str(entry), METHODS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(METHODS)}."
        raise ValueError(f"There is no method {entry!r}; {hint}")
    own = METHODS[entry].settings
    if settings is not None and not isinstance(settings, Mapping):
        raise ValueError(f"{entry} has the settings {settings!r}; write them as {{name: value}}.")
    if unknown := [name for name in settings or {} if name not in own]:
        raise ValueError(f"{entry} has no setting {unknown[0]!r}; it has {', '.join(own) or 'none'}.")
    return replace(METHODS[entry], settings={**own, **(settings or {})})


def entries(methods: Iterable[str | Mapping[str, Mapping]]) -> list[Method]:
    """The methods of a profile's `literature`, in its order.

    Raises ValueError for what is no list (a lone name, as plain papermill takes it), for a method that is named
    twice, and what :func:`chosen` raises.
    """
    if isinstance(methods, (str, Mapping)):
        raise ValueError(
            f"literature is {methods!r}; it is a list of methods, such as [LOMO]. Plain papermill takes it as"
            " -y '{literature: [LOMO]}'."
        )
    asked = [chosen(entry) for entry in methods]
    names = [method.name for method in asked]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"literature names {twice[0]!r} twice; a row is measured once.")
    return asked


def not_run(methods: Iterable[str | Mapping[str, Mapping]]) -> dict[str, str]:
    """{row: why it is not run} for rows of the literature that `methods` leaves out or that cannot run here."""
    asked = {method.name: method.settings for method in entries(methods)}
    reasons = {name: "not run: not in this profile's literature" for name in METHODS if name not in asked}
    for name, settings in asked.items():
        if why_not(name, **settings):
            reasons[name] = "not run: its pretrained weights are not here"
    return reasons
