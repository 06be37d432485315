"""Profiles reranking: how long Aisle and its peers take to score candidates, and how well deadlines are kept::

python benchmarks/latency.py --reranker my-reranker --peer-model my-run/best --out results/latency.json
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: the repository is what is imported from, not this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import msgspec
import typer
from rich.console import Console

from benchmarks import latency_report, options
from benchmarks.data import SAMPLE, SearchSet, load_set
from benchmarks.indexes import Workbench, default_root
from benchmarks.latency_plan import Plan, lengths, numbers
from benchmarks.progress import Bars
from benchmarks.report import show
from engine.config import EngineConfig, IndexConfig, available_cores
from engine.errors import MissingExtraError


def main(
    reranker: options.Reranker = IndexConfig().reranker,
    peer_model: options.PeerModel = None,
    set_name: options.Set = SAMPLE,
    split: options.Split = None,
    data: options.Data = None,
    candidates: options.Candidates = "10,20,50,100,200",
    threads: options.Threads = "1,2",
    token_lengths: options.Lengths = "16,32,48,real",
    deadlines: options.Deadlines = "5,10,20,50,100",
    rounds: options.Rounds = 4,
    seconds: options.Seconds = 1.0,
    quick: options.Quick = False,
    onepass: options.OnePass = None,
    listwise: options.Listwise = None,
    config: options.Config = None,
    index: options.Index = None,
    out: options.ProfileOut = Path("results/latency.json"),
    seed: options.Seed = 1,
    as_json: options.Json = False,
) -> None:
    """Measure how fast candidates are reranked: Aisle in fp32 and int8, and the same model by its peers.

    Every number of candidates is combined with every number of threads and every length. The peers take turns with
    Aisle at the last length: sentence-transformers' CrossEncoder in fp32 and bf16, and onnxruntime alone in int8.
    Then all cores search at once, by each deadline. It needs the extras train and bench, and an idle machine.

    Example: python benchmarks/latency.py --reranker my-reranker --peer-model my-run/best --seconds 5
    """
    errors = Console(stderr=True)
    with options.errors_to(errors):
        usable = tuple(n for n in numbers("--threads", threads) if n <= available_cores())
        plan = Plan(
            reranker, peer_model, numbers("--candidates", candidates), usable, lengths(token_lengths),
            numbers("--deadlines", deadlines), rounds, seconds, seed, out, shlex.join(["python", *sys.argv]),
        )  # fmt: skip
        search_set = load_set(set_name, split or ("synthetic" if set_name == SAMPLE else "dev"), data, relevant=1)
        base = EngineConfig.read(config) if config else EngineConfig()
        served = msgspec.structs.replace(base, index=msgspec.structs.replace(base.index, reranker=reranker))
        with Bars(errors) as bars:
            bench = Workbench(
                search_set.corpus, served, index or default_root(), bars.report, bars.say,
                lists=options.lists(onepass, listwise),
            )  # fmt: skip
            result = _profile(search_set, bench, plan.quick() if quick else plan, bars)
    show(result, latency_report.tables(result), out, as_json=as_json)


def _profile(search_set: SearchSet, bench: Workbench, plan: Plan, bars: Bars) -> dict[str, Any]:
    try:
        from benchmarks.profiling import profile  # loads torch, which --help and wrong options need not wait for
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch") from error
    return profile(search_set, bench, plan, bars)


if __name__ == "__main__":
    typer.run(main)
