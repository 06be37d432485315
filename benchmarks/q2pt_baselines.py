"""What a query → type classifier must beat: majority, nearest name, nearest queries, and logistic regressions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from benchmarks.q2pt_sets import Task
from engine.errors import MissingExtraError
from engine.seams import Encoder
from qpt.calibration import Flags
from qpt.softmax import Matrix

_STRENGTH = 10.0  # inverse of the penalty: the best of 1, 10 and 100 on dev, which favours this baseline


def majority(task: Task, queries: Sequence[str]) -> Matrix:
    """Float32 (n, types): how often each type was asked for."""
    counts: Counter[str] = Counter()
    for example in task.learnt:
        counts[example.type_id] += example.weight  # type: ignore[assignment]
    return np.tile(np.array([counts[t] for t in task.types], np.float32), (len(queries), 1))


def names_by_cosine(task: Task, queries: Sequence[str], encoder: Encoder) -> Matrix:
    """Float32 (n, types): the cosine of a query's vector and that of the type's own name."""
    names = encoder.encode_queries([task.taxonomy.name(type_id) or " " for type_id in task.types])
    cosines: Matrix = encoder.encode_queries(queries) @ names.T
    return cosines


def tf_idf_regression(task: Task, queries: Sequence[str]) -> Matrix:
    """Float32 (n, types) by scikit-learn: TF-IDF of words, multinomial logistic regression."""
    with _scikit_learn():
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    columns = {type_id: column for column, type_id in enumerate(task.types)}
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    features = words.fit_transform([example.query for example in task.learnt])
    labels = np.array([columns[example.type_id] for example in task.learnt])
    model = LogisticRegression(C=_STRENGTH, max_iter=200)
    model.fit(features, labels, sample_weight=np.array([example.weight for example in task.learnt]))
    out = np.zeros((len(queries), len(task.types)), np.float32)
    out[:, model.classes_] = model.predict_proba(words.transform(queries))
    return out


def vector_regression(learnt: Matrix, right: Flags, asked: Matrix, strength: float) -> Matrix:
    """Float32 (asked, types) by scikit-learn: multinomial logistic regression on the encoder's vectors.

    A query with several of ``right``, bool (learnt, types), counts for each by an equal share.
    """
    with _scikit_learn():
        from sklearn.linear_model import LogisticRegression
    rows, columns = np.nonzero(right)
    model = LogisticRegression(C=strength, solver="newton-cg", max_iter=100)
    model.fit(learnt[rows], columns, sample_weight=1 / right.sum(axis=1)[rows])
    out = np.zeros((len(asked), right.shape[1]), np.float32)
    out[:, model.classes_] = model.predict_proba(asked)
    return out


def neighbour_votes(near: Matrix, right: Flags, k: int) -> Matrix:
    """Float32 (asked, types): cosines of the ``k`` nearest of the learnt with each type, as shares of their sum.

    ``near`` are cosines, float32 (asked, learnt); negative ones have no vote.
    """
    top = np.argsort(-near, axis=1, kind="stable")[:, :k]
    votes = np.zeros_like(near)
    np.put_along_axis(votes, top, np.maximum(np.take_along_axis(near, top, axis=1), 0), axis=1)
    shares = votes @ (right / right.sum(axis=1, keepdims=True)).astype(np.float32)
    out: Matrix = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
    return out


@contextmanager
def _scikit_learn() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError("bench", "scikit-learn") from error
