"""Where figures were measured: processor, cores, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from benchmarks.indexes import installed
from benchmarks.sources import engine_sources
from engine.config import available_cores

_PACKAGES = (
    "numpy", "tantivy", "faiss-cpu", "onnxruntime", "tokenizers", "msgspec", "PyStemmer", "rapidfuzz", "ir-measures",
    "bm25s", "rank-bm25", "numba", "pyserini", "torch", "transformers", "sentence-transformers",
)  # fmt: skip


def machine() -> dict[str, object]:
    """For the result file. ``commit`` is empty outside a git checkout; ``load`` is the last minute's load average."""
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in _PACKAGES},
        "commit": _commit(),
        "engine_sources": engine_sources(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
