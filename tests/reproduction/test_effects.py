"""The effects of official data: told from the tables' people, with whether each is there."""

import pandas as pd
import synthetic_results

from reproduction import paper
from reproduction.claims import effects


def shifted(folder, stem, points, **where):
    """Every test person's sums of one method moved by so many points."""
    path = folder / f"{stem}.csv"
    table = pd.read_csv(path)
    chosen = pd.Series(True, table.index)
    for column, value in where.items():
        chosen &= table[column] == value
    for score in ("rank1", "mAP"):
        table.loc[chosen, score] += points / 100 * table.loc[chosen, "queries"]
    table.to_csv(path, index=False)


def with_lomo(folder):
    """LOMO+XQDA beside the networks, with the baseline's people of its first seed."""
    path = folder / "table2_people.csv"
    table = pd.read_csv(path)
    of_baseline = (table["model"] == "baseline") & (table["metric"] == "euclidean") & ~table["reranked"]
    lomo = table[of_baseline & (table["seed"] == 0)].assign(model="literature", method="LOMO+XQDA", metric="xqda")
    pd.concat([table, lomo]).to_csv(path, index=False)
    return folder


def test_each_effect_is_a_difference_of_the_baseline_and_is_told(tmp_path):
    folder = with_lomo(synthetic_results.make(tmp_path / "smoke", seeds=(0, 1, 2)))
    found = effects.effects(folder)
    assert len(found) == 2 * 3 + 1 and not any("HCN" in str(part) for part in found)
    for points, word in ((90, "there"), (-90, "not there")):
        other = with_lomo(synthetic_results.make(tmp_path / word, seeds=(0, 1, 2)))
        moved = {"set": paper.CUHK03_LABELED, "model": "baseline", "metric": "xqda", "reranked": False}
        shifted(other, "table2_people", points, **moved)
        lines = [line for line in effects.told(other) if "CUHK03 labeled: XQDA" in line]
        assert [line.split("  ")[1].strip() for line in lines] == [word, word], lines


def test_a_set_that_is_not_there_has_no_effects(tmp_path):
    folder = synthetic_results.make(tmp_path / "smoke", seeds=(0, 1))
    table = pd.read_csv(folder / "table2_people.csv")
    table[table["set"] != paper.CUHK03_LABELED].to_csv(folder / "table2_people.csv", index=False)
    assert not any("labeled" in str(part) for part in effects.effects(folder))
