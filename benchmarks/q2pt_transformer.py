"""The fine-tuned transformer as a system of ``benchmarks.q2pt``: trained on the task, exported, and served."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from benchmarks.q2pt_sets import Task
from engine.catalog import read_catalog
from qpt.examples import from_catalog
from qpt.transformer_head import TransformerHead
from training.data.types import LabelledQueries, SourceReport, TypeData, TypeDataReport, held_out
from training.tasks.types import TypesRun, TypeTrainingSettings, train_on

_SHARE = 0.15  # of the queries that are learnt, held out to stop, calibrate and choose 8 bits by
_TRAINING = TypeTrainingSettings(threads=1)
_MADE, _MADE_EPOCHS = 3_000, 3  # queries made of a catalog where the task has one, and passes over them


def fine_tuned(task: Task, data: Path, run: Path, seed: int) -> TransformerHead:
    """Trains in the folder ``run``, or takes what was trained there, on what the task's other systems learn.

    They learn products as such; this one queries made of their titles, from the catalog in ``data``.
    """
    torch.set_num_threads(1)
    learnt, training = list(task.learnt), _TRAINING
    if task.products:
        types = dict(zip(task.products.product_ids, task.products.type_ids, strict=True))
        products = list(read_catalog(data / task.name / "corpus.jsonl.gz"))
        learnt = [e for e in learnt if not e.product_id] + from_catalog(products, types.get, most=_MADE)
        training = msgspec.structs.replace(training, epochs=_MADE_EPOCHS)
    queries, dev = held_out(LabelledQueries.of(learnt, task.types), _SHARE, seed)
    source = SourceReport(task.name, len({example.query for example in learnt}), len(learnt), "")
    report = TypeDataReport(
        [source], [], len(queries), len(dev), 0, len(task.types), int((~queries.right.any(axis=0)).sum()),
        task.taxonomy.fingerprint, {},
    )  # fmt: skip
    read = TypeData(task.taxonomy, task.types, queries, dev, report)
    config = TypesRun(name=f"q2pt-{task.name}", seed=seed, training=training)
    return TransformerHead(train_on(read, config, run, lambda *_: None).result.directory)
