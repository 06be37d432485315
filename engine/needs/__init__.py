"""What shoppers want beyond words and limits: "big", "cheapest", "for gaming", a gift for a photographer.

``lexicon.py`` says what such words ask of a product, ``match.py`` finds them in a query, ``measures.py`` reads the
catalog's attributes as places within a type, ``learnt.py`` what the products that name a use share, and ``wants.py``
makes preferences of all that. docs/needs.md has the whole.
"""
