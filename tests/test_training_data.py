"""From a configuration to pairs: what is refused, what labels become, and that no query is on both sides of a split."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.errors import ConfigError
from engine.product import Product
from engine.search import SearchEngine
from tests.conftest import synthetic_products
from tests.training_sets import settings, write_set
from training.data.examples import ExamplesError, read_clicks, read_examples, read_queries
from training.data.negatives import Pool, Pools
from training.data.pairs import LONGEST_GROUP, Ids, Pairs, ndcg_by_query
from training.data.prepare import Data, prepare, read_groups
from training.data.settings import ExamplesSource, JudgedSource, NegativeSettings, QueriesSource
from training.data.sources import Catalogs, Group, Loaded, read_source
from training.data.types import CatalogSource
from training.metrics import platt
from training.tasks import config_of
from training.tasks.reranker import RerankerConfig
from training.tasks.rewriter import RewriterConfig

QUERIES = '{ kind = "queries", path = "q.tsv", catalogs = ["c.jsonl"] }'


def _silent(*_: object, **__: object) -> None:
    pass


def _read(source: Any) -> Loaded:
    return read_source(source, Catalogs(), Path("nowhere"), 0, _silent)


def _prepare(config: RerankerConfig, directory: Path) -> Data:
    return prepare(config, directory, _silent)


# ------------------------------------------------------------------------------------------------------- configuration


def test_a_configuration_round_trips_through_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = sorted((Path(__file__).parent.parent / "training" / "recipes").glob("*.toml"))
    others = {"curate", "listwise-prompts"}  # which train nothing
    shipped = [path for path in recipes if path.stem not in others]
    assert shipped
    monkeypatch.setenv("AISLE_DATA", "/some/where")
    for path in shipped:
        kinds = {"types": "types", "diwali": "encoder", "rewriter": "rewriter", "listwise": "listwise"}
        kinds["one-pass"] = "one-pass"
        kind = config_of(next((task for part, task in kinds.items() if part in path.name), "reranker"))
        config: Any = kind.read(path)
        config.write(tmp_path / path.name)
        again = kind.read(tmp_path / path.name)
        assert again == config
        assert config.differences(again) == []
        if isinstance(config, RewriterConfig):
            assert [Path(source.path).parent for source in config.source] == [Path("rewrites")]
            continue
        assert isinstance(config.source[0], JudgedSource | CatalogSource)
        assert config.source[0].catalog.startswith(("/some/where/", "engine/sample/"))
        if isinstance(config, RerankerConfig):
            assert config.with_loss("mse+listnet").differences(config) == ["training.loss"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 3", r"bad\.toml: Expected `str`, got `int` - at `\$\.name`"),
        ('name = "a/b"\nsource = []', r"name is 'a/b'"),
        ('name = "a"\nsource = []', r"source is empty"),
        ('name = "a"\nsource = [{ kind = "rumours" }]', r"Invalid value 'rumours' - at `\$\.source\[0\]\.kind`"),
        ('name = "a"\nseeds = 1\nsource = []', "unknown field `seeds`"),
        ('name = "${NO_SUCH}"', r"NO_SUCH is not set; export NO_SUCH=… - at `\$\.name`"),
        ('name = "a"\nsource = []\n[training]\nloss = "hinge"', r"loss is 'hinge'.* - at `\$\.training`"),
        ('name = "a"\nsource = []\n[training]\nepochs = 0', r"epochs is 0; it must be 1 or more"),
        ('name = "a"\nsource = []\n[training]\nlearning_rate = 4.0', r"learning_rate 4\.0; both must be under 1"),
        ('name = "a"\nsource = []\n[model]\nlayers = [3, 1]', r"layers is \[3, 1\]; it must rise"),
        ('name = "a"\nsource = []\n[dev]\nshare = 0.6\ntest_share = 0.4', r"both under 1"),
        ('name = "a"\nsource = []\n[teacher]\nweight = 2.0', r"weight is 2\.0"),
        ('name = "a"\nsource = []\n[teacher]\njudged_weight = -1.0', r"judged_weight -1\.0"),
        ('name = "a"\nsource = []\n[teacher]\npath = "b"\nencoders = ["c"]', r"name one or the other"),
        (
            f'name = "a"\nsource = [{QUERIES}]',
            r"'queries', q\.tsv, has no labels but a teacher's, and there is none; name .* teacher\.path",
        ),
        (f'name = "a"\nsource = [{QUERIES}]\n[teacher]\npath = "b"', r"none can be held out; give \[\[dev\.sets\]\]"),
        (
            'name = "a"\nsource = [{ kind = "queries", path = "q", catalogs = [] }]',
            "catalogs is empty; name at least one",
        ),
        ("name = ", "bad.toml: "),
    ],
)
def test_a_setting_that_cannot_work_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        RerankerConfig.read(tmp_path / "bad.toml")


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.toml"):
        RerankerConfig.read(tmp_path / "none.toml")


# ------------------------------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("q0 0 P9999 3", r"qrels\.txt, line 241, field 'product_id': 'P9999' is not in .*corpus\.jsonl"),
        ("q99 0 P0001 3", r"line 241, field 'query_id': 'q99' has no query"),
        ("q0 0 P0001", "line 241: 'q0 0 P0001' is not 'query_id 0 product_id grade'"),
        ("q0 0 P0001 7", "field 'grade': 7 has no label; the configuration's labels have 3, 1, 0"),
    ],
)
def test_a_judgment_that_cannot_be_used_is_named(row: str, said: str, tmp_path: Path) -> None:
    data = write_set(tmp_path)
    text = (data / "qrels.txt").read_text().replace("q0 0 P0001 ", "q1 0 P0001 ")
    (data / "qrels.txt").write_text(text + row + "\n")
    with pytest.raises(ExamplesError, match=said):
        _read(settings(tmp_path, data).source[0])


def test_a_pair_judged_again_gets_the_mean(tmp_path: Path) -> None:
    data = write_set(tmp_path)
    source = settings(tmp_path, data).source[0]
    first = _read(source).groups[0]
    with (data / "qrels.txt").open("a") as file:
        file.write(f"q0 0 {first.products[0].product_id} 3\n")
    again = _read(source).groups[0]
    assert again.labels == ((first.labels[0] + 1) / 2, *first.labels[1:])


def test_grades_that_are_no_labels_need_a_map(tmp_path: Path) -> None:
    data = write_set(tmp_path)
    source = JudgedSource(
        catalog=str(data / "corpus.jsonl"), queries=str(data / "queries.tsv"), qrels=str(data / "qrels.txt")
    )
    with pytest.raises(ExamplesError, match=r"is no label from 0 to 1; map grades to labels in the configuration"):
        _read(source)


def test_rows_of_examples_may_be_flat_and_filtered(tmp_path: Path) -> None:
    rows = [
        {"query": "red shoe", "locale": "us", "label": "E", "product_id": "a", "title": "Shoe", "color": "Red"},
        {"query": "red shoe", "locale": "us", "label": "I", "product_id": "b", "title": "Hat", "brand": None},
        {"query": "zapato", "locale": "es", "label": "S", "product_id": "c", "title": "Zapato"},
        {"query": "kutsu", "locale": "jp", "label": "?", "product_id": "d", "title": "Kutsu"},
    ]
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    source = ExamplesSource(
        path=str(path), labels={"E": 1.0, "S": 0.4, "I": 0.0}, where={"locale": ["us", "es"]}, repeat=2
    )
    loaded = _read(source)
    assert [(group.query, group.labels, group.repeat) for group in loaded.groups] == [
        ("red shoe", (1.0, 0.0), 2), ("zapato", (0.4,), 2),
    ]  # fmt: skip
    assert loaded.groups[0].products[0].attributes == {"color": "Red"}
    assert loaded.products.keys() == {"a", "b", "c"}
    with pytest.raises(ExamplesError, match=r"line 4, field 'label': is '\?'; .* or one of E, S, I"):
        _read(ExamplesSource(path=str(path), labels=source.labels))
    with pytest.raises(ExamplesError, match="no examples where"):
        _read(ExamplesSource(path=str(path), where={"locale": ["de"]}))


def test_queries_alone_are_read_from_either_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_text("'red shoe'\tus\nzapato\tes\nkutsu\tjp\nzapato\tes\nhat\n")
    assert read_queries(str(path), {}) == {"'red shoe'": 1, "zapato": 2, "kutsu": 3, "hat": 5}
    assert read_queries(str(path), {"locale": ["us", "es"]}) == {"'red shoe'": 1, "zapato": 2}
    path.write_text("id\tquery\tlocale\n1\tred shoe\tus\n2\tzapato\tes\n")
    assert read_queries(str(path), {"locale": ["es"]}) == {"zapato": 3}
    examples = tmp_path / "rows.jsonl"
    examples.write_text("\n".join(json.dumps({"query": q, "label": "E", "new": q == "b"}) for q in "aab"))
    assert read_queries(str(examples), {}) == {"a": 1, "b": 3}
    assert read_queries(str(examples), {"new": [True]}) == {"b": 3}
    for text, said in (
        ("tv\tus\tx\n", "line 1: it has 3 columns, more than query, locale; give a head"),
        ("locale\tquery\nus\t\n", "line 2, field 'query': is missing"),
        ("tv\tus\n", r"no queries where \{'locale': \['de'\]\}"),
    ):
        path.write_text(text)
        with pytest.raises(ExamplesError, match=said):
            read_queries(str(path), {"locale": ["de"]})


def _clicks(path: Path, text: str) -> list[tuple[str, dict[str, float]]]:
    path.write_text(text)
    return [(query, labels) for _, query, labels in read_clicks(str(path), {"a", "b"}, "catalog.csv")]


def test_counts_become_labels_as_documented(tmp_path: Path) -> None:
    log = tmp_path / "log.tsv"
    found = _clicks(log, "query\tproduct_id\tclicks\ntv\ta\t3\ntv\tb\t1\ntv\ta\t1\nfan\tb\t1\n")
    assert found == [("tv", {"a": 0.8, "b": 0.2}), ("fan", {"b": 0.5})]
    found = _clicks(log, "query\tproduct_id\tclicks\timpressions\ntv\ta\t4\t10\ntv\tb\t0\t10\n")
    # The mean rate is 4 / 20, so the smoothed rates are 6 / 20 and 2 / 20.
    assert found[0][1] == pytest.approx({"a": 1.0, "b": 1 / 3})
    assert _clicks(log, "query\tproduct_id\tlabel\ntv\ta\t0\ntv\tb\t0.7\n") == [("tv", {"a": 0.0, "b": 0.7})]
    rows = [{"query": "tv", "product_id": "a", "clicks": 1}, {"query": "tv", "product_id": "b", "clicks": 0}]
    assert _clicks(tmp_path / "log.jsonl", "\n".join(map(json.dumps, rows))) == [("tv", {"a": 0.5, "b": 0.0})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tv\tc\t1", r"line 2, field 'product_id': 'c' is not in catalog\.csv"),
        ("\ta\t1", "line 2, field 'query': is missing"),
        ("tv\ta\t-1", "line 2, field 'clicks': is '-1'; it must be a number from 0"),
        ("tv\ta\tnan", "field 'clicks': is 'nan'"),
        ("tv\ta", "line 2: it has 2 columns, the head 3"),
        ("tv\ta\t", "it has no count; give label, or clicks"),
        ("", "it has no rows"),
    ],
)
def test_a_click_that_cannot_be_used_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match=said):
        _clicks(tmp_path / "log.tsv", "query\tproduct_id\tclicks\n" + text)


def test_other_logs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    log = tmp_path / "log.tsv"
    for text, said in (
        ("query\tsku\n", "line 1: the head is"),
        ("query\tproduct_id\tlabel\ntv\ta\t1.5\n", "field 'label': is '1.5'; it must be a number from 0 to 1"),
        ("query\tproduct_id\tlabel\ntv\ta\t0\ntv\ta\t1\n", "line 3, field 'label': 'a' already has a label"),
        ("query\tproduct_id\tclicks\timpressions\ntv\ta\t3\t2\n", "field 'clicks': is 3, more than the 2 impressions"),
    ):
        with pytest.raises(ExamplesError, match=said):
            _clicks(log, text)
    with pytest.raises(ExamplesError, match="line 1: not a JSON object"):
        _clicks(tmp_path / "log.jsonl", "[1]")


# ----------------------------------------------------------------------------------------------------------- preparing


def test_splits_are_by_stems_and_whole(tmp_path: Path) -> None:
    """Two spellings of a query stay together, and every query is in one split."""
    data = write_set(tmp_path / "set")
    log = tmp_path / "log.tsv"
    rows = [f"{query} {n}\tP{n:04d}\t{n % 3}" for n in range(40) for query in ("red phone", "phones red")]
    log.write_text("\n".join(["query\tproduct_id\tclicks", *rows]))
    source = {"kind": "clicks", "catalog": str(data / "corpus.jsonl"), "path": str(log)}
    config = settings(tmp_path, data, source=[source], dev={"share": 0.2, "test_share": 0.1})
    made = _prepare(config, tmp_path / "data")
    assert made.splits == {"train": (56, 56), "dev.held-out": (16, 16), "test": (8, 8)}
    numbers = [{group.query.split()[-1] for group in read_groups(tmp_path / "data", split)} for split in made.splits]
    assert [len(split) for split in numbers] == [28, 8, 4]
    assert not numbers[0] & numbers[1] | numbers[1] & numbers[2] | numbers[0] & numbers[2]
    before = (tmp_path / "data" / "data.json").stat().st_mtime_ns
    assert _prepare(config, tmp_path / "data") == made
    assert (tmp_path / "data" / "data.json").stat().st_mtime_ns == before


def test_one_class_is_refused_unless_negatives_are_mined(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    log = tmp_path / "log.tsv"
    log.write_text("\n".join(["query\tproduct_id\tlabel", *(f"acme phone {n}\tP{n:04d}\t1" for n in range(0, 40, 4))]))
    source = {"kind": "clicks", "catalog": str(data / "corpus.jsonl"), "path": str(log)}
    with pytest.raises(
        ExamplesError, match=r"log\.tsv, field 'label': one class only: every label is 1, as .* 'P0000'"
    ):
        _prepare(settings(tmp_path, data, source=[source]), tmp_path / "data")
    config = settings(tmp_path, data, source=[source], negatives={"mine": True, "hard": 2, "random": 1})
    made = _prepare(config, tmp_path / "data")
    assert made.sources[0].mined == 30
    group = read_groups(tmp_path / "data", "train")[0]
    assert group.labels == (1, None, None, None)
    assert [e.label for e in read_examples(tmp_path / "data" / "train.jsonl.gz")[:4]] == [1, 0, 0, 0]
    again = _read(ExamplesSource(path=str(tmp_path / "data" / "train.jsonl.gz"))).groups[0]
    assert (again.labels, again.gains) == (group.labels, group.gains)


def test_queries_of_a_dev_set_are_dropped(tmp_path: Path) -> None:
    train, dev = write_set(tmp_path / "train", first=100), write_set(tmp_path / "dev", first=180)
    dev_set = {
        "name": "phones", "catalog": str(dev / "corpus.jsonl"), "queries": str(dev / "queries.tsv"),
        "qrels": str(dev / "qrels.txt"), "labels": {"3": 1.0, "1": 0.3, "0": 0.0}, "gains": {"3": 100, "1": 1, "0": 0},
    }  # fmt: skip
    made = _prepare(settings(tmp_path, train, dev={"sets": [dev_set]}), tmp_path / "data")
    assert made.splits["train"][0] == 20  # the last four of 24 are dev's first
    assert made.sources[0].dropped == 4
    assert set(read_groups(tmp_path / "data", "dev.phones")[0].gains) <= {0.0, 1.0, 100.0}


def test_negatives_are_found_not_judged_and_not_what_the_query_says(small: SearchEngine) -> None:
    products = {product.product_id: product for product in synthetic_products()}
    pool, wanted = Pool(small, products), NegativeSettings(mine=True, depth=30, hard=4, random=2)
    judged = [products["P0000"]]
    drawn = pool.negatives("globex phone", judged, wanted, "seed")
    found = [product for product, label in drawn if label is None]
    assert len(drawn) == len(found) == len({product.product_id for product in found}) == 6
    assert judged[0] not in found
    for product in found:
        assert not ("Globex" in product.title and "Phone" in product.title), product.title
    assert drawn == pool.negatives("globex phone", judged, wanted, "seed")
    assert drawn != pool.negatives("globex phone", judged, wanted, "another seed")


def test_candidates_are_the_best_some_of_the_middle_and_some_from_deep_down(small: SearchEngine) -> None:
    pool = Pool(small, {product.product_id: product for product in synthetic_products()})
    source = QueriesSource(path="", catalogs=("c",), best=3, middle=2, deep=4, depth=50)
    ranked = [hit.product.product_id for hit in small.search("globex phone", 50).hits]
    found = pool.spread("globex phone", source, "seed")
    assert {label for _, label in found} == {None}
    ranks = [ranked.index(product.product_id) for product, _ in found]
    assert ranks[:3] == [0, 1, 2]
    assert all(3 <= rank < 10 for rank in ranks[3:5])
    assert all(10 <= rank < 50 for rank in ranks[5:])
    assert len(set(ranks)) == 9
    assert found == pool.spread("globex phone", source, "seed")
    assert found != pool.spread("globex phone", source, "another seed")


def test_the_searchs_own_scores_are_labels_and_what_it_did_not_find_is_0(small: SearchEngine) -> None:
    pool = Pool(small, {product.product_id: product for product in synthetic_products()})
    source = QueriesSource(path="", catalogs=("c",), best=3, middle=0, deep=3, random=20, depth=40, labels="search")
    scores = {hit.product.product_id: hit.score for hit in small.search("globex phone", 40).hits}
    best = max(scores.values())
    drawn = pool.spread("globex phone", source, "seed")
    assert len({product.product_id for product, _ in drawn}) == len(drawn) > 6
    for product, label in drawn:
        assert label == pytest.approx(scores.get(product.product_id, 0.0) / best)
    assert drawn[0][1] == 1.0
    assert [label for _, label in drawn[6:]] == [0.0] * len(drawn[6:])
    assert pool.spread("?!", source, "seed") == []


def test_what_a_query_rules_out_has_the_label_0_and_no_less(small: SearchEngine) -> None:
    pool = Pool(small, {product.product_id: product for product in synthetic_products()})
    source = QueriesSource(path="", catalogs=("c",), best=3, middle=30, deep=30, depth=40, labels="search")
    query = "globex phone under 150"  # dearer ones fall behind all others, with scores below 0
    assert min(hit.score for hit in small.search(query, 40).hits) < 0
    labels = [label for _, label in pool.spread(query, source, "seed")]
    assert min(labels) == 0
    assert max(labels) == 1


def test_sources_draw_from_the_same_catalogs_by_one_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bare queries and negatives of pairs whose own products are few; what is drawn is unjudged."""
    data, built = write_set(tmp_path / "set"), []
    over = Pools.over
    monkeypatch.setattr(
        Pools, "over", lambda pools, products, *by: built.append(len(products)) or over(pools, products, *by)
    )
    catalog, other = data / "corpus.jsonl", tmp_path / "other.jsonl"
    lines = catalog.read_text().splitlines()
    catalog.write_text("\n".join(lines[:80]))
    other.write_text("\n".join(lines[60:]))
    rows = [{"query": "acme phone", "label": n % 2, "product_id": str(n), "title": "x"} for n in range(4)]
    rows += [row | {"query": "acme case"} for row in rows]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "queries.tsv").write_text("globex phone\tus\nphones acme\tus\n?!\tus\nteléfono\tes\n")
    sources = [
        {"kind": "examples", "path": str(tmp_path / "pairs.jsonl")},
        {"kind": "queries", "path": str(tmp_path / "queries.tsv"), "catalogs": [str(other), str(catalog)],
         "where": {"locale": ["us"]}},
    ]  # fmt: skip
    config = settings(
        tmp_path, data, source=sources, teacher={"path": "teacher"}, dev={"share": 0.5},
        negatives={"mine": True, "catalogs": [str(catalog), str(other)], "hard": 2, "random": 0},
    )  # fmt: skip
    made = _prepare(config, tmp_path / "data")
    assert built == [len(lines)]
    assert {Path(path).name for path in made.sha256} == {"pairs.jsonl", "queries.tsv", "corpus.jsonl", "other.jsonl"}
    assert [(source.queries, source.pairs, source.mined, source.dropped) for source in made.sources] == [
        (2, 12, 4, 0), (2, 24, 24, 0),
    ]  # fmt: skip
    groups = {group.query: group for split in made.splits for group in read_groups(tmp_path / "data", split)}
    assert groups["acme phone"].labels == (0, 1, 0, 1, None, None)
    assert groups["globex phone"].labels == (None,) * 12
    # What is held out has labels, and nothing that is trained on has its stems.
    (held_out,) = read_groups(tmp_path / "data", "dev.held-out")
    trained = {"acme phone", "phones acme", "globex phone", "acme case"} - {held_out.query}
    trained -= {"phones acme"} if held_out.query == "acme phone" else set()
    assert {group.query for group in read_groups(tmp_path / "data", "train")} == trained


# ------------------------------------------------------------------------------------------------- pairs, calibration


def _pairs(sizes: Sequence[int], repeat: int = 1) -> Pairs:
    def encode(texts: list[str], n_tokens: int, kind: str) -> list[Ids]:
        return [np.arange(len(text.split()), dtype=np.int32)[:n_tokens] for text in texts]

    products = [Product(product_id=str(n), title=f"{'word ' * (n % 9)}{n}") for n in range(sum(sizes))]
    groups = []
    for number, size in enumerate(sizes):
        own, products = tuple(products[:size]), products[size:]
        labels = tuple(n / size for n in range(size))
        groups.append(Group(str(number), f"query {number}", own, labels, labels, repeat))
    return Pairs.of(groups, encode, 4, 6)


def test_an_epoch_has_every_pair_once_a_repeat_in_groups_that_fit() -> None:
    pairs = _pairs([1, 30, 7, 12, 13] * 20, repeat=2)
    batches = pairs.batches(64, "0:0")
    seen: dict[tuple[int, int], int] = {}
    for batch in batches:
        assert all(0 < len(part) <= LONGEST_GROUP for _, part in batch)
        for group, part in batch:
            for place in part.tolist():
                seen[group, place] = seen.get((group, place), 0) + 1
    assert set(seen.values()) == {2}
    assert len(seen) == pairs.n_pairs
    assert max(sum(len(part) for _, part in batch) for batch in batches) < 64 + LONGEST_GROUP
    again = pairs.batches(64, "0:0")
    assert [[group for group, _ in batch] for batch in again] == [[group for group, _ in batch] for batch in batches]
    other = pairs.batches(64, "0:1")
    assert [[group for group, _ in batch] for batch in other] != [[group for group, _ in batch] for batch in batches]


def test_a_scorer_that_says_the_same_of_everything_gains_nothing_by_the_files_order() -> None:
    pairs = _pairs([20])
    constant = ndcg_by_query(pairs, np.zeros(20, np.float32))["0"]
    worst = ndcg_by_query(pairs, -pairs.all_labels)["0"]
    assert constant == worst
    assert ndcg_by_query(pairs, pairs.all_labels)["0"] == 1


def test_platt_finds_the_scale_and_offset_that_labels_were_drawn_with() -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 3, 20_000).astype(np.float32)
    labels = (draw.random(20_000) < 1 / (1 + np.exp(-(0.6 * logits - 1)))).astype(np.float32)
    assert platt([logits], [labels]) == pytest.approx((0.6, -1.0), abs=0.05)
    soft = (1 / (1 + np.exp(-(0.6 * logits - 1)))).astype(np.float32)
    assert platt([logits], [soft]) == pytest.approx((0.6, -1.0), abs=0.01)
    assert platt([-logits], [soft]) == pytest.approx((-0.6, -1.0), abs=0.01)  # worse than chance


def test_platt_hears_a_small_set_as_well_as_a_large_one() -> None:
    """Two sets that logits say different things about, one ten times the other: as were they of one size."""
    draw = np.random.default_rng(2)
    logits = [draw.normal(0, 3, size).astype(np.float32) for size in (20_000, 2_000)]
    labels = [
        (1 / (1 + np.exp(-(0.6 * x + offset)))).astype(np.float32) for x, offset in zip(logits, (-2, 2), strict=True)
    ]
    level = platt([logits[0], np.tile(logits[1], 10)], [labels[0], np.tile(labels[1], 10)])
    assert platt(logits, labels) == pytest.approx(level, abs=1e-3)
    assert abs(level[1]) < 0.1


@pytest.mark.parametrize(
    ("logits", "labels"), [([5.0] * 6, [1, 0, 0, 1, 0, 0]), ([-9, -8, 8, 9], [0, 0, 1, 1]), ([-9, 9], [0, 1])]
)
def test_platt_survives_what_says_little(logits: list[float], labels: list[float]) -> None:
    scale, offset = platt([np.array(logits, np.float32)], [np.array(labels, np.float32)])
    assert np.isfinite([scale, offset]).all()
    assert scale > 0 or len(set(logits)) == 1
