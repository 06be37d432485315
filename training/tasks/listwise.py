"""The listwise reranker: a decoder that reads a query and some products and gives their order.

Two losses are weighed together (Reddy et al. 2024, "FIRST", section 3): the language model's, of the permutation that
labels give, and RankNet over what the first token of the answer gives each label. Products come in another order each
time, and lists are cut at random, so that a place means nothing. ``loss = "dpo"`` goes on from a trained model and has
it prefer the labels' order to a worse one.
"""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from ranking.listwise.defence import Defence
from ranking.listwise.permutation import Permutation
from ranking.listwise.prompts import LETTERS, PROMPTS, Prompts, rendered_text
from ranking.listwise.readings import Reader
from ranking.listwise.settings import ListwiseSettings, OnnxSettings
from ranking.listwise.windows import windows
from training.data.pairs import Batch, Pairs
from training.data.ranking import NDCG, RankingData
from training.data.settings import RankingConfig, RankingModel, RankingTraining
from training.losses import ranknet
from training.methods.saved import save_adapter
from training.metrics import Scores, kendall_tau
from training.models import Ids, Kind
from training.models.decoder import TrainedDecoder
from training.report import Best, Notes, Quality, Recipe
from training.settings import Progress, at_least

_CONSISTENCY = "tau of two orders"
_LEAST_LIST = 3


class ListwiseModel(RankingModel, frozen=True, kw_only=True):
    """What is trained. A window has at most ``list_size`` products, each cut to ``product_characters``.

    ``base`` is a causal language model; where it is a folder with a configuration and a tokenizer but no weights, it
    begins with random ones. ``prompts`` is a file in the place of the shipped ``ranking/listwise/prompts.toml``, and is
    kept beside the model.
    """

    list_size: int = 12
    product_characters: int = 80
    prompts: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "product_characters")
        if not _LEAST_LIST <= self.list_size <= len(LETTERS):
            raise ValueError(f"list_size is {self.list_size}; it must be from {_LEAST_LIST} to {len(LETTERS)}")
        if self.n_before:
            raise ValueError(f"method is {self.method}; of a decoder take full, lora or qlora")


class ListwiseTraining(RankingTraining, frozen=True, kw_only=True):
    """How it is trained.

    ``language_weight`` is of the permutation's loss, ``rank_weight`` of RankNet's over the first token, and
    ``point_weight`` of the cross-entropy of yes or no where each product was just read, with its label as the
    probability: that tells every product's tokens what they are for. The share ``cut`` of lists is cut to a random
    length. ``dev_queries`` of each dev set are judged (0: all). ``beta`` is how
    dear it is for DPO to leave the model that it began with, ``anchor`` what the losses above count beside it.
    """

    loss: Literal["supervised", "dpo"] = "supervised"
    learning_rate: float = 1e-4
    pairs_per_batch: int = 48
    language_weight: float = 0.1
    rank_weight: float = 1.0
    point_weight: float = 0.0
    cut: float = 0.3
    dev_queries: int = 60
    beta: float = 0.1
    anchor: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "language_weight", "rank_weight", "point_weight", "dev_queries", "anchor")
        if not 0 <= self.cut <= 1 or not self.beta > 0:
            raise ValueError(f"cut is {self.cut} and beta {self.beta}; the first is a share, the second above 0")
        if not self.language_weight + self.rank_weight > 0:
            raise ValueError("language_weight and rank_weight are 0; one of them must be above")


class ListwiseConfig(RankingConfig, frozen=True, kw_only=True):
    """All settings of ``aisle train listwise``."""

    model: ListwiseModel = ListwiseModel()
    training: ListwiseTraining = ListwiseTraining()

    def task(self, run: Path, data: Path, test: bool, progress: Progress) -> ListwiseTask:
        return ListwiseTask(self, run, data, test, progress)


@dataclass(frozen=True, slots=True)
class List:
    """A query with products in the order that they are shown in, and their labels, float32 (n,)."""

    query: str
    texts: Sequence[str]
    labels: Scores


@dataclass(frozen=True, slots=True)
class Asked:
    """A list as a prompt: its token ids, where each product was just read (empty unless asked for), and the labels."""

    ids: list[int]
    points: list[int]
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Said:
    """What a model says to a list of n: logits of the labels as the first token, (n,); log-probabilities of an order's
    tokens; and how much likelier yes is than no where each product was just read, (n,).
    """

    first: torch.Tensor
    spoken: torch.Tensor
    points: torch.Tensor | None


class ListwiseTask:
    """An example is a list; a batch has several, each with an order of its own."""

    score = f"{NDCG}, judged pool of dev"

    def __init__(self, config: ListwiseConfig, run: Path, data: Path, test: bool, progress: Progress) -> None:
        self._config, self._settings, model = config, config.training, config.model
        self._decoder = TrainedDecoder.load(model, config.training.bf16)
        self._texts = _Texts()
        self._data = RankingData(config, run, data, self._texts.number, test, progress)
        if self._settings.dev_queries:
            first = slice(self._settings.dev_queries)
            self._data.dev = {name: _first(pairs, first) for name, pairs in self._data.dev.items()}
        self._prompts = Prompts.read(Path(config.model.prompts) if config.model.prompts else None)
        self._served = served_settings(config)
        self._reference = copy.deepcopy(self.module).requires_grad_(False) if self._settings.loss == "dpo" else None

    @property
    def module(self) -> torch.nn.Module:
        module: torch.nn.Module = self._decoder.model
        return module

    def batches(self, epoch: int) -> list[Batch]:
        """Parts of query groups, shuffled; groups are dealt out anew each time."""
        size = self._config.model.list_size
        out = []
        for number, batch in enumerate(self._data.batches(epoch)):
            draw = random.Random(f"{self._config.seed}:{epoch}:{number}")
            cut = [(group, part[: self._length(min(len(part), size), draw)]) for group, part in batch]
            out.append([(group, part) for group, part in cut if len(part) > 1])
        return [batch for batch in out if batch]

    def _length(self, n: int, draw: random.Random) -> int:
        return draw.randint(min(_LEAST_LIST, n), n) if draw.random() < self._settings.cut else n

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        lists = [self._list(self._data.train, group, part) for group, part in batch]
        asked = [self._asked(one) for one in lists]
        wanted = [np.argsort(-one.labels, kind="stable") for one in lists]
        said = self._said(self.module, asked, wanted)
        learnt = torch.stack([self._learnt(one, of_list) for one, of_list in zip(lists, said, strict=True)])
        n = sum(len(one.texts) for one in lists)
        if self._reference is None:
            return learnt.mean(), n
        worse = [order[::-1] if (np.diff(order) > 0).all() else np.arange(len(order)) for order in wanted]
        disliked = self._said(self.module, asked, worse)
        with torch.no_grad():
            before = [self._said(self._reference, asked, orders) for orders in (wanted, worse)]
        liked, less, liked_before, less_before = (
            torch.stack([one.spoken.sum() for one in of_order]) for of_order in (said, disliked, *before)
        )
        margin = (liked - liked_before) - (less - less_before)
        # Rafailov et al. 2023, "Direct Preference Optimization", equation 7.
        preferred = functional.logsigmoid(self._settings.beta * margin)
        return (self._settings.anchor * learnt - preferred).mean(), n

    def _learnt(self, shown: List, said: Said) -> torch.Tensor:
        """The weighed losses of a list, but for DPO's."""
        settings, labels = self._settings, torch.from_numpy(shown.labels).to(said.first.device)
        total = settings.rank_weight * ranknet(said.first[None], labels[None], torch.ones_like(labels[None]).bool())
        total = total - settings.language_weight * said.spoken.mean()
        if said.points is not None:
            point = functional.binary_cross_entropy_with_logits(said.points, labels)
            total = total + settings.point_weight * point
        return total

    def _asked(self, shown: List) -> Asked:
        names, begin = LETTERS[: len(shown.texts)], self._prompts.begin
        prompt = self._prompts.of_window(shown.query, shown.texts, names)
        lines = [self._prompts.line(name, text) for name, text in zip(names, shown.texts, strict=True)]
        points = self._decoder.places(prompt, begin, lines) if self._settings.point_weight else []
        return Asked(self._decoder.ids(prompt, begin), points, names)

    def _said(self, module: Any, asked: Sequence[Asked], orders: Sequence[np.ndarray[Any, Any]]) -> list[Said]:
        """What ``module`` says to each, were its answer the order."""
        spoken = self._settings.language_weight or self._settings.loss == "dpo"
        answers = [
            self._decoder.answer([one.names[place] for place in order]) if spoken else []
            for one, order in zip(asked, orders, strict=True)
        ]
        texts = [one.ids + answer for one, answer in zip(asked, answers, strict=True)]
        places = [[*one.points, *range(len(one.ids) - 1, len(text))] for one, text in zip(asked, texts, strict=True)]
        yes, no = (self._decoder.word(word) for word in ("yes", "no")) if self._settings.point_weight else (0, 0)
        out = []
        for one, answer, logits in zip(asked, answers, self._decoder.logits(module, texts, places), strict=True):
            points, after = logits.split([len(one.points), len(answer) + 1])
            words = torch.log_softmax(after[:-1], dim=1)
            out.append(
                Said(
                    after[0, [self._decoder.word(name) for name in one.names]],
                    words.gather(1, torch.tensor(answer, device=words.device, dtype=torch.long)[:, None])[:, 0]
                    if answer else words.new_zeros(1),
                    points[:, yes] - points[:, no] if one.points else None,
                )
            )  # fmt: skip
        return out

    def _list(self, pairs: Pairs, group: int, part: np.ndarray[Any, Any]) -> List:
        rows, defence = pairs.rows[group][part], self._served.defence
        texts = [rendered_text(self._texts[pairs.products[row]], defence) for row in rows]
        return List(self._texts[pairs.queries[group]], texts, pairs.labels[group][part])

    @torch.inference_mode()
    def judge(self) -> Quality:
        """nDCG@10 by the first token; and how alike two orders are of the same products shown in two orders."""
        reader = Reader(self._decoder, self._served, self._prompts)
        one, other = (self._data.scores(self._scorer(reader.order, seed)) for seed in (0, 1))
        quality = self._data.quality(one)
        for name, pairs in self._data.dev.items():
            ends = np.cumsum([len(rows) for rows in pairs.rows])[:-1]
            taus = [
                kendall_tau(a, b) for a, b in zip(np.split(one[name], ends), np.split(other[name], ends), strict=True)
            ]
            quality.dev[name][_CONSISTENCY] = float(np.mean(taus))
        return quality

    def _scorer(
        self, order: Callable[[str, Sequence[str]], Permutation], seed: int
    ) -> Callable[[Pairs, Callable[[int, int], None]], Scores]:
        """Places in the order that windows from the tail give, as scores; products are shown shuffled."""

        def score(pairs: Pairs, progress: Callable[[int, int], None]) -> Scores:
            out = []
            for group, rows in enumerate(pairs.rows):
                shown = random.Random(f"{seed}:{group}").sample(range(len(rows)), len(rows))
                for window in windows(len(rows), self._served.window, self._served.stride):
                    inside = np.array(shown[window.start : window.stop])
                    one = self._list(pairs, group, inside)
                    found = order(one.query, one.texts).order
                    shown[window.start : window.stop] = inside[list(found)].tolist()
                scores = np.empty(len(rows), np.float32)
                scores[shown] = -np.arange(len(rows))
                out.append(scores)
                progress(group + 1, len(pairs.rows))
            return np.concatenate(out)

        return score

    def recipe(self, quality: Quality) -> Recipe:
        model = self._config.model
        return Recipe(
            task="listwise", name=self._config.name, query_tokens=model.query_tokens,
            product_tokens=model.product_characters, list_size=model.list_size, source=self._decoder.base.origin,
            license=self._config.license, model=model.as_saved(),
        )  # fmt: skip

    def notes(self) -> Notes:
        model, training = self._config.model, self._settings
        layers = f"layers {', '.join(map(str, model.layers))}" if model.layers else "all layers"
        method = f"{layers}; {self._decoder.adapted.method.describe(model)}; lists of at most {model.list_size}"
        recipe = [
            f"Loss {training.loss}: the permutation's weighs {training.language_weight:g}, RankNet's over the first "
            f"token {training.rank_weight:g}, that of yes or no after each product {training.point_weight:g}.",
            f"{training.cut:.0%} of lists were cut, all were shuffled.",
        ]
        if training.loss == "dpo":
            recipe.append(f"Beta {training.beta:g}, anchor {training.anchor:g}.")
        judged = ["The first token's order, in windows; tau compares the orders of two shuffles (Kendall 1938)."]
        return self._data.notes(self._decoder.base.origin, method, recipe, judged)

    def save(self, directory: Path, recipe: Recipe) -> None:
        self._decoder.save(directory)
        save_adapter(directory, self._decoder.adapted, recipe)
        if self._config.model.prompts:
            shutil.copyfile(self._config.model.prompts, directory / PROMPTS)

    def finish(self, run: Path, best: Best) -> None:
        """Nothing is left to do: the best model lies in the run, and any listwise.toml may name it."""


class _Texts:
    """Texts by number: where other tasks have token ids, this one has a number, for a prompt is tokenised whole."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def number(self, texts: list[str], n_tokens: int, kind: Kind) -> list[Ids]:
        begin = len(self._texts)
        self._texts += texts
        return [np.array([place], np.int32) for place in range(begin, len(self._texts))]

    def __getitem__(self, number: Ids) -> str:
        return self._texts[int(number[0])]


def served_settings(config: ListwiseConfig) -> ListwiseSettings:
    """How the model is asked on dev, and is to be asked when it is served."""
    model = config.model
    return ListwiseSettings(
        name=config.name, decoder=OnnxSettings(), window=model.list_size, stride=max(model.list_size // 2, 1),
        defence=Defence(characters=model.product_characters),
    )  # fmt: skip


def _first(pairs: Pairs, kept: slice) -> Pairs:
    names: Iterator[str] = iter(("query_ids", "queries", "rows", "labels", "gains", "repeat"))
    return replace(pairs, **{name: getattr(pairs, name)[kept] for name in names})
