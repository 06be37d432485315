"""Curation as one run: reads the inputs, takes the steps, publishes what is left.

The folder that comes out has

- ``examples.jsonl.gz``: query, label and product of each pair, as ``training.data.examples`` reads them, and ``from``,
  the lines it is of, by file;
- ``products.jsonl.gz``: the products that are left, a catalog to draw negatives from;
- ``report.json`` and ``report.md``: rows in and out, by step and rule;
- ``manifest.json``: the settings, and the SHA-256 of every file read and written.

It appears whole or not at all. The same inputs and settings give the same bytes.
"""

from __future__ import annotations

import gzip
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import msgspec

from engine.errors import ConfigError
from engine.product import to_json
from engine.storage.manifest import FileEntry, checksum
from training.curation.clicks import ClicksStep
from training.curation.inputs import AnyInput, LogInput, QueriesInput, read_inputs, row_files
from training.curation.report import Report, StepReport, Tally, markdown
from training.curation.rows import Impressions, Rows
from training.curation.sessions import SessionsStep
from training.curation.step import Context, merge_pairs
from training.curation.steps import AnyStep
from training.curation.taught import LabelStep
from training.data.sources import Catalogs
from training.settings import Progress, Settings

EXAMPLES = "examples.jsonl.gz"
PRODUCTS = "products.jsonl.gz"
REPORT = "report.json"
PAGE = "report.md"
MANIFEST = "manifest.json"


class CurationConfig(Settings, frozen=True, kw_only=True):
    """All settings of a curation: inputs, and steps in the order they are taken. ``seed`` is of all chance."""

    name: str
    seed: int = 0
    input: tuple[AnyInput, ...]
    step: tuple[AnyStep, ...] = ()

    def __post_init__(self) -> None:
        if not self.input:
            raise ValueError("input is empty; name at least one [[input]]")
        labelled = [number for number, step in enumerate(self.step) if isinstance(step, ClicksStep)]
        if any(isinstance(source, LogInput) for source in self.input) and not labelled:
            raise ValueError("an input of kind 'log' has no labels; add a [[step]] of kind 'clicks', which gives them")
        unjudged = any(isinstance(source, QueriesInput) for source in self.input)
        if unjudged and not any(isinstance(step, LabelStep) for step in self.step):
            raise ValueError(
                "an input of kind 'queries' has no labels; add a [[step]] of kind 'label', which gives them"
            )
        late = [step for step in self.step[labelled[0] :] if isinstance(step, SessionsStep)] if labelled else []
        if late:
            raise ValueError("the step 'sessions' comes after 'clicks', where sessions are gone; put it before")

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read, each once."""
        return tuple(dict.fromkeys(path for source in self.input for path in source.files))


class Manifest(msgspec.Struct, kw_only=True):
    """``manifest.json``. Inputs are named as the configuration names them, outputs by their place in the folder."""

    name: str
    aisle: str
    config: CurationConfig
    inputs: dict[str, FileEntry]
    licenses: list[str]
    files: dict[str, FileEntry]


class _Row(msgspec.Struct, omit_defaults=True):
    """``origins`` are lines by file; of a query that was made, ``made_of`` is the product."""

    query_id: str
    query: str
    label: float | None
    product: msgspec.Raw
    origins: dict[str, list[int]] = msgspec.field(name="from")
    made_of: str = ""


def curate(config: CurationConfig, out: Path, progress: Progress = lambda task, done, total, detail="": None) -> Report:
    """Curates into the folder ``out``, which is new or was written by an earlier curation, and is then replaced.

    Raises ConfigError where ``out`` is something else or a step cannot work, where a file cannot be read, or nothing is
    left; and ExamplesError or CatalogError naming file, line and field of a row that cannot be used.
    """
    _require_ours(out)
    inputs = {path: _input(path) for path in config.files}
    rows, report = run_steps(config, progress)
    if not rows.pairs:
        lost = "; ".join(_losses(report.steps))
        raise ConfigError(f"{config.name}: no pair is left, and nothing was written. Dropped were: {lost or 'none'}")
    with _published(out) as folder:
        _write(folder / EXAMPLES, _examples(rows))
        _write(folder / PRODUCTS, map(to_json, rows.products.values()))
        (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        page = markdown(report, {path: entry.sha256 for path, entry in inputs.items()})
        (folder / PAGE).write_text(page, encoding="utf-8")
        manifest = Manifest(
            name=config.name, aisle=metadata.version("aisle"), config=config, inputs=inputs,
            licenses=sorted({source.license for source in config.input if source.license}),
            files={path.name: checksum(path) for path in sorted(folder.iterdir())},
        )  # fmt: skip
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return report


def run_steps(config: CurationConfig, progress: Progress) -> tuple[Rows, Report]:
    """The rows that are left when all steps are taken, each pair once, and what was counted on the way."""
    catalogs = Catalogs()
    files = row_files(config.input)
    rows = Rows(files, Impressions.none(), (), {})
    tally = Tally("read", files)
    read = read_inputs(config.input, catalogs, tally, config.seed, progress)
    reports, rows, propensities = [tally.report(rows, read)], read, None
    for number, step in enumerate(config.step):
        kind = type(step).__struct_config__.tag
        progress(f"step {kind}", number, len(config.step))
        tally = Tally(str(kind), files)
        after = step.apply(rows, Context(tally, catalogs, config.seed, progress))
        reports.append(tally.report(rows, after))
        rows, propensities = after, tally.propensities or propensities
    tally = Tally("merge", files)
    merged = merge_pairs(rows, tally)
    reports.append(tally.report(rows, merged))
    tenths = Counter(min(int(pair.label * 10), 9) for pair in merged.pairs if pair.label is not None)
    return merged, Report(
        name=config.name, steps=reports, propensities=propensities, queries=len({pair.query for pair in merged.pairs}),
        pairs=len(merged.pairs), products=len(merged.products), labels=[tenths[place] for place in range(10)],
    )  # fmt: skip


def _losses(steps: list[StepReport]) -> Iterator[str]:
    for step in steps:
        for flow in step.flows:
            for rule, affected in flow.dropped.items():
                yield f"{affected.count:,} {flow.unit} by {step.step}, {rule}"


# Files


def _input(path: str) -> FileEntry:
    try:
        return checksum(Path(path))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; the configuration names it") from error


def _examples(rows: Rows) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for pair in rows.pairs:
        lines: dict[str, list[int]] = {}
        for file, line in dict.fromkeys(pair.origins):
            lines.setdefault(rows.files[file], []).append(line)
        product = msgspec.Raw(to_json(rows.products[pair.product_id]))
        query_id, made_of = pair.query, ""
        if pair.made is not None:
            query_id, made_of = f"synthetic-{pair.made.kind}-{pair.query}", pair.made.product_id
        yield encode(_Row(query_id, pair.query, pair.label, product, lines, made_of))


def _write(path: Path, lines: Iterable[bytes]) -> None:
    # Without a time and a name in the head, the same rows are the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        packed.writelines(line + b"\n" for line in lines)


def _require_ours(out: Path) -> None:
    if out.exists() and not (out / MANIFEST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there and no curated set; give another --out, or move it away")


@contextmanager
def _published(out: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``out`` on a clean exit, and on any error leaves no trace."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(Path(scratch) / "old")  # deleted with the scratch folder
        try:
            folder.rename(out)
        except OSError:
            if (Path(scratch) / "old").exists():
                (Path(scratch) / "old").rename(out)
            raise
