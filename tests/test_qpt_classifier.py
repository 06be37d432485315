"""The linear head answers, also with types that nobody has asked for; its probabilities are what they say."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError, IndexMismatchError, ModelError
from qpt.calibration import calibration_error, chance_error, fit_temperature
from qpt.classifier import QueryTypes, TypeClassifier
from qpt.conformal import in_set, nonconformity, threshold
from qpt.evidence import NAME_FEATURES, ItemEvidence, NameEvidence, QueryWords
from qpt.examples import LabelledQuery, from_catalog
from qpt.head_fit import TypedProducts, fit_head
from qpt.hierarchy import Hierarchy
from qpt.linear_head import LinearHead
from qpt.log_linear import fit_log_linear, log_shares
from qpt.taxonomy import Taxonomy, TypeNode, from_paths
from tests.conftest import HashedWordsEncoder, synthetic_products

ENCODER = HashedWordsEncoder()
PATHS = [
    ("Home", "Desk Lamps"), ("Home", "Floor Lamps"), ("Home", "Ceiling Fans"), ("Home", "Rugs & Carpets"),
    ("Garden", "Hoses"), ("Garden", "Lawn Mowers"), ("Garden", "Garden Benches"), ("Garden", "Parasols"),
]  # fmt: skip
WORDS = ["red", "blue", "cheap", "large", "small", "modern"]
MEANT = {"sunshade": "Garden > Parasols", "grass cutter": "Garden > Lawn Mowers"}  # words that no name has


def examples() -> list[LabelledQuery]:
    """Queries with the words of a type's name; of the last type but one there are none. Two words need learning."""
    told = [path for path in PATHS if path[1] != "Garden Benches"]
    out = [
        LabelledQuery(f"{word} {path[1].split(' & ')[0].lower().rstrip('s')}", " > ".join(path))
        for path in told for word in WORDS
    ]  # fmt: skip
    return out + [LabelledQuery(f"{word} {said}", type_id) for said, type_id in MEANT.items() for word in WORDS]


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return from_paths(PATHS)


@pytest.fixture(scope="module")
def head(taxonomy: Taxonomy) -> LinearHead:
    return fit_head(examples(), taxonomy, ENCODER)[0]


def test_a_type_is_none_that_has_what_the_query_wants_it_without() -> None:
    paths = [
        ("Sound", "Wired Earphones"),
        ("Sound", "True Wireless Earbuds"),
        ("Garden", "Hoses"),
        ("Garden", "Parasols"),
    ]
    asked = [LabelledQuery(f"{word} {path[1]}", " > ".join(path)) for path in paths for word in WORDS]
    head, _ = fit_head(asked, from_paths(paths), ENCODER)
    queries = ["earphones", "wireless earphones", "wired earbuds", "wireless wired earphones", "bless earphones"]
    likely = head.probabilities(queries, ENCODER.encode_queries(queries), [""] * len(queries))
    wired, wireless = (head.types.index(" > ".join(path)) for path in paths[:2])
    np.testing.assert_allclose(likely.sum(axis=1), 1.0, atol=1e-5)
    assert likely[[0, 3, 4], wired].min() > 0.5
    assert likely[1, wired] == 0 == likely[2, wireless]
    assert likely[1].argmax() == wireless


def best(head: TypeClassifier, query: str, locale: str = "") -> str:
    likely = head.probabilities([query], ENCODER.encode_queries([query]), [locale])
    assert likely.sum() == pytest.approx(1.0, abs=1e-5)
    return head.types[int(likely.argmax())]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("green desk lamp", "Home > Desk Lamps"),
        ("wooden garden bench", "Garden > Garden Benches"),
        ("carpet", "Home > Rugs & Carpets"),
        ("old sunshade", "Garden > Parasols"),
        ("big grass cutter", "Garden > Lawn Mowers"),
    ],
)
def test_names_labels_and_types_without_labels(head: LinearHead, query: str, expected: str) -> None:
    assert best(head, query) == expected


def test_a_head_is_read_back_as_it_was(head: LinearHead, tmp_path: Path) -> None:
    head.save(tmp_path)
    again = LinearHead.load(tmp_path)
    queries = ["red lamp", "x", "garden"]
    vectors = ENCODER.encode_queries(queries)
    given = [one.probabilities(queries, vectors, ["", "xx-YY", ""]) for one in (head, again)]
    np.testing.assert_array_equal(*given)
    assert again.taxonomy.fingerprint == head.taxonomy.fingerprint
    np.testing.assert_array_equal(again.conformal_scores, head.conformal_scores)


def test_a_query_does_not_depend_on_its_batch(head: LinearHead) -> None:
    queries = ["red desk lamp", "hose"]
    vectors = ENCODER.encode_queries(queries)
    both = head.probabilities(queries, vectors, ["", ""])
    alone = head.probabilities(queries[1:], vectors[1:], [""])
    np.testing.assert_allclose(both[1:], alone, atol=1e-6)


def test_fitting_twice_gives_the_same(head: LinearHead, taxonomy: Taxonomy) -> None:
    assert fit_head(examples(), taxonomy, ENCODER)[0].card == head.card


def test_shapes_that_do_not_fit_are_refused(head: LinearHead) -> None:
    with pytest.raises(ConfigError, match=r"1 queries, vectors of shape \(1, 3\) and 1 locales"):
        head.probabilities(["x"], np.zeros((1, 3), np.float32), [""])


def break_card(path: Path, **said: object) -> None:
    card = json.loads((path / "types.json").read_text())
    (path / "types.json").write_text(json.dumps({**card, **said}))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"format": 1}, "format 1"),
        ({"temperature": 0.0}, "not one this version reads"),
        ({"types": ["nowhere", "else"]}, "the taxonomy cannot be used"),
        ({"weights": {"name": 1.0}}, "names or weights"),
        ({"sha256": {}}, "does not match its checksum"),
        ({"dim": 32}, "must be float32"),
        ({"items": ["../x"]}, "not one this version reads"),
        ({"words": ["lamp", "lamp"]}, "word rows|words"),
        ({"nodes": [{"id": "a", "names": {}, "parent": "a"}]}, "lies below itself"),
        ({"locales": "en"}, "Expected `array`"),
    ],
)
def test_a_card_that_says_what_cannot_be_is_refused(
    head: LinearHead, tmp_path: Path, said: dict[str, object], reason: str
) -> None:
    head.save(tmp_path)
    break_card(tmp_path, **said)
    with pytest.raises(ModelError, match=reason):
        LinearHead.load(tmp_path)


def test_files_that_were_cut_or_swapped_are_refused(head: LinearHead, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        LinearHead.load(tmp_path / "none")
    head.save(tmp_path)
    arrays = tmp_path / "arrays.npz"
    whole = arrays.read_bytes()

    def replaced(data: bytes) -> None:
        arrays.write_bytes(data)
        break_card(tmp_path, sha256={"arrays.npz": hashlib.sha256(data).hexdigest()})

    arrays.write_bytes(whole[:-9])
    with pytest.raises(ModelError, match="does not match its checksum"):
        LinearHead.load(tmp_path)
    replaced(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="holds no arrays"):
        LinearHead.load(tmp_path)
    for written, reason in (
        ({"mapping": np.array([{}], object)}, "holds no arrays"),
        ({"mapping": np.zeros((2, 2), np.float32)}, "must be float32"),
        ({**dict(np.load(io.BytesIO(whole))), "queries rows": np.full(300, 9_999)}, "must be int64|outside"),
        ({**dict(np.load(io.BytesIO(whole))), "word columns": np.full(1, 9_999)}, "must be int64"),
        ({**dict(np.load(io.BytesIO(whole))), "mapping": np.full((64, 64), np.nan, np.float32)}, "no numbers"),
    ):
        buffer = io.BytesIO()
        np.savez(buffer, **written)
        replaced(buffer.getvalue())
        with pytest.raises(ModelError, match=reason):
            LinearHead.load(tmp_path)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, mapping=np.zeros(1 << 20))
    replaced(buffer.getvalue())
    with pytest.raises(ModelError, match="compressed"):
        LinearHead.load(tmp_path)


# -------------------------------------------------------------------------------------------------------- evidence


def test_a_prototype_is_the_direction_of_a_name_and_its_items() -> None:
    names = np.eye(3, dtype=np.float32)
    vectors = np.array([[0, 0, 1], [0, 1, 0], [0, 1, 0]], np.float32)
    rows, columns = np.array([0, 1, 2]), np.array([0, 0, 0])
    made = ItemEvidence.made(vectors, rows, columns, np.array([1, 1, 0.5], np.float32), names, 100)
    told = np.array([1.0, 1.5, 1.0]) / np.linalg.norm([1.0, 1.5, 1.0])
    np.testing.assert_allclose(made.prototypes, [told, [0, 1, 0], [0, 0, 1]], atol=1e-6)


def test_words_of_queries_are_counted_by_type() -> None:
    shares = np.array([[1, 0], [0.5, 0.5], [0, 1]], np.float32)
    words = QueryWords.made(["red lamps", "lamp lamp", "a rug"], shares)
    counted = {word: dict(zip(*(of.tolist() for of in words.of(word)), strict=True)) for word in words.words}
    assert counted == {"lamp": {0: 1.5, 1: 0.5}, "red": {0: 1.0}, "rug": {1: 1.0}}
    assert [len(of) for of in words.of("sofa")] == [0, 0]


@pytest.mark.parametrize(
    ("query", "shares"),
    [
        ("big lamps for a desk", [3 / 4, 1 / 4, 0]),  # two queries and two names, of which one type has both
        ("desk", [1, 0, 0]),
        ("round carpet", [0, 0, 1]),  # only in queries
        ("sofa", [0, 0, 0]),
    ],
)
def test_a_head_noun_speaks_for_the_types_whose_names_and_queries_have_it(query: str, shares: list[float]) -> None:
    paths = [("Desk Lamps",), ("Floor Lamps",), ("Rugs",)]
    words = QueryWords.made(["old lamp", "blue lamp", "carpet"], np.eye(3, dtype=np.float32)[[0, 0, 2]])
    out = np.zeros((len(NAME_FEATURES), 3), np.float32)
    vector = ENCODER.encode_queries([query])[0]
    NameEvidence.made(paths, ENCODER).write(query, vector, vector, words, out)
    np.testing.assert_allclose(out[NAME_FEATURES.index("head")], shares, atol=1e-6)


# --------------------------------------------------------------------------------------------------------- fitting


def test_a_catalog_alone_is_enough() -> None:
    products = synthetic_products(80)
    types = {product.product_id: " > ".join(product.category) for product in products}
    typed = TypedProducts(list(types), ENCODER.encode_products(products), list(types.values()))
    taxonomy = from_paths([product.category for product in products])
    made = from_catalog(products, types.get)
    head, crossed = fit_head(made, taxonomy, ENCODER, products=typed)
    assert head.card.calibrated_on == "made queries"
    assert head.card.learnt_from["products"] == 80
    assert not crossed.real.any()
    assert best(head, "globex fridge") == "Home > Refrigerators"
    assert best(head, "phone case") == "Accessories > Cases"


def test_made_queries_give_way_to_those_of_shoppers(taxonomy: Taxonomy) -> None:
    made = [replace(example, product_id=f"p{i}") for i, example in enumerate(examples())]
    head, _ = fit_head([*examples(), *made], taxonomy, ENCODER)
    assert head.card.learnt_from["made queries"] == 0
    assert head.card.calibrated_on == "queries"


def test_the_same_word_means_other_things_elsewhere() -> None:
    nodes = [TypeNode("1", {"": "Trousers", "en-US": "Pants"}), TypeNode("2", {"": "Underwear", "en-GB": "Pants"})]
    said = [
        LabelledQuery(f"{word} {query}", type_id, locale=locale)
        for word in WORDS
        for query, type_id, locale in (
            ("pants", "1", "en-US"), ("pants", "2", "en-GB"), ("jeans", "1", "en-US"), ("briefs", "2", "en-GB"),
        )
    ]  # fmt: skip
    head, _ = fit_head(said, Taxonomy(nodes), ENCODER)
    assert best(head, "black pants", "en-US") == "1"
    assert best(head, "black pants", "en-GB") == "2"
    assert best(head, "black jeans", "fr-FR") == "1"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([LabelledQuery("x", "nowhere")], "the type 'nowhere' of an example"),
        ([LabelledQuery("x", "Home > Desk Lamps")], "8 types and 1 examples"),
        ([LabelledQuery("x", "Home > Desk Lamps", weight=0.0)] * 20, "weight 0.0"),
    ],
)
def test_examples_that_cannot_be_learnt_from_are_refused(
    taxonomy: Taxonomy, said: list[LabelledQuery], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        fit_head(said, taxonomy, ENCODER)


def test_weights_are_those_that_made_the_choices() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3_000, 5, 2)).astype(np.float32)
    shares = np.exp(log_shares((features @ np.array([1.5, -0.5])).astype(np.float32)))
    chosen = np.array([rng.choice(5, p=row / row.sum()) for row in shares])
    weights = fit_log_linear(features, np.eye(5, dtype=np.float32)[chosen], np.ones(3_000), ridge=0.1)
    np.testing.assert_allclose(weights, [1.5, -0.5], atol=0.12)


# -------------------------------------------------------------------------------------- calibration, sets, hierarchy


def test_the_temperature_makes_confidence_true() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4_000, 6)).astype(np.float32)
    shares = np.exp(log_shares(logits))
    right = np.array([rng.choice(6, p=row / row.sum()) for row in shares])[:, None] == np.arange(6)
    assert fit_temperature(3 * logits, right, np.ones(4_000)) == pytest.approx(3.0, rel=0.1)


def test_calibration_error_by_hand() -> None:
    sure = np.array([0.9] * 10 + [0.6] * 10)
    hits = np.array([True] * 7 + [False] * 3 + [True] * 6 + [False] * 4)
    assert calibration_error(sure, hits, bins=2) == pytest.approx(0.1)
    assert 0 < chance_error(sure, bins=2) < 0.2


def test_sets_hold_a_right_type_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)
    shares = np.exp(log_shares(2 * rng.standard_normal((4_000, 20)).astype(np.float32)))
    right = np.array([rng.choice(20, p=row / row.sum()) for row in shares])[:, None] == np.arange(20)
    scores = nonconformity(shares[:2_000], right[:2_000])
    covered = (in_set(shares[2_000:], threshold(scores, 0.9)) & right[2_000:]).any(axis=1).mean()
    assert covered == pytest.approx(0.9, abs=0.02)


def test_the_threshold_is_the_rank_of_the_source() -> None:
    scores = np.arange(1, 20, dtype=np.float32) / 20
    assert threshold(scores, 0.9) == pytest.approx(1 - 18 / 20)
    assert threshold(scores, 0.99) == 0.0
    with pytest.raises(ConfigError, match=r"coverage is 1\.5"):
        threshold(scores, 1.5)


def test_a_sure_parent_beats_an_unsure_leaf_and_nothing_beats_a_guess(taxonomy: Taxonomy) -> None:
    hierarchy = Hierarchy(taxonomy, taxonomy.leaves)
    likely = np.array([[0.3, 0.3, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]], np.float32)
    rolled = hierarchy.roll_up(likely)[0]
    chosen = hierarchy.choose(rolled, 0.5)
    assert chosen is not None
    assert chosen[0] == "Home"
    assert chosen[1] == pytest.approx(0.8)
    assert hierarchy.choose(rolled, 0.9) is None


def test_answers_say_what_they_are(head: LinearHead) -> None:
    answer = QueryTypes(head, ENCODER, k=3).ask("red desk lamp")
    assert answer.ranked[0] == answer.chosen
    assert answer.chosen is not None
    assert (answer.chosen.name, answer.abstained, answer.reason) == ("Desk Lamps", False, "")
    assert "Home > Desk Lamps" in answer.conformal_set
    assert answer.coverage == 0.9
    assert len(answer.ranked) == 3
    unsure = QueryTypes(head, ENCODER, least=1.0).ask("lamp fan hose mower")
    assert unsure.abstained
    assert "no type or parent is as probable as 1" in unsure.reason
    nothing = QueryTypes(head, ENCODER).ask("  ")
    assert nothing.abstained
    assert nothing.ranked == ()
    assert "no words" in nothing.reason


def test_settings_that_cannot_work_are_refused(head: LinearHead) -> None:
    class Other(HashedWordsEncoder):
        fingerprint = "another"

    with pytest.raises(IndexMismatchError, match="the encoder is another"):
        QueryTypes(head, Other())
    for settings in ({"least": 0.0}, {"k": 0}, {"coverage": 1.0}):
        with pytest.raises(ConfigError):
            QueryTypes(head, ENCODER, **settings)
