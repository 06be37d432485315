from pathlib import Path

import pytest

pytest.importorskip("rank_bm25")

from engine.errors import IndexCorruptError
from engine.lexical.rank_bm25 import RankBm25Backend
from tests.lexical_contract import WEIGHTS, LexicalBackendContract, synthetic_documents


class TestRankBm25(LexicalBackendContract):
    backend = RankBm25Backend


@pytest.mark.parametrize("line", ['{"title": ["x"]}', '{"title": ', '{"title": "x"}'])
def test_damage_is_an_index_error(tmp_path: Path, line: str):
    RankBm25Backend.build(tmp_path, iter(synthetic_documents(3)))
    with next(tmp_path.iterdir()).open("a") as file:
        file.write(line)
    with pytest.raises(IndexCorruptError, match=str(tmp_path)):
        RankBm25Backend.open(tmp_path)


def test_no_documents(tmp_path: Path):
    index = RankBm25Backend.build(tmp_path, iter([]))
    assert index.n_documents == 0
    assert len(index.search([("w0", 1.0)], WEIGHTS, 0.0, 5, None)) == 0
    assert index.document_frequency("title", "w0") == 0
