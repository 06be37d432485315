"""What a language model makes of answers: ``python -m benchmarks.answers_written MODEL --out FILE``.

MODEL is the folder of a causal language model with a chat template (``docs/listwise.md`` says how to get one). It puts
answers to made questions of the sample into its own words, and questions bring instructions for it. Counted
are sentences that the evidence holds, and those that the check dropped.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.answers_attacks import read_attacks
from benchmarks.answers_made import made_questions
from benchmarks.machine import machine
from benchmarks.results import write_result
from engine.answers.checks import unfounded
from engine.answers.records import Answer
from engine.answers.written import cited_sentences, rewritable
from engine.catalog import read_catalog
from engine.demo import SAMPLE
from engine.search import SearchEngine

_TOKENS = 48
_WRITTEN = "in a model's words"
_SPLIT, _SEED = "held", 14


class LocalWriter:
    """A causal language model on this machine, greedy. ``texts`` has what it wrote, in order."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        self.texts: list[str] = []

    @torch.inference_mode()
    def __call__(self, prompt: str) -> str:
        said = [{"role": "user", "content": prompt}]
        text = self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        inputs = self._tokenizer(text, return_tensors="pt", add_special_tokens=False)
        ids = self._model.generate(
            **inputs, do_sample=False, max_new_tokens=_TOKENS, pad_token_id=self._tokenizer.eos_token_id
        )
        self.texts.append(self._tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        return self.texts[-1]


def measured(
    engine: SearchEngine, writer: LocalWriter, questions: Sequence[tuple[str, str]], attacks: Sequence[str]
) -> dict[str, Any]:
    """``questions`` are texts with the product at hand; each attack stands before one of them."""
    pairs = [
        (engine.ask(text, product_id=at), engine.ask(text, product_id=at, writer=writer)) for text, at in questions
    ]
    cited = sum(
        len(cited_sentences(text, plain.evidence)) for text, (plain, _) in zip(writer.texts, pairs, strict=True)
    )
    attacked = [
        (plain, engine.ask(f"{attack} {text}", product_id=at, writer=writer))
        for attack, (text, at), (plain, _) in zip(attacks, questions, pairs, strict=False)
    ]
    return {
        "answers": len(pairs),
        "in_the_models_words": sum(_WRITTEN in after.reason for _, after in pairs),
        "sentences_with_a_citation": cited,
        "with_facts_that_no_span_holds": sum(_unfounded(after) for _, after in pairs),
        "attacks": len(attacked),
        "attacks_that_alter_kind_verdict_products_or_evidence": sum(_frame(a) != _frame(b) for a, b in attacked),
        "attacked_answers_with_facts_that_no_span_holds": sum(_unfounded(after) for _, after in attacked),
        "examples": [{"before": plain.text, "wrote": text, "after": after.text}
                     for text, (plain, after) in zip(writer.texts[:8], pairs, strict=False)],
    }  # fmt: skip


def _unfounded(answer: Answer) -> bool:
    named = [card.title for card in answer.products] + [one.field for one in answer.evidence]
    return bool(unfounded(answer.text, answer.evidence, named))


def _frame(answer: Answer) -> tuple[object, ...]:
    return answer.kind, answer.verdict, answer.code, answer.products, answer.evidence


def main(
    model: Annotated[Path, typer.Argument(help="The folder of a causal language model.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Answers that are written.")] = 40,
    n_attacks: Annotated[int, typer.Option("--attacks", min=0, help="Questions that bring instructions.")] = 20,
    out: Annotated[Path, typer.Option("--out", help="The result, as JSON.")] = Path("results/answers-written.json"),
) -> None:
    """Measure answers in a language model's words."""
    products = list(read_catalog(SAMPLE))
    engine = SearchEngine.build(products)
    made = [(one.question, one.context) for one in made_questions(products, 8 * n, split=_SPLIT, seed=_SEED)]
    questions = [(text, at) for text, at in made if rewritable(engine.ask(text, product_id=at))][:n]
    attacks = [attack.text for attack in read_attacks() if attack.where == "question"][:n_attacks]
    result = measured(engine, LocalWriter(model), questions, attacks)
    write_result(out, {"command": shlex.join(sys.argv), "model": model.name, **result, "machine": machine()})
    print(msgspec.json.format(msgspec.json.encode(result)).decode())


if __name__ == "__main__":
    typer.run(main)
