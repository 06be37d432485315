"""The settings of a query classifier's training run, as one frozen value that round-trips through TOML."""

from __future__ import annotations

from typing import Literal

import msgspec

from training.settings import EncoderSettings, LoopSettings, RunConfig, Settings, at_least


class TypeModelSettings(EncoderSettings, frozen=True, kw_only=True):
    """What is trained.

    Where ``output`` is ``names`` the output layer begins as the encoder's vectors of the types' names, so that a type
    without examples can be answered; ``random`` is there to compare. ``locale`` gives every locale of the examples a
    token of its own.
    """

    output: Literal["names", "random"] = "names"
    locale: bool = True


class TypeTrainingSettings(LoopSettings, frozen=True, kw_only=True):
    """How it is trained.

    ``smoothing`` of a query's target goes evenly to all types (Szegedy et al. 2016). ``names`` is the weight of each
    type's name as one more example of it, 0 for none. The model that is judged and kept lies this ``distance`` of the
    way from the one that training began with to the one it has come to, 1 being the latter: halfway is better where
    examples are few and types many (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). ``drop_locale`` of
    the examples are read without their locale in each epoch, so that a query without one is nothing new.
    """

    epochs: int = 8
    queries_per_batch: int = 64
    learning_rate: float = 1e-4
    smoothing: float = 0.1
    names: float = 1.0
    distance: float = 0.5
    drop_locale: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "queries_per_batch")
        at_least(self, 0, "names")
        for name in ("smoothing", "drop_locale"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to below 1")
        if not 0 < self.distance <= 1:
            raise ValueError(f"distance is {self.distance}; it must be above 0 and at most 1")


class LabelsSource(Settings, frozen=True, kw_only=True, tag_field="kind", tag="labels"):
    """Labels or clicks, tab-separated with a head; the settings name its columns, ``locale`` is empty without one."""

    path: str
    query: str = "query"
    type: str = "type_id"
    locale: str = ""
    license: str = ""


class JudgedTypesSource(Settings, frozen=True, kw_only=True, tag_field="kind", tag="judged"):
    """A search set as ``training.config.JudgedSource`` has it; types of products with a label of 1/2 or more count.

    Products' types are derived, or those of ``types``, a file that ``qpt.types_file`` wrote and people corrected.
    """

    catalog: str
    queries: str
    qrels: str
    labels: dict[str, float] = msgspec.field(default_factory=dict)
    types: str = ""
    license: str = ""


class CatalogSource(Settings, frozen=True, kw_only=True, tag_field="kind", tag="catalog"):
    """Queries made of at most ``most`` products' titles (``qpt.examples.from_catalog``), for a shop without logs."""

    catalog: str
    most: int = 1_500
    types: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        at_least(self, 1, "most")


TypeSource = LabelsSource | JudgedTypesSource | CatalogSource


class NamesTaxonomy(Settings, frozen=True, kw_only=True, tag_field="kind", tag="names"):
    """Types without a tree, whose ids are their names: those of the examples, and one a line of ``path``."""

    path: str = ""


class GoogleTaxonomy(Settings, frozen=True, kw_only=True, tag_field="kind", tag="google"):
    """Google's product taxonomy: ``files`` by locale."""

    files: dict[str, str]


class BestBuyTaxonomy(Settings, frozen=True, kw_only=True, tag_field="kind", tag="bestbuy"):
    """A category tree in JSON, as ``qpt.taxonomy.read_bestbuy`` reads it."""

    path: str


class CatalogTaxonomy(Settings, frozen=True, kw_only=True, tag_field="kind", tag="catalog"):
    """The types of a catalog's products, derived or from the file ``types``."""

    catalog: str
    types: str = ""


class TypeDevSettings(Settings, frozen=True, kw_only=True):
    """What a run is stopped and calibrated by: ``source``, or where there is none a ``share`` of the training queries.

    Queries of the same stems stay together; training queries with the stems of one of ``source`` are left out.
    """

    source: tuple[TypeSource, ...] = ()
    share: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}; it must be above 0 and below 1")


class TypesRun(RunConfig, frozen=True, kw_only=True):
    """What is trained and how, whatever the data.

    ``tolerance`` is the accuracy@1 that 8 bits may lose; where they lose more, full precision is kept.
    """

    tolerance: float = 0.01
    model: TypeModelSettings = TypeModelSettings()
    training: TypeTrainingSettings = TypeTrainingSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; it is a share of queries, from 0 to below 1")


class TypesConfig(TypesRun, frozen=True, kw_only=True):
    """All settings of ``aisle train types``.

    ``answers`` says which types can be answered: those with an example, or the ``leaves`` of the taxonomy too.
    """

    taxonomy: NamesTaxonomy | GoogleTaxonomy | BestBuyTaxonomy | CatalogTaxonomy
    source: list[TypeSource]
    answers: Literal["examples", "leaves"] = "leaves"
    dev: TypeDevSettings = TypeDevSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.source:
            raise ValueError("source is empty; name at least one [[source]]")
