"""Catalogs: what is read, what is refused and how the refusal is worded, and that nothing else ever escapes."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
from collections.abc import Callable, Generator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import catalog
from engine.catalog import CatalogReader, read_catalog
from engine.errors import CatalogError, ConfigError, MissingExtraError
from engine.product import Product, to_json

GOOD = b'{"product_id":"a","title":"t"}\n'
HEAD = b"product_id,title,price,rating_count,category\n"
PRODUCTS = [
    Product(
        product_id="a1",
        title='A "fine" TV, 55 inches',
        brand="Acme",
        bullets=("sharp", "thin,\nlight"),
        category=("Home", "TV"),
        attributes={"color": "red", "inches": 55, "weight": 12.5, "smart": True, "code": "007"},
        price=499.0,
        rating=4.5,
        rating_count=12,
        ean=("4006381333931", "0000000000017"),
    ),
    Product(product_id="b2", title="Žluťoučký kůň 漢字 🐎", description="line one\nline two\x00\x07", price=0.0),
    Product(product_id="3", title="12"),
]


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def check(folder: Path, name: str, data: bytes, line: int | None, field: str | None, reason: str) -> None:
    path = write(folder, name, data)
    with pytest.raises(CatalogError) as caught:
        list(read_catalog(path))
    error = caught.value
    assert (error.path, error.line, error.field) == (str(path), line, field), error
    assert reason in error.reason


def row(**fields: object) -> bytes:
    return GOOD + json.dumps({"product_id": "b", "title": "t", **fields}).encode() + b"\n"


JSONL_CASES: list[tuple[bytes, int | None, str | None, str]] = [
    (b"", None, None, "no products"),
    (b"\xef\xbb\xbf", None, None, "no products"),
    (b"\n \r\n\n", None, None, "no products"),
    (GOOD + b'{"title":"t"}', 2, "product_id", "missing"),
    (GOOD + b'\n\n{"product_id":"b"}', 4, "title", "missing"),
    (b'{"product_id":" ","title":"t"}', 1, "product_id", "is empty"),
    (b'{"product_id":"b","title":""}', 1, "title", "is empty"),
    (b'{"product_id":null,"title":"t"}', 1, "product_id", "missing"),
    (GOOD + b"\n" + GOOD, 3, "product_id", "'a' is a duplicate; the first is on line 1"),
    (b'{"product_id":5,"title":"t"}', 1, "product_id", "expected text, found number 5; write it in quotes"),
    (b'{"product_id":true,"title":"t"}', 1, "product_id", "expected text, found true"),
    (row(price="12,99"), 2, "price", "expected a number, found text '12,99'"),
    (row(price=-1), 2, "price", "is -1.0; it must be a finite number"),
    (row(price=float("nan")), 2, "price", "is nan, which JSON does not have"),
    (row(price=float("-inf")), 2, "price", "is -inf"),
    (row(attributes={"size": float("inf")}), 2, "attributes.size", "is inf"),
    (GOOD[:-2] + b',"price":1e999}', 1, "price", "out of range"),
    (GOOD[:-2] + b',"price":' + b"9" * 5000 + b"}", 1, "price", "out of range"),
    (GOOD[:-2] + b',"rating_count":' + b"9" * 400 + b"}", 1, "rating_count", "from 0 to 2^63"),
    (row(rating_count=3.5), 2, "rating_count", "expected a whole number, found number 3.5"),
    (row(bullets=["x", 7]), 2, "bullets", "expected text, found number 7 as item 2"),
    (row(bullets="x"), 2, "bullets", "expected a list, found text 'x'"),
    (row(attributes=["x"]), 2, "attributes", "expected an object, found a list"),
    (row(attributes={"a": 1, "b": {"c": 1}}), 2, "attributes.b", "found an object"),
    (row(attributes={"a": 1, "b": [1]}), 2, "attributes.b", "found a list"),
    (row(tittle="x"), 2, "tittle", "did you mean 'title'?"),
    (row(SKU="x"), 2, "SKU", "did you mean 'product_id'?"),
    (row(voltage=220), 2, "voltage", 'belongs in "attributes"'),
    (GOOD + b"{", 2, None, "invalid JSON at column 2"),
    (GOOD + GOOD.strip() + b" x", 2, None, "invalid JSON at column 32: Extra data"),
    (GOOD + b"[1]", 2, None, "expected a JSON object with one product, found a list"),
    (GOOD + b"null", 2, None, "found null"),
    (GOOD + b'{"product_id":"b","title":"\xff"}', 2, None, "broken UTF-8 at byte 28"),
    (GOOD + b'{"product_id":"b","title":"\\ud800"}', 2, "title", "half of a surrogate pair"),
    (GOOD + b"[" * 100_000, 2, None, "nested too deeply"),
]


@pytest.mark.parametrize("case", JSONL_CASES, ids=lambda case: f"{case[2]}: {case[3]}"[:60])
@pytest.mark.parametrize("name", ["c.jsonl", "c.NDJSON", "c.ndjson.gz"])
def test_a_bad_jsonl_row_is_named(tmp_path: Path, name: str, case: tuple[bytes, int | None, str | None, str]) -> None:
    check(tmp_path, name, *case)


CSV_CASES: list[tuple[bytes, int | None, str | None, str]] = [
    (b"", None, None, "no products"),
    (HEAD, None, None, "no products"),
    (b"id,title\nx,y\n", 1, "product_id", "the columns are 'id', 'title'"),
    (b"product_id;title\nx;y\n", 1, "product_id", "the columns are 'product_id;title'"),
    (b"product_id,title,title\n", 1, "title", "column 3 repeats"),
    (b"product_id,title,x,attributes.x\n", 1, "attributes.x", "column 4 repeats"),
    (b"product_id,title,\n", 1, None, "column 3 has no name"),
    (b"product_id,title,\xff\n", 1, None, "broken UTF-8"),
    (b'product_id,title,"a"b\n', 1, None, "malformed header"),
    (HEAD + b",t,,,\n", 2, "product_id", "missing"),
    (HEAD + b"a,t,,,\n\na,u,,,\n", 4, "product_id", "'a' is a duplicate; the first is on line 2"),
    (HEAD + b"a,t\n", 2, None, "2 columns, but the header has 5"),
    (HEAD + b"a,t,1,2,3,4\n", 2, None, "6 columns, but the header has 5"),
    (HEAD + b'a,"two\nlines",,,\nb,t,x,,\n', 4, "price", "expected a number, found text 'x'"),
    (HEAD + b'a,"two\nlines",1_0,,\n', 2, "price", "expected a number, found text '1_0'"),
    (HEAD + b'a,t,"1,299.00",,\n', 2, "price", "found text '1,299.00'"),
    (HEAD + b"a,t,nan,,\n", 2, "price", "found text 'nan'"),
    (HEAD + b"a,t,-5,,\n", 2, "price", "is -5.0; it must be"),
    (HEAD + b"a,t,1e999,,\n", 2, "price", "is inf; it must be"),
    (HEAD + b"a,t,,1.5,\n", 2, "rating_count", "expected a whole number, found number 1.5"),
    (HEAD + b"a,t,,,\nb,\xff,,,\n", 3, "title", "broken UTF-8"),
    (HEAD + b'a,"t"x,,,\n', 2, None, "malformed CSV"),
    (HEAD + b'a,t,,,\nb,"t,,,\nc,t,,,\n', 3, None, "a quote is opened and never closed"),
]


@pytest.mark.parametrize("case", CSV_CASES, ids=lambda case: f"{case[2]}: {case[3]}"[:60])
@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz"])
def test_a_bad_csv_row_is_named(tmp_path: Path, name: str, case: tuple[bytes, int | None, str | None, str]) -> None:
    check(tmp_path, name, *case)


def write_parquet(path: Path, columns: dict[str, Any], **types: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: pa.array(cells, types.get(name)) for name, cells in columns.items()}), path)
    return path


@pytest.mark.parametrize(
    ("columns", "line", "field", "reason"),
    [
        ({"product_id": [], "title": []}, None, None, "no products"),
        ({"product_id": ["a"]}, None, "title", "no such column"),
        ({"product_id": ["a", None], "title": ["t", "t"]}, 2, "product_id", "missing; every product needs it (Parquet"),
        ({"product_id": ["a", "a"], "title": ["t", "t"]}, 2, "product_id", "the first is on line 1 (Parquet"),
        ({"product_id": [1], "title": ["t"]}, 1, "product_id", "expected text, found number 1; write it in quotes"),
        ({"product_id": [b"a"], "title": ["t"]}, 1, "product_id", "expected text, found bytes"),
        ({"product_id": ["a"], "title": ["t"], "price": [float("nan")]}, 1, "price", "is nan"),
        ({"product_id": ["a"], "title": ["t"], "price": ["1"]}, 1, "price", "expected a number, found text '1'"),
        ({"product_id": ["a"], "title": ["t"], "attributes": [3]}, 1, "attributes", "expected an object"),
        ({"product_id": ["a"], "title": ["t"], "x": [[1]]}, 1, "attributes.x", "found a list"),
        (
            {"product_id": ["a"], "title": ["t"], "x - at `$.ean[9]`": [float("inf")]},
            1,
            "attributes.x - at `$.ean[9]`",
            "finite number",
        ),
    ],
)
def test_a_bad_parquet_row_is_named(
    tmp_path: Path, columns: dict[str, Any], line: int | None, field: str | None, reason: str
) -> None:
    data = write_parquet(tmp_path / "source.parquet", columns).read_bytes()
    check(tmp_path, "c.parquet", data, line, field, reason)


def test_broken_text_in_parquet_costs_one_row(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    title = pa.array([b"t", b"\xff", b"t"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"product_id": ["a", "b", "c"], "title": title}), tmp_path / "c.parquet")
    reader = read_catalog(tmp_path / "c.parquet", on_error="skip", rejects=tmp_path / "r")
    assert [product.product_id for product in reader] == ["a", "c"]
    assert json.loads((tmp_path / "r").read_bytes())["line"] == 2


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(row(product_id=str(n))[len(GOOD) :] for n in range(5000)))
    for cut in (5, len(whole) // 2, len(whole) - 4):
        (tmp_path / "c.jsonl.gz").write_bytes(whole[:cut])
        with pytest.raises(CatalogError, match="cut short"):
            list(read_catalog(tmp_path / "c.jsonl.gz"))
    middle = len(whole) // 2
    (tmp_path / "c.jsonl.gz").write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(CatalogError):
        list(read_catalog(tmp_path / "c.jsonl.gz"))
    for name in ("plain.csv.gz", "plain.parquet"):
        (tmp_path / name).write_bytes(HEAD)
        with pytest.raises(CatalogError, match="cannot be read after"):
            list(read_catalog(tmp_path / name))


def test_wrong_arguments_are_refused_before_reading(tmp_path: Path) -> None:
    good = write(tmp_path, "c.jsonl", GOOD)
    refused: list[tuple[type[Exception], str, Callable[[], CatalogReader]]] = [
        (CatalogError, "no such file", lambda: read_catalog(tmp_path / "none.jsonl")),
        (CatalogError, "directory", lambda: read_catalog(tmp_path)),
        (CatalogError, "allowed are .jsonl, .ndjson, .csv", lambda: read_catalog(write(tmp_path, "c.xml", b""))),
        (ConfigError, "'stop' or 'skip'", lambda: read_catalog(good, on_error="ignore")),  # type: ignore[arg-type]
        (ConfigError, "needs rejects", lambda: read_catalog(good, on_error="skip")),
        (ConfigError, "the catalog itself", lambda: read_catalog(good, on_error="skip", rejects=good)),
        (ConfigError, "does not exist", lambda: read_catalog(good, on_error="skip", rejects=tmp_path / "no" / "r")),
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words):
            call()


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"aisle\[parquet\]"):
        list(read_catalog(write(tmp_path, "c.parquet", b"")))


def write_csv(path: Path, delimiter: str) -> Path:
    names = ["product_id", "title", "brand", "bullets", "category", "price", "rating", "rating_count", "ean"]
    keys = ["description", *PRODUCTS[0].attributes]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([*names, "description", "attributes.color", *keys[2:]])
        for product in PRODUCTS:
            values = [getattr(product, name) for name in names]
            cells = [
                (" > " if n == "category" else "|").join(v) if isinstance(v, tuple) else v
                for n, v in zip(names, values, strict=True)
            ]
            attributes = {k: str(v).lower() if isinstance(v, bool) else v for k, v in product.attributes.items()}
            writer.writerow([*cells, product.description, *(attributes.get(key, "") for key in keys[1:])])
    return path


def test_every_format_reads_the_same_products(tmp_path: Path) -> None:
    lines = b"".join(to_json(product) + b"\n" for product in PRODUCTS)
    assert list(read_catalog(str(write(tmp_path, "c.jsonl", lines)))) == PRODUCTS
    assert (
        list(read_catalog(write(tmp_path, "c.ndjson.gz", b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n\n"))))
        == PRODUCTS
    )
    assert list(read_catalog(write_csv(tmp_path / "c.csv", ","))) == PRODUCTS
    assert list(read_catalog(write_csv(tmp_path / "c.tsv", "\t"))) == PRODUCTS
    pa = pytest.importorskip("pyarrow")
    names = [
        "product_id",
        "title",
        "brand",
        "bullets",
        "category",
        "price",
        "rating",
        "rating_count",
        "ean",
        "description",
    ]
    columns: dict[str, Any] = {name: [getattr(product, name) or None for product in PRODUCTS] for name in names}
    columns["price"] = [product.price for product in PRODUCTS]
    columns["rating_count"] = pa.array([12.0, None, None])
    attributes = [product.attributes or None for product in PRODUCTS]
    assert (
        list(read_catalog(write_parquet(tmp_path / "struct.parquet", {**columns, "attributes": attributes})))
        == PRODUCTS
    )
    free = {key: [(entry or {}).get(key) for entry in attributes] for key in PRODUCTS[0].attributes}
    assert list(read_catalog(write_parquet(tmp_path / "free.parquet", {**columns, **free}))) == PRODUCTS


def test_parquet_types_without_a_json_counterpart(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    columns = {
        "product_id": ["a"],
        "title": ["t"],
        "price": [Decimal("9.90")],
        "released": [date(2024, 5, 1)],
        "category": ["Home > TV"],
        "attributes": [[("color", "red"), ("size", None)]],
        "attributes.made": [date(2024, 4, 1)],
        "__index_level_0__": [7],
    }
    path = write_parquet(tmp_path / "c.parquet", columns, attributes=pa.map_(pa.string(), pa.string()))
    expected = Product(
        product_id="a",
        title="t",
        price=9.9,
        released="2024-05-01",
        category=("Home", "TV"),
        attributes={"color": "red", "made": "2024-04-01"},
    )
    assert list(read_catalog(path)) == [expected]


def test_nulls_in_json_are_absent(tmp_path: Path) -> None:
    path = write(tmp_path, "c.jsonl", row(brand=None, price=None, bullets=None, attributes={"a": None, "b": 1}))
    assert list(read_catalog(path))[1] == Product(product_id="b", title="t", attributes={"b": 1})


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("12", 12),
        ("-1.50", -1.5),
        ("TRUE", True),
        ("007", "007"),
        ("3E5", "3E5"),
        ("1_0", "1_0"),
        ("nan", "nan"),
        ("٣", "٣"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_csv_attributes_are_typed_only_without_loss(tmp_path: Path, cell: str, value: object) -> None:
    [product] = read_catalog(write(tmp_path, "c.csv", f"product_id,title,x\na,t,{cell}\n".encode()))
    assert product.attributes == {"x": value}
    assert type(product.attributes["x"]) is type(value)


def test_skipping_writes_every_bad_row(tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    bad = [b"{", b'{"product_id":"a","title":"again"}', b'{"product_id":"c","title":"\xff"}']
    path = write(tmp_path, "c.jsonl", GOOD + b"\n".join(bad) + b"\n" + row(product_id="d")[len(GOOD) :])
    reader = read_catalog(path, on_error="skip", rejects=rejects)
    for _ in range(2):  # a reader can be run again
        assert [product.product_id for product in reader] == ["a", "d"]
        assert (reader.n_read, reader.n_rejected, reader.rejects_path) == (2, 3, rejects)
        found = [json.loads(line) for line in rejects.read_bytes().splitlines()]
        assert [(entry["line"], entry["field"]) for entry in found] == [(2, None), (3, "product_id"), (4, None)]
        assert all(entry["reason"] for entry in found)
        assert (found[0]["row"], found[1]["row"]["title"]) == ("{", "again")
        assert found[2]["row"].endswith('"\ufffd"}')
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c.jsonl", "rejects.jsonl"]


def test_skipping_a_csv_row_keeps_its_text(tmp_path: Path) -> None:
    path = write(tmp_path, "c.csv", HEAD + b'a,"two\nlines",x,,\nb,"t"x,,,\nc,t,,,\nd,\xff,,,\n')
    reader = read_catalog(path, on_error="skip", rejects=tmp_path / "r")
    assert [product.product_id for product in reader] == ["c"]
    rows = [json.loads(line)["row"] for line in (tmp_path / "r").read_bytes().splitlines()]
    assert rows == ['a,"two\nlines",x,,', 'b,"t"x,,,', "d,\ufffd,,,"]


def test_skipping_everything_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "c.jsonl", b"{\n[]\n")
    with pytest.raises(CatalogError, match="none of its 2 rows"):
        list(read_catalog(path, on_error="skip", rejects=tmp_path / "r"))
    assert len((tmp_path / "r").read_bytes().splitlines()) == 2


def test_rejects_are_whole_when_the_caller_stops_early(tmp_path: Path) -> None:
    path = write(tmp_path, "c.jsonl", b"{\n" + row() + b"{\n")
    products = iter(read_catalog(path, on_error="skip", rejects=tmp_path / "r"))
    next(products)
    assert not (tmp_path / "r").exists()
    assert isinstance(products, Generator)
    products.close()
    assert len((tmp_path / "r").read_bytes().splitlines()) == 1


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_products_come_before_a_later_row_is_looked_at(tmp_path: Path, name: str) -> None:
    products = iter(read_catalog(write(tmp_path, name, GOOD + b"{")))
    assert next(products).product_id == "a"
    with pytest.raises(CatalogError, match="line 2"):
        next(products)


def test_an_endless_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_MAX_ROW", 100)
    long = row(title="x" * 500)[len(GOOD) :]
    check(tmp_path, "c.jsonl", GOOD + long, 2, None, "longer than 100 bytes")
    check(tmp_path, "c.csv", HEAD + b'a,"' + b"\nb,t,,," * 20, 2, None, "is a quote never closed?")
    reader = read_catalog(write(tmp_path, "d.jsonl", long + GOOD), on_error="skip", rejects=tmp_path / "r")
    assert [product.product_id for product in reader] == ["a"]
    assert json.loads((tmp_path / "r").read_bytes())["line"] == 1


def test_progress_grows_to_the_whole_file(tmp_path: Path) -> None:
    rows = b"".join(row(product_id=str(n))[len(GOOD) :] for n in range(3000))
    calls: list[tuple[int, int]] = []
    paths = [write(tmp_path, "c.jsonl", rows), write(tmp_path, "c.jsonl.gz", rows)]
    paths.append(
        write_parquet(tmp_path / "c.parquet", {"product_id": list(map(str, range(3000))), "title": ["t"] * 3000})
    )
    for path in paths:
        calls.clear()
        assert len(list(read_catalog(path, progress=lambda done, total: calls.append((done, total))))) == 3000
        size = path.stat().st_size
        assert len(calls) >= 3
        assert calls[-1] == (size, size)
        assert all(before <= after for before, after in itertools.pairwise(calls))


PIECES = st.sampled_from([
    *(case[0] for case in (*JSONL_CASES, *CSV_CASES) if len(case[0]) < 300),
    *(b'"', b"\n", b"\r", b",", b":", b"{", b"}", b"[", b"\\ud800", b"\x00", b"1e999", b"NaN", b"null", b"\xf0"),
])  # fmt: skip


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.jsonl.gz"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES | st.binary(max_size=20), max_size=8))
def test_any_bytes_give_products_or_a_catalog_error(tmp_path: Path, name: str, pieces: list[bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(b"".join(pieces) if len(pieces) % 2 else write(tmp_path, name, b"".join(pieces)).read_bytes())
    for on_error in ("stop", "skip"):
        try:
            for product in read_catalog(path, on_error=on_error, rejects=tmp_path / "r"):
                to_json(product).decode()
        except CatalogError as error:
            str(error).encode()
    for line in (tmp_path / "r").read_bytes().splitlines():
        assert json.loads(line).keys() == {"line", "field", "reason", "row"}
