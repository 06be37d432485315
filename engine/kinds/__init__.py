"""Kinds of things where a catalog has no categories: what its titles call a product, borne out by what it states.

``titles.py`` reads which noun a title ends on, ``learn.py`` makes kinds of nouns and ``store.py`` keeps them; which one
a query names is for ``engine/needs/kind_names.py``. docs/needs.md has the whole.
"""
