"""The listwise reranker: a language model reads a query and a window of candidates and orders them at once.

``reranker.py`` serves it, ``settings.py`` says what a directory's ``listwise.toml`` may have, ``readings.py`` what a
model's answer is made of, ``windows.py`` which candidates are read together, ``defence.py`` how far a model is trusted,
``permutation.py`` what its text means, and ``decoders.py`` which models there are.
"""
