"""The paper's printed numbers are consistent with each other and with its text."""

from reproduction import paper
from reproduction.claims import CLAIMS


def printed(table, method, name):
    return next(row for row in paper.rows(table) if row.method == method).printed[name]


def test_table1_adds_up():
    for ids, train, test in paper.TABLE1.values():
        assert ids == train + (test or 0)
    assert paper.TABLE1["Combined"][1] == sum(paper.TABLE1[name][1] for name in ("Market-1501", "CUHK03", "CUHK01"))


def test_the_texts_gains_follow_from_table2():
    ours = printed(2, "Ours+XQDA+re-rank", paper.CUHK03_DETECTED)
    theirs = printed(2, "XQDA+re-rank [13]", paper.CUHK03_DETECTED)
    assert round(ours[0] - theirs[0], 1) == 9.0 and round(ours[1] - theirs[1], 1) == 7.9


def test_table4_totals():
    zhong = paper.TABLE4["Zhong [13]"]
    assert zhong["total"] == sum(zhong[name] for name in paper.SETS)
    assert round(100 * paper.TABLE4["Our"]["total"] / zhong["total"], 1) == 44.8


def test_every_claim_has_one_key_and_a_threshold():
    keys = [claim.key for claim in CLAIMS]
    assert len(keys) == len(set(keys))
    assert all(claim.threshold and claim.paper and claim.section for claim in CLAIMS)


def test_rows_of_a_table_have_distinct_names_and_cover_all_ways_of_matching():
    for table in (2, 3):
        rows = paper.rows(table)
        assert len({row.method for row in rows}) == len(rows)
        ways = {(row.model, row.metric, row.reranked) for row in rows if row.model}
        assert len(ways) == 12


def test_rows_of_the_literature_are_reranked_too_and_dns_has_the_figure_of_lomo_alone_beside_it():
    rows = {row.method: row for row in paper.rows(3)}
    assert printed(3, "DNS [20]", paper.MARKET1501) == (61.02, 35.68)
    alone = rows["DNS on LOMO [20]"]
    assert alone.printed[paper.MARKET1501] == (55.43, 29.87) and alone.source == "table of [20]"
    for name in ("DNS+re-rank [20]", "SCSP+re-rank [3]"):
        assert rows[name].reranked and not rows[name].printed and "Not in the paper" in rows[name].note
    released = [row for row in paper.rows(2) if row.method.startswith("LOMO as released+XQDA")]
    assert [row.reranked for row in released] == [False, True] and not any(row.printed for row in released)
