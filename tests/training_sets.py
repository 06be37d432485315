"""A task that can be learnt in seconds: a query for a phone wants phones, and neither their cases nor anything else."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import BertConfig, BertModel

from engine.product import Product, to_json
from tests.conftest import synthetic_products
from tests.word_tokenizer import word_tokenizer
from training.tasks.reranker import RerankerConfig

N_QUERIES = 24


def write_base(directory: Path, texts: Iterable[str] | None = None) -> Path:
    """A BERT of two narrow layers, of random weights, over the words of ``texts``, or of the synthetic products."""
    tokenizer = word_tokenizer(texts or (f"{p.title} {p.description}" for p in synthetic_products()))
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def write_set(directory: Path, first: int = 100) -> Path:
    """A search set: ``corpus.jsonl``, ``queries.tsv`` and ``qrels.txt``, where phones are 3, their cases 1, others 0.

    Every query has a number, from ``first``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    products = synthetic_products()
    (directory / "corpus.jsonl").write_bytes(b"\n".join(map(to_json, products)))
    queries, qrels = [], []
    draw = random.Random(3)
    for number in range(N_QUERIES):
        queries.append(f"q{number}\t{'Acme' if number % 2 else 'Globex'} phone {first + 4 * number}\n")
        judged = draw.sample(products, 10)
        qrels += [f"q{number} 0 {product.product_id} {grade(product)}\n" for product in judged]
    (directory / "queries.tsv").write_text("".join(queries))
    (directory / "qrels.txt").write_text("".join(qrels))
    return directory


def grade(product: Product) -> int:
    return {"Phones": 3, "Cases": 1}.get(product.category[-1], 0)


def settings(base: Path, data: Path, **more: Any) -> RerankerConfig:
    """A configuration that learns the set in a few seconds; ``more`` are tables that are merged into it."""
    tables: dict[str, Any] = {
        "name": "tiny",
        "seed": 5,
        "model": {"base": str(base), "query_tokens": 8, "product_tokens": 24, "freeze_embeddings": False},
        "source": [
            {
                "kind": "judged",
                "catalog": str(data / "corpus.jsonl"),
                "queries": str(data / "queries.tsv"),
                "qrels": str(data / "qrels.txt"),
                "labels": {"3": 1.0, "1": 0.3, "0": 0.0},
                "license": "made up",
            }
        ],
        "dev": {"share": 0.25},
        "training": {
            "epochs": 6, "pairs_per_batch": 24, "learning_rate": 0.005, "threads": 1, "bf16": "off",
            "checkpoint_minutes": 0.0, "patience": 0,
        },
    }  # fmt: skip
    for name, value in more.items():
        tables[name] = tables[name] | value if isinstance(tables.get(name), dict) else value
    return msgspec.convert(json.loads(json.dumps(tables)), RerankerConfig)
