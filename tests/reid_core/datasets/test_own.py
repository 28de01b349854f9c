import official_structure
import pytest

from reid_core import datasets

GOOD = """image_path,person_id,camera_id,subset,kind,note
images/a.png,1,1,train,,first
images/b.png,1,2,train,person,
images/c.png,2,1,query,,
images/d.png,2,2,gallery,,
images/e.png,,1,gallery,distractor,
images/f.png,-1,2,gallery,junk,
"""


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "images").mkdir()
    for name in "abcdef":
        (tmp_path / "images" / f"{name}.png").write_bytes(official_structure.encoded("png", count=1)[0])
    (tmp_path / "shop.csv").write_text(GOOD)
    return tmp_path / "shop.csv"


def test_own_data_is_an_image_table(shop):
    table = datasets.load("shop.csv", shop.parent)
    assert set(table["dataset"]) == {"shop"}
    assert table["person_id"].tolist() == [1, 1, 2, 2, 0, -1]
    assert table["image_path"].iloc[0] == f"{shop.parent}/images/a.png"
    assert table.columns.tolist() == ["dataset", "subset", "person_id", "camera_id", "image_path"]
    assert set(datasets.load("shop.csv", shop.parent, dataset="mall")["dataset"]) == {"mall"}


def test_own_data_combines_with_others(shop, small_data):
    table = datasets.load(str(shop), "/anywhere")
    combined = datasets.combine({"shop": table, "cuhk01": datasets.load("cuhk01", small_data)})
    people = combined.drop_duplicates("label").sort_values("label")
    assert people["dataset"].tolist() == ["cuhk01"] * 7 + ["shop"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("person_id", "who", "lacks the column.s. person_id; its first line names image_path, who"),
        ("a.png,1,", "a.png,0,", "line 2: person_id 0 means distractor here. Number people from 1"),
        ("-1,2,gallery,junk", "-1,2,gallery,", "line 7: person_id -1 means junk here"),
        ("-1,2,gallery,junk", "7,2,gallery,junk", "line 7: the row is declared junk but has person_id '7'"),
        ("distractor", "dog", "line 6: kind is 'dog'"),
        ("b.png,1,2", "b.png,one,2", "line 3: person_id must be an integer, but it is 'one' for .*b.png"),
        ("b.png,1,2", "b.png,1,1.5", "line 3: camera_id must be an integer, but it is '1.5'"),
        ("2,2,gallery", "2,1,gallery", "line 4: Query .*c.png .person 2, camera 1. has no gallery image"),
        ("images/b.png", "images/a.png", "line 2: .*a.png is listed more than once in train"),
        ("images/d.png", "images/b.png", "line 5: .*b.png is a training image and a query or gallery image"),
        ("c.png,2,1,query", "c.png,2,1,probe", "line 4: Subset 'probe'"),
        (
            "b.png,1,2",
            "b.png,2,2",
            r"line 4: Person 2 of shop is in train and, in .*c.png, in query .1 such person",
        ),
        ("images/d.png", "", "line 5: image_path is blank"),
        ("image_path", "\nimage_path", "lacks the column.s. image_path"),
        (GOOD, "", "not a CSV file"),
        (GOOD, '"', "not a CSV file"),
    ],
)
def test_a_bad_row_is_named(shop, old, new, message):
    assert old in GOOD
    shop.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"shop.csv.*{message}"):
        datasets.load("shop.csv", shop.parent)


def test_blank_lines_are_passed_over_and_counted(shop):
    blank = GOOD.replace("images/b", "\n  \n,,,,,\nimages/b")
    shop.write_text(blank)
    assert len(datasets.load("shop.csv", shop.parent)) == 6
    for old, new, message in (
        ("distractor", "dog", "line 9: kind"),
        ("b.png,1", "b.png,one", "line 6: person_id"),
    ):
        shop.write_text(blank.replace(old, new))
        with pytest.raises(ValueError, match=message):
            datasets.load("shop.csv", shop.parent)


def test_missing_files_are_named(shop):
    (shop.parent / "images" / "e.png").unlink()
    with pytest.raises(FileNotFoundError, match="line 6: the image .*images/e.png is not there .1 of 6"):
        datasets.load("shop.csv", shop.parent)
    with pytest.raises(FileNotFoundError, match="mall.csv is not there"):
        datasets.load("mall.csv", shop.parent)
