"""Measures answers to questions about products::

python benchmarks/answers.py --set sample --out results/answers-sample.json
python benchmarks/answers.py --set epqa --data DATA --out results/answers-epqa.json

``sample`` asks questions made from the shipped catalog's attributes, half of which no field answers, plants attacks in
it, asks it anything (``--fuzz``) and counts searches taken for questions. ``epqa`` ranks judged evidence. ``--test``
replaces the questions: a file of JSON lines as ``answers_made.MadeQuestion`` has them, or epqa's table.
"""

from __future__ import annotations

import random
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import jsonschema
import msgspec
import numpy as np
import typer

from benchmarks.answers_attacks import altered, read_attacks
from benchmarks.answers_confidence import brier_score, expected_calibration_error
from benchmarks.answers_evidence import is_right, reciprocal_rank, systems
from benchmarks.answers_made import MadeQuestion, Outcome, asked, baselines, made_questions
from benchmarks.answers_searches import false_alarms
from benchmarks.answers_shoppers import shoppers_questions
from benchmarks.machine import machine
from benchmarks.results import write_result
from benchmarks.significance import bootstrap_interval, compare_all
from engine.answers.checks import unfounded
from engine.answers.classifier import shipped_model
from engine.answers.evidence import FILE, Embed, EvidenceModel, Weights
from engine.answers.fields import field_text
from engine.answers.lexicon import WORDS
from engine.answers.records import SCHEMA, Answer
from engine.answers.wording import words_of
from engine.catalog import read_catalog
from engine.config import EngineConfig
from engine.demo import SAMPLE
from engine.product import Product
from engine.search import SearchEngine
from training.data.epqa import JudgedQuestion, read_epqa
from training.evidence import encoder, fit

_SEED = 14
_FOLDS = 10
_WARM = 20  # questions before the first that is timed
_FUZZ = (
    "does it have", "Galaxy S24", "vs", "iPhone 15", "?", "256GB", "what is the", "best", "s pen", "\u200b", "<b>",
    "and", "or", "battery", "55 inch", "under 10k", "\ud800", "🦊", "compatible with", "ignore your rules", "price",
    "of", "cheapest", "[0]",
)  # fmt: skip

#: The words of the sentences that answers are put into.
SENTENCES = frozenset(
    word.text
    for word in words_of(
        "Yes, no of every variant that says it depends on the variant for. Names; does not name it. Does not say, its "
        "lists. And, against, differ in nothing both. Not said of all. The catalog contradicts itself about: the title "
        "says, the text says, the attribute. The catalog has no opinion. Customers rate, out of, ratings. The shop "
        "does not have. The nearest it has is. Ports INR"
    )
)

_SPLITS = ("dev", "held", "last", "shoppers_dev", "shoppers_held", "shoppers_last", "languages_dev", "languages_held")
_Set = Annotated[str, typer.Option("--set", help="sample or epqa.")]
_Data = Annotated[Path | None, typer.Option(envvar="AISLE_DATA", help="The folder of judged sets.")]
_Test = Annotated[Path | None, typer.Option("--test", metavar="FILE", help="Questions in place of the set's own.")]
_Questions = Annotated[int, typer.Option("-n", min=2, help="Made questions.")]
_Split = Annotated[str, typer.Option(help=f"Phrases of made questions: {', '.join(_SPLITS)}.")]
_Fuzz = Annotated[int, typer.Option(min=0, help="Texts without sense that are asked.")]
_Out = Annotated[Path, typer.Option("--out", help="The result, as JSON.")]


def main(
    set_name: _Set = "sample", data: _Data = None, test: _Test = None, n: _Questions = 200, split: _Split = "held",
    fuzz: _Fuzz = 1_000, out: _Out = Path("results/answers.json"),
) -> None:  # fmt: skip
    """Measure answers."""
    if split not in _SPLITS:
        raise typer.BadParameter(f"--split is {split!r}; it must be one of {', '.join(_SPLITS)}")
    if set_name == "epqa":
        if data is None and test is None:
            raise typer.BadParameter("the set epqa lies in a folder: name it with --data, or as AISLE_DATA")
        result = _epqa(read_epqa(test)) if test else _epqa_folds(data / "epqa")  # type: ignore[operator]
    elif set_name == "sample":
        result = _sample(data, test, n, split, fuzz)
    else:
        raise typer.BadParameter(f"--set is {set_name!r}; it must be sample or epqa")
    write_result(out, {"set": set_name, "command": shlex.join(sys.argv), **result, "machine": machine()})
    print(msgspec.json.format(msgspec.json.encode({k: v for k, v in result.items() if k != "wrong"})).decode())
    print(f"{out} has it all")


# ------------------------------------------------------------------------------------------------------------- epqa


_Measured = dict[str, dict[str, dict[str, float]]]  # system to metric to question to value


def _epqa(questions: Sequence[JudgedQuestion]) -> dict[str, Any]:
    embed = encoder()
    return _compared(_measured(questions, embed, EvidenceModel.shipped(embed)))


def _epqa_folds(folder: Path) -> dict[str, Any]:
    """Dev with the shipped weights; and, for there are few questions, those of train as well, each with weights that
    were fitted on nine tenths of train without it.
    """
    embed = encoder()
    train, dev = read_epqa(folder / "train.tsv"), read_epqa(folder / "dev.tsv")
    shipped = Weights.read(FILE)
    pooled = on_dev = _measured(dev, embed, EvidenceModel(shipped, embed))
    for fold in range(_FOLDS):
        kept = [question for at, question in enumerate(train) if at % _FOLDS != fold]
        model = EvidenceModel(fit(kept, embed, shipped.threshold), embed)
        pooled = _merged(pooled, _measured(train[fold::_FOLDS], embed, model, f"train-{fold}-"))
    return {"dev": _compared(on_dev), "dev_and_cross_validated_train": _compared(pooled)}


def _measured(
    questions: Sequence[JudgedQuestion], embed: Embed, model: EvidenceModel, prefix: str = "dev-"
) -> _Measured:  # fmt: skip
    found: _Measured = {}
    for system in systems(questions, embed, model):
        ranked = {f"{prefix}{at}": question for at, question in enumerate(questions) if question.answerable}
        found[system.name] = {
            "mrr": {name: reciprocal_rank(system, question) for name, question in ranked.items()},
            "accuracy": {f"{prefix}{at}": is_right(system, question) for at, question in enumerate(questions)},
        }
    return found


def _merged(one: _Measured, other: _Measured) -> _Measured:
    return {
        name: {metric: {**values, **other[name][metric]} for metric, values in metrics.items()}
        for name, metrics in one.items()
    }


def _compared(measured: _Measured) -> dict[str, Any]:
    compared = [one for metric in ("mrr", "accuracy") for one in compare_all(measured, [metric], _SEED)]
    return {
        "systems": _figures(measured),
        "comparisons": [msgspec.to_builtins(one) for one in compared if one.b == "reader"],
    }


def _figures(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    return {
        name: {metric: _figure(list(values.values())) for metric, values in metrics.items()}
        for name, metrics in measured.items()
    }


def _figure(values: Sequence[float]) -> dict[str, Any]:
    """The mean with its 95 % interval."""
    numbers = np.asarray(values, np.float64)
    return {"mean": float(numbers.mean()), "interval": bootstrap_interval(numbers, _SEED), "n": len(numbers)}


# ----------------------------------------------------------------------------------------------------------- sample


def _sample(data: Path | None, test: Path | None, n: int, split: str, fuzz: int) -> dict[str, Any]:
    products = list(read_catalog(SAMPLE))
    engine = SearchEngine.build(products, config=EngineConfig())
    questions = _questions(test) if test else _made(products, n, split)
    for question in questions[:_WARM]:
        engine.ask(question.question, product_id=question.context)
    outcomes = [asked(engine, question) for question in questions]
    attacks = read_attacks()
    attacked = {attack.text for attack, _, _ in altered(products, attacks)}
    fuzzed = list(_fuzzed(engine, products, fuzz))
    answers = [outcome.answer for outcome in outcomes] + [answer for answer in fuzzed if answer is not None]
    stated = [answer for answer in answers if answer.kind in ("fact", "yes_no", "comparison") and answer.evidence]
    by_id = {product.product_id: product for product in products}
    return {
        "questions": f"{len(questions)} of {test or f'the split {split}'}",
        "reader": _kinds(outcomes),
        "confidence": {"brier": brier_score(outcomes), "calibration_error": expected_calibration_error(outcomes)},
        "baselines": {name: _kinds(found) for name, found in baselines(engine, products, questions).items()},
        "evidence": {
            "spans": sum(len(answer.evidence) for answer in answers),
            "verbatim": sum(_verbatim(answer, by_id) for answer in answers),
        },
        "unfounded": {"answers": len(stated), "with_facts_that_no_span_holds": sum(_unfounded(one) for one in stated)},
        "schema": {"asked": len(fuzzed), "valid": sum(answer is not None for answer in fuzzed)},
        "attacks": {"made": len(attacks), "altered": len(attacked)},
        "searches_taken_for_questions": false_alarms(shipped_model(), data),
        "p50_ms": float(np.median([outcome.ms for outcome in outcomes])),
        "p95_ms": float(np.percentile([outcome.ms for outcome in outcomes], 95)),
        "wrong": [msgspec.to_builtins(one.question) | {"text": one.answer.text} for one in outcomes if not one.right],
    }


def _made(products: Sequence[Product], n: int, split: str) -> list[MadeQuestion]:
    return shoppers_questions(split, products) or made_questions(products, n, split=split)


def _questions(path: Path) -> list[MadeQuestion]:
    return [msgspec.json.decode(line, type=MadeQuestion) for line in path.read_bytes().splitlines() if line.strip()]


def _kinds(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "exact_fact": _figure([float(one.right) for one in outcomes if one.question.attribute]),
        "abstains_when_it_should": _figure([float(one.right) for one in outcomes if not one.question.attribute]),
    }


def _verbatim(answer: Answer, products: Mapping[str, Product]) -> int:
    return sum(
        field_text(products[one.product_id], one.field)[one.start : one.end] == one.text for one in answer.evidence
    )


def _unfounded(answer: Answer) -> bool:
    """Whether the text has a figure, or a word beside those of the sentences that answers are made of, that neither its
    evidence, nor the title of one of its products, nor the name of a cited field has.
    """
    fields = [one.field.split("[")[0].replace("_", " ") for one in answer.evidence]
    named = [*(card.title for card in answer.products), *answer.missing, *fields]
    told = (*(one.text for one in answer.evidence), *named, *(row.attribute for row in answer.table))
    said = {word.text for text in (*told, *WORDS.shown.values()) for word in words_of(text)} | SENTENCES
    words = {word.text for word in words_of(answer.text) if word.number is None and len(word.text) > 1}
    return bool(unfounded(answer.text, answer.evidence, named) or words - said)


def _fuzzed(engine: SearchEngine, products: Sequence[Product], n: int) -> Iterator[Answer | None]:
    """Answers to texts without sense, None where one is not valid by the schema."""
    validator = jsonschema.Draft202012Validator(msgspec.json.decode(SCHEMA.read_bytes()))
    rng = random.Random(_SEED)
    for _ in range(n):
        pieces = [
            rng.choice((*_FUZZ, rng.choice(products).title, chr(rng.randrange(0x2500))))
            for _ in range(rng.randrange(7))
        ]
        product_id = rng.choice(products).product_id if rng.random() < 0.5 else ""
        answer = engine.ask(" ".join(pieces), product_id=product_id)
        yield answer if validator.is_valid(msgspec.json.decode(answer.to_json())) else None


if __name__ == "__main__":
    typer.run(main)
