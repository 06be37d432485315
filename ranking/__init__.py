"""Rerankers: a fine-tuned cross-encoder behind the engine's ``Reranker`` seam."""
