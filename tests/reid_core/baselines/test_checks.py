import numpy as np
import pytest

from reid_core.baselines.checks import training_set

X = np.arange(8.0).reshape(4, 2)


def test_good_input_passes_unchanged():
    features, person, camera = training_set(X, [1, 1, 2, 2], [1, 2, 1, 2], "KISSME")
    np.testing.assert_array_equal(features, X)
    assert person.tolist() == [1, 1, 2, 2] and camera.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((X, [1, 1, 2], [1, 2, 1, 2]), "n person and n camera numbers"),
        ((X.astype(int), [1, 1, 2, 2], [1, 2, 1, 2]), "dtype int64; pass a floating-point type"),
        ((X, [1, 1, 1, 1], [1, 2, 1, 2]), "two or more people"),
        ((X, [1, 2, 3, 4], [1, 2, 1, 2]), "each of the 4 people here has one image"),
        ((X, [1, 1, 2, 2], [1, 1, 1, 1]), "seen by two cameras.*cameras here: 1"),
        ((X, [1, 1, 2, 2], [1, 1, 2, 2]), "seen by two cameras.*cameras here: 1, 2"),
        ((X * [[1], [np.inf], [1], [1]], [1, 1, 2, 2], [1, 2, 1, 2]), "Row 1 of the training features holds NaN"),
    ],
)
def test_bad_training_sets_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"), np.errstate(invalid="ignore"):
        training_set(*arguments, "KISSME")
