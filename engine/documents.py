"""Documents beside a catalog: manuals, answers to frequent questions, reviews, the shop's own rules.

An index keeps them as passages that answers can cite.

A folder holds ``.jsonl`` files, an object a line with ``text`` and where known ``product_id``, ``kind``, ``title`` and
``question``; and Markdown or plain text, whose paragraphs are the passages and whose headings their titles. A Markdown
file that is named after a product's id is about that product; a heading that ends in a question mark is the question
that its paragraphs answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import CatalogError, IndexCorruptError
from engine.seams import Embeddings, Encoder
from engine.text import plain

DocumentKind = Literal["manual", "faq", "review", "policy"]

DOCUMENTS = "documents"  # of an index version that has some
_PASSAGES, _VECTORS = "passages.jsonl", "vectors.npy"
_SUFFIXES = (".jsonl", ".md", ".txt")
_LONGEST = 400  # characters of a passage; what is longer is cut where a sentence ends
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_HEADING = re.compile(r"#{1,6}\s+(.+)")
#: What a file's name says of its kind, the first that fits; a manual is what says nothing of it.
_KINDS: tuple[tuple[DocumentKind, str], ...] = (
    ("faq", r"faq|question|q&a"), ("review", r"review|rating"),
    ("policy", r"polic|return|refund|warrant|shipping|deliver"),
)  # fmt: skip


class DocumentPassage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``id`` is unique in an index. ``product_id`` is empty where it is about no one product. ``question`` is what the
    text answers, where that is known.
    """

    id: str
    kind: DocumentKind
    text: str
    product_id: str = ""
    title: str = ""
    question: str = ""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a JSONL file. ``id`` stands for its place where it is given."""

    text: str
    id: str = ""
    product_id: str = ""
    kind: DocumentKind | None = None
    title: str = ""
    question: str = ""


def read_documents(folder: Path, product_ids: Iterable[str]) -> list[DocumentPassage]:
    """The passages of all files below a folder, by name. Raises CatalogError naming the file and the line."""
    if not folder.is_dir():
        raise CatalogError(str(folder), None, None, "is no folder; name one with .jsonl, .md or .txt files")
    known = frozenset(product_ids)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    found = [passage for path in files for passage in _read(path, str(path.relative_to(folder)), known)]
    if not found:
        raise CatalogError(str(folder), None, None, "has no .jsonl, .md or .txt file with text")
    ids: set[str] = set()
    for passage in found:
        if passage.id in ids:
            raise CatalogError(str(folder), None, "id", f"{passage.id!r} is given twice; ids are unique")
        ids.add(passage.id)
    return found


def _read(path: Path, name: str, known: frozenset[str]) -> Iterator[DocumentPassage]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(str(path), None, None, f"cannot be read as UTF-8 text: {error}") from error
    if path.suffix.lower() == ".jsonl":
        yield from _rows(path, name, text, known)
    else:
        yield from _paragraphs(name, text, path.stem if path.stem in known else "")


def _rows(path: Path, name: str, text: str, known: frozenset[str]) -> Iterator[DocumentPassage]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=_Row)
        except msgspec.MsgspecError as error:
            raise CatalogError(str(path), number, None, str(error)) from error
        if row.product_id and row.product_id not in known:
            raise CatalogError(str(path), number, "product_id", f"the catalog has no product {row.product_id!r}")
        for part, piece in enumerate(_pieces(row.text)):
            start = row.id or f"{name}:{number}"
            yield DocumentPassage(
                id=f"{start}.{part}" if part else start, kind=row.kind or _kind(name), text=piece,
                product_id=row.product_id, title=row.title, question=row.question,
            )  # fmt: skip


def _paragraphs(name: str, text: str, product_id: str) -> Iterator[DocumentPassage]:
    heading, number = "", 0
    for block in re.split(r"\n\s*\n|\n(?=#)|(?<=\n)(?=[-*] )", text):
        lines = block.strip().splitlines()
        if lines and (match := _HEADING.fullmatch(lines[0].strip())):
            heading, lines = match[1].strip(), lines[1:]
        for piece in _pieces(" ".join(line.strip().lstrip("-*>").strip() for line in lines)):
            number += 1
            asks = heading.endswith("?")
            yield DocumentPassage(
                id=f"{name}#{number}", kind=_kind(name), text=piece, product_id=product_id, title=heading,
                question=heading if asks else "",
            )  # fmt: skip


def _kind(name: str) -> DocumentKind:
    return next((kind for kind, pattern in _KINDS if re.search(pattern, name, re.IGNORECASE)), "manual")


def _pieces(text: str) -> Iterator[str]:
    """A text without mark-up, in pieces that are not too long."""
    piece = ""
    for sentence in _SENTENCE.split(" ".join(plain(text).split())):
        if piece and len(piece) + len(sentence) >= _LONGEST:
            yield piece
            piece = ""
        piece = f"{piece} {sentence}".strip()
    if piece:
        yield piece


class DocumentStore:
    """The passages of an index version, and their vectors, float32 (n, dim), of unit length; None without an encoder.

    ``by_id`` has the passages by their ids.
    """

    def __init__(self, passages: tuple[DocumentPassage, ...], vectors: NDArray[np.float32] | None) -> None:
        self.passages, self.vectors = passages, vectors
        self.by_id = {passage.id: passage for passage in passages}

    def of(self, is_there: Callable[[str], bool]) -> DocumentStore:
        """Without the passages about products that are not there, by their ids."""
        kept = [place for place, one in enumerate(self.passages) if not one.product_id or is_there(one.product_id)]
        if len(kept) == len(self.passages):
            return self
        vectors = self.vectors[kept] if self.vectors is not None else None
        return DocumentStore(tuple(self.passages[place] for place in kept), vectors)

    @staticmethod
    def build(directory: Path, passages: Iterable[DocumentPassage], encoder: Encoder | None) -> str:
        """Writes below ``directory``, which is made; returns a note for people."""
        directory.mkdir()
        listed = list(passages)
        (directory / _PASSAGES).write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in listed))
        if encoder is not None:
            np.save(directory / _VECTORS, _encoded(encoder, listed), allow_pickle=False)
        counts = {kind: sum(one.kind == kind for one in listed) for kind in get_args(DocumentKind)}
        return f"{len(listed)} passages ({', '.join(f'{n} {kind}' for kind, n in counts.items() if n)})"

    @classmethod
    def open(cls, directory: Path) -> DocumentStore:
        """Reads what ``build`` wrote. Raises IndexCorruptError on anything else."""
        try:
            lines = (directory / _PASSAGES).read_bytes().splitlines()
            passages = tuple(msgspec.json.decode(line, type=DocumentPassage) for line in lines)
            path = directory / _VECTORS
            vectors = np.load(path, allow_pickle=False) if path.exists() else None
            if vectors is not None and (vectors.ndim != 2 or len(vectors) != len(passages)):
                raise ValueError(f"{_VECTORS} has {vectors.shape} numbers for {len(passages)} passages")
        except (OSError, ValueError, EOFError, msgspec.MsgspecError) as error:
            raise IndexCorruptError(f"the documents in {directory} cannot be read: {error}") from error
        return cls(passages, vectors)


def _encoded(encoder: Encoder, passages: Iterable[DocumentPassage]) -> Embeddings:
    return encoder.encode_queries([document_text(one) for one in passages])


def document_text(passage: DocumentPassage) -> str:
    """What is encoded of a passage."""
    return f"{passage.title}. {passage.text}".lstrip(". ")
