"""What a query says beyond its words: misspellings, limits, negations and synonyms. Nothing here needs a model."""
