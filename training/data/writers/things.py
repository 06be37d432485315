"""Queries about one thing: its name, its code, its title, what is made for it, and what may take its place."""

from __future__ import annotations

from dataclasses import replace

from engine.analysis.analyzer import STOP_WORDS
from training.data.judging import Want
from training.data.shelf import Words, bare_code
from training.data.writers.desk import Desk

_ALTERNATIVES = (
    "like {}", "{} alternative", "{} alternatives", "alternative to {}", "alternatives to {}", "similar to {}",
    "something like {}", "instead of {}",
)  # fmt: skip
_LEAST_CODE = 4  # letters and digits of a part of a code that still tells it from others


def write_for(desk: Desk, row: int) -> Want | None:
    """A type for a thing: ``case for galaxy s6``."""
    shelf, rng = desk.shelf, desk.rng
    facts, want = shelf.facts[row], desk.named("for", row)
    names = [name for name in facts.made_for_names if any(c.isdigit() for c in " ".join(name))]
    if want is None or not names:
        return None
    name = rng.choice(names)[:4]
    known = shelf.devices.keys() & {name[i:j] for i in range(len(name)) for j in range(i + 2, len(name) + 1)}
    about = rng.choice(sorted(known)) if known else name
    query = f"{want.query} for {' '.join(about)}" if rng.random() < 0.7 else f"{' '.join(about)} {want.query}"
    return _about(desk, replace(want, query=query), about)


def write_device(desk: Desk, _: int) -> Want | None:
    """A thing that accessories are made for, by name: ``galaxy s6``."""
    shelf = desk.shelf
    if not shelf.devices:
        return None
    about = desk.rng.choice(list(shelf.devices))
    types = shelf.devices[about]
    rows = [r for t in sorted(types) for r in shelf.rows_of[t] if shelf.facts[r].line[: len(about)] == about]
    return _about(desk, Want("device", " ".join(about), desk.rng.choice(rows), types), about)


def _about(desk: Desk, want: Want, about: Words) -> Want | None:
    """``want`` of one thing, and not of those whose name says more: a ``galaxy s7`` is no ``galaxy s7 edge``.

    What more a name may say is known from the line's other models (``galaxy s6 edge``). None where the source is
    such a thing.
    """
    shelf = desk.shelf
    longer = {name[-1] for name in shelf.devices if name[0] in about and name[:-1] in shelf.devices}
    others = frozenset().union(*desk.terms([word for word in longer - {*about} if word.isalpha()]))
    facts = shelf.facts[want.source]
    if others & (facts.made_for or facts.title):
        return None
    return replace(want, words=desk.terms(about), others=others)


def write_code(desk: Desk, row: int) -> Want | None:
    model = desk.shelf.products[row].model.lower().split()
    if not 0 < len(model) <= 3 or not any(c.isdigit() for c in " ".join(model)):
        return None
    brand = [" ".join(desk.shelf.facts[row].brand)] if desk.rng.random() < 0.4 else []
    return Want("code", " ".join([*brand, *model]), row, words=desk.terms(model))


def write_code_part(desk: Desk, row: int) -> Want | None:
    """A code as it is remembered: its beginning, without what divides it, or with spaces there (``sm g920``)."""
    codes = desk.shelf.facts[row].codes
    if not codes:
        return None
    code = desk.rng.choice(codes)
    pieces = [piece for piece in code.replace("/", "-").replace(".", "-").replace("_", "-").split("-") if piece]
    ways = [code[:-cut] for cut in (1, 2, 3) if len(code) > 2 * cut + 2]
    if len(pieces) > 1:
        ways += ["".join(pieces), " ".join(pieces), *("-".join(pieces[:n]) for n in range(1, len(pieces)))] * 2
    ways = [way for way in ways if len(bare_code(way)) >= _LEAST_CODE and any(c.isdigit() for c in way)]
    if not ways:
        return None
    part = desk.rng.choice(ways).strip("-/._")
    brand = desk.shelf.facts[row].brand[:3] if desk.rng.random() < 0.4 else ()
    return Want("code_part", " ".join([*brand, part]), row, code=bare_code(part))


def write_title(desk: Desk, row: int) -> Want | None:
    """A few words of the title, in their order."""
    content = desk.shelf.content(row)[:14]
    if len(content) < 2:
        return None
    places = sorted(desk.some(list(range(len(content))), desk.rng.randint(2, 5)))
    words = [content[place] for place in places]
    return Want("title", " ".join(words), row, words=desk.terms(words))


def write_short(desk: Desk, row: int) -> Want | None:
    """A title as it is typed: brand, a word or two that tell it from others, what it is, in any order."""
    shelf, rng = desk.shelf, desk.rng
    facts, want = shelf.facts[row], desk.named("short", row)
    brand = facts.brand[:3] if rng.random() < 0.75 else ()
    known = frozenset().union(want.named if want else (), *desk.terms(brand))
    telling = [word for word in desk.telling(row)[:8] if not shelf.token_terms(word) <= known]
    chosen = desk.some(telling, rng.choice((1, 1, 2)))
    if not telling or (want is None and len(brand) + len(chosen) < 2):
        return None
    rest = sorted(chosen, key=telling.index) if rng.random() < 0.7 else chosen
    parts = [" ".join(brand), " ".join(rest), " ".join(want.query.split()[-2:]) if want else ""]
    if rng.random() < 0.35:
        rng.shuffle(parts)
    query = " ".join(filter(None, parts))
    words = desk.terms([*brand, *rest])
    return replace(want, query=query, words=words) if want else Want("short", query, row, words=words)


def write_line(desk: Desk, row: int) -> Want | None:
    """The name of a brand's line, mostly without the brand, which shoppers use for the whole kind: ``ipad tablet``."""
    name, want = _line(desk, row), desk.named("line", row)
    brand = desk.shelf.facts[row].brand[:3] if desk.rng.random() < 0.3 else ()
    return desk.joined(want, [*brand, *name], 0.85) if name else None


def write_substitute(desk: Desk, row: int) -> Want | None:
    """What may take a thing's place: ``tablet like galaxy tab``. The thing itself is not what is asked for."""
    facts, want = desk.shelf.facts[row], desk.named("substitute", row)
    if want is None or not facts.brand or len(desk.shelf.brands_of[facts.type_id]) < 2:
        return None
    line = _line(desk, row)
    name = [word for word in line or desk.telling(row)[:2] if word not in facts.brand and "'" not in word]
    if not name:
        return None
    thing = " ".join([*(facts.brand[:3] if not line or desk.rng.random() < 0.6 else ()), *name])
    query = desk.rng.choice(_ALTERNATIVES).format(thing)
    if query.startswith(("like", "similar")):
        query = f"{want.query} {query}"
    return replace(want, query=query, words=desk.terms(name), instead=True)


def _line(desk: Desk, row: int) -> Words:
    """The beginning of the product's name that only its brand uses, of one or two words; empty without one."""
    facts = desk.shelf.facts[row]
    found = [facts.line[:n] for n in (1, 2) if desk.shelf.is_line(facts.line[:n], facts.brand)]
    found = [name for name in found if not any(word in STOP_WORDS for word in name)]
    return desk.rng.choice(found) if found else ()
