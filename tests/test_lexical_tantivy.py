from engine.lexical.tantivy import TantivyBackend
from tests.lexical_contract import LexicalBackendContract


class TestTantivy(LexicalBackendContract):
    backend = TantivyBackend
