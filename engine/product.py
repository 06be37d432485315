"""A product, as a shop's feed has it."""

from __future__ import annotations

import msgspec

_NUMBERS = (float, int)
_LARGEST = 2**63 - 1  # what JSON writers and columns can hold as a whole number

AttributeValue = str | bool | int | float | list[str]


class Product(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sellable item. Only ``product_id`` and ``title`` are required.

    ``category`` is a path, root first. ``price`` is in units of ``currency``. ``popularity`` is any number from 0,
    higher is more popular. ``availability`` is free text such as ``in_stock``. ``attributes`` is flat.

    Raises ValueError on an empty id or title, or a number that is negative, infinite or NaN where that makes no sense.
    """

    product_id: str
    title: str
    brand: str = ""
    model: str = ""
    description: str = ""
    bullets: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    attributes: dict[str, AttributeValue] = {}
    price: float | None = None
    currency: str = ""
    rating: float | None = None
    rating_count: int | None = None
    popularity: float | None = None
    availability: str = ""
    locale: str = ""
    released: str = ""
    ean: tuple[str, ...] = ()
    image_url: str = ""

    def __post_init__(self) -> None:
        for name in ("product_id", "title"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")
        for name in ("price", "rating", "rating_count", "popularity"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _LARGEST:  # NaN fails too
                raise ValueError(f"{name} is {_shown(value)}; it must be a finite number from 0 to 2^63")
        for key, value in self.attributes.items():
            # Runs for every attribute of every hit: an exact type is a quicker question than isinstance.
            if type(value) in _NUMBERS and not -_LARGEST <= value <= _LARGEST:  # type: ignore[operator]
                raise ValueError(f"attributes.{key} is {_shown(value)}; it must be a finite number under 2^63")


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def to_json(product: Product) -> bytes:
    """The product as one line of JSON, without the fields that have no value."""
    return msgspec.json.encode(product)


def from_json(data: bytes) -> Product:
    """The product in one line of JSON. Raises msgspec.ValidationError or msgspec.DecodeError naming the field."""
    return _decode(data)


_decode = msgspec.json.Decoder(Product).decode
