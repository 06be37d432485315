"""Each rule of curation takes what it says, and leaves alone what is only like it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.errors import ConfigError
from engine.product import Product
from tests.curation_rows import LOG, PRODUCTS, labels, log_of, page, queries, rows_of, taken
from training.curation.duplicates import DuplicateProductsStep, DuplicateQueriesStep
from training.curation.labels import ContradictionsStep
from training.curation.personal import find_personal, mask_personal, passes_luhn
from training.curation.queries import OffDomainStep, PersonalStep, UnsafeStep
from training.curation.sessions import SessionsStep

# Sessions

SHOPPER = [page("shoes", ["shoe", "boot"], ["shoe"], session="shopper", time=60 * i) for i in range(6)]


def many(session: str, n: int, seconds: float, clicked: list[str], distinct: bool = True) -> list[dict[str, object]]:
    return [
        page(f"shoes {i if distinct else ''}", ["shoe", "boot"], clicked, session=session, time=1 + seconds * i)
        for i in range(n)
    ]


@pytest.mark.parametrize(
    ("step", "bad", "like_it", "rule"),
    [
        (
            SessionsStep(max_searches=20),
            many("x", 21, 60, []),
            many("y", 20, 60, []),
            "too many searches for a shopper",
        ),
        (SessionsStep(), many("x", 6, 0.5, []), many("y", 6, 1.5, []), "searches too fast for a shopper"),
        (SessionsStep(), many("x", 6, 0.5, []), many("y", 4, 0.5, []), "searches too fast for a shopper"),
        (SessionsStep(), many("x", 15, 60, ["shoe", "boot"]), many("y", 15, 60, ["shoe"]), "clicks everything"),
        (SessionsStep(), many("x", 15, 60, ["shoe", "boot"]), many("y", 14, 60, ["shoe", "boot"]), "clicks everything"),
        (SessionsStep(min_searches=2), many("x", 1, 60, []), many("y", 2, 60, []), "one-off session"),
    ],
)
def test_a_program_is_told_from_a_shopper(
    step: SessionsStep, bad: list[dict[str, object]], like_it: list[dict[str, object]], rule: str, tmp_path: Path
) -> None:
    rows = rows_of(impressions=log_of([*SHOPPER, *bad, *like_it], tmp_path))
    after, flows, _ = taken(step, rows)
    kept = list(dict.fromkeys(after.impressions.line.tolist()))
    assert kept == [n for n in range(1, 7 + len(bad) + len(like_it)) if not 6 < n <= 6 + len(bad)]
    assert {name: affected.count for name, affected in flows["impressions"].dropped.items()} == {rule: 2 * len(bad)}
    assert flows["impressions"].dropped[rule].examples[0] == f"{LOG}:7"


def test_rules_of_sessions_are_turned_off_by_0(tmp_path: Path) -> None:
    everything = many("x", 40, 0.1, ["shoe", "boot"])
    step = SessionsStep(max_searches=0, min_seconds=0, max_click_share=0)
    rows = rows_of(impressions=log_of(everything, tmp_path))
    assert len(taken(step, rows)[0].impressions) == 80


def test_sessions_need_a_column_and_say_so(tmp_path: Path) -> None:
    rows = rows_of(impressions=log_of([page("shoes", ["shoe"])], tmp_path))
    with pytest.raises(ConfigError, match=r"'sessions' needs .* columns = \{ session = "):
        taken(SessionsStep(), rows)
    timeless = rows_of(impressions=log_of([page("shoes", ["shoe"], session="s")], tmp_path))
    _, _, tally = taken(SessionsStep(), timeless)
    assert "no row of the log has a time" in tally.report(timeless, timeless).notes[0]


# Personal data


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("order for jo.doe+shop@example.com", ["email"]),
        ("@home speaker", []),
        ("size 8@2 pack", []),
        ("call +1 (555) 010-9999", ["phone"]),
        ("5550109999", ["phone"]),
        ("555-010-9999 shoes", ["phone"]),
        ("9876543210", []),  # an EAN that the catalog has
        ("8806094512345", []),  # 13 digits: the code under a bar
        ("1920 1080 monitor", []),
        ("2024-11-29 sale", []),
        ("iphone 12 128gb", []),
        ("4111 1111 1111 1111", ["card"]),
        ("4111111111111112", []),  # its check digit is wrong
        ("DE89 3704 0044 0532 0130 00", ["iban"]),
        ("DE88 3704 0044 0532 0130 00", []),
        ("jo@example.com +44 20 7946 0000", ["email", "phone"]),
    ],
)
def test_personal_data_is_found_and_codes_are_not(text: str, kinds: list[str]) -> None:
    assert [kind for kind, _, _ in find_personal(text, {"9876543210"})] == kinds


def test_the_check_digit_is_that_of_cards() -> None:
    right = [digit for digit in range(10) if passes_luhn(f"7992739871{digit}")]
    assert right == [3]


def test_personal_queries_are_dropped_or_masked() -> None:
    rows = rows_of(("jo@example.com shoes", "shoe", 1.0), ("jo@example.com", "shoe", 1.0), ("shoes", "shoe", 1.0))
    after, flows, _ = taken(PersonalStep(), rows)
    assert queries(after) == ["shoes"]
    assert flows["pairs"].dropped["personal data: email"].examples == [f"{LOG}:1", f"{LOG}:2"]
    after, flows, _ = taken(PersonalStep(action="mask"), rows)
    assert queries(after) == ["<email> shoes", "shoes"]
    assert (flows["pairs"].dropped["personal data: email"].count, flows["pairs"].n_merged) == (1, 0)
    assert flows["pairs"].changed["personal data masked"].examples == [f"{LOG}:1"]
    assert mask_personal("<email> shoes", set()) == "<email> shoes"


def test_a_number_of_the_catalog_is_nobodys(tmp_path: Path) -> None:
    rows = rows_of(("9876543210", "boot", 1.0), ("9876543211", "boot", 1.0))
    assert queries(taken(PersonalStep(), rows)[0]) == ["9876543210"]


# Unsafe and off-domain queries


def test_unsafe_words_are_whole_words_of_the_list(tmp_path: Path) -> None:
    rows = rows_of(("Porn dvd", "shoe", 1.0), ("popcorn maker", "shoe", 1.0), ("nude lipstick", "shoe", 1.0))
    after, flows, _ = taken(UnsafeStep(), rows)
    assert queries(after) == ["popcorn maker", "nude lipstick"]
    assert flows["pairs"].dropped["unsafe words"].count == 1
    (tmp_path / "own.txt").write_text("# ours\nnude lipstick\n")
    assert queries(taken(UnsafeStep(words=str(tmp_path / "own.txt")), rows)[0]) == ["Porn dvd", "popcorn maker"]


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere.txt, the words of the step 'unsafe'"):
        taken(UnsafeStep(words=str(tmp_path / "nowhere.txt")), rows_of())
    (tmp_path / "empty.txt").write_text("# none\n")
    with pytest.raises(ConfigError, match="has none; give one a line"):
        taken(UnsafeStep(words=str(tmp_path / "empty.txt")), rows_of())


def test_a_query_of_words_that_no_product_has_is_off_domain() -> None:
    asked = ["running shoe", "runing shoes", "shoes for the winter", "weather forecast tomorrow", "???", "zzz boots"]
    rows = rows_of(*((query, "shoe", 1.0) for query in asked))
    after, flows, _ = taken(OffDomainStep(), rows)
    assert queries(after) == ["running shoe", "runing shoes", "shoes for the winter", "zzz boots"]
    assert flows["pairs"].dropped["off-domain"].examples == [f"{LOG}:4", f"{LOG}:5"]
    assert "zzz boots" not in queries(taken(OffDomainStep(max_unknown=0.4), rows)[0])


# Duplicates

LONG = "Waterproof jacket for hiking in the rain with many pockets and a hood that folds away and a warm lining 4XL"


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"title": LONG.upper()}, True),
        ({"title": LONG.replace("warm", "cosy")}, True),
        ({"title": LONG.replace("4XL", "3XL")}, False),  # another number
        ({"attributes": {"color": "blue"}}, False),
        ({"attributes": {"fit": "slim"}}, True),  # only one of them says so
        ({"brand": "Globex"}, False),
        ({"model": "J-2"}, False),
        ({"title": "Waterproof jacket 4XL"}, False),
    ],
)
def test_products_are_the_same_when_nothing_that_counts_differs(change: dict[str, object], is_same: bool) -> None:
    first = Product(product_id="a", title=LONG, brand="Acme", model="J-1", attributes={"color": "red"})
    second = msgspec.structs.replace(first, product_id="b", **change)
    rows = rows_of(("jacket", "b", 1.0), ("jacket", "a", 0.0), products=[first, second])
    after, flows, _ = taken(DuplicateProductsStep(jaccard=0.85), rows)
    assert list(after.products) == (["a"] if is_same else ["a", "b"])
    assert [pair.product_id for pair in after.pairs] == (["a", "a"] if is_same else ["b", "a"])
    assert [flow.n_merged for unit, flow in flows.items() if unit == "products"] == [1] * is_same


@pytest.mark.parametrize(
    ("query", "is_same"),
    [
        ("Red  Running-shoes", True),
        ("red runing shoes", True),
        ("red running boots", False),
        ("phone case 13", False),
        ("phone cape 12", False),  # a word that a product has
        ("phone cas 12", False),  # three letters may be another word
        ("shoes red running", False),
    ],
)
def test_queries_are_the_same_but_for_spelling(query: str, is_same: bool, tmp_path: Path) -> None:
    often = ["red running shoes", "phone case 12"]
    log = log_of([page(often[0], ["shoe", "boot"]), page(query, ["shoe"], ["shoe"])], tmp_path)
    rows = rows_of(*((text, "shoe", 1.0) for text in [*often, *often, query]), impressions=log)
    after, flows, _ = taken(DuplicateQueriesStep(), rows)
    assert queries(after)[-1] == (often[0] if is_same else query)
    assert (flows["pairs"].rows_out, flows["impressions"].rows_out) == (5, 3)
    assert len(after.impressions.queries) == (1 if is_same else 2)


def test_equal_texts_alone_are_merged_at_1() -> None:
    rows = rows_of(
        ("red running shoes", "shoe", 1.0), ("red runing shoes", "shoe", 1.0), ("RED running shoes", "shoe", 1.0)
    )
    assert len(set(queries(taken(DuplicateQueriesStep(jaccard=1), rows)[0]))) == 2


# Contradictions


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([1.0, 1.0, 0.0], [1.0, 1.0]),
        ([1.0, 0.0], []),
        ([0.0, 0.5, 1.0], []),  # two majorities are none
        ([0.9, 0.4], [0.9, 0.4]),  # as far apart as may be
        ([0.1, 0.0, 0.2, 1.0], [0.1, 0.0, 0.2]),
    ],
)
def test_a_majority_decides_where_labels_contradict(given: list[float], kept: list[float]) -> None:
    asked = ["red shoes", "shoe red", "Red shoe", "shoes, red"]  # the same stems
    rows = rows_of(
        *((query, "shoe", label) for query, label in zip(asked, given, strict=False)), ("boots", "shoe", 0.0)
    )
    after, flows, _ = taken(ContradictionsStep(), rows)
    assert [label for query, _, label in labels(after) if query != "boots"] == kept
    assert flows["pairs"].n_dropped == len(given) - len(kept)
    assert len(taken(ContradictionsStep(resolve="drop"), rows)[0].pairs) == 1 + (len(given) if given == kept else 0)


def test_other_products_and_other_stems_do_not_contradict() -> None:
    rows = rows_of(("red shoes", "shoe", 1.0), ("red shoes", "boot", 0.0), ("blue shoes", "shoe", 0.0))
    assert taken(ContradictionsStep(), rows)[0].pairs == rows.pairs
    assert len(PRODUCTS) == len(rows.products)
