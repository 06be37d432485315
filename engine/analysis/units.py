"""Measures: a number and its unit become one term, however they are written.

``55 inch``, ``55"``, ``55-in.`` and ``55in`` all become ``55in``; ``1 TB`` and ``1tb`` become ``1tb``.
The table maps each spelling (lower case) to its canonical unit.
"""

from __future__ import annotations

_SPELLINGS: dict[str, str] = {
    "in": 'in inch inches "',
    "ft": "ft foot feet '",
    "yd": "yd yds yard yards",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm cms centimeter centimeters centimetre centimetres",
    "m": "m mtr meter meters metre metres",
    "kb": "kb kilobyte kilobytes",
    "mb": "mb megabyte megabytes",
    "gb": "gb gig gigs gigabyte gigabytes",
    "tb": "tb terabyte terabytes",
    "mg": "mg milligram milligrams",
    "g": "g gm gms gram grams",
    "kg": "kg kgs kilo kilos kilogram kilograms",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "l": "l lt ltr ltrs liter liters litre litres",
    "gal": "gal gallon gallons",
    "qt": "qt quart quarts",
    "mw": "mw milliwatt milliwatts",
    "w": "w watt watts",
    "kw": "kw kilowatt kilowatts",
    "v": "v volt volts",
    "amp": "a amp amps ampere amperes",
    "mah": "mah",
    "btu": "btu btus",
    "ton": "ton tons tonne tonnes",
    "hz": "hz hertz",
    "khz": "khz",
    "mhz": "mhz",
    "ghz": "ghz",
    "mp": "mp megapixel megapixels",
    "rpm": "rpm",
    "ppm": "ppm",
    "dpi": "dpi",
    "db": "db decibel decibels",
    "lumen": "lm lumen lumens",
    "psi": "psi",
    "star": "star stars",
    "core": "core cores",
    "pack": "pk pack packs pc pcs piece pieces ct count",
    "hr": "hr hrs hour hours",
    "min": "min mins minute minutes",
    "yr": "yr yrs year years",
}

UNITS: dict[str, str] = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}


def canonical_number(text: str) -> str:
    """One spelling per number: ``12,000`` → ``12000``, ``55.0`` → ``55``, ``07`` stays ``07`` (codes need it).

    A comma before exactly three digits separates thousands; any other comma is a decimal point.
    Fractions (``1/2``) stay as they are.
    """
    if "," in text:
        head, *groups = text.split(",")
        if len(head) <= 3 and all(len(g.split(".")[0]) == 3 for g in groups):
            text = head + "".join(groups)
        else:
            text = text.replace(",", ".", 1).replace(",", "")
    if "." in text and "/" not in text:
        text = text.rstrip("0").rstrip(".")
    return text or "0"
