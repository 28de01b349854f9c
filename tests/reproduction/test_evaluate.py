"""`reid-core evaluate` as a user calls it, against the library on the same arrays."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch

from reid_core import evaluation, features
from reid_core.distance import squared_euclidean
from reid_core.matching import Matching
from reid_core.xqda import XQDA
from reproduction import cli, intervals

PARTS = {"query": 24, "gallery": 60, "train": 48}


def toy(part, seed):
    random = np.random.default_rng(seed)
    person = np.resize(np.arange(1, 13), PARTS[part])
    values = np.random.default_rng(9).normal(size=(13, 6))[person] + 0.9 * random.normal(size=(len(person), 6))
    return values.astype(np.float32), person, np.resize(np.repeat([1, 2], 12), len(person))


TOYS = {part: toy(part, seed) for seed, part in enumerate(PARTS)}
TABLES = {part: pd.DataFrame({"person_id": person, "camera_id": camera}) for part, (_, person, camera) in TOYS.items()}


@pytest.fixture
def file(tmp_path):
    names = ("_f", "_label", "_cam")
    held = {part + name: x for part, toys in TOYS.items() for name, x in zip(names, toys, strict=True)}
    scipy.io.savemat(tmp_path / "pytorch_result.mat", held)
    return str(tmp_path / "pytorch_result.mat")


def say(capsys, *arguments):
    assert cli.main(["evaluate", *arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def fails(capsys, *arguments):
    assert cli.main(["evaluate", *arguments]) == 1
    return capsys.readouterr().err


class Harm:
    """What no reader may make."""


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def distances():
    query, gallery = TOYS["query"][0], TOYS["gallery"][0]
    learned = XQDA().fit(*TOYS["train"])
    return {
        (): squared_euclidean(query, gallery),
        ("--metric", "cosine"): squared_euclidean(unit(query), unit(gallery)),
        ("--metric", "xqda"): learned.distance(query, gallery),
        ("--rerank",): Matching().reranked(query, gallery),
        ("--metric", "xqda", "--rerank"): Matching().reranked(query, gallery, learned),
        ("--metric", "cosine", "--rerank"): Matching().reranked(unit(query), unit(gallery)),
        ("--ap", "step"): squared_euclidean(query, gallery),
    }


@pytest.mark.parametrize("arguments", distances(), ids=" ".join)
def test_scores_are_those_of_the_library_on_the_same_arrays(arguments, file, capsys):
    ap = "step" if "step" in arguments else "trapezoid"
    expected = evaluation.evaluate(distances()[arguments], TABLES["query"], TABLES["gallery"], ap=ap)
    found = say(capsys, file, *arguments)
    scores = {name: score["value"] for name, score in found["scores"].items()}
    ranks = {f"rank{k}": 100 * expected.cmc[k - 1] for k in (1, 5, 10, 20)}
    assert scores == pytest.approx(ranks | {"mAP": 100 * expected.mAP, "mINP": 100 * expected.mINP})
    assert found["ap"] == ap and found["queries"] == 24 and found["people"] == 12
    sums = intervals.by_person(expected.per_query, TOYS["query"][1], 0)
    for score in intervals.SCORES:
        sure = intervals.interval(sums, score)
        assert [found["scores"][score][end] for end in ("low", "high")] == pytest.approx([sure.low, sure.high])


def test_lines_for_a_reader_name_protocol_ap_and_intervals(file, capsys):
    assert cli.main(["evaluate", file]) == 0
    said = capsys.readouterr().out
    assert "24 queries of 12 people, 60 gallery images" in said and "AP by trapezoid" in said
    assert "protocol market" in said and "95% interval" in said and " to " in said
    assert [line.split()[0] for line in said.splitlines()[-6:]] == ["rank1", "rank5", "rank10", "rank20", "mAP", "mINP"]


def test_parts_in_files_apart_score_the_same(file, tmp_path, capsys):
    for part, (values, person, camera) in TOYS.items():
        np.save(tmp_path / f"{part}.npy", values)
        pd.DataFrame({"pid": person, "camid": camera}).to_csv(tmp_path / f"{part}.csv", index=False)
    given = [word for part in PARTS for word in (f"--{part}", str(tmp_path / f"{part}.npy"))]
    assert say(capsys, *given, "--metric", "xqda") == say(capsys, file, "--metric", "xqda")


def test_xqda_without_training_features_and_queries_without_a_gallery_are_explained(file, tmp_path, capsys):
    values, person, camera = TOYS["query"]
    np.savez(tmp_path / "q.npz", feat=values, pid=person, cam=camera)
    apart = ["--query", str(tmp_path / "q.npz"), "--gallery", str(tmp_path / "q.npz")]
    assert "XQDA learns from training features" in fails(capsys, *apart, "--metric", "xqda")
    assert "'gallery': 0" in fails(capsys, *apart[:2])
    np.savez(tmp_path / "q.npz", feat=values, pid=person)
    assert "lacks the column 'image_path'; without cameras it tells" in fails(capsys, *apart)
    np.savez(tmp_path / "q.npz", feat=values * (np.arange(24) != 3)[:, None], pid=person, cam=camera)
    assert "Row 3 of the features is 0" in fails(capsys, *apart, "--metric", "cosine")
    assert "give FILE" in fails(capsys)


@pytest.mark.parametrize("protocol", ["market", "no_cameras", "single_gallery_shot"])
def test_protocols_are_handed_on_and_named(protocol, file, tmp_path, capsys):
    tables = {name: table.assign(image_path=[f"{name}{i}" for i in table.index]) for name, table in TABLES.items()}
    paths = {f"{name}_path": tables[name]["image_path"].to_numpy(str) for name in ("query", "gallery")}
    scipy.io.savemat(tmp_path / "paths.mat", paths)
    found = say(capsys, file, str(tmp_path / "paths.mat"), "--protocol", protocol)
    expected = evaluation.evaluate(distances()[()], tables["query"], tables["gallery"], protocol=protocol)
    assert found["protocol"] == expected.protocol == protocol
    assert found["scores"]["mAP"]["value"] == pytest.approx(100 * expected.mAP)
    assert found["scores"]["rank5"]["value"] == pytest.approx(100 * expected.cmc[4])


def test_without_cameras_only_the_own_image_is_passed_over(tmp_path, capsys):
    found = {}
    for part, (values, person, _) in TOYS.items():
        found |= {
            f"{part}_f": values,
            f"{part}_pid": person,
            f"{part}_path": [f"{part}{i}" for i in range(len(person))],
        }
    np.savez(tmp_path / "x.npz", **found)
    assert say(capsys, str(tmp_path / "x.npz"))["protocol"] == "no_cameras"


def matrix_file(tmp_path, matrix, query="query", gallery="gallery", **more):
    ids = {f"{name}_{word}": TABLES[part][column] for name, part in (("query", query), ("gallery", gallery))
           for word, column in (("pid", "person_id"), ("cam", "camera_id"))}  # fmt: skip
    np.savez(tmp_path / "matrix.npz", distmat=matrix, **ids, **more)
    return str(tmp_path / "matrix.npz")


def test_a_matrix_is_scored_once_it_is_known_to_be_a_distance_or_a_similarity(file, tmp_path, capsys):
    distance, expected = distances()[()], say(capsys, file)["scores"]
    path = matrix_file(tmp_path, distance)
    assert "--distance or --similarity" in fails(capsys, path)
    assert say(capsys, path, "--distance")["scores"] == expected
    assert "--metric and --rerank need features" in fails(capsys, path, "--distance", "--rerank")
    assert say(capsys, matrix_file(tmp_path, -distance), "--similarity")["scores"] == expected


def test_the_diagonal_tells_a_similarity_from_a_distance(tmp_path, capsys):
    values = TOYS["gallery"][0]
    distance = squared_euclidean(values, values)
    files = (matrix_file(tmp_path, matrix, "gallery", "gallery") for matrix in (distance, -distance))
    scores = [say(capsys, path)["scores"] for path in files]
    expected = evaluation.evaluate(distance, TABLES["gallery"], TABLES["gallery"])
    assert scores[0] == scores[1] and scores[0]["mAP"]["value"] == pytest.approx(100 * expected.mAP)
    path = matrix_file(tmp_path, -distance, "gallery", "gallery")
    assert "it looks like a similarity" in fails(capsys, path, "--distance")
    assert "--distance or" in fails(capsys, matrix_file(tmp_path, 0 * distance, "gallery", "gallery"))


def test_images_on_both_sides_tell_by_their_paths(tmp_path, capsys):
    values = TOYS["gallery"][0]
    distance = squared_euclidean(TOYS["query"][0], values)
    distance[2] = squared_euclidean(values[40:41], values)
    names = {"query_path": [f"q{i}" for i in range(24)], "gallery_path": [f"g{i}" for i in range(60)]}
    names["query_path"][2] = "g40"
    found = [say(capsys, matrix_file(tmp_path, matrix, **names))["scores"] for matrix in (distance, -distance)]
    assert found[0] == found[1] and found[0] == say(capsys, matrix_file(tmp_path, distance), "--distance")["scores"]


def test_a_query_without_a_match_counts_zero_and_not_in_mINP(tmp_path, capsys):
    ids = {"query_pid": [1, 2], "query_cam": [1, 1], "gallery_pid": [1, 3], "gallery_cam": [2, 2]}
    np.savez(tmp_path / "m.npz", dist=np.eye(2, dtype=np.float32), **ids)
    found = say(capsys, str(tmp_path / "m.npz"), "--distance")
    assert found["queries_without_match"] == 1
    assert found["scores"]["mAP"]["value"] == pytest.approx(12.5) and found["scores"]["mINP"]["value"] == 50


def ours(tmp_path, name="f", parts=("query", "gallery"), **changed):
    """A feature file of ours with these parts of the toy."""
    tables = [TABLES[part].assign(dataset="toy", subset=part, image_path=f"/data/{part}") for part in parts]
    table = pd.concat(tables, ignore_index=True).assign(image_path=lambda x: x.image_path + x.index.astype(str))
    meta = {"model": "hcn", "run": "hcn-seed0", "output": "r5", "weights_digest": "abc", "data_source": "embedded"}
    made = features.Features(
        np.concatenate([TOYS[part][0] for part in parts]), table, meta | {"seconds": 1.0} | changed
    )
    return str(features.save(made, tmp_path / f"{name}.safetensors", "/data"))


def test_a_feature_file_of_ours_says_what_made_it(file, tmp_path, capsys):
    found = say(capsys, ours(tmp_path))
    assert found["features"] == {
        "model": "hcn", "run": "hcn-seed0", "output": "r5", "weights_digest": "abc", "data_source": "embedded"
    }  # fmt: skip
    assert found["scores"] == say(capsys, file)["scores"] and say(capsys, file)["features"] == {}
    assert cli.main(["evaluate", ours(tmp_path)]) == 0
    assert "features: model hcn, run hcn-seed0, output r5, weights_digest abc, data_source embedded" in (
        capsys.readouterr().out
    )


def test_parts_by_other_weights_are_not_compared(tmp_path, capsys):
    query = ours(tmp_path, "q", ["query"])
    both = ["--query", query, "--gallery", ours(tmp_path, "g", ["gallery"], run="again")]
    assert say(capsys, *both)["features"] == {
        "model": "hcn", "output": "r5", "weights_digest": "abc", "data_source": "embedded"
    }  # fmt: skip
    np.savez(tmp_path / "g.npz", feat=TOYS["gallery"][0], pid=TOYS["gallery"][1], cam=TOYS["gallery"][2])
    assert say(capsys, *both[:3], str(tmp_path / "g.npz"))["features"] == {}  # not of both is anything known
    for name, value in (("weights_digest", "def"), ("output", "c1")):
        apart = ["--query", query, "--gallery", ours(tmp_path, "g", ["gallery"], **{name: value})]
        assert f"differ in {name} (" in fails(capsys, *apart)


def test_a_distance_of_float64_is_not_rounded(tmp_path, capsys):
    distance = distances()[()].astype(float)
    expected = say(capsys, matrix_file(tmp_path, distance), "--distance")["scores"]
    assert say(capsys, matrix_file(tmp_path, 1e9 + distance), "--distance")["scores"] == expected
    path = matrix_file(tmp_path, np.where(distance == distance.min(), np.nan, distance))
    assert "of the distance of" in (said := fails(capsys, path, "--distance")) and "NaN" in said


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path, file: path.write_bytes(file[: len(file) // 2]), "x.mat cannot be read, at field"),
        (lambda path, file: path.write_bytes(b""), "x.mat cannot be read, at field"),
        (lambda path, file: torch.save({"query_f": torch.ones(2, 2), "options": Harm()}, path.with_suffix(".pt")),
         "Unsupported global: GLOBAL test_evaluate.Harm was not an allowed global by default; a whole file of plain"),
        (lambda path, file: path.with_suffix(".pt").write_bytes(pickle.dumps({}, 4)), "x.pt cannot be read"),
        (lambda path, file: np.savez(path.with_suffix(".npz"), query_f=[Harm()]), "allow_pickle=False; a whole"),
    ],
    ids=["cut short", "empty", "objects", "a pickle", "pickles"],
)  # fmt: skip
def test_files_that_cannot_be_trusted_or_read_are_named_with_the_remedy(make, message, file, tmp_path, capsys):
    path = tmp_path / "x.mat"
    make(path, (tmp_path / "pytorch_result.mat").read_bytes())
    (found,) = tmp_path.glob("x.*")
    said = fails(capsys, str(found))
    assert message in said and "of plain numbers and text is needed" in said and "add_safe_globals" not in said


def test_more_neighbours_than_images_are_all_of_them(tmp_path, capsys):
    small = {f"{part}_{word}": x[:3] for part in ("query", "gallery")
             for word, x in zip(("f", "pid", "cam"), TOYS[part], strict=True)}  # fmt: skip
    np.savez(tmp_path / "x.npz", **small | {"gallery_cam": [2, 2, 2]})
    expected = Matching().reranked(small["query_f"], small["gallery_f"])
    tables = (pd.DataFrame({"person_id": small[f"{part}_pid"], "camera_id": camera})
              for part, camera in (("query", 1), ("gallery", 2)))  # fmt: skip
    found = say(capsys, str(tmp_path / "x.npz"), "--rerank")["scores"]["mAP"]["value"]
    assert found == pytest.approx(100 * evaluation.evaluate(expected, *tables).mAP)
