"""One row of Table 2 or 3 by one call: from image tables to a distance, timed.

Every method takes the training, query and gallery image tables, `matching` (XQDA's and re-ranking's settings, such
as `scoring.Matching`; None: the defaults), `seed`, `progress`, `data_root` and `run_dir` (the data folder and
the run folder of what is trained on the kit's loop; the others do without), and then settings of its own, by name.
"""

import difflib
import functools
import inspect
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision

from reid_core import features, reranking, xqda
from reid_core.baselines import colour_histogram
from reid_core.baselines.gated import Gated
from reid_core.baselines.kissme import KISSME
from reid_core.baselines.null_space import NullSpace
from reid_core.baselines.scsp import SCSP
from reid_core.baselines.scsp_features import RegionFeatures, layer_weights
from reid_core.datasets.table import CAMERA, PATH, PERSON
from reid_core.distance import squared_euclidean
from reid_core.model import ResNet50Baseline, load_backbone
from reproduction import cached
from reproduction.outcome import Clock, Outcome
from reproduction.tables import ADAPTED, RECREATED, REFERENCE


def _people(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return table[PERSON].to_numpy(), table[CAMERA].to_numpy()


def colour(
    train, query, gallery, *, matching=None, seed=0, progress=True, data_root=None, run_dir=None, bins=8
) -> Outcome:
    """Whole-image RGB histogram, squared Hellinger distance; learns nothing."""
    clock = Clock()
    with clock("features"):
        found = [colour_histogram.extract(t, bins=bins, progress=progress) for t in (query, gallery)]
    with clock("match"):
        distance = squared_euclidean(*found)
    return clock.outcome(distance, REFERENCE, f"Joint RGB histogram, {bins}x{bins}x{bins} bins.")


def _lomo(*tables, retinex, progress) -> tuple[list[cached.Cached], float]:
    found = [cached.lomo_features(table, retinex=retinex, progress=progress) for table in tables]
    return found, sum(one.seconds for one in found)


def lomo_euclidean(
    train, query, gallery, *, matching=None, seed=0, progress=True, data_root=None, run_dir=None, retinex=True
) -> Outcome:
    """LOMO and squared Euclidean distance; learns nothing."""
    clock = Clock()
    (query, gallery), seconds = _lomo(query, gallery, retinex=retinex, progress=progress)
    with clock("match"):
        distance = squared_euclidean(query.values, gallery.values)
    return clock.outcome(distance, REFERENCE, "LOMO without a learnt metric.", features=seconds)


def lomo_xqda(
    train,
    query,
    gallery,
    *,
    matching=None,
    seed=0,
    progress=True,
    data_root=None,
    run_dir=None,
    retinex=True,
    reranked=False,
) -> Outcome:
    """LOMO and XQDA of [19], with the training pairs of [13]; `reranked` by k-reciprocal neighbours.

    Of `matching`, xqda_solver, k1, k2, lambda_value, half and jaccard are used where given.
    """
    clock = Clock()
    (learn, query, gallery), seconds = _lomo(train, query, gallery, retinex=retinex, progress=progress)
    person, camera = _people(train)
    solver = getattr(matching, "xqda_solver", "svd")
    metric, seconds_train = _fitted_xqda(str(learn.path), person.tobytes(), camera.tobytes(), solver, seed)
    with clock("match"):
        if reranked:
            names = ("k1", "k2", "lambda_value", "half", "jaccard")
            settings = {name: getattr(matching, name) for name in names if hasattr(matching, name)}
            distance = reranking.k_reciprocal_where_it_fits(
                query.values, gallery.values, metric=metric, progress=progress, **settings
            )
        else:
            distance = metric.distance(query.values, gallery.values)
    return clock.outcome(
        distance,
        ADAPTED,
        "LOMO by the published description; its Retinex is the published algorithm, not the authors' closed binary."
        if retinex
        else "LOMO without its Retinex.",
        features=seconds,
        train=seconds_train,
    )


@functools.lru_cache(maxsize=1)
def _fitted_xqda(path: str, person: bytes, camera: bytes, solver: str, seed: int) -> tuple[xqda.XQDA, float]:
    """XQDA on a LOMO file and the seconds it took; the plain and the re-ranked row share one."""
    started = time.perf_counter()
    person, camera = (np.frombuffer(ids, np.int64) for ids in (person, camera))
    learner = xqda.XQDA(solver, random_state=5489 + seed)
    return learner.fit(np.load(path, mmap_mode="r"), person, camera), time.perf_counter() - started


def _learnt_on_lomo(learner, train, query, gallery, faithful, note, retinex, progress) -> Outcome:
    clock = Clock()
    (learn, query, gallery), seconds = _lomo(train, query, gallery, retinex=retinex, progress=progress)
    with clock("train"):
        learner.fit(learn.values, *_people(train))
    with clock("match"):
        distance = learner.distance(query.values, gallery.values)
    return clock.outcome(distance, faithful, note, features=seconds)


def dns(
    train, query, gallery, *, matching=None, seed=0, progress=True, data_root=None, run_dir=None, retinex=True
) -> Outcome:
    """The discriminative null space of [20] on LOMO."""
    note = (
        "Measured: the null space of LOMO alone. The second feature is for this set the authors' own re-implementation "
        "of Lisanti et al.'s (ICDSC 2014), which they did not release."
    )
    return _learnt_on_lomo(NullSpace(), train, query, gallery, ADAPTED, note, retinex, progress)


def kissme(
    train,
    query,
    gallery,
    *,
    matching=None,
    seed=0,
    progress=True,
    data_root=None,
    run_dir=None,
    retinex=True,
    n_components=100,
) -> Outcome:
    """KISSME on LOMO after PCA."""
    note = f"KISSME on {n_components} principal components of LOMO."
    return _learnt_on_lomo(
        KISSME(n_components, seed), train, query, gallery, REFERENCE, note, retinex, progress
    )


def scsp(
    train,
    query,
    gallery,
    *,
    matching=None,
    seed=0,
    progress=True,
    data_root=None,
    run_dir=None,
    n_components=120,
    n_images=1500,
    n_queries=1500,
    global_weight=1.1,
) -> Outcome:
    """SCSP of [3]: four cues in the whole image and four stripes, ADMM. Training includes the whitening."""
    clock = Clock()
    regions = RegionFeatures(n_components, n_images, seed)
    learner = SCSP(layer_weights(global_weight), n_queries=n_queries, random_state=seed)
    with clock("train"):
        regions.fit(train, progress=progress)
    with clock("features"):
        learn, query, gallery = (regions.transform(t, progress=progress) for t in (train, query, gallery))
    with clock("train"):
        learner.fit(learn, *_people(train))
    with clock("match"):
        distance = learner.distance(query, gallery)
    note = (
        "After the authors' release, which covers one image a person in two cameras: matches and non-matches of "
        "several images are averaged (our reading), and the features are whitened on training images only."
    )
    return clock.outcome(distance, ADAPTED, note, squared=False)


def gated(
    train,
    query,
    gallery,
    *,
    matching=None,
    seed=0,
    progress=True,
    data_root=None,
    run_dir=None,
    passes=50,
    learning_rate=1e-3,
    width=32,
) -> Outcome:
    """The gated Siamese network of [21], re-created; `passes` over the training images is its budget.

    It is trained in `run_dir`, or found there. Raises ValueError without `run_dir` and `data_root`.
    """
    if run_dir is None or data_root is None:
        raise ValueError(
            "The gated network is trained in a run folder: give run_dir, and the data_root of the tables."
        )
    clock = Clock()
    learner = Gated(passes, learning_rate=learning_rate, width=width, random_state=seed)
    learner.fit(train, run_dir, data_root=data_root, progress=progress)
    with clock("features"):
        query, gallery = (learner.look(t, progress=progress) for t in (query, gallery))
    with clock("match"):
        distance = learner.compare(query, gallery, progress=progress)
    note = (
        f"Re-created, trained from random weights ({passes:g} passes over the images): the matching gate by its "
        "published equations, in a small network of ours; the authors' network is not rebuilt (they released no code)."
    )
    return clock.outcome(distance, RECREATED, note, train=learner.seconds_, run=Path(run_dir).name)


def imagenet(
    train,
    query,
    gallery,
    *,
    matching=None,
    seed=0,
    progress=True,
    data_root=None,
    run_dir=None,
    weights="imagenet",
    backbone="resnet50",
) -> Outcome:
    """A ResNet as ImageNet left it: pooled map at 224x224, unit length, squared Euclidean distance.

    `weights` is "imagenet" (torchvision's IMAGENET1K_V1 in torch's cache, not downloaded here) or a local file.
    Raises FileNotFoundError where `why_not` has something to say.
    """
    if reason := why_not("ImageNet ResNet-50", weights=weights, backbone=backbone):
        raise FileNotFoundError(reason)
    network = ResNet50Baseline(2, backbone).eval()  # its classifier is not used
    load_backbone(network, weights, progress=progress)
    root = data_root or os.path.commonpath(
        [os.path.dirname(path) for t in (query, gallery) for path in t[PATH]]
    )
    clock = Clock()
    with clock("features"):
        found = [
            features.extract(network, t, data_root=root, height=224, width=224, progress=progress).values
            for t in (query, gallery)
        ]
    with clock("match"):
        distance = squared_euclidean(*found)
    return clock.outcome(distance, REFERENCE, f"A {backbone} trained on ImageNet, never on people.")


def why_not(method: str, *, weights="imagenet", backbone="resnet50") -> str | None:
    """Why a method cannot run here, or None: pretrained weights that are not present.

    >>> why_not("DNS [20]") is None
    True
    """
    if method not in METHODS:
        raise ValueError(f"There is no method {method!r}; there are {', '.join(METHODS)}.")
    if method != "ImageNet ResNet-50":
        return None
    path = Path(weights)
    if weights == "imagenet":
        url = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].url
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return None
    return f"The ImageNet weights {path} are not there; put torchvision's of {backbone} there, or leave the row out."


_COMMON = 8  # arguments that every method takes: train, query, gallery, matching, seed, progress, data_root, run_dir
METHODS: dict[str, Callable[..., Outcome]] = {
    "Colour histogram": colour,
    "ImageNet ResNet-50": imagenet,
    "LOMO": lomo_euclidean,
    "KISSME on LOMO": kissme,
    "LOMO+XQDA": lomo_xqda,
    "LOMO+XQDA [19]": functools.partial(lomo_xqda, reranked=True),
    "SCSP [3]": scsp,
    "DNS [20]": dns,
    "Gated [21]": gated,
}


def chosen(entry: str | Mapping[str, Mapping]) -> tuple[str, Callable[..., Outcome]]:
    """A method as a profile names it: its row's name, or {name: settings}; the name and the function to call.

    Raises ValueError for a method that does not exist or a setting that it does not have.

    >>> name, run = chosen({"Gated [21]": {"passes": 10}})
    >>> name, run.keywords
    ('Gated [21]', {'passes': 10})
    """
    settings = {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        (entry, settings), *_ = entry.items()
    if not isinstance(entry, str) or entry not in METHODS:
        close = difflib.get_close_matches(str(entry), METHODS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(METHODS)}."
        raise ValueError(f"There is no method {entry!r}; {hint}")
    run = METHODS[entry]
    own = list(inspect.signature(run).parameters)[_COMMON:]
    if unknown := [name for name in settings or {} if name not in own]:
        raise ValueError(f"{entry} has no setting {unknown[0]!r}; it has {', '.join(own) or 'none'}.")
    return entry, functools.partial(run, **settings or {})
