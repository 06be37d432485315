"""Routes on the sample catalog, with the shipped encoder."""

from __future__ import annotations

import msgspec
import pytest


class TestSample:
    @pytest.mark.parametrize(
        ("query", "path"),
        [
            ("double door fridge", "Refrigerators"),
            ("split ac 1.5 ton", "Air Conditioners"),
            ("phone for night photography", "Smartphones"),
            ("samzung washing machine", "Washing Machines"),
        ],
    )
    def test_the_types_of_everyday_queries(self, sample, query: str, path: str) -> None:
        result = sample.search(query, 5)
        assert path in result.route.product_types[0].type_id
        assert all(path in hit.product.category for hit in result.hits)

    def test_a_whole_sentence(self, sample) -> None:
        route = sample.search("samzung double door fridge under 60k without water dispenser", 5).route
        assert route.corrected.startswith("samsung double door")
        assert {"samzung → samsung (spelling)", "under 60k → price ≤ 60000"} <= set(route.notes)
        assert all(sku.price <= 60_000 for sku in route.skus)

    @pytest.mark.parametrize("query", ["gift for my wife", "something for movie night", "light laptop for travel"])
    def test_everyday_words_are_not_slips(self, sample, query: str) -> None:
        assert sample.search(query, 1).route.corrected == query

    def test_a_route_is_data(self, sample) -> None:
        route = sample.search("red phone", 5).route
        data = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(route)))
        assert set(data) == {
            "corrected", "notes", "product_types", "action", "chosen", "reason", "skus", "nearest",
        }  # fmt: skip
        assert set(data["skus"][0]) == {"product_id", "title", "price", "currency", "reason", "features"}
        assert 0 < len(data["skus"][0]["features"]) <= 5
