"""What can be asked of a live index, and what that comes to for each product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.errors import UpdateError
from engine.product import Product
from engine.updates.columns import FREE

Operation = Literal["add", "update", "delete"]
_OPERATIONS = ("add", "update", "delete")
_ID = "product_id"


class Change(msgspec.Struct, frozen=True):
    """One operation. ``product`` is what is added, ``fields`` what an update sets; ``place`` is for errors."""

    operation: Operation
    product_id: str
    place: str
    product: Product | None = None
    fields: dict[str, Any] = {}


class Commit(msgspec.Struct, frozen=True):
    """What a commit did. ``number`` is its place in the version's log, 0 where there was nothing to change.

    ``put`` counts products that are new or were analysed and encoded anew, ``patched`` those of which only fields
    changed that are neither, ``deleted`` those that are gone, and ``missing`` deletes of ids that were not there.
    """

    number: int
    put: int = 0
    patched: int = 0
    deleted: int = 0
    missing: int = 0


def added(products: Iterable[Product | Mapping[str, object]], first: int = 1) -> Iterator[Change]:
    """Raises UpdateError on what is no product. ``first`` numbers the first one, for errors."""
    for number, given in enumerate(products, first):
        place = f"products, number {number}"
        product = given if isinstance(given, Product) else _product(given, place)
        yield Change("add", product.product_id, place, product)


def updated(products: Iterable[Product | Mapping[str, object]], first: int = 1) -> Iterator[Change]:
    """Products, or mappings of ``product_id`` and the fields that change. Raises UpdateError."""
    for number, given in enumerate(products, first):
        place = f"products, number {number}"
        if isinstance(given, Product):
            yield Change("add", given.product_id, place, given)
        else:
            fields = dict(given)
            product_id = _id(fields, place)
            _check_fields(fields, place)
            yield Change("update", product_id, place, fields=fields)


def deleted(product_ids: Iterable[str]) -> Iterator[Change]:
    """Raises UpdateError on what is no id."""
    if isinstance(product_ids, str):
        raise UpdateError(f"product_ids is {product_ids!r}; it must be a list of ids")
    for number, product_id in enumerate(product_ids, 1):
        place = f"product_ids, number {number}"
        yield Change("delete", _id({_ID: product_id}, place), place)


def read_changes(path: str | Path) -> Iterator[Change]:
    """Changes of a file of JSON lines: ``op``, which is add, update or delete, and beside it a product's fields.

    Raises UpdateError naming file, line and field, and OSError.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                fields = msgspec.json.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise UpdateError(f"{place}: {error}; a line is a JSON object. Nothing was changed") from error
            if not isinstance(fields, dict):
                raise UpdateError(f"{place}: a line is a JSON object, not {line[:40]!r}. Nothing was changed")
            operation = fields.pop("op", None)
            if operation not in _OPERATIONS:
                raise UpdateError(
                    f"{place}, field 'op': {str(operation)[:40]!r}; it must be one of {', '.join(_OPERATIONS)}. "
                    "Nothing was changed"
                )
            if operation == "add":
                product = _product(fields, place)
                yield Change("add", product.product_id, place, product)
            elif operation == "update":
                product_id = _id(fields, place)
                _check_fields(fields, place)
                yield Change("update", product_id, place, fields=fields)
            else:
                yield Change("delete", _id(fields, place), place)


def resolved(
    changes: Sequence[Change], now: Callable[[str], Product | None]
) -> tuple[dict[str, tuple[Product | None, Product | None]], int]:
    """What each product that is spoken of was and becomes, None where it is not there, and how many deletes missed.

    ``now`` gives the product of an id. Raises UpdateError, naming the change, where one cannot be made.
    """
    out: dict[str, tuple[Product | None, Product | None]] = {}
    missing = 0
    for change in changes:
        before, current = out.get(change.product_id) or (now(change.product_id),) * 2
        if change.operation == "delete":
            missing += current is None
            after = None
        elif change.operation == "add":
            after = change.product
        elif current is None:
            raise UpdateError(
                f"{change.place}, field 'product_id': there is no product {change.product_id!r} to update; add it whole"
                ". Nothing was changed"
            )
        else:
            known = msgspec.to_builtins(current)
            after = _product({**known, **change.fields}, change.place)
        out[change.product_id] = before, after
    return out, missing


def is_patch(before: Product, after: Product) -> bool:
    """Whether they differ in nothing that is analysed, encoded or kept in a column of the build."""
    free = {name: getattr(after, name) for name in FREE}
    return msgspec.structs.replace(before, **free) == after


def _product(fields: Mapping[str, object], place: str) -> Product:
    unknown = set(fields) - set(Product.__struct_fields__)
    if unknown:
        raise UpdateError(f"{place}, field {min(unknown)!r}: {_fields_there_are()}. Nothing was changed")
    try:
        return msgspec.convert(dict(fields), Product)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise UpdateError(f"{place}: {error}. Nothing was changed") from error


def _check_fields(fields: Mapping[str, object], place: str) -> None:
    unknown = set(fields) - set(Product.__struct_fields__)
    if unknown:
        raise UpdateError(f"{place}, field {min(map(str, unknown))!r}: {_fields_there_are()}. Nothing was changed")


def _fields_there_are() -> str:
    return f"a product has no such field; the fields are {', '.join(Product.__struct_fields__)}"


def _id(fields: Mapping[str, object], place: str) -> str:
    product_id = fields.get(_ID)
    if not isinstance(product_id, str) or not product_id.strip():
        raise UpdateError(f"{place}, field 'product_id': {product_id!r}; it must be a text. Nothing was changed")
    return product_id
