"""What a user sees from outside: a lean import, a public surface, the floors."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import engine
from engine.analysis.units import UNITS
from engine.config import LEXICAL_FIELDS, SearchConfig
from engine.lexical.retriever import BACKENDS
from engine.text import lexical_fields
from tests.conftest import synthetic_products


def test_importing_and_searching_loads_no_torch_and_no_jvm():
    code = """
import json, sys
import engine
built = engine.SearchEngine.build([{"product_id": "1", "title": "fridge"}])
assert built.search("fridge").hits
heavy = ["torch", "transformers", "sentence_transformers", "peft", "jnius", "jnius_config", "pyserini", "ir_measures"]
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == []


def test_all_is_what_is_visible():
    modules = {module.name for module in pkgutil.iter_modules(engine.__path__)}
    visible = {name for name in vars(engine) if not name.startswith("_")} - modules
    assert visible == set(engine.__all__)


def test_every_public_name_has_a_docstring():
    for name in engine.__all__:
        assert getattr(engine, name).__doc__, name


def test_every_configured_backend_exists():
    for target in BACKENDS.values():
        module, attribute = target.split(":")
        source = importlib.util.find_spec(module)
        assert source is not None
        assert source.origin is not None
        assert f"class {attribute}" in Path(source.origin).read_text(encoding="utf-8")


def test_fields_agree():
    assert set(SearchConfig().field_weights) == set(LEXICAL_FIELDS)
    assert set(lexical_fields(synthetic_products(1)[0])) == set(LEXICAL_FIELDS)
    assert all(spelling == spelling.lower() for spelling in UNITS)
