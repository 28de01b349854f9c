import numpy as np
import official_structure
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from reid_core.datasets import table
from reproduction.intake import contact_sheet, near_duplicates


def scene(seed, height=160, width=80):
    """A smooth coloured picture of its own, as (height, width, 3) uint8."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = gaussian_filter(noise, (height / 20, width / 10, 0))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def save(folder, name, picture, box=(0, 0, 1, 1), size=None, quality=90):
    height, width = picture.shape[:2]
    image = Image.fromarray(picture).crop(
        tuple(round(part * side) for part, side in zip(box, (width, height) * 2, strict=True))
    )
    image.resize(size or image.size).save(folder / name, **({"quality": quality} if name.endswith("jpg") else {}))
    return str(folder / name)


@pytest.fixture
def sets(tmp_path):
    """Two sets: "campus" trains on scenes 0-9; "station" tests on scenes 100-109 and on copies of 0, 1 and 2."""
    train = [save(tmp_path, f"t{number}.png", scene(number)) for number in range(10)]
    copies = [
        save(tmp_path, "same.png", scene(0)),
        save(tmp_path, "recoded.jpg", scene(1), size=(64, 128), quality=60),
        save(tmp_path, "cut.jpg", scene(2), box=(0.06, 0.04, 0.95, 1.0), size=(60, 160)),
    ]
    test = copies + [save(tmp_path, f"g{number}.png", scene(100 + number)) for number in range(10)]
    return {
        "campus": table.validate(table.build("campus", "train", range(1, 11), 1, train)),
        "station": table.validate(
            table.build("station", ["query"] * 3 + ["gallery"] * 10, [1, 2, 3, *range(1, 11)], 2, test)
        ),
    }


def test_copies_recoded_and_newly_cut_are_found_and_nothing_else(sets):
    pairs = near_duplicates.find(sets, progress=False)
    names = [(row.train_path.rsplit("/")[-1], row.test_path.rsplit("/")[-1]) for row in pairs.itertuples()]
    assert sorted(names) == [("t0.png", "same.png"), ("t1.png", "recoded.jpg"), ("t2.png", "cut.jpg")]
    assert names[0] == ("t0.png", "same.png") and pairs["correlation"].iloc[0] == 1 and pairs["bits"].iloc[0] == 0
    assert pairs["correlation"].is_monotonic_decreasing and (pairs["matches"] == 1).all()
    first = pairs.iloc[0]
    assert (first["train_set"], first["train_person"], first["train_camera"]) == ("campus", 1, 1)
    assert (first["test_set"], first["test_subset"], first["test_person"], first["test_camera"]) == (
        "station",
        "query",
        1,
        2,
    )


def test_found_images_leave_training_only(sets):
    pairs = near_duplicates.find(sets, progress=False)
    rest = near_duplicates.leave_out(sets["campus"], pairs)
    assert rest["person_id"].tolist() == list(range(4, 11))
    assert near_duplicates.leave_out(sets["station"], pairs).equals(sets["station"])


def test_blocks_agree_with_a_loop_over_all_pairs(monkeypatch):
    pictures = np.stack([np.asarray(Image.fromarray(scene(seed % 40)).resize((16, 32))) for seed in range(80)])
    pictures = np.clip(pictures + np.random.default_rng(0).normal(0, 4, pictures.shape), 0, 255).astype(np.uint8)
    train, test = np.arange(40), np.arange(40, 80)
    monkeypatch.setattr(near_duplicates, "_BLOCK", 7)
    found = near_duplicates._compare(pictures, train, test, 20, 0.9)
    hashes = near_duplicates.perceptual_hash(pictures)
    expected = []
    for first in train:
        for second in test:
            bits = bin(int(hashes[first]) ^ int(hashes[second])).count("1")
            a, b = (pictures[index].astype(float).ravel() for index in (first, second))
            if bits <= 20 and np.corrcoef(a, b)[0, 1] > 0.9:
                expected.append((first, second, bits))
    assert len(expected) >= 40
    assert sorted(zip(found["train"], found["test"], found["bits"], strict=True)) == sorted(expected)


def test_the_crop_of_a_picture_is_the_picture_resampled():
    ramp = np.tile(np.arange(32, dtype=np.float32)[:, None], (1, 16))[None]
    whole = near_duplicates._resampled(ramp, (0, 1), (0, 1))
    assert np.allclose(whole, ramp)
    half = near_duplicates._resampled(ramp, (0.25, 0.75), (0, 1))
    assert np.allclose(half[0, :, 3], 7.5 + 0.5 * (np.arange(32) + 0.5))
    weights = near_duplicates._sampling(16, 0.05, 0.9)
    assert np.allclose(weights.sum(axis=1), 1)


def test_a_hash_is_half_ones_and_forgets_brightness_and_contrast():
    pictures = np.stack([np.asarray(Image.fromarray(scene(seed)).resize((16, 32))) for seed in range(20)])
    hashes = near_duplicates.perceptual_hash(pictures)
    assert len(set(hashes.tolist())) == 20 and (np.bitwise_count(hashes) == 32).all()
    darker = (pictures * 0.5 + 20).astype(np.uint8)
    assert np.bitwise_count(hashes ^ near_duplicates.perceptual_hash(darker)).max() <= 6


def test_flat_pictures_match_only_themselves(tmp_path):
    flat = [save(tmp_path, f"{level}.png", np.full((40, 20, 3), level, np.uint8)) for level in (10, 200)]
    again = [save(tmp_path, f"{level}b.png", np.full((40, 20, 3), level, np.uint8)) for level in (10, 90)]
    sets = {"a": table.build("a", "train", [1, 2], 1, flat), "b": table.build("b", "gallery", [1, 2], 1, again)}
    pairs = near_duplicates.find(sets, progress=False)
    assert pairs[["train_path", "test_path"]].values.tolist() == [[flat[0], again[0]]]


def test_many_equal_pictures_stay_few_rows(tmp_path):
    official_structure._write(tmp_path, [f"{n}.png" for n in range(400)], official_structure.encoded("png", count=2))
    paths = [str(tmp_path / f"{n}.png") for n in range(400)]
    sets = {"a": table.build("a", ["train"] * 200 + ["gallery"] * 200, 1, 1, paths)}
    pairs = near_duplicates.find(sets, per_image=3, progress=False)
    assert len(pairs) <= 1200 and set(pairs["matches"]) == {100}
    assert pairs["train_path"].nunique() == pairs["test_path"].nunique() == 200
    assert pairs.groupby("train_path").size().min() == pairs.groupby("test_path").size().min() == 3


def test_without_training_or_test_images_there_is_nothing_to_find(sets):
    for name in sets:
        pairs = near_duplicates.find({name: sets[name]})
        assert pairs.empty and list(pairs) == list(near_duplicates.COLUMNS)
    found = near_duplicates.find(sets, progress=False)
    assert found.select_dtypes("number").dtypes.equals(pairs.select_dtypes("number").dtypes)


def test_matches_in_one_set_do_not_hide_those_in_another(tmp_path):
    train = [save(tmp_path, "t.png", scene(0))]
    crowd = [save(tmp_path, f"c{n}.png", scene(0)) for n in range(5)]
    lone = [save(tmp_path, "lone.jpg", scene(0), quality=60)]
    sets = {
        "campus": table.build("campus", "train", 1, 1, train),
        "crowd": table.build("crowd", "gallery", 1, 1, crowd),
        "lone": table.build("lone", "gallery", 1, 1, lone),
    }
    pairs = near_duplicates.find(sets, per_image=2, progress=False)
    assert set(pairs["test_path"]) == {*crowd, *lone}
    assert set(pairs["matches"]) == {6}
    counted = near_duplicates.counts(sets, pairs).set_index("test_set")
    assert counted["test images found"].to_dict() == {"crowd": 5, "lone": 1, "any": 6}
    assert counted["images found"].tolist() == [1, 1, 1] and counted["people lost"].tolist() == [1, 1, 1]


def test_counts_tell_images_from_people(sets):
    both = sets | {"campus": sets["campus"].assign(person_id=[1, 1, 2, 2, 3, 4, 5, 6, 7, 8])}
    pairs = near_duplicates.find(both, progress=False)
    (to_station, to_any) = near_duplicates.counts(both, pairs).to_dict("records")
    assert to_station["train_set"] == "campus" and to_any["test_set"] == "any"
    for counted in (to_station, to_any):
        assert (counted["training images"], counted["people"]) == (10, 8)
        assert (counted["images found"], counted["people found"], counted["people lost"]) == (3, 2, 1)


def test_leaving_out_everything_is_refused(sets):
    pairs = near_duplicates.find(sets, progress=False)
    copies = sets["campus"][sets["campus"]["image_path"].isin(pairs["train_path"])]
    with pytest.raises(ValueError, match="All 3 training images of campus.*near_duplicates: keep"):
        near_duplicates.leave_out(copies, pairs)


def test_the_audit_is_a_csv_with_portable_paths_and_a_sheet(sets, tmp_path):
    pairs = near_duplicates.find(sets, progress=False)
    csv, sheet = contact_sheet.write_audit(pairs, tmp_path / "private", tmp_path, source="official data")
    saved = pd.read_csv(csv)
    assert saved["train_path"].tolist() == ["t0.png", *saved["train_path"].tolist()[1:]]
    assert len(saved) == 3 and str(tmp_path) not in csv.read_text()
    with Image.open(sheet) as image:
        pixels = np.asarray(image)
    thumbnail = np.asarray(Image.open(pairs["train_path"].iloc[0]).resize((64, 128)))
    assert np.array_equal(pixels[20 : 20 + 128, 6 : 6 + 64], thumbnail)
    assert (pixels[-20:] < 128).any(), "the source stands at the end"
    assert sorted(path.name for path in csv.parent.iterdir()) == ["near_duplicates.csv", "near_duplicates.png"]


def test_an_audit_without_findings_says_so(sets, tmp_path):
    none = near_duplicates.find(sets, progress=False).iloc[:0]
    csv, sheet = contact_sheet.write_audit(none, tmp_path / "private", tmp_path)
    assert len(pd.read_csv(csv)) == 0 and Image.open(sheet).size[0] >= 560
