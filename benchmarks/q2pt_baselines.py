"""What a query → type classifier must beat: the majority, TF-IDF with logistic regression, and the nearest name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.q2pt_sets import Task
from engine.errors import MissingExtraError
from engine.seams import Encoder
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
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError("bench", "scikit-learn") from error
    columns = {type_id: column for column, type_id in enumerate(task.types)}
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    features = words.fit_transform([example.query for example in task.learnt])
    labels = np.array([columns[example.type_id] for example in task.learnt])
    model = LogisticRegression(C=_STRENGTH, max_iter=200)
    model.fit(features, labels, sample_weight=np.array([example.weight for example in task.learnt]))
    out = np.zeros((len(queries), len(task.types)), np.float32)
    out[:, model.classes_] = model.predict_proba(words.transform(queries))
    return out
