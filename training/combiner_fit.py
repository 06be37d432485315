"""From candidates with labels to a combiner's model: boosted trees by LambdaMART, or a line by pairwise logistic loss.

Both order candidates within a query. What sense demands is kept in either: a candidate never falls because the
reranker, the words or the vectors speak more for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, MissingExtraError
from engine.features import FEATURES
from engine.types import Features
from ranking.combiner import Line, Trees
from training.settings import Settings, at_least

Matrix = NDArray[np.float64]
Kind = Literal["linear", "trees"]
Unjudged = Literal["irrelevant", "out"]

#: Features that a score must not fall with, and those that it must not rise with. Of the others either may be right.
RISING = frozenset({
    "probability", "probability_gap", "cosine", "cosine_gap", "lexical", "code", "fused", "rank", "route", "limits",
    "brand", "constraints",
})  # fmt: skip
FALLING = frozenset({"outside"})

_LEVELS = 100  # of labels, which LightGBM takes as whole numbers


class FitSettings(Settings, frozen=True, kw_only=True):
    """How a combiner is fitted.

    ``kind`` is ``linear``, or ``trees``, LambdaMART's (Burges 2010). ``features`` are of ``engine.features``.
    ``unjudged`` candidates count as ``irrelevant``, or are left ``out``. ``trees`` of ``leaves`` each are added at
    ``learning_rate``, with ``least`` candidates in a leaf; ``l2`` holds both kinds back.
    """

    kind: Kind = "linear"
    features: tuple[str, ...] = tuple(FEATURES)
    unjudged: Unjudged = "irrelevant"
    trees: int = 60
    leaves: int = 8
    learning_rate: float = 0.05
    least: int = 40
    l2: float = 10.0
    seed: int = 1

    def __post_init__(self) -> None:
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown or not self.features or len(set(self.features)) < len(self.features):
            raise ValueError(f"features is {list(self.features)}; name each once, of {', '.join(FEATURES)}")
        at_least(self, 1, "trees", "least")
        at_least(self, 2, "leaves")
        at_least(self, 0, "l2", "seed")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0, and 1 at most")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One query's candidates, best first as before reranking: ``ids``, ``values`` float32 (n, len(FEATURES)), and
    ``labels`` float64 (n,), 0 to 1, NaN where nobody judged them. ``ideal`` is DCG@10 of the best order of all judged.
    """

    source: str
    query: str
    ids: tuple[str, ...]
    values: Features
    labels: NDArray[np.float64]
    ideal: float

    def known(self, settings: FitSettings) -> NDArray[np.float64]:
        """The labels, with 0 where nobody judged if the settings have it so."""
        irrelevant = np.isnan(self.labels) & (settings.unjudged == "irrelevant")
        return np.where(irrelevant, 0.0, self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """What is learnt of one query: ``x`` float64 (n, n_features), labels; ``weight`` makes sources count the same."""

    x: Matrix
    labels: NDArray[np.float64]
    weight: float


def fit(asked: Sequence[Asked], settings: FitSettings) -> Trees | Line:
    """A model of ``settings.features``. Raises ConfigError where no query has candidates with different labels."""
    groups = list(_groups(asked, settings))
    if not groups:
        raise ConfigError(
            f"none of the {len(asked)} queries has candidates with different labels, so that there is no order to "
            'learn; give more judgments, or count what nobody judged with unjudged = "irrelevant"'
        )
    return (_fit_trees if settings.kind == "trees" else _fit_line)(groups, settings)


def _groups(asked: Sequence[Asked], settings: FitSettings) -> Iterator[_Group]:
    columns = [list(FEATURES).index(name) for name in settings.features]
    counts = Counter(one.source for one in asked)
    for one in asked:
        labels = one.known(settings)
        known = ~np.isnan(labels)
        if known.any() and labels[known].min() < labels[known].max():
            weight = len(asked) / len(counts) / counts[one.source]
            yield _Group(one.values[known][:, columns].astype(np.float64), labels[known], weight)


def _signs(settings: FitSettings) -> list[int]:
    return [(name in RISING) - (name in FALLING) for name in settings.features]


# -------------------------------------------------------------------------------------------------------------- trees


def _fit_trees(groups: Sequence[_Group], settings: FitSettings) -> Trees:
    return flattened(boosted(groups, settings).dump_model())


def boosted(groups: Sequence[_Group], settings: FitSettings) -> Any:
    """LightGBM's Booster. Gains are labels, as in nDCG with a linear gain. The same groups give the same."""
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtraError("train", "lightgbm") from error
    data = lightgbm.Dataset(
        np.concatenate([group.x for group in groups]),
        np.concatenate([np.rint(group.labels * _LEVELS) for group in groups]),
        group=[len(group.labels) for group in groups],
        weight=np.concatenate([np.full(len(group.labels), group.weight) for group in groups]),
    )
    parameters = {
        "objective": "lambdarank", "label_gain": list(range(_LEVELS + 1)), "lambdarank_truncation_level": 20,
        "num_leaves": settings.leaves, "learning_rate": settings.learning_rate, "min_data_in_leaf": settings.least,
        "lambda_l2": settings.l2, "monotone_constraints": _signs(settings), "feature_fraction": 0.7,
        "bagging_fraction": 0.7, "bagging_freq": 1, "seed": settings.seed, "num_threads": 1, "deterministic": True,
        "force_row_wise": True, "verbose": -1,
    }  # fmt: skip
    return lightgbm.train(parameters, data, settings.trees)


def flattened(dump: dict[str, Any]) -> Trees:
    """What LightGBM's ``dump_model`` gives, as arrays: each tree with its nodes before their children."""
    arrays: dict[str, list[Any]] = {name: [] for name in ("roots", "feature", "threshold", "left", "right", "value")}

    def add(node: dict[str, Any]) -> tuple[int, int]:
        """The node's place and how many candidates of training came by."""
        place = len(arrays["feature"])
        leaf = "leaf_value" in node
        arrays["feature"].append(-1 if leaf else node["split_feature"])
        arrays["threshold"].append(0.0 if leaf else node["threshold"])
        arrays["value"].append(node["leaf_value"] if leaf else 0.0)
        arrays["left"].append(-1)
        arrays["right"].append(-1)
        if leaf:
            return place, node.get("leaf_count", 1)
        (left, n_left), (right, n_right) = add(node["left_child"]), add(node["right_child"])
        arrays["left"][place], arrays["right"][place] = left, right
        n = n_left + n_right
        arrays["value"][place] = (n_left * arrays["value"][left] + n_right * arrays["value"][right]) / n
        return place, n

    for tree in dump["tree_info"]:
        arrays["roots"].append(len(arrays["feature"]))
        add(tree["tree_structure"])
    return Trees(**arrays)


# --------------------------------------------------------------------------------------------------------------- line


def _fit_line(groups: Sequence[_Group], settings: FitSettings) -> Line:
    """RankNet's loss (Burges et al. 2005) of a linear score, a pair weighed by the difference of its labels."""
    from scipy.optimize import minimize

    everything = np.concatenate([group.x for group in groups])
    means, spread = everything.mean(axis=0), everything.std(axis=0)
    spread[spread == 0] = 1.0  # what is always the same gets no weight
    pairs, weights = map(np.concatenate, zip(*(_pairs(group, spread) for group in groups), strict=True))
    weights /= weights.sum()
    ridge = settings.l2 * 1e-4

    def loss(line: Matrix) -> tuple[float, Matrix]:
        margins = pairs @ line
        value = float(weights @ np.logaddexp(0, -margins)) + ridge * float(line @ line)
        wrong = weights * (0.5 - 0.5 * np.tanh(margins / 2))
        return value, 2 * ridge * line - pairs.T @ wrong

    bounds = [(0 if sign > 0 else None, 0 if sign < 0 else None) for sign in _signs(settings)]
    found = minimize(loss, np.zeros(len(means)), jac=True, bounds=bounds, method="L-BFGS-B").x
    return Line(weights=(found / spread).tolist(), means=means.tolist())


def _pairs(group: _Group, spread: Matrix) -> tuple[Matrix, Matrix]:
    """Of each better and worse candidate the difference, float64 (n_pairs, n_features), and weights, one a query."""
    better, worse = np.nonzero(group.labels[:, None] > group.labels)
    gains = group.labels[better] - group.labels[worse]
    return (group.x[better] - group.x[worse]) / spread, group.weight * gains / gains.sum()
