"""The table of steps: what a ``[[step]]`` of a configuration may be.

A step is a table of settings with a ``kind`` (its ``tag``) and a method ``apply``: rows in, rows out, and everything
that it drops, merges, changes or adds counted in the context's tally, which checks that the numbers add up. It sees all
rows at once. A new kind is one more such class, named in ``AnyStep``.
"""

from __future__ import annotations

from training.curation.clicks import ClicksStep
from training.curation.duplicates import DuplicateProductsStep, DuplicateQueriesStep
from training.curation.labels import ContradictionsStep
from training.curation.made import GenerateStep
from training.curation.queries import OffDomainStep, PersonalStep, UnsafeStep
from training.curation.sessions import SessionsStep
from training.curation.taught import LabelStep

AnyStep = (
    SessionsStep
    | DuplicateProductsStep
    | DuplicateQueriesStep
    | PersonalStep
    | UnsafeStep
    | OffDomainStep
    | ClicksStep
    | ContradictionsStep
    | GenerateStep
    | LabelStep
)
