"""Suggestions while a shopper types: phrases of the catalog, and queries of others where a log is given.

``phrases.py`` collects and weighs phrases when an index is built, ``store.py`` keeps them in it, ``completer.py``
completes what is typed, and ``nearby.py`` reads what is mistyped. docs/suggestions.md has the whole.
"""
