"""Where a product's title or bullets contradict its attributes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.analysis.units import UNITS
from engine.answers.attributes import Attribute, AttributeIndex
from engine.answers.fields import Passage
from engine.answers.measured import Measure, measures, same_measure
from engine.answers.records import Evidence
from engine.answers.wording import words_of
from engine.product import Product


def conflicting(
    product: Product, attribute: Attribute, values: Sequence[Passage], index: AttributeIndex
) -> Evidence | None:  # fmt: skip
    """What contradicts the value of a measured attribute: a measure of its unit in the title, or one right before its
    name in a bullet, that neither it nor another attribute of the product has. None where nothing does.
    """
    if not attribute.is_number or not attribute.unit or len(values) != 1 or attribute.unit not in UNITS:
        return None
    value = float(values[0].text)
    for passage, measure in _told(product, attribute):
        if same_measure(value, attribute.unit, measure) is not None:
            if _agrees(product, measure, index):
                continue
            return passage.evidence(measure.start, measure.end)
    return None


def _told(product: Product, attribute: Attribute) -> Iterator[tuple[Passage, Measure]]:
    """Measures in the unit, or one of its kind, beside the attribute's name: in the title, then in bullets."""
    texts = [("title", product.title), *((f"bullets[{at}]", text) for at, text in enumerate(product.bullets))]
    for field, text in texts:
        words = words_of(text)
        for measure in measures(words):
            after = [word for word in words if word.start >= measure.end][:1]
            named = any(word.stem in attribute.stems and word.start - measure.end <= 1 for word in after)
            if measure.unit and named:
                yield Passage(product.product_id, field, text), measure


def _agrees(product: Product, measure: Measure, index: AttributeIndex) -> bool:
    """Whether some attribute of the product says the measure."""
    for name, value in product.attributes.items():
        of = index.attributes.get(f"attributes.{name}")
        measured = isinstance(value, (int, float)) and not isinstance(value, bool)
        if of is not None and of.unit and measured and same_measure(float(value), of.unit, measure):  # type: ignore[arg-type]
            return True
    return False
