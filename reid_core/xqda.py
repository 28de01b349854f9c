"""Cross-view quadratic discriminant analysis (XQDA): a subspace and a metric learnt together.

Source: Liao et al., CVPR 2015 (the paper's [19]), with the pairing of training images of Zhong et al., CVPR 2017.
"""

import warnings

import numpy as np
import scipy.linalg

from reid_core import ids
from reid_core.copies import once
from reid_core.distance import as_array, check_differ, check_features, check_scale, common_part, expand, on_host

SOLVERS = ("svd", "eigh")
ROWS_AT_ONCE, QUERIES_AT_ONCE = 4096, 256
SQUARING_ERROR = 1e-9
DISTINCT = 3  # values below which a metric is next to useless: tried on toys of all scales


class XQDA:
    """Metric learnt from image pairs of one person in two cameras against pairs of two persons.

    With S_I and S_E the covariances of intra- and extra-personal differences over all cross-view pairs, XQDA
    keeps the directions in which S_E exceeds S_I and uses M = inv(W' S_I W) - inv(W' S_E W) in their span.

    Parameters
    ----------
    solver : "svd" spans the subspace by the left singular vectors of inv(S_I) S_E, as the released code does
        (behind all printed numbers); "eigh" by the generalised eigenvectors, as the paper's text says. The
        two subspaces differ. Either keeps the directions whose value exceeds 1, and at least one. With "svd"
        the metric need not be positive semi-definite, so that distances can be negative.
    regularizer : added to the diagonal of S_I; 0.001 in the released code.
    random_state : seed of the pairing, MT19937; 5489 is MATLAB's default generator, which the released code
        starts from.

    Attributes
    ----------
    components_ : (d, r) float64, columns span the subspace.
    metric_ : (r, r) float64, symmetric, in that subspace.
    values_ : (r,) float64, singular values or eigenvalues, descending.
    n_pairs_ : number of image pairs the official pairing left (absent after `fit_views`).
    """

    def __init__(self, solver="svd", regularizer=0.001, random_state=5489):
        if solver not in SOLVERS:
            raise ValueError(f"solver={solver!r} is unknown; choose 'svd' (released code) or 'eigh' (paper).")
        if not regularizer > 0:
            raise ValueError(f"regularizer={regularizer!r} must be positive, or S_I may be singular.")
        self.solver, self.regularizer, self.random_state = solver, regularizer, random_state

    def fit(self, X, person_id, camera_id=None) -> "XQDA":
        """Learn from training images paired as in Zhong et al. (see `official_pairs`).

        Parameters
        ----------
        X : (n, d) features of any floating type, array or tensor; computed in float64
        person_id, camera_id : (n,) ids, see `reid_core.ids.column`; camera_id None or -1 throughout: not known, then
            any two halves of a person's images are pairs

        Raises ValueError for lengths that disagree, features that are not finite (the first such row is named) or all
        alike, ids that are none, and no person with images in two cameras. Warns where no direction tells people apart.
        """
        X = as_array(X, "features")
        person_id = ids.column(person_id, "person_id")
        camera_id = np.full(len(person_id), ids.NO_CAMERA) if camera_id is None else ids.column(camera_id, "camera_id")
        if not len(X) == len(person_id) == len(camera_id):
            found = f"{len(X)} feature rows, {len(person_id)} person_id and {len(camera_id)} camera_id"
            raise ValueError(f"{found}: XQDA needs one of each an image.")
        first, second = official_pairs(person_id, camera_id, self.random_state)
        if len(first) == 0:
            none = "No pair of images of one person in two cameras came out of the pairing; XQDA learns from such pairs"
            remedy = "give it training images of at least two cameras, or camera_id=None where none is known"
            raise ValueError(f"{none}, so {remedy}.")
        self.fit_views(X[first], X[second], person_id[first], person_id[second])
        self.n_pairs_ = len(first)
        return self

    def fit_views(self, X_gallery, X_probe, gallery_id, probe_id) -> "XQDA":
        """Learn from two views given outright, as the released XQDA code takes them.

        Parameters
        ----------
        X_gallery, X_probe : (n, d) and (m, d) features, as in `fit`
        gallery_id, probe_id : (n,) and (m,) ids of people; images of one in both views are the intra-personal pairs

        Raises what `fit` raises, and ValueError for views of different width or no person in both.
        """
        X_gallery, X_probe = as_array(X_gallery, "gallery view"), as_array(X_probe, "probe view")
        gallery_id, probe_id = ids.alike(gallery_id, probe_id, "person_id", ("gallery view", "probe view"))
        (n_gallery, d), (n_probe, d_probe) = X_gallery.shape, X_probe.shape
        if d != d_probe:
            widths = f"{d} dimensions but the probe view {d_probe}"
            raise ValueError(f"The gallery view has {widths}; extract both with the same model.")
        if (n_gallery, n_probe) != (len(gallery_id), len(probe_id)):
            rows = f"{n_gallery} and {n_probe} rows in the two views"
            raise ValueError(f"{rows} do not go with {len(gallery_id)} and {len(probe_id)} person numbers.")
        rows = np.concatenate([X_gallery, X_probe], dtype=np.float64)
        person = np.unique(np.concatenate([gallery_id, probe_id]), return_inverse=True)[1]
        centre = common_part(X_gallery, X_probe)
        del X_gallery, X_probe  # with 26,960 dimensions a gigabyte
        if centre is not None:
            rows -= centre
        vars(self).pop("n_pairs_", None)  # of an earlier fit
        return self._fit(rows, person, n_gallery)

    def _fit(self, rows, person, n_gallery: int) -> "XQDA":
        """Learn from the (n, d) float64 rows of both views, which are overwritten."""
        check_differ(rows, "XQDA")
        reflectors = None
        if rows.shape[1] > len(rows):  # learn in their span: d becomes n, as in Liao's released code
            reflectors, triangle = scipy.linalg.qr(rows.T, mode="raw", overwrite_a=True, check_finite=False)
            rows = np.ascontiguousarray(triangle.T)
        intra, extra = covariances(rows, person, n_gallery)
        del rows
        difference = np.trace(extra)
        scale = f"the mean squared difference of two people is {difference:.3g}, beside regularizer={self.regularizer}"
        intra[np.diag_indices_from(intra)] += self.regularizer
        try:
            if not 0 < difference < np.inf:
                raise np.linalg.LinAlgError("float64 does not hold the squares")
            self.values_, basis = _leading(intra, extra, self.solver)
            metric = scipy.linalg.inv(basis.T @ intra @ basis) - scipy.linalg.inv(basis.T @ extra @ basis)
        except (np.linalg.LinAlgError, ValueError) as error:
            raise ValueError(f"XQDA cannot learn at this scale: {scale}. Bring the features to unit length.") from error
        if self.values_[0] < DISTINCT:
            none = "XQDA found no direction in which people differ much more than a person's own images and"
            few = f"the {len(self.values_)} that it keeps tell little"
            found = f"the regularizer do ({self.values_[0]:.3g} times as much at best): {few}"
            why = f"Either these features do not tell these people apart, or they are too small ({scale}): then"
            warnings.warn(f"{none} {found}. {why} bring them to unit length, or lower the regularizer.", stacklevel=3)
        self.metric_ = (metric + metric.T) / 2
        self.components_ = np.ascontiguousarray(basis if reflectors is None else _apply_q(reflectors, basis))
        return self

    def transform(self, X):
        """Features (n, d), array or tensor of any floating type, in the subspace: (n, r) float64 array.

        Raises ValueError where not fitted, or for features that are not finite or of another width."""
        self.check_fitted()
        return self._project(as_array(X, "features", (len(self.components_),)))

    def _project(self, X: np.ndarray) -> np.ndarray:
        starts = range(0, len(X), ROWS_AT_ONCE)
        return np.concatenate([X[start : start + ROWS_AT_ONCE] @ self.components_ for start in starts])

    def distance(self, X_query, X_gallery):
        """(u - v)' M (u - v) of every query to every gallery image, computed in float64.

        Parameters
        ----------
        X_query, X_gallery : (Q, d) and (G, d) float32, both arrays or both tensors

        Returns (Q, G) float32 NumPy array, for tensors too: a squared-type distance, not to be squared again, in units
        of the metric. With solver "svd" it may be negative. Copies have equal distances, and 0 to each other.

        Raises ValueError where not fitted, or for features empty, not float32, not finite, of another width, or so
        small or large that float32 does not hold their squares.
        """
        self.check_fitted()
        norms = [on_host(n) for n in check_features(X_query, X_gallery)]
        check_scale(np.concatenate(norms), "features")
        self.check_fitted(X_query.shape[1])
        sides = [on_host(X) for X in (X_query, X_gallery)]
        return once(*sides, lambda rows, columns: self._distance(sides[0][rows], sides[1][columns]), norms)

    def _distance(self, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        query, gallery = self._project(query), self._project(gallery)
        query_metric = query @ self.metric_
        query_norms = np.einsum("nr,nr->n", query_metric, query)
        gallery_norms = np.einsum("nr,nr->n", gallery @ self.metric_, gallery)
        distance = np.empty((len(query), len(gallery)), np.float32)
        for start in range(0, len(query), QUERIES_AT_ONCE):
            rows = slice(start, start + QUERIES_AT_ONCE)
            product = query_metric[rows] @ gallery.T
            distance[rows] = expand(product, query_norms[rows], gallery_norms, floor=-np.inf)
        return distance

    def check_fitted(self, width: int | None = None) -> None:
        """Raise ValueError unless `fit` or `fit_views` has been called, and on so many dimensions."""
        if not hasattr(self, "components_"):
            raise ValueError("This XQDA has not been fitted; call fit(X, person_id, camera_id) first.")
        if width not in (None, len(self.components_)):
            wide = f"{len(self.components_)} dimensions but the features have {width}"
            raise ValueError(f"This XQDA metric was fitted on {wide}.")


def official_pairs(person_id, camera_id, random_state=5489) -> tuple[np.ndarray, np.ndarray]:
    """Training pairs of Zhong et al.: row numbers (pairs,) of their gallery view and of their probe view, from 0.

    Per person in sorted order: its images are permuted, the first half is paired with the second (an odd one is
    left out), and pairs within one camera are dropped, save where cameras are not known (-1). A permutation of n is
    argsort(rand(n)) from one MT19937 stream, as MATLAB's randperm draws it. The official rule leaves 4,914 pairs on
    Market-1501 when MATLAB starts afresh, 4,847 +- 31 over seeds; the quoted 4,846 is a NumPy port's seed 0
    (RandomState(0).permutation).

    >>> [pair.tolist() for pair in official_pairs(np.array([4, 4, 4, 2]), np.array([1, 2, 2, 1]))]
    [[1], [0]]
    """
    random = np.random.RandomState(random_state)
    person = np.unique(ids.column(person_id, "person_id"), return_inverse=True)[1]
    camera = ids.column(camera_id, "camera_id")
    by_person = np.argsort(person, kind="stable")
    starts = np.flatnonzero(np.diff(person[by_person])) + 1
    first, second = [], []
    for images in np.split(by_person, starts):
        permuted = images[np.argsort(random.rand(len(images)), kind="stable")]
        half = len(images) // 2
        first.append(permuted[:half])
        second.append(permuted[half : 2 * half])
    first, second = np.concatenate(first), np.concatenate(second)
    kept = (camera[first] != camera[second]) | ids.unknown(camera[first])
    return first[kept], second[kept]


def covariances(rows, person, n_gallery: int) -> tuple[np.ndarray, np.ndarray]:
    """Intra- and extra-personal covariance of all cross-view differences, without forming a pair.

    rows: (n, d) float64, overwritten, the gallery view's n_gallery first, then the probe view's; person: (n,) integers
    from 0, contiguous. Returns two (d, d) float64, not regularised.
    """
    n_people, n_probe = person.max() + 1, len(rows) - n_gallery
    in_gallery, in_probe = person[:n_gallery], person[n_gallery:]
    gallery_count = np.bincount(in_gallery, minlength=n_people)
    probe_count = np.bincount(in_probe, minlength=n_people)
    n_intra = int(gallery_count @ probe_count)
    n_extra = n_gallery * n_probe - n_intra
    if n_intra == 0 or n_extra == 0:
        raise ValueError("XQDA needs a person seen in both views and two different persons to compare.")

    gallery_sums = _sums_by_person(rows[:n_gallery], in_gallery, n_people)
    probe_sums = _sums_by_person(rows[n_gallery:], in_probe, n_people)
    all_partners = np.repeat([float(n_probe), float(n_gallery)], [n_gallery, n_probe])
    own_partners = np.concatenate([probe_count[in_gallery], gallery_count[in_probe]])

    # (x - z)(x - z)' summed over pairs is x x' and z z' as often as each has partners, less the sums of x z' and z x'.
    # Over all pairs the latter are (sum of x)(sum of z)' and its transpose; over pairs of one person, those person by
    # person; pairs of two people are all less these. `rows`, times the root of the number of partners, serve twice.
    rows *= np.sqrt(all_partners)[:, None]
    extra = rows.T @ rows
    extra -= np.outer(gallery_sums.sum(0), probe_sums.sum(0))
    extra -= np.outer(probe_sums.sum(0), gallery_sums.sum(0))
    rows *= np.sqrt(own_partners / all_partners)[:, None]
    intra = rows.T @ rows
    intra -= gallery_sums.T @ probe_sums
    intra -= probe_sums.T @ gallery_sums
    extra -= intra
    intra /= n_intra
    extra /= n_extra
    return intra, extra


def _sums_by_person(rows, person, n_people: int) -> np.ndarray:
    members = np.split(np.argsort(person, kind="stable"), np.bincount(person, minlength=n_people).cumsum()[:-1])
    return np.stack([rows[own].sum(0) for own in members])


def _leading(intra, extra, solver: str) -> tuple[np.ndarray, np.ndarray]:
    """Values above 1 (at least the largest), descending, and the directions that go with them."""
    triangle = scipy.linalg.cholesky(intra, lower=True, check_finite=False)
    if solver == "svd":
        return _left_singular(scipy.linalg.cho_solve((triangle, True), extra, check_finite=False))
    lower = {"lower": 1, "overwrite_a": 1}  # inv(L) extra inv(L)' for S_I = L L'; only the lower half is written
    make = scipy.linalg.lapack.dsygst
    values, vectors = _eigen_above_one(lambda: make(np.array(extra, order="F"), triangle, **lower)[0])
    return values, scipy.linalg.solve_triangular(triangle, vectors, lower=True, trans="T", check_finite=False)


def _left_singular(matrix) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors as eigenvectors of A A', where squaring leaves them nine digits; else by a full SVD."""
    squared, vectors = _eigen_above_one(lambda: (matrix @ matrix.T).T)
    if squared[0] * np.finfo(float).eps < SQUARING_ERROR:
        return np.sqrt(squared), vectors
    vectors, values, _ = scipy.linalg.svd(matrix, check_finite=False)
    kept = max(1, int((values > 1).sum()))
    return values[:kept], vectors[:, :kept]


def _eigen_above_one(make) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues above 1 (at least the largest) of a symmetric matrix, descending, and their vectors.

    `make` computes the matrix, (n, n) in Fortran order with its lower half set. It is overwritten: n may be 10,000."""
    settings = {"overwrite_a": True, "check_finite": False}
    values, vectors = scipy.linalg.eigh(make(), subset_by_value=(1, np.inf), **settings)
    if len(values) == 0:
        matrix = make()
        values, vectors = scipy.linalg.eigh(matrix, subset_by_index=(len(matrix) - 1,) * 2, **settings)
    return values[::-1], vectors[:, ::-1]


def _apply_q(reflectors, basis) -> np.ndarray:
    """Q @ basis from the Householder reflectors of a raw QR, without forming Q."""
    packed, tau = reflectors
    columns = np.zeros((len(packed), basis.shape[1]), order="F")
    columns[: len(basis)] = basis
    size = int(scipy.linalg.lapack.dormqr("L", "N", packed, tau, columns, -1)[1][0])
    return scipy.linalg.lapack.dormqr("L", "N", packed, tau, columns, size, overwrite_c=True)[0]
