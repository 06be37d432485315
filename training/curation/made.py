"""Queries for products that nobody has searched for: made, checked, and marked as made for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.product import Product
from training.curation.report import Tally
from training.curation.rows import Made, Pair, Rows
from training.curation.step import Context
from training.data.queries import searchable
from training.teachers.sampling import GenerateSettings, SamplingReport, sample_queries
from training.teachers.settings import open_labeller, open_writer


class GenerateStep(GenerateSettings, frozen=True, kw_only=True, tag="generate"):
    """Makes queries about the products of ``catalogs``, of the inputs where there are none, by rejection sampling.

    ``taxonomy`` is a file of product type names. Pairs of a query that somebody typed are never added to.
    """

    catalogs: tuple[str, ...] = ()
    taxonomy: str = ""

    def apply(self, rows: Rows, context: Context) -> Rows:
        products = self._products(rows, context)
        taxonomy = Path(self.taxonomy) if self.taxonomy else None
        engine, types = searchable([products], taxonomy, progress=context.progress)
        sampled = sample_queries(
            self, products, engine, types, open_labeller(self.teacher) if self.teacher else None,
            open_writer(self.writer) if self.writer else None, seed=context.seed, progress=context.progress,
        )  # fmt: skip
        typed = set(rows.queries())
        pairs = [
            Pair(made.query, product_id, label, (), Made(made.kind, made.source))
            for made in sampled.queries
            if made.query not in typed
            for product_id, label in made.candidates
        ]
        by_id = {product.product_id: product for product in products}
        new = {pair.product_id: by_id[pair.product_id] for pair in pairs if pair.product_id not in rows.products}
        context.tally.add("pairs", len(pairs))
        context.tally.add("products", len(new))
        n_typed = sum(made.query in typed for made in sampled.queries)
        _tell(sampled.report, n_typed, self.teacher is not None, context.tally)
        return replace(rows, pairs=(*rows.pairs, *pairs), products={**rows.products, **new})

    def _products(self, rows: Rows, context: Context) -> Sequence[Product]:
        """Of products of the same id the first."""
        found: dict[str, Product] = {}
        for path in self.catalogs:
            found = {**context.catalogs[path], **found}
        return list(found.values()) if self.catalogs else list(rows.products.values())


def _tell(report: SamplingReport, n_typed: int, judged: bool, tally: Tally) -> None:
    """What was proposed, kept and rejected, by kind; ``n_typed`` of those kept were typed by somebody."""
    tally.made = report
    if n_typed:
        tally.note(f"{n_typed:,} of the queries kept were typed by somebody; their pairs are left as they are")
    if not judged:
        tally.note("no teacher was asked whether it agrees")
    if report.misfits:
        tally.note(f"{report.misfits:,} answers of the writer did not fit")
    if report.stopped:
        tally.note(f"stopped early: {report.stopped}")
