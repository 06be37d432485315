"""The cross-encoder: its seam's contract, deadlines, the cache, the token store, model directories that cannot work."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import IndexCorruptError, ModelError
from engine.product import Product
from engine.text import encoded_text
from ranking.cache import ScoreCache
from ranking.card import CARD
from ranking.cross_encoder import UNHURRIED, CrossEncoder, CrossEncoderModel, batches_of
from ranking.pool import FairPool
from ranking.tokens import TokenStore
from tests.conftest import synthetic_products
from tests.reranker_contract import QUERY, N, PointwiseContract
from tests.rerankers import SlowSession, seal, write_model

SLACK = 0.25  # seconds beyond a deadline; generous, so that a busy machine does not fail it


def until(condition: Callable[[], object]) -> None:
    deadline = time.perf_counter() + 10
    while not condition():
        assert time.perf_counter() < deadline
        time.sleep(1e-3)


@pytest.fixture(scope="module")
def store(reranker_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the model keeps of the synthetic products."""
    directory = tmp_path_factory.mktemp("rerank")
    CrossEncoderModel(reranker_directory).build(directory, synthetic_products())
    return directory


class TestCrossEncoder(PointwiseContract):
    @pytest.fixture
    def reopen(self, reranker_directory: Path, store: Path) -> Callable[[], CrossEncoder]:
        return lambda: CrossEncoderModel(reranker_directory).open(store, 2)

    @pytest.fixture
    def subject(self, reopen: Callable[[], CrossEncoder]) -> CrossEncoder:
        return reopen()

    def test_the_card_calibrates(self, tmp_path: Path, store: Path, subject: CrossEncoder) -> None:
        directory = write_model(tmp_path, synthetic_products(), scale=0.5, offset=-1.0)
        rows = np.arange(N)
        plain = subject.score(QUERY, rows, None).scores.astype(np.float64)
        calibrated = CrossEncoderModel(directory).open(store, 1).score(QUERY, rows, None).scores
        logits = np.log(plain / (1 - plain))
        np.testing.assert_allclose(calibrated, 1 / (1 + np.exp(1.0 - 0.5 * logits)), atol=1e-4)

    def test_a_long_query_leaves_the_product_whole(self, reranker_directory: Path, store: Path) -> None:
        model = CrossEncoderModel(reranker_directory)
        seen = _Seen(model.session)
        model.session = seen
        reranker = model.open(store, 1)
        reranker.score("acme " * 500, np.array([1]), None)
        tokens = model.tokenizer.encode(encoded_text(synthetic_products()[1]), add_special_tokens=False).ids[:24]
        acme = model.tokenizer.token_to_id("acme")
        assert seen.last == [2, *[acme] * 8, 3, *tokens, 3]


class _Seen:
    """A session that keeps the ids of the last row it was given."""

    def __init__(self, session) -> None:
        self._session, self.last = session, []

    def run(self, names, feeds):
        self.last = feeds["input_ids"][-1].tolist()
        return self._session.run(names, feeds)


class TestDeadlines:
    """With a model that takes five milliseconds a row, whatever else the machine does."""

    @pytest.fixture
    def slow(self, reranker_directory: Path, store: Path) -> tuple[CrossEncoder, SlowSession]:
        model = CrossEncoderModel(reranker_directory)
        session = SlowSession(model.session, 0.005)
        model.session = session
        return model.open(store, 2), session

    def test_the_best_placed_that_fit_are_scored(self, slow) -> None:
        reranker, _ = slow
        started = time.perf_counter()
        scores = reranker.score(QUERY, np.arange(100), started + 0.12).scores
        assert time.perf_counter() - started < 0.12 + SLACK
        known = np.flatnonzero(np.isfinite(scores))
        assert 0 < len(known) < 60
        assert known.max() < 64  # 48 fit by the clock

    def test_a_sudden_slowness_is_not_waited_for(self, slow) -> None:
        reranker, session = slow
        session.seconds = 0.2
        started = time.perf_counter()
        scores = reranker.score(QUERY, np.arange(100), started + 0.1).scores
        assert time.perf_counter() - started < 0.1 + SLACK
        assert np.isnan(scores).all()

    def test_what_came_too_late_is_in_the_cache(self, slow) -> None:
        reranker, session = slow
        session.seconds = 0.05
        rows = np.arange(4)
        assert np.isnan(reranker.score(QUERY, rows, time.perf_counter() + 0.06).scores).all()
        until(lambda: np.isfinite(reranker.score(QUERY, rows, time.perf_counter() + 1e-3).scores).all())
        assert reranker.score(QUERY, rows, time.perf_counter() + 1).note == "4 from the cache"

    def test_a_slow_moment_does_not_end_reranking(self, slow) -> None:
        reranker, session = slow
        session.seconds = 0.1
        reranker.score("acme tv", np.arange(16), None)
        session.seconds = 0.0
        found = [
            np.isfinite(reranker.score(f"acme phone {n}", np.arange(8), time.perf_counter() + 0.05).scores).any()
            for n in range(200)
        ]
        assert found[-1]

    def test_searches_at_once_share_the_time_and_score_their_best(self, slow) -> None:
        """Also beside one that is in no hurry and asked first."""
        reranker, _ = slow
        with ThreadPoolExecutor(4) as pool:
            patient = pool.submit(reranker.score, "white fridge", np.arange(100), None)
            time.sleep(0.02)
            started = time.perf_counter()
            hurried = [
                pool.submit(reranker.score, f"acme phone {n}", np.arange(100), started + 0.15) for n in ("tv", "case")
            ]
            for known in [np.flatnonzero(np.isfinite(future.result().scores)) for future in hurried]:
                assert 0 < len(known) < 40  # 60 fit if it were alone
                assert known.max() < 48
            assert time.perf_counter() - started < 0.15 + SLACK
            assert np.isfinite(patient.result().scores).all()

    def test_threads_are_not_more_than_given(self, reranker_directory: Path, store: Path) -> None:
        model = CrossEncoderModel(reranker_directory)
        counting = _Counting(model.session)
        model.session = counting
        reranker = model.open(store, 2)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda n: reranker.score(f"acme phone {n}", np.arange(60), None), range(12)))
        assert counting.most == 2

    def test_an_error_is_the_callers(self, slow) -> None:
        reranker, session = slow
        session.broken = True
        with pytest.raises(RuntimeError, match="the model is gone"):
            reranker.score(QUERY, np.arange(20), None)
        session.broken = False
        assert np.isfinite(reranker.score(QUERY, np.arange(20), None).scores).all()


class _Counting:
    """A session that knows how many ran it at once."""

    def __init__(self, session) -> None:
        self._session, self._now, self.most = session, 0, 0

    def run(self, names, feeds):
        self._now += 1
        self.most = max(self.most, self._now)
        time.sleep(1e-3)
        self._now -= 1
        return self._session.run(names, feeds)


class TestPool:
    def test_the_earliest_due_first_and_the_cancelled_never(self) -> None:
        pool, begin, ran = FairPool[None](1), Event(), []
        futures = [pool.submit(0.0, lambda: begin.wait(10) and None)]
        for due, name in ((3.0, "late"), (1.0, "early"), (2.0, "cancelled"), (1.0, "as early")):
            futures.append(pool.submit(due, partial(ran.append, name)))
        assert futures[3].cancel()
        begin.set()
        wait(futures, 10)
        assert ran == ["early", "as early", "late"]

    def test_an_error_is_its_jobs(self) -> None:
        pool = FairPool[None](1)
        with pytest.raises(ZeroDivisionError):
            pool.submit(0.0, lambda: 1 // 0).result(10)
        assert pool.submit(0.0, lambda: None).result(10) is None


class TestCache:
    def test_known_rows_are_not_scored_again(self, reranker_directory: Path, store: Path) -> None:
        model = CrossEncoderModel(reranker_directory)
        session = SlowSession(model.session)
        model.session = session
        reranker = model.open(store, 2)
        first = reranker.score(QUERY, np.arange(30), None)
        session.n_rows = 0
        again = reranker.score(QUERY.upper(), np.arange(10, 40), None)
        assert (first.note, again.note, session.n_rows) == ("", "20 from the cache", 10)
        np.testing.assert_array_equal(first.scores[10:], again.scores[:20])

    def test_the_oldest_queries_go_first(self) -> None:
        cache = ScoreCache(6)
        rows = np.arange(2)
        for query in (b"a", b"b", b"c"):
            cache.put(query, rows, np.array([0.5, 0.25], np.float32))
        cache.get(b"a", rows)
        cache.put(b"d", rows, np.array([0.5, 0.25], np.float32))
        assert [bool(np.isfinite(cache.get(query, rows)).all()) for query in (b"a", b"b", b"c", b"d")] == [
            True, False, True, True,
        ]  # fmt: skip

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abcd"), st.lists(st.integers(0, 9), unique=True, max_size=8))))
    def test_what_it_holds_is_what_was_put(self, puts) -> None:
        cache = ScoreCache(10)
        for query, rows in puts:
            cache.put(query.encode(), np.array(rows, np.int64), np.array(rows, np.float32) / 10)
        found = {query: cache.get(query, np.arange(10)) for query in (b"a", b"b", b"c", b"d")}
        assert sum(int(np.isfinite(scores).sum()) for scores in found.values()) <= 10
        for scores in found.values():
            known = np.isfinite(scores)
            np.testing.assert_array_equal(scores[known], np.arange(10, dtype=np.float32)[known] / 10)


class TestTokens:
    @settings(max_examples=100, deadline=None)
    @given(
        vocabulary=st.sampled_from([7, 1 << 16, (1 << 16) + 1, 1 << 20]),
        data=st.data(),
    )
    def test_what_is_written_is_read(self, vocabulary, data) -> None:
        ids = st.lists(st.integers(0, vocabulary - 1), max_size=6)
        products = data.draw(st.lists(ids, min_size=1, max_size=12))
        with TemporaryDirectory() as directory:
            TokenStore.write(Path(directory), iter(products), vocabulary)
            read = TokenStore(Path(directory), vocabulary)
            assert [read[row].tolist() for row in range(len(read))] == products
            rows = np.arange(len(products))[::-1]
            assert read.lengths(rows).tolist() == [len(ids) for ids in reversed(products)]

    def test_a_product_is_small(self, tmp_path: Path, reranker_directory: Path) -> None:
        long = [Product(product_id=str(n), title="acme phone " * 300) for n in range(200)]
        note = CrossEncoderModel(reranker_directory).build(tmp_path, long)
        assert note == "words (24 tokens a product, at most 24)"
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) / len(long) < 2 * 24 + 8 + 2

    @pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy"])
    @pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
    def test_damage_is_found(self, tmp_path: Path, name: str, share: float) -> None:
        TokenStore.write(tmp_path, [[1, 2, 3]] * 50, 10)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(IndexCorruptError, match="Build"):
            TokenStore(tmp_path, 10)

    def test_nothing_to_open(self, tmp_path: Path) -> None:
        with pytest.raises(IndexCorruptError):
            TokenStore(tmp_path, 10)


def _cut(directory: Path, name: str) -> None:
    data = (directory / name).read_bytes()
    (directory / name).write_bytes(data[: len(data) // 2])


def _another(directory: Path, name: str, data: bytes, **card) -> None:
    (directory / name).write_bytes(data)
    seal(directory, **card)


def _other_signature(directory: Path) -> None:
    import engine

    encoder = Path(engine.__file__).parent / "models" / "all-MiniLM-L6-v2" / "model.onnx"
    _another(directory, "model.onnx", encoder.read_bytes())


def _other_template(directory: Path) -> None:
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    _another(directory, "tokenizer.json", tokenizer.to_str().encode())


class TestModelDirectories:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda d: _cut(d, "model.onnx"), "model.onnx does not match its checksum in reranker.json"),
            (lambda d: _cut(d, "tokenizer.json"), "tokenizer.json does not match its checksum"),
            (lambda d: _cut(d, CARD), "reranker.json"),
            (lambda d: (d / "model.onnx").unlink(), "model.onnx cannot be read: No such file"),
            (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json cannot be read: No such file"),
            (lambda d: (d / CARD).unlink(), "no reranker in .*or name a directory with reranker.json, model.onnx"),
            (lambda d: _another(d, "model.onnx", b"not a model"), "not a model onnxruntime can run"),
            (lambda d: _another(d, "tokenizer.json", b"{}"), "tokenizer.json cannot be read"),
            (_other_signature, "a reranker takes input_ids and attention_mask in int64 and gives one output logits"),
            (_other_template, "4 special tokens around a pair"),
            (lambda d: seal(d, format=2), "format 2"),
            (lambda d: seal(d, sha256={}), "is not one this version reads"),
            (lambda d: seal(d, query_tokens=0), "query_tokens"),
            (lambda d: seal(d, product_tokens=-1), "product_tokens"),
            (lambda d: seal(d, scale=0.0), "scale"),
        ],
    )
    def test_what_cannot_work_is_named(self, tmp_path: Path, reranker_directory: Path, change, said: str) -> None:
        directory = Path(shutil.copytree(reranker_directory, tmp_path / "model"))
        change(directory)
        with pytest.raises(ModelError, match=said):
            CrossEncoderModel(directory)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(ModelError, match="no reranker in no-such-reranker"):
            CrossEncoderModel.named("no-such-reranker")

    def test_a_model_that_fails_is_found_on_opening(self, reranker_directory: Path, store: Path) -> None:
        model = CrossEncoderModel(reranker_directory)
        model.session = SlowSession(model.session, broken=True)
        with pytest.raises(ModelError, match=r"words cannot score.*the model is gone"):
            model.open(store, 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 75), max_size=120), st.integers(1, 4), st.sampled_from([4, UNHURRIED]))
def test_batches_hold_every_place_once_and_keep_all_threads_busy(lengths: list[int], threads: int, size: int) -> None:
    batches = list(batches_of(np.array(lengths, np.int64), threads, size))
    assert sorted(place for batch in batches for place in batch.tolist()) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert len(batches) >= min(len(lengths), threads)
    if size == UNHURRIED and len(lengths) >= 8 * threads:
        assert len(batches) >= 2 * threads  # a thread that is done early has another to take
