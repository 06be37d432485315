"""Answers to shoppers' questions, each with the words of the catalog that it rests on. Above the search core, which
imports nothing of it but for ``SearchEngine.ask``. [docs/answers.md] has the whole.
"""
