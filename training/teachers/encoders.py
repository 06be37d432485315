"""Encoders that teach another: how near their cosines, together, put products to queries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from training.data.pairs import Batch, Pairs
from training.data.settings import RankingModel
from training.data.sources import Group
from training.metrics import Scores
from training.models.bi_encoder import BiEncoder

Progress = Callable[[int, int], None]


class Teachers:
    """What several encoders think of every training query and product.

    Their cosines are on scales of their own, so each query's are standardised over all training products, and the mean
    over the encoders counts: an ensemble orders better than the best of its members.
    """

    def __init__(
        self, models: Sequence[str], groups: Sequence[Group], settings: RankingModel, data: Path, progress: Progress
    ) -> None:
        """Encodes the texts of ``groups`` by every model of ``models``, cut as ``settings`` says.

        The vectors are kept in ``data`` as they come, so that a run that goes on, or another on the same data, finds
        them. Raises ModelError, ConfigError.
        """
        self._of = [_Standardised(*_vectors(model, groups, settings, data, progress)) for model in models]

    def scores(self, batch: Batch, rows: NDArray[np.int64]) -> torch.Tensor:
        """float32 (queries, products) of a batch: standard deviations above a query's mean, a mean over teachers."""
        queries = torch.tensor([group for group, _ in batch])
        return torch.stack([of.scores(queries, torch.from_numpy(rows)) for of in self._of]).mean(dim=0)

    def of_pairs(self, pairs: Pairs) -> Scores:
        """Of each query's own products, float32 (n,) in the order of ``pairs.everything``."""
        found = [self.scores([(group, np.arange(len(rows)))], rows)[0].numpy() for group, rows in enumerate(pairs.rows)]
        return np.concatenate(found)


class _Standardised:
    """One teacher's vectors, float16 (n, d), and each query's mean cosine and its deviation over all products."""

    def __init__(self, queries: NDArray[np.float16], products: NDArray[np.float16]) -> None:
        self._queries, self._products = torch.from_numpy(queries), torch.from_numpy(products)
        products32 = products.astype(np.float32)
        mean, covariance = products32.mean(axis=0), np.cov(products32, rowvar=False, dtype=np.float32)
        queries32 = queries.astype(np.float32)
        self._means = torch.from_numpy(queries32 @ mean)
        variances = np.einsum("ij,ij->i", queries32 @ covariance, queries32)
        self._deviations = torch.from_numpy(np.sqrt(np.maximum(variances, 1e-12)))

    def scores(self, queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        cosines = self._queries[queries].float() @ self._products[rows].float().T
        return (cosines - self._means[queries, None]) / self._deviations[queries, None]


def _vectors(
    name: str, groups: Sequence[Group], settings: RankingModel, data: Path, progress: Progress
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Of all queries and of all products, in the order of ``Pairs.of(groups, …)``."""
    read = RankingModel(base=name, query_tokens=settings.query_tokens, product_tokens=settings.product_tokens)
    teacher = BiEncoder.load(read, read.product_tokens)
    pairs = Pairs.of(groups, teacher.encode, read.query_tokens, read.product_tokens)
    key = hashlib.sha256(f"{read.query_tokens}:{read.product_tokens}".encode() + (data / "data.json").read_bytes())
    for weights in teacher.model.parameters():
        key.update(weights.detach().cpu().numpy().tobytes())
    kept = data / f"taught-{key.hexdigest()[:16]}.safetensors"
    try:
        with safe_open(kept, framework="numpy") as file:
            return file.get_tensor("queries"), file.get_tensor("products")
    except (OSError, SafetensorError):
        found = {
            "queries": teacher.embed(pairs.queries, progress).astype(np.float16),
            "products": teacher.embed(pairs.products, progress).astype(np.float16),
        }
        partial = kept.with_suffix(".part")
        save_file(found, partial)
        partial.replace(kept)
        return found["queries"], found["products"]
