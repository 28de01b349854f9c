import pytest

from reid_core import files


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_appears_whole(tmp_path):
    with files.replacing(tmp_path / "run", folder=True) as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "run").exists()
    assert (tmp_path / "run" / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_write_text_makes_missing_folders(tmp_path):
    assert files.write_text(tmp_path / "a" / "b.txt", "é").read_text(encoding="utf-8") == "é"
