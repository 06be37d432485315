"""Made slips: one edit of the kinds that people make, never another word that the catalog has."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from engine.understanding.edits import NEIGHBOURS
from training.data.typos import mistype

QUERY = "samsung refrigerator with freezer 55in"


def slips(n: int = 3_000) -> list[str]:
    rng = random.Random(1)
    return [mistype(QUERY, rng) for _ in range(n)]


def test_every_kind_of_slip_comes_and_numbers_stay() -> None:
    made = set(slips())
    assert QUERY not in made
    assert all("55in" in query for query in made)
    assert {"samsng refrigerator with freezer 55in", "samssung refrigerator with freezer 55in"} <= made  # drop, double
    assert {"sasmung refrigerator with freezer 55in", "samsung refrigerator with frezer 55in"} <= made  # swap, single
    assert "samsung refrigerator with freeser 55in" in made  # by ear
    assert "samsung refrigerator withfreezer 55in" in made
    assert any("refrig erator" in query for query in made)
    beside = [q for q in made if len(q) == len(QUERY) and sum(a != b for a, b in zip(q, QUERY, strict=True)) == 1]
    pairs = [next((a, b) for a, b in zip(q, QUERY, strict=True) if a != b) for q in beside]
    assert sum(pair in NEIGHBOURS for pair in pairs) > 0.7 * len(pairs)  # the others are by ear


def test_first_letters_mostly_stay() -> None:
    changed = [query for query in slips() if query[0] != "s"]
    assert not changed


def test_a_slip_never_makes_a_known_word() -> None:
    rng = random.Random(2)
    known = {"case", "cse", "cas", "cae", "casse"}
    made = {mistype("case", rng, known) for _ in range(500)}
    assert not made & (known - {"case"})
    assert len(made) > 3


@given(st.text(max_size=40), st.integers(0, 1_000))
def test_any_text_is_survived_and_little_changes(text: str, seed: int) -> None:
    made = mistype(text, random.Random(seed))
    assert abs(len(made) - len(text)) <= 2
    assert made == mistype(text, random.Random(seed))
    if not any(len(word) >= 4 and word.isalpha() for word in text.split(" ")) and " " not in text:
        assert made == text
