"""The encoder: a bi-encoder whose cosines put a query's products in order, for dense retrieval."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from torch.nn import functional

from engine.adapters import AdapterKind
from training.data.pairs import Batch, Pairs
from training.data.prepare import read_groups
from training.data.ranking import NDCG, RankingData
from training.data.settings import RankingConfig, RankingModel, RankingTraining
from training.data.whole import WholeCatalog
from training.losses import InBatch, encoder_loss
from training.methods.saved import save_adapter
from training.metrics import Scores
from training.models.bi_encoder import BiEncoder
from training.report import BEST, Best, Notes, Quality, Recipe
from training.settings import Progress
from training.teachers.encoders import Teachers

WHOLE = f"{NDCG}, whole catalog"


class EncoderModel(RankingModel, frozen=True, kw_only=True):
    """What is trained.

    ``dimensions`` are how much of a vector is to be of use alone, the first 128 numbers of 384, say (Matryoshka); the
    whole is among them anyway. ``trains`` is ``queries`` for an adapter to the vectors of an index as they are: then
    products are encoded by the base model.
    """

    dimensions: tuple[int, ...] = ()
    trains: Literal["both", "queries"] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(n < 1 for n in self.dimensions) or len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError(f"dimensions is {list(self.dimensions)}; each must be 1 or more and given once")
        if self.trains == "queries" and self.method == "full":
            raise ValueError(
                "trains is queries and method full, which would make a second model of the query side; an index has "
                "one encoder. Take method lora, whose adapter is chosen per request"
            )


class EncoderTraining(RankingTraining, frozen=True, kw_only=True):
    """How it is trained.

    ``loss`` is one of ``training.losses.ENCODER_LOSSES``, or several joined by +. Cosines are multiplied by
    ``sharpness`` before they are compared. Products with a label of ``positive`` or more are what a query asks for.
    With ``guided`` the base model, as it was, says which products of other queries in a batch are no negatives: those
    as near to the query as its own best-labelled one (Solatorio 2024, "GISTEmbed").
    ``teachers`` are bases, or saved encoders, whose cosines together are what ``distil`` learns.
    With ``whole_catalogs`` the best model is the one that finds judged products among all of a dev set's catalog, as
    well as put them in order: the mean of both counts. It takes the time of encoding those catalogs.
    """

    loss: str = "mnr"
    learning_rate: float = 2e-5
    sharpness: float = 20.0
    positive: float = 0.5
    guided: bool = False
    teachers: tuple[str, ...] = ()
    whole_catalogs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        encoder_loss(self.loss)
        if ("distil" in self.loss.split("+")) != bool(self.teachers):
            raise ValueError(
                f"loss is {self.loss!r} and teachers is {list(self.teachers)}; the loss distil learns from teachers, "
                "and no other does: name both or neither"
            )
        if not self.sharpness > 0 or not 0 < self.positive <= 1:
            raise ValueError(
                f"sharpness is {self.sharpness} and positive {self.positive}; the first must be above 0, the second "
                "above 0 and at most 1"
            )


class EncoderConfig(RankingConfig, frozen=True, kw_only=True):
    """All settings of ``aisle train encoder``."""

    model: EncoderModel = EncoderModel()
    training: EncoderTraining = EncoderTraining()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.whole_catalogs and (not self.dev.sets or self.model.trains == "queries"):
            raise ValueError(
                "training.whole_catalogs is true, which needs [[dev.sets]], whose catalogs are searched, and a model "
                'that trains "both" sides'
            )

    def task(self, run: Path, data: Path, test: bool, progress: Progress) -> EncoderTask:
        return EncoderTask(self, run, data, test, progress)


class EncoderTask:
    """An example is a query with a product and a label; within a batch every query is compared with every product."""

    @property
    def score(self) -> str:
        return f"{NDCG}, judged pool{' and whole catalog' if self._whole else ''} of dev"

    def __init__(self, config: EncoderConfig, run: Path, data: Path, test: bool, progress: Progress) -> None:
        self._config = config
        self._encoder = BiEncoder.load(config.model, config.model.product_tokens, config.training.bf16)
        self._data = RankingData(config, run, data, self._encoder.encode, test, progress)
        self._loss = encoder_loss(config.training.loss)
        self._fixed = self._base_vectors() if config.model.trains == "queries" else None
        self._guide = self._guiding_vectors() if config.training.guided else None
        self._teachers = self._teaching(data)
        self._whole = {
            dev_set.name: WholeCatalog.of(
                dev_set, read_groups(data, f"dev.{dev_set.name}"), self._encoder.encode, config.model.product_tokens
            )
            for dev_set in config.dev.sets
            if config.training.whole_catalogs
        }

    @property
    def module(self) -> torch.nn.Module:
        module: torch.nn.Module = self._encoder.model
        return module

    def batches(self, epoch: int) -> list[Batch]:
        return self._data.batches(epoch)

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """Over all dimensions wanted, the mean of the losses of vectors cut there (Kusupati et al. 2022)."""
        pairs, encoder = self._data.train, self._encoder
        rows = np.unique(np.concatenate([pairs.rows[group][part] for group, part in batch]))
        queries = encoder.vectors([pairs.queries[group] for group, _ in batch])
        if self._fixed is None:
            products = encoder.vectors([pairs.products[row] for row in rows])
        else:
            products = self._fixed["train"][torch.from_numpy(rows)].to(queries.device)
        labels, judged = (found.to(queries.device) for found in self._labels(batch, rows))
        doubtful = None if self._guide is None else self._doubtful(self._guide, batch, rows, labels, judged)
        taught = None if self._teachers is None else self._teachers.scores(batch, rows).to(queries.device)
        sharpness, positive = self._config.training.sharpness, self._config.training.positive
        losses = [
            self._loss(
                InBatch(_cut(queries, n), _cut(products, n), labels, judged, doubtful, taught), sharpness, positive
            )
            for n in (None, *self._config.model.dimensions)
        ]
        return torch.stack(losses).mean(), int(judged.sum())

    def _doubtful(
        self, guide: tuple[torch.Tensor, torch.Tensor], batch: Batch, rows: np.ndarray, labels: torch.Tensor,
        judged: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """bool (queries, products): others' products that the guide finds as near as the query's own best."""
        queries, products = guide
        cosines = queries[[group for group, _ in batch]] @ products[torch.from_numpy(rows)].T
        own = labels.masked_fill(~judged, -1)
        best = cosines.gather(1, own.argmax(dim=1, keepdim=True))
        return (cosines >= best) & ~judged

    def _labels(self, batch: Batch, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels, float32 (queries, products), and where there are any: of the query's own products in the batch.

        The same query can be in a batch twice, in two parts; then it knows the products of both.
        """
        pairs = self._data.train
        labels, judged = np.zeros((len(batch), len(rows)), np.float32), np.zeros((len(batch), len(rows)), bool)
        for place, (group, part) in enumerate(batch):
            own = np.isin(pairs.rows[group], rows) if len(part) < len(pairs.rows[group]) else slice(None)
            columns = np.searchsorted(rows, pairs.rows[group][own])
            labels[place, columns], judged[place, columns] = pairs.labels[group][own], True
        return torch.from_numpy(labels), torch.from_numpy(judged)

    def judge(self) -> Quality:
        """nDCG@10 by cosine, of the whole vectors and of those cut to the dimensions wanted; and in whole catalogs."""
        found = {name: self._vectors(name, pairs) for name, pairs in self._data.dev.items()}
        quality = self._data.quality({name: cosines(self._data.dev[name], *found[name]) for name in found})
        for n in self._config.model.dimensions:
            cut = {name: cosines(self._data.dev[name], *(vectors[:, :n] for vectors in found[name])) for name in found}
            for name, of_set in self._data.quality(cut).dev.items():
                quality.dev[name][f"{NDCG}, {n} dimensions"] = of_set[NDCG]
        if not self._whole:
            return quality
        for name, whole in self._whole.items():
            queries = dict(zip(self._data.dev[name].query_ids, found[name][0], strict=True))
            products = self._encoder.embed(whole.products, partial(self._data.evaluating, name))
            quality.dev[name][WHOLE] = float(np.mean(list(whole.ndcg_by_query(queries, products).values())))
        searched = float(np.mean([of_set[WHOLE] for of_set in quality.dev.values()]))
        return Quality(quality.dev, (quality.score + searched) / 2, quality.per_query)

    def _vectors(self, name: str, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        products = self._encoder.embed(pairs.products) if self._fixed is None else self._fixed[name].numpy()
        return self._encoder.embed(pairs.queries), products

    def _base(self) -> BiEncoder:
        """The model before training."""
        model = self._config.model
        untouched = msgspec.structs.replace(model, method="full", trains="both")
        return BiEncoder.load(untouched, model.product_tokens, self._config.training.bf16)

    def _guiding_vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of all training queries and products, by the base model."""
        base, train = self._base(), self._data.train
        queries, products = (base.embed(texts, self._data.encoding) for texts in (train.queries, train.products))
        return torch.from_numpy(queries).to(base.device), torch.from_numpy(products).to(base.device)

    def _teaching(self, data: Path) -> Teachers | None:
        names = self._config.training.teachers
        if not names:
            return None
        return Teachers(names, read_groups(data, "train"), self._config.model, data, self._data.encoding)

    def _base_vectors(self) -> dict[str, torch.Tensor]:
        """Of all products, by the base model: what an index has of them."""
        base = self._base()
        sets = {"train": self._data.train, **self._data.dev} | ({"test": self._data.test} if self._data.test else {})
        return {name: torch.from_numpy(base.embed(pairs.products)) for name, pairs in sets.items()}

    def recipe(self, quality: Quality) -> Recipe:
        model = self._config.model
        return Recipe(
            task="encoder", name=self._config.name, query_tokens=model.query_tokens,
            product_tokens=model.product_tokens, source=self._encoder.base.origin, license=self._config.license,
            model=model.as_saved(),
        )  # fmt: skip

    def notes(self) -> Notes:
        model, training = self._config.model, self._config.training
        layers = f"layers {', '.join(map(str, model.layers))}" if model.layers else "all layers"
        side = "; queries alone, to the base's vectors of products" if model.trains == "queries" else ""
        method = f"{layers}; {self._encoder.adapted.method.describe(model)}{side}"
        recipe = [
            f"Loss {training.loss}, cosines times {training.sharpness:g}, in batches of about "
            f"{training.pairs_per_batch} pairs; what a query asks for has a label of {training.positive:g} or more."
        ]
        if training.products_per_query:
            recipe.append(f"An epoch has {training.products_per_query} products of each query, half of them its best.")
        if training.guided:
            recipe.append("Others' products that the base model finds as near as a query's best are no negatives.")
        if training.teachers:
            names = ", ".join(Path(name).name for name in training.teachers)
            recipe.append(f"Its teachers, the mean of whose standardised cosines it learns: {names}.")
        if model.dimensions:
            recipe.append(
                f"Vectors cut to {', '.join(map(str, model.dimensions))} numbers were trained beside the whole."
            )
        return self._data.notes(self._encoder.base.origin, method, recipe)

    def save(self, directory: Path, recipe: Recipe) -> None:
        self._encoder.save(directory)
        kind: AdapterKind | None = "encoder" if self._config.model.trains == "queries" else None
        save_adapter(directory, self._encoder.adapted, recipe, kind)

    def finish(self, run: Path, best: Best) -> float | None:
        """nDCG@10 on the queries held out for a test, or None."""
        return self._data.judge_test(self._test_scores(run))

    def _test_scores(self, run: Path) -> Callable[[Pairs, Callable[[int, int], None]], Scores]:
        def score(pairs: Pairs, progress: Callable[[int, int], None]) -> Scores:
            encoder = BiEncoder.open(run / BEST, self._config.training.bf16)
            products = encoder.embed(pairs.products, progress) if self._fixed is None else self._fixed["test"].numpy()
            return cosines(pairs, encoder.embed(pairs.queries), products)

        return score


def cosines(pairs: Pairs, queries: np.ndarray, products: np.ndarray) -> Scores:
    """Of all pairs in the order of ``everything``, from vectors of all queries and products, of any length."""
    left, right = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (queries, products))
    out: Scores = np.concatenate([right[rows] @ left[group] for group, rows in enumerate(pairs.rows)]).astype(
        np.float32
    )
    return out


def _cut(vectors: torch.Tensor, n: int | None) -> torch.Tensor:
    """The first ``n`` numbers, at unit length."""
    return vectors if n is None else functional.normalize(vectors[:, :n], dim=1)
