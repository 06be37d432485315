"""From probabilities of types to one of them: a confident parent beats an unsure leaf, and none beats a guess."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qpt.softmax import Matrix
from qpt.taxonomy import Taxonomy


class Hierarchy:
    """Sums of probabilities up a taxonomy. ``nodes`` are ``types`` and all that lies above them."""

    def __init__(self, taxonomy: Taxonomy, types: Sequence[str]) -> None:
        chains = [(type_id, *taxonomy.above(type_id)) for type_id in types]
        self.nodes = tuple(dict.fromkeys(node for chain in chains for node in chain))
        places = {node: place for place, node in enumerate(self.nodes)}
        self._depths = np.array([len(taxonomy.above(node)) for node in self.nodes])
        lengths = [len(chain) for chain in chains]
        self._column = np.repeat(np.arange(len(types)), lengths)
        self._node = np.array([places[node] for chain in chains for node in chain], np.int64)

    def roll_up(self, probabilities: Matrix) -> Matrix:
        """Float32 (n, nodes) from (n, types): each node's own probability and that of all types below it."""
        sums = [np.bincount(self._node, row[self._column], len(self.nodes)) for row in probabilities]
        return np.array(sums, np.float32).reshape(len(probabilities), len(self.nodes))

    def choose(self, rolled: Matrix, least: float) -> tuple[str, float] | None:
        """The deepest node of probability ``least`` or more with its probability, the more probable of two as deep.

        ``rolled`` is of shape (nodes,). None where no node is that probable.
        """
        sure = np.flatnonzero(rolled >= least)
        if not len(sure):
            return None
        best = max(sure.tolist(), key=lambda place: (self._depths[place], rolled[place]))
        return self.nodes[best], float(rolled[best])
