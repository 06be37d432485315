"""Model series and their generations, derived from a catalog, and what queries ask by them.

``names.py`` reads the name of a model out of a title, ``lines.py`` makes series of such names where releases or prices
bear them out, ``store.py`` keeps them in an index with the words of names, ``words.py`` and ``relations.toml`` have the
words, ``relations.py`` finds relations in a query ("cheaper than X") and ``source.py`` makes preferences of them.
docs/families.md has the whole.
"""
