"""What every router must do; each one's test class inherits this and opens it on ``synthetic_products``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from engine.errors import IndexCorruptError
from engine.types import Candidates, RouteAction, Routed
from tests.conftest import HashedWordsEncoder, synthetic_products

PRODUCTS = synthetic_products()
ENCODER = HashedWordsEncoder()
KINDS = ("Phones", "Refrigerators", "Televisions", "Cases")  # the type's name of row 0, 1, 2, 3, and again
ASKED = ("acme phone", "fridge", "tv for films", "phone case")


def vector(query: str) -> np.ndarray:
    return ENCODER.encode_queries([query])[0]


def route(router: Any, query: str) -> Routed:
    found: Routed = router.route(query, vector(query))
    return found


class RouterContract:
    """A test class gives ``model``; ``subject`` is opened on the 120 products of ``synthetic_products``."""

    @pytest.fixture(scope="class")
    @classmethod
    def built(cls, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        directory = tmp_path_factory.mktemp("router")
        assert model.build(directory, PRODUCTS, ENCODER.encode_products(PRODUCTS), ENCODER)
        return directory

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, model: Any, built: Path) -> Any:
        return model.open(built)

    @pytest.mark.parametrize(("query", "kind"), [(query, kind) for kind, query in enumerate(ASKED)])
    def test_a_type_that_is_named_is_chosen_and_its_products_fit(self, subject: Any, query: str, kind: int) -> None:
        routed = route(subject, query)
        assert routed.action in ("filter", "boost")
        assert routed.product_types[0].name == KINDS[kind]
        assert routed.chosen[0].name in (KINDS[kind], "Home")
        assert routed.fit is not None
        mine = np.arange(len(PRODUCTS)) % 4 == kind
        assert routed.fit[mine].min() > routed.fit[~mine].max()

    def test_types_are_unique_best_first_and_probabilities(self, subject: Any) -> None:
        for query in (*ASKED, "acme", "red"):
            said = route(subject, query).product_types
            probabilities = [found.probability for found in said]
            assert probabilities == sorted(probabilities, reverse=True)
            assert all(0 <= probability <= 1 for probability in probabilities)
            assert sum(probabilities) <= 1 + 1e-4
            assert len({found.type_id for found in said}) == len(said)
            assert all(isinstance(probability, float) for probability in probabilities)

    @pytest.mark.parametrize(
        "query", [*ASKED, "acme", "", " ", "\x00", "🙂", "холодильник", "P0007", "acme " * 2_000, "x" * 100_000]
    )
    def test_any_query_has_an_answer_that_is_whole(self, subject: Any, query: str) -> None:
        routed = route(subject, query)
        assert routed.action in get_args(RouteAction)
        assert routed.reason
        if routed.action == "none":
            assert (routed.chosen, routed.fit) == ((), None)
            return
        assert routed.chosen
        assert routed.fit is not None
        assert (routed.fit.dtype, routed.fit.shape) == (np.float32, (len(PRODUCTS),))
        assert ((routed.fit >= 0) & (routed.fit <= 1 + 1e-6)).all()
        assert routed.fit.max() > 0
        assert (routed.inside is not None) == (routed.action == "filter")
        if routed.inside is not None:
            assert (routed.inside.dtype, routed.inside.shape) == (np.bool_, (len(PRODUCTS),))
            assert routed.inside.any()

    @pytest.mark.parametrize(("query", "kind"), [(query, kind) for kind, query in enumerate(ASKED)])
    def test_rows_have_the_name_of_the_type_asked_for_and_others_have_none(
        self, subject: Any, query: str, kind: int
    ) -> None:
        routed = route(subject, query)
        names = [routed.name_of(row) for row in range(4)]
        assert names[kind] in (KINDS[kind], "Home")
        assert {*names[:kind], *names[kind + 1 :]} <= {"", "Home"}

    def test_what_was_found_has_a_say(self, subject: Any) -> None:
        routed = route(subject, ASKED[1])
        if routed.revise is None:
            return
        rows = np.arange(0, len(PRODUCTS), 4)
        scores = np.linspace(1, 0, len(rows), dtype=np.float32)
        phones, fridges = (routed.revise(Candidates(rows + kind, scores)) for kind in (0, 1))
        assert fridges.product_types[0].name == KINDS[1]
        of_phones = [
            {t.name: t.probability for t in said.product_types}.get(KINDS[0], 0.0) for said in (phones, fridges)
        ]
        assert of_phones[0] > of_phones[1] + 0.3
        assert phones.fit is not None
        assert fridges.fit is not None
        assert phones.fit[0] > fridges.fit[0] + 0.1
        for said in (phones, fridges):
            assert sum(found.probability for found in said.product_types) <= 1 + 1e-4
            assert said.revise is None

    def test_a_category_that_is_named_leaves_its_own_types(self, subject: Any) -> None:
        routed = route(subject, ASKED[0])
        if routed.narrowed is None:
            return
        fridges = np.arange(len(PRODUCTS)) % 4 == 1
        narrowed = routed.narrowed(fridges)
        assert narrowed.product_types[0].name == KINDS[1]
        phones = Candidates(np.arange(0, len(PRODUCTS), 4), np.ones(len(PRODUCTS) // 4, np.float32))
        if narrowed.revise is not None:  # whatever is found
            assert narrowed.revise(phones).product_types[0].name == KINDS[1]
        none = routed.narrowed(np.zeros(len(PRODUCTS), np.bool_))
        assert none.product_types == routed.product_types

    def test_nothing_found_changes_nothing(self, subject: Any) -> None:
        routed = route(subject, ASKED[1])
        if routed.revise is not None:
            assert routed.revise(Candidates.empty()).product_types == routed.product_types

    def test_the_vector_is_left_as_it_is(self, subject: Any) -> None:
        given = vector(ASKED[1])
        before = given.copy()
        subject.route(ASKED[1], given)
        np.testing.assert_array_equal(given, before)

    def test_threads_get_the_same_answers(self, subject: Any) -> None:
        queries = [f"{color} {kind}" for color in ("acme", "globex") for kind in ASKED] * 3
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda query: route(subject, query), queries))
        for query, routed in zip(queries, found, strict=True):
            again = route(subject, query)
            assert routed.product_types == again.product_types
            np.testing.assert_array_equal(routed.fit, again.fit)

    def test_what_was_built_opens_again_with_the_same_answers(self, model: Any, built: Path, subject: Any) -> None:
        assert model.fingerprint
        for query in ASKED:
            assert route(model.open(built), query).product_types == route(subject, query).product_types

    @pytest.mark.parametrize("damage", [b"", b"not what was written"])
    def test_damage_is_refused(self, model: Any, built: Path, damage: bytes) -> None:
        for file in [path for path in built.rglob("*") if path.is_file()]:
            whole = file.read_bytes()
            for cut in (damage, whole[: len(whole) // 2]):
                file.write_bytes(cut)
                with pytest.raises(IndexCorruptError):
                    model.open(built)
            file.write_bytes(whole)
