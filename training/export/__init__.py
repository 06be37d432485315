"""What every converted model has in common: a directory with a graph, a tokenizer and a card, published whole."""

from __future__ import annotations

import hashlib
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import torch
from tokenizers import Tokenizer
from torch.jit._trace import TracerWarning
from transformers.utils import logging as transformers_logging

from engine.adapters import ADAPTABLE
from engine.errors import AisleError, ConfigError, ModelError

MODEL, TOKENIZER, README = "model.onnx", "tokenizer.json", "README.md"
OPSET = 17
INPUTS = ("input_ids", "attention_mask")


@contextmanager
def publishing(out: Path, card: str, kind: str) -> Iterator[Path]:
    """A directory to write into, which becomes ``out`` at the end, or nothing does.

    Raises ConfigError where ``out`` is there and, without a file ``card``, no ``kind`` directory that may be replaced.
    """
    if out.exists() and not (out / card).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there and is no {kind} directory; name another, it would be overwritten")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    work = out.absolute().parent / f".{out.name}-{uuid.uuid4().hex[:8]}"
    work.mkdir()
    try:
        yield work
        _publish(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _publish(work: Path, out: Path) -> None:
    """Moves ``work`` to ``out``; what was there goes away only when that has worked."""
    before = work.with_name(f"{work.name}.before")
    if out.exists():
        out.rename(before)
    try:
        work.rename(out)
    except OSError as error:
        if before.exists():
            before.rename(out)
        raise AisleError(f"cannot write {out}: {error.strerror}") from error
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keeps transformers from drawing bars while it loads."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """For few texts at a time: more threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_tokenizer(tokenizer: Any, work: Path, name: str) -> Tokenizer:
    """Writes a transformers tokenizer as ``tokenizer.json`` that neither cuts nor pads. Raises ModelError."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"{name} has a tokenizer without a tokenizer.json; only such can be served")
    served = Tokenizer.from_str(backend.to_str())
    served.no_truncation()
    served.no_padding()
    served.save(str(work / TOKENIZER))
    return served


def write_graph(model: torch.nn.Module, ids: torch.Tensor, output: str, work: Path, name: str) -> None:
    """Traces ``model`` (ids and mask in, ``output`` out, all with any number of rows) to fp32 ``model.onnx``.

    ``ids``, int64 (n, tokens), are an example. Raises ModelError naming ``name``.
    """
    axes = {**{n: {0: "batch", 1: "tokens"} for n in INPUTS}, output: {0: "batch"}}
    trace(model, (ids, torch.ones_like(ids)), work / MODEL, INPUTS, output, axes, name)


def trace(
    model: torch.nn.Module, example: tuple[torch.Tensor, ...], path: Path, inputs: Sequence[str],
    output: str | Sequence[str], axes: Mapping[str, Mapping[int, str]], name: str,
) -> None:  # fmt: skip
    """Writes the graph of ``model`` on ``example``; ``axes`` are those of any size. Raises ModelError."""
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore", TracerWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx|transformers")
            warnings.filterwarnings("ignore", message="You are using the legacy TorchScript-based ONNX export")
            warnings.filterwarnings("ignore", message="Exporting aten::index operator")  # no index is negative here
            torch.onnx.export(
                model, example, str(path), dynamo=False, opset_version=OPSET, input_names=list(inputs),
                output_names=[output] if isinstance(output, str) else list(output), dynamic_axes=axes,
            )  # fmt: skip
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{name} cannot be exported to ONNX: {first_line(error)}") from error


def checksums(work: Path, *more: str) -> dict[str, str]:
    """Of the graphs and the tokenizer that are there now, and of the files named."""
    there = [name for name in (MODEL, TOKENIZER, ADAPTABLE, *more) if (work / name).exists()]
    return {name: hashlib.sha256((work / name).read_bytes()).hexdigest() for name in there}


def files_table(sha256: Mapping[str, str], work: Path) -> list[str]:
    """Markdown: what a model's directory holds."""
    sizes = {name: "text" if name == TOKENIZER else f"{(work / name).stat().st_size / 1e6:.1f} MB" for name in sha256}
    rows = (f"| {name} | {sizes[name]} | `{digest}` |" for name, digest in sha256.items())
    return ["## Files", "", "| | size | SHA-256 |", "|---|---|---|", *rows]


def tools() -> str:
    """Markdown: what made it."""
    versions = (
        f"{name} {metadata.version(name).partition('+')[0]}" for name in ("torch", "transformers", "onnxruntime")
    )
    return f"- Tools: {', '.join(versions)}."


def write_json(path: Path, data: msgspec.Struct) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n")


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def power_of_ten(value: float) -> str:
    """An upper bound, for the last bits of a float differ from machine to machine."""
    bound = 1e-7
    while value > bound:
        bound *= 10
    return f"under {bound:.0e}"
