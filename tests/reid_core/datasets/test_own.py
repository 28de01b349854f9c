import os
import shutil
import unicodedata
import warnings

import numpy as np
import official_structure
import pytest

from reid_core import datasets
from reid_core.evaluation import evaluate

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
    for name, content in zip("abcdef", official_structure.encoded("png", count=6), strict=True):
        (tmp_path / "images" / f"{name}.png").write_bytes(content)
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
        ("b.png,1,2", "b.png,2,2", r"line 4: Person 2 of shop is in train and, in .*c.png, in query .1 such person"),
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
    for old, new, message in (("distractor", "dog", "line 9: kind"), ("b.png,1", "b.png,one", "line 6: person_id")):
        shop.write_text(blank.replace(old, new))
        with pytest.raises(ValueError, match=message):
            datasets.load("shop.csv", shop.parent)


def test_missing_files_are_named(shop):
    (shop.parent / "images" / "e.png").unlink()
    with pytest.raises(FileNotFoundError, match="line 6: the image .*images/e.png is not there .1 of 6"):
        datasets.load("shop.csv", shop.parent)
    with pytest.raises(FileNotFoundError, match="mall.csv is not there"):
        datasets.load("mall.csv", shop.parent)


def people(loaded):
    return loaded["person_id"].tolist()


@pytest.mark.parametrize(
    "text",
    ["2.0240115093E+16", "12e4", "7.5", "7,5", "1_000", "1 000", "0x1f", "NA", "nan", "None", "null", "true", "\uff11"],
)
@pytest.mark.parametrize("column", ["person_id", "camera_id"])
def test_an_id_that_is_no_whole_number_is_refused_with_its_text(shop, text, column):
    row = f'images/b.png,"{text}",2' if column == "person_id" else f'images/b.png,1,"{text}"'
    shop.write_text(GOOD.replace("images/b.png,1,2", row))
    with pytest.raises(ValueError, match="line 3: ") as said:
        datasets.load("shop.csv", shop.parent)
    assert f"{column} must be an integer, but it is {text!r}" in str(said.value)


@pytest.mark.parametrize("text", [str(2**63), str(2**64 - 1), "11400714819323198485", "9007199254740993.0"])
def test_an_id_that_may_have_lost_digits_is_refused_with_its_text(shop, text):
    shop.write_text(GOOD.replace("b.png,1,", f"b.png,{text},"))
    with pytest.raises(ValueError, match=f"line 3: person_id must be an integer, but it is '{text}'"):
        datasets.load("shop.csv", shop.parent)


def test_one_float_leaves_its_neighbours_exact(shop):
    shop.write_text(GOOD.replace("a.png,1,1", "a.png,9007199254740993,1").replace("b.png,1,2", "b.png,5.0,002"))
    loaded = datasets.load("shop.csv", shop.parent)
    assert people(loaded)[:2] == [9007199254740993, 5] and loaded["camera_id"].tolist()[:2] == [1, 2]


@pytest.mark.parametrize(
    "text, meant", [("0000", "distractor"), ("-0", "distractor"), ("-01", "junk"), ("-1.0", "junk")]
)
def test_junk_and_distractors_are_declared_however_they_are_written(shop, text, meant):
    row = f"images/e.png,{text},1,gallery"
    shop.write_text(GOOD.replace("images/e.png,,1,gallery,distractor", f"{row},"))
    with pytest.raises(ValueError, match=f"line 6: person_id {text} means {meant} here"):
        datasets.load("shop.csv", shop.parent)
    shop.write_text(GOOD.replace("images/e.png,,1,gallery,distractor", f"{row},{meant}"))
    assert people(datasets.load("shop.csv", shop.parent))[4] == {"distractor": 0, "junk": -1}[meant]


def test_two_files_of_one_name_are_two_sets(shop):
    for folder in "AB":
        shutil.copytree(shop.parent / "images", shop.parent / folder / "images")
        shutil.copy(shop, shop.parent / folder / "labels.csv")
    a, b = (datasets.load(f"{folder}/labels.csv", shop.parent) for folder in "AB")
    assert set(a["dataset"]) == {"A/labels"} and set(b["dataset"]) == {"B/labels"}
    assert datasets.combine({"a": a, "b": b})["label"].nunique() == 2
    assert datasets.leaked_people(a, [b]).empty
    assert set(datasets.load("../A/./labels.csv", shop.parent / "B")["dataset"]) == {"labels"}


@pytest.mark.parametrize("root", ["itself", "elsewhere"])
def test_two_files_whose_people_would_be_mixed_up_are_refused(shop, root):
    tables = []
    for folder in "AB":
        shutil.copytree(shop.parent, shop.parent.with_name(f"{shop.parent.name}-{folder}"), symlinks=True)
        place = shop.parent.with_name(f"{shop.parent.name}-{folder}")
        tables.append(datasets.load(str(place / "shop.csv"), place if root == "itself" else "/nowhere"))
    a, b = tables
    test = b[b["subset"] != "train"].reset_index(drop=True)
    for action in (
        lambda: datasets.combine({"a": a, "b": b}),
        lambda: datasets.combine({"a": a}, scored=[test], leaked="leave_out"),
        lambda: datasets.leaked_people(a, iter([test])),
    ):
        with pytest.raises(ValueError, match="A/shop.csv and .*B/shop.csv are both called 'shop'.*dataset="):
            action()
    named = [
        datasets.load(str(place), "/", dataset="mall")
        for place in (shop, shop.parent.with_name(f"{shop.parent.name}-A") / "shop.csv")
    ]
    assert datasets.combine(dict(zip("ab", named, strict=True)))["label"].nunique() == 1, "one name given is one set"


def test_a_file_called_as_an_official_set_is_of_that_set_wherever_it_lies(shop):
    (shop.parent / "sub").mkdir()
    shutil.copytree(shop.parent / "images", shop.parent / "sub" / "images")
    shutil.copy(shop, shop.parent / "sub" / "market1501.csv")
    assert set(datasets.load("sub/market1501.csv", shop.parent)["dataset"]) == {"market1501"}


@pytest.mark.parametrize(
    "row, message",
    [
        ("images/c.png,2,2,gallery", "c.png is person 2 in camera 1 as query and person 2 in camera 2 as gallery"),
        ("images/c.png,7,1,gallery", "c.png is person 2 in camera 1 as query and person 7 in camera 1 as gallery"),
        ("images/../images/c.png,7,1,gallery", "c.png is person 2 in camera 1 as query and person 7"),
        ("images/c.png,0,1,gallery,distractor", "c.png is person 2 in camera 1 as query and person 0"),
    ],
)
def test_one_file_is_not_two_people_nor_its_own_match(shop, row, message):
    shop.write_text(f"{GOOD}{row}\n")
    with pytest.raises(ValueError, match=f"line 8: .*{message}.*as its own match it would be found first"):
        datasets.load("shop.csv", shop.parent)


@pytest.mark.parametrize("row", ["images/c.png,2,1,gallery", "images/c.png,-1,1,gallery,junk"])
def test_one_file_in_query_and_gallery_may_be_passed_over(shop, row):
    shop.write_text(f"{GOOD}{row}\n")
    assert len(datasets.load("shop.csv", shop.parent)) == 7


@pytest.mark.parametrize("how", [shutil.copy, os.link, os.symlink])
def test_a_copy_of_a_query_in_another_camera_is_told(shop, how):
    how(shop.parent / "images" / "c.png", shop.parent / "images" / "other.png")
    shop.write_text(f"{GOOD}images/other.png,2,2,gallery\n")
    with pytest.warns(UserWarning, match="lines 4 and 8: .*c.png and .*other.png are one picture.*2 such rows"):
        datasets.load("shop.csv", shop.parent)


@pytest.mark.parametrize("how", [shutil.copy, os.link, os.symlink])
@pytest.mark.parametrize(
    ("source", "row", "lines"),
    [
        ("c", "7,1,gallery", "4 and 8"),  # query and gallery
        ("c", "7,2,train", "4 and 8"),  # training and test
        ("a", "7,1,train", "2 and 8"),
        ("e", "2,2,gallery", "6 and 8"),  # a distractor, who is nobody that is tested
    ],
)
def test_a_copy_as_another_person_is_refused(shop, how, source, row, lines):
    how(shop.parent / "images" / f"{source}.png", shop.parent / "images" / "other.png")
    shutil.copy(shop.parent / "images" / "d.png", shop.parent / "images" / "told.png")  # a copy that is only told
    shop.write_text(f"{GOOD}images/other.png,{row},,\nimages/told.png,2,3,gallery\n")
    message = f"lines {lines}: .*{source}.png and .*other.png are one picture.*2 such rows.* shows one person"
    with pytest.raises(ValueError, match=message):
        datasets.load("shop.csv", shop.parent)


def test_pictures_that_differ_and_copies_that_are_passed_over_are_not_told(shop):
    shutil.copy(shop.parent / "images" / "c.png", shop.parent / "images" / "other.png")
    shop.write_text(f"{GOOD}images/other.png,2,1,gallery\n")
    (shop.parent / "images" / "a.png").write_bytes(b"")
    (shop.parent / "images" / "b.png").write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(datasets.load("shop.csv", shop.parent)) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD.replace("1,2,train,person,", "1,2,train,person,,"),
            "line 3 has 7 cells.*names 6 columns. Is a comma too many",
        ),
        (GOOD.replace(",first", ",first,"), "line 2 has 7 cells"),
        (GOOD.replace(",", ";"), "separated by semicolons: save it with commas"),
        (GOOD.replace(",", "\t"), "separated by tabs: save it with commas"),
        (GOOD.replace("image_path,person_id", "Image_Path,PERSON_ID"), "Write Image_Path, PERSON_ID in small letters"),
        (GOOD.replace("note", "person_id"), "names person_id more than once"),
        (GOOD.replace("first", '"first'), "not a CSV file in UTF-8"),
        (GOOD.replace("images/b.png", '"images"/b.png'), "not a CSV file in UTF-8"),
    ],
)
def test_another_dialect_is_named(shop, text, message):
    shop.write_text(text)
    with pytest.raises(ValueError, match=f"shop.csv.*{message}"):
        datasets.load("shop.csv", shop.parent)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(shop, encoding):
    shop.write_text(GOOD.replace("first", "später"), encoding=encoding)
    with pytest.raises(ValueError, match="shop.csv is not a CSV file in UTF-8"):
        datasets.load("shop.csv", shop.parent)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace(",,\n", "\n"),
    ],
)
def test_what_editors_do_to_a_file_does_not_matter(shop, change):
    expected = datasets.load("shop.csv", shop.parent)
    shop.write_bytes(change(GOOD).encode())
    assert datasets.load("shop.csv", shop.parent).equals(expected)


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan", "a, b", "007"])
def test_names_are_text(shop, name):
    (shop.parent / "images" / "b.png").rename(shop.parent / "images" / name)
    shop.write_text(GOOD.replace("images/b.png", f'"images/{name}"'))
    shop.rename(shop.with_name(f"{name}.csv"))
    loaded = datasets.load(f"{name}.csv", shop.parent)
    assert loaded["image_path"][1] == f"{shop.parent}/images/{name}" and set(loaded["dataset"]) == {name}


@pytest.mark.parametrize("written", ["images\\b.png", "Images/B.png", "images/b.png ", "images/b .png"])
def test_the_image_that_was_meant_is_named(shop, written):
    shop.write_text(GOOD.replace("images/b.png", written))
    with pytest.raises(FileNotFoundError, match=f"line 3: .*{shop.parent}/images/b.png is there: write it so"):
        datasets.load("shop.csv", shop.parent)
    with pytest.raises(FileNotFoundError, match="Shop.csv is not there.*shop.csv is there: write it so"):
        datasets.load("Shop.csv", shop.parent)


def test_other_forms_of_a_letter_and_dead_links_are_named(shop):
    (shop.parent / "images" / "b.png").rename(shop.parent / "images" / "é.png")
    shop.write_text(GOOD.replace("images/b.png", unicodedata.normalize("NFD", "images/é.png")))
    with pytest.raises(FileNotFoundError, match="images/é.png is there: write it so"):
        datasets.load("shop.csv", shop.parent)
    (shop.parent / "images" / "b.png").symlink_to("gone.png")
    shop.write_text(GOOD)
    with pytest.raises(FileNotFoundError, match="b.png is a link to gone.png, which is not there any more"):
        datasets.load("shop.csv", shop.parent)


def test_every_set_takes_the_progress_option(shop, small_data, capsys):
    for name, root in (("shop.csv", shop.parent), ("market1501", small_data), ("cuhk01", small_data)):
        assert len(datasets.load(name, root, unreadable="refuse", progress=False))
    assert capsys.readouterr().err == ""


def without_cameras(shop):
    rows = [line.split(",") for line in shop.read_text().splitlines()]
    at = rows[0].index("camera_id")
    shop.write_text("\n".join(",".join([*row[:at], row[at] if row is rows[0] else "", *row[at + 1 :]]) for row in rows))


def test_an_empty_camera_column_is_no_cameras_known(shop):
    without_cameras(shop)
    table = datasets.load("shop.csv", shop.parent)
    assert (table.camera_id == -1).all() and table.camera_id.dtype == "int64"
    query, gallery = (table[table.subset == name] for name in ("query", "gallery"))
    found = evaluate(np.ones((len(query), len(gallery)), np.float32), query, gallery)
    assert found.protocol == "no_cameras" and found.unmatched_queries == 0


def test_without_cameras_a_query_needs_another_file_of_its_person(shop):
    without_cameras(shop)
    lines = shop.read_text().splitlines()
    query = next(line for line in lines if "query" in line)
    same = query.split(",")[1]
    kept = [line for line in lines if not (line.split(",")[1] == same and "gallery" in line)]
    shop.write_text("\n".join([*kept, query.replace("query", "gallery")]))
    with pytest.raises(ValueError, match="Query .* has no gallery image of that person in another camera"):
        datasets.load("shop.csv", shop.parent)


def test_a_camera_column_that_is_empty_in_part_is_refused_with_its_rows(shop):
    lines = shop.read_text().splitlines()
    for row in (1, 3):
        cells = lines[row].split(",")
        lines[row] = ",".join([*cells[:2], " ", *cells[3:]])
    shop.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"shop.csv, line 2, 4: camera_id is blank in 2 of \d rows.*no_cameras"):
        datasets.load("shop.csv", shop.parent)
