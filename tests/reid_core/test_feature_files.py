"""Features of other tools: each format as the real tools write it, and what is refused."""

import errno
import fcntl
import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
from safetensors.torch import save_file

from reid_core import feature_files, features

RANDOM = np.random.default_rng(0)
Q, G, T, D = 5, 9, 8, 4
VALUES = {
    name: RANDOM.normal(size=(n, D)).astype(np.float32) for name, n in (("query", Q), ("gallery", G), ("train", T))
}
PEOPLE = {name: RANDOM.integers(1, 4, len(x)) for name, x in VALUES.items()}
CAMERAS = {name: RANDOM.integers(1, 3, len(x)) for name, x in VALUES.items()}


def check(found, parts=("query", "gallery")):
    assert isinstance(found, features.Features) and found.values.dtype == np.float32
    assert sorted(found.table["subset"].unique()) == sorted(parts)
    for name in parts:
        part = found.subset(found.table["subset"] == name)
        np.testing.assert_array_equal(part.values, VALUES[name])
        assert part.table["person_id"].dtype == np.int64 and part.table["person_id"].tolist() == PEOPLE[name].tolist()
        assert part.table["camera_id"].tolist() == CAMERAS[name].tolist()


def fields(values, person, camera, parts=("query", "gallery")):
    """{field: array} by three templates for a part's name."""
    return {template.format(name): held[name] for name in parts
            for template, held in ((values, VALUES), (person, PEOPLE), (camera, CAMERAS))}  # fmt: skip


def layumi(path):
    lists = {name: x if name.endswith("_f") else x.tolist() for name, x in fields("{}_f", "{}_label", "{}_cam").items()}
    scipy.io.savemat(path / "pytorch_result.mat", lists)
    assert scipy.io.loadmat(path / "pytorch_result.mat")["query_label"].shape == (1, Q)
    return path / "pytorch_result.mat"


def matlab73(path):
    with h5py.File(path / "x.mat", "w", userblock_size=512) as file:
        for name, x in fields("{}_f", "{}_label", "{}_cam").items():
            file[name] = np.atleast_2d(x.astype(float)).T if x.ndim == 1 else x.T  # MATLAB's rows of doubles
        file.create_group("#refs#")
    return path / "x.mat"


def npz(path):
    np.savez(path / "x.npz", **fields("{}_features", "{}_pids", "{}_camids"), epoch=3)
    return path / "x.npz"


def torchreid(path):
    found = {"qf": VALUES["query"], "gf": VALUES["gallery"], "q_pids": PEOPLE["query"], "g_pids": PEOPLE["gallery"],
             "q_camids": CAMERAS["query"], "g_camids": CAMERAS["gallery"]}  # fmt: skip
    as_saved = {name: torch.from_numpy(x) if name.endswith("f") else x for name, x in found.items()}
    torch.save(as_saved, path / "x.pth")
    return path / "x.pth"


def nested(path):
    found = {
        name: {
            "feat": list(torch.from_numpy(VALUES[name])),
            "pid": PEOPLE[name].tolist(),
            "cam": torch.from_numpy(CAMERAS[name]),
        }
        for name in ("query", "gallery")
    }
    torch.save(found, path / "x.pt")
    return path / "x.pt"


def npy(path):
    rows = [{"id": PEOPLE[name][i], "cam": CAMERAS[name][i], "split": {"gallery": "test"}.get(name, name)}
            for name in ("query", "gallery") for i in range(len(VALUES[name]))]  # fmt: skip
    pd.DataFrame(rows).to_csv(path / "resnet.csv", index=False)
    np.save(path / "resnet.npy", np.concatenate([VALUES["query"], VALUES["gallery"]]))
    return path / "resnet.npy"


@pytest.mark.parametrize("write", [layumi, matlab73, npz, torchreid, nested, npy], ids=lambda write: write.__name__)
def test_each_tool_s_file_gives_the_same_features(write, tmp_path):
    check(features.read(write(tmp_path)))


def test_a_feature_file_of_ours_comes_back(tmp_path):
    table = pd.DataFrame({"dataset": "own", "subset": ["query"] * Q + ["gallery"] * G,
                          "person_id": [*PEOPLE["query"], *PEOPLE["gallery"]],
                          "camera_id": [*CAMERAS["query"], *CAMERAS["gallery"]],
                          "image_path": [f"/data/{i}.jpg" for i in range(Q + G)]})  # fmt: skip
    meta = {"model": "hcn", "weights_digest": "abc", "widths": [4], "output": "r5"}
    made = features.Features(np.concatenate([VALUES["query"], VALUES["gallery"]]), table, meta)
    found = features.read(path := features.save(made, tmp_path / "f.safetensors", "/data"))
    check(found)
    assert found.meta == meta | {"files": [str(path)]}
    assert found.table["image_path"][0] == "0.jpg"


def test_the_official_matlab_files_with_images_as_columns_and_ids_apart(tmp_path):
    """Market-1501 of Zhong et al.: a file a part with `feat` (d, n), ids and cameras in files of their own."""
    given = {}
    for part, of in (("query", "query"), ("gallery", "test"), ("train", "train")):
        names = {
            "feat": VALUES[part].T,
            f"{of}ID": PEOPLE[part][:, None],
            f"{of}CAM": CAMERAS[part][:, None].astype(float),
        }
        given[part] = [tmp_path / f"{of}{name}.mat" for name in names]
        for file, (name, x) in zip(given[part], names.items(), strict=True):
            scipy.io.savemat(file, {name: x})
    check(features.read(**given), ("query", "gallery", "train"))


def test_the_official_split_of_cuhk03_by_numbers_of_rows_from_one(tmp_path):
    parts = ("train", "gallery", "query")
    scipy.io.savemat(tmp_path / "feat.mat", {"feat": np.concatenate([VALUES[name] for name in parts]).T})
    ends = np.cumsum([0, T, G, Q])
    rows = {f"{name}_idx": np.arange(a, b)[:, None] + 1.0 for name, a, b in zip(parts, ends, ends[1:], strict=False)}
    ids = {"labels": np.concatenate([PEOPLE[name] for name in parts])[:, None],
           "camId": np.concatenate([CAMERAS[name] for name in parts])[:, None],
           "filelist": np.array([["a.png"], ["b.png"]], object)}  # fmt: skip
    scipy.io.savemat(tmp_path / "config.mat", rows | ids)
    check(features.read([tmp_path / "feat.mat", tmp_path / "config.mat"]), parts)


def test_distances_with_ids_and_turned_where_the_lengths_say_so(tmp_path):
    distance = RANDOM.random((Q, G)).astype(np.float32)
    ids = {name: x for name, x in fields("{}_f", "{}_pids", "{}_camids").items() if not name.endswith("_f")}
    for number, matrix in enumerate((distance, distance.T)):
        np.savez(tmp_path / f"{number}.npz", distmat=matrix, **ids)
        found, query, gallery = feature_files.read_distance(tmp_path / f"{number}.npz")
        np.testing.assert_array_equal(found, distance)
        assert query["person_id"].tolist() == PEOPLE["query"].tolist() and len(gallery) == G


class Harm:
    def __reduce__(self):
        return (print, ("run",))


def broken(tmp_path, name, **changed):
    all_fields = fields("{}_f", "{}_pid", "{}_cam") | changed
    np.savez(tmp_path / name, **{key: x for key, x in all_fields.items() if x is not None})
    return tmp_path / name


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query_f": None, "gallery_f": None}, "query_pid, query_cam.*none is the features of its images. Call it one"),
        ({"gallery_pid": None}, "none is the person_id of its gallery.*after gallery_"),
        ({"query_pid": np.arange(1, Q)}, "differ in length: 4 person_id, 5 camera_id"),
        ({"query_f": VALUES["query"][:3]}, r"5 ids, but features of shape \(3, 4\)"),
        ({"query_pid": PEOPLE["query"] + 0.5}, "person_id is no whole number in row 0"),
        ({"query_pid": np.array([{}] * Q, object)}, "x.npz cannot be read, at field query_pid: Object"),
        ({"query_f": VALUES["query"] * np.nan}, "Row 0 of the features of .*x.npz holds NaN"),
        ({"query_f": VALUES["query"][:, :2]}, "dimensions"),
        ({"gallery_cam": None}, "camera_id is there, or is a number, in some parts only"),
        ({"query_feat": VALUES["query"]}, "at field query_feat: another field says the same"),
        ({"gallery_pid": np.array(["a"] * G)}, "person_id is there, or is a number, in some parts only"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(changed, message, tmp_path):
    path = broken(tmp_path, "x.npz", **changed)
    with pytest.raises(ValueError, match=message):
        features.read(path)


def test_ids_that_went_through_floating_point_are_the_same(tmp_path):
    check(features.read(broken(tmp_path, "x.npz", query_pid=PEOPLE["query"].astype(float))))


def test_no_code_in_a_file_is_run(tmp_path, capsys):
    torch.save({"feat": torch.zeros(2, 2), "pid": Harm()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Harm(), 2))
    np.save(tmp_path / "c.npy", np.array([Harm()], object), allow_pickle=True)
    for name in ("a.pt", "b.pt", "c.npy"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            features.read(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_files_of_no_known_kind_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.npz"):
        features.read(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="nothing to read; give files, or query and gallery"):
        features.read()
    (tmp_path / "x.pkl").touch()
    with pytest.raises(ValueError, match=r"x\.pkl: features are read from \.npz, "):
        features.read(tmp_path / "x.pkl")
    for name in feature_files.READERS:
        (tmp_path / f"x{name}").write_bytes(b"\x80 no such file")
        with pytest.raises(ValueError, match=f"x{name}"):
            features.read(tmp_path / f"x{name}")


def test_square_features_of_matlab_are_asked_about(tmp_path):
    square = RANDOM.normal(size=(D, D)).astype(np.float32)
    ids = {"pid": np.arange(1, D + 1), "cam": np.ones(D), "query_idx": [1, 2], "gallery_idx": [3, 4]}
    scipy.io.savemat(tmp_path / "x.mat", {"feat": square} | ids)
    with pytest.raises(ValueError, match=r"in MATLAB either may be images"):
        features.read(tmp_path / "x.mat")
    np.testing.assert_array_equal(features.read(tmp_path / "x.mat", images="columns").values, square.T)
    np.testing.assert_array_equal(features.read(tmp_path / "x.mat", images="rows").values, square)


def test_queries_that_nothing_tells_apart_are_asked_for(tmp_path):
    np.savez(tmp_path / "x.npz", feat=VALUES["query"], pid=PEOPLE["query"], cam=CAMERAS["query"])
    with pytest.raises(ValueError, match="none is the subset of its images"):
        features.read(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", feat=VALUES["query"], pid=PEOPLE["query"], subset=["query"] * (Q - 1) + ["dev"])
    with pytest.raises(ValueError, match="subset is 'dev'; use train, query, gallery"):
        features.read(tmp_path / "x.npz")


def test_a_matlab_file_counts_from_one_whatever_the_case_of_its_name(tmp_path):
    rows = {"query_idx": np.arange(2, Q + 1), "gallery_idx": np.arange(Q + 1, Q + G + 1)}  # from 0 they would do, too
    held = {"feat": RANDOM.normal(size=(Q + G + 1, D)), "pid": np.arange(1, Q + G + 2)}
    scipy.io.savemat(tmp_path / "X.MAT", held | rows, appendmat=False)
    assert features.read(tmp_path / "X.MAT").table["person_id"].tolist() == list(range(2, Q + G + 1))


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_what_matlab_holds_empty_is_not_there(version, tmp_path):
    empty = ("train_f", "train_label", "train_cam")
    if version == "5":
        lists = fields("{}_f", "{}_label", "{}_cam") | dict.fromkeys(empty, np.zeros((0, 0)))
        scipy.io.savemat(tmp_path / "x.mat", lists)
    else:
        with h5py.File(matlab73(tmp_path), "a") as file:
            for name in empty:  # MATLAB writes the size instead of nothing
                file.create_dataset(name, data=np.zeros(2, np.uint64)).attrs["MATLAB_empty"] = np.uint8(1)
    check(features.read(tmp_path / "x.mat"))


def test_matlabs_cells_of_a_text_each_are_text(tmp_path):
    cells = np.array([[f"{i}.jpg"] for i in range(G)], object)
    names = {"gallery_path": cells, "query_path": cells[:Q]}
    scipy.io.savemat(tmp_path / "x.mat", fields("{}_f", "{}_label", "{}_cam") | names)
    assert features.read(tmp_path / "x.mat").table["image_path"].tolist()[Q - 1 : Q + 1] == [f"{Q - 1}.jpg", "0.jpg"]


def test_a_file_that_another_program_holds_or_that_has_no_locks_is_not_called_damaged(tmp_path, monkeypatch):
    path, opened = matlab73(tmp_path), h5py.File
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match=r"x.mat cannot be opened.*close it there"):
            features.read(path)

    def without_locks(*given, **how):
        if how.get("locking", True):
            raise OSError(errno.ENOLCK, "No locks available")
        return opened(*given, **how)

    monkeypatch.setattr(h5py, "File", without_locks)
    check(features.read(path))


def test_one_number_or_text_of_a_known_name_is_of_no_image(tmp_path):
    check(features.read(broken(tmp_path, "x.npz", x=3, y=7, path="/models/resnet.pth", subset="test")))
    with pytest.raises(ValueError, match=r"image_path has shape \(5, 2\); one an image is expected"):
        features.read(broken(tmp_path, "x.npz", query_path=np.full((Q, 2), "a.jpg")))


@pytest.mark.parametrize("change", [lambda line: f"{line},", lambda line: f"7,{line}"], ids=["behind", "before"])
def test_a_cell_too_many_in_every_row_moves_no_column(change, tmp_path):
    np.save(tmp_path / "q.npy", VALUES["query"])
    lines = [change(f"{person},{camera}") for person, camera in zip(PEOPLE["query"], CAMERAS["query"], strict=True)]
    (tmp_path / "q.csv").write_text("\n".join(["pid,cam", *lines]))
    with pytest.raises(ValueError, match=r"q.csv cannot be read.*more cells than its first line names columns"):
        features.read(query=tmp_path / "q.npy")


def test_of_a_file_that_says_which_images_are_which_a_part_is_that_part(tmp_path):
    file = npy(tmp_path)
    check(features.read(query=file, gallery=file))
    with pytest.raises(ValueError, match=r"resnet.csv has no train images by its field subset, only query, gallery"):
        features.read(train=file)
    table = pd.read_csv(tmp_path / "resnet.csv")
    table.assign(split="test").to_csv(tmp_path / "resnet.csv", index=False)  # of the split, not of the part
    assert set(features.read(query=file).table["subset"]) == {"query"}


def test_images_are_rows_or_columns(tmp_path):
    with pytest.raises(ValueError, match="images is 'cols'; it is 'rows' or 'columns'"):
        features.read(npz(tmp_path), images="cols")


def test_another_programs_table_is_none_of_ours(tmp_path):
    held = {name: torch.from_numpy(x) for name, x in fields("{}_f", "{}_pid", "{}_cam").items()}
    save_file(held | {"table": torch.zeros(3)}, tmp_path / "x.safetensors")
    check(features.read(tmp_path / "x.safetensors"))
