"""The adapters that an engine has: by name, views of its encoder and reranker that answer with the adapter."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType

from engine.adapters import Adapter, AdapterInfo, AdapterKind
from engine.errors import AdapterError, AisleError
from engine.seams import Adaptable, Encoder, Reranker
from engine.storage.adapter_store import AdapterStore, unknown

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adapted:
    """What a request answers with: views of encoder and reranker, None where the engine's own are used.

    A request takes this once, when it begins: what is added or removed later is nothing to it.
    """

    name: str = ""
    encoder: Encoder | None = None
    reranker: Reranker | None = None

    @property
    def note(self) -> str:
        """For the reports of the stages that were adapted."""
        return f"adapter {self.name}"


NOT_ADAPTED = Adapted()


@dataclass(frozen=True, slots=True)
class _Held:
    """One adapter and the view of its kind; none where it is kept aside."""

    info: AdapterInfo
    encoder: Encoder | None = None
    reranker: Reranker | None = None


_ByKind = Mapping[AdapterKind, _Held]


class AdapterRegistry:
    """Adapters of one encoder and one reranker. Thread-safe: readers see one state or the next, and never wait.

    A name may stand for one adapter of each kind; they are chosen together.
    """

    def __init__(self, encoder: Encoder | None, reranker: Reranker | None) -> None:
        self._encoder, self._reranker = encoder, reranker
        self._held: Mapping[str, _ByKind] = MappingProxyType({})
        self._changing = Lock()

    def load(self, store: AdapterStore) -> None:
        """Adds what the index keeps. One that cannot be used is kept aside with the reason, and logged: a campaign of
        last year must not take a search down.
        """
        for name, kind, path in store:
            try:
                self.add(store.read(name, kind, path))
            except AisleError as error:
                logger.warning("the adapter %s for the %s is not used: %s", name, kind, error)
                self._put(_Held(AdapterInfo(name, kind, problem=str(error))))

    def add(self, adapter: Adapter) -> AdapterInfo:
        """Adds one, or replaces that of the same name and kind. Raises AdapterError where it does not fit the model."""
        card = adapter.card
        model = self._encoder if card.kind == "encoder" else self._reranker
        if not isinstance(model, Adaptable):
            why = f"this index's {card.kind} takes none" if model else "this engine was loaded without one"
            raise AdapterError(f"the adapter {card.name} is for the {card.kind}, and {why}")
        held = _Held(adapter.info, **{card.kind: model.adapted(adapter)})
        self._put(held)
        return held.info

    def remove(self, name: str) -> None:
        """Raises AdapterError when there is none of that name."""
        with self._changing:
            if name not in self._held:
                raise unknown(name, set(self._held))
            self._held = MappingProxyType({other: held for other, held in self._held.items() if other != name})

    @property
    def infos(self) -> tuple[AdapterInfo, ...]:
        """By name, then kind."""
        return tuple(held.info for _, of_name in sorted(self._held.items()) for _, held in sorted(of_name.items()))

    def chosen(self, name: str | None) -> Adapted:
        """The views of that name. Raises AdapterError when there is none, or when one of its adapters is kept aside."""
        if name is None:
            return NOT_ADAPTED
        held = self._held
        if name not in held:
            raise unknown(name, set(held))
        for kind, one in held[name].items():
            if one.info.problem:
                raise AdapterError(f"the adapter {name} for the {kind} cannot be used: {one.info.problem}")
        encoder, reranker = held[name].get("encoder"), held[name].get("reranker")
        return Adapted(name, encoder.encoder if encoder else None, reranker.reranker if reranker else None)

    def _put(self, held: _Held) -> None:
        with self._changing:
            of_name = {**self._held.get(held.info.name, {}), held.info.kind: held}
            self._held = MappingProxyType({**self._held, held.info.name: of_name})
