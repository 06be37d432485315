"""What answers may be about: a file that people read, enforced before anything is looked up and on everything said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from engine.errors import ConfigError
from engine.product import AttributeValue, Product

SHIPPED = Path(__file__).with_name("policy.toml")
_GAP = r"(?:\W+[\w'-]+){0,4}?\W+"
_INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_EMAIL = re.compile(r"[\w.+-]+\s?@\s?[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"(?<![\w.])\+?\d[\d\s().-]{8,}\d(?![\w.])")
_CARD = re.compile(r"(?<!\d)(?:\d[ -]?){13,19}(?!\d)")
_TOKEN = re.compile(r"[^\W_]+")
_LOOSE = " .;:,|-"  # what may be left at the end of a text that is cut
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[\r\n]+")


class AnswerLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long an answer may be, and how many products it may show."""

    max_characters: int = 700
    max_products: int = 5


class OffDomain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether questions about nothing in the catalog are refused, and with which words."""

    refuse: bool
    reply: str


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Phrases that a question is refused for, and the words of the refusal."""

    reply: str
    phrases: tuple[str, ...]


class Personal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses and numbers that may be said although they look like somebody's."""

    allowed: tuple[str, ...] = ()


class Brands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Makers not to be spoken ill of, and the words of that."""

    protected: tuple[str, ...] = ()
    disparaging: tuple[str, ...] = ()


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """All of the file. Raises ConfigError where a limit makes no sense."""

    answers: AnswerLimits
    off_domain: OffDomain
    topic: dict[str, Topic]
    instructions: Topic
    personal: Personal = Personal()
    brands: Brands = Brands()

    @classmethod
    def read(cls, path: str | Path) -> Policy:
        """The shipped one for ``shipped``, or else the file. Raises ConfigError naming the file and the setting."""
        path = SHIPPED if path == "shipped" else Path(path)
        try:
            policy = msgspec.toml.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"cannot read the policy {path}: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
        for name in ("max_characters", "max_products"):
            if getattr(policy.answers, name) < 1:
                raise ConfigError(f"{path}: answers.{name} is {getattr(policy.answers, name)}; it must be 1 or more")
        return policy

    @cached_property
    def _topics(self) -> list[tuple[str, re.Pattern[str]]]:
        return [(name, _any_of(topic.phrases)) for name, topic in self.topic.items()]

    @cached_property
    def _instructs(self) -> re.Pattern[str]:
        return _any_of(self.instructions.phrases)

    @cached_property
    def _telling(self) -> frozenset[str]:
        """The longest word of each phrase of instructions."""
        words = (_TOKEN.findall(phrase.lower()) for phrase in self.instructions.phrases)
        return frozenset(max(of, key=len) for of in words if of)

    @cached_property
    def _brands(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return _any_of(self.brands.protected), _any_of(self.brands.disparaging)

    def topic_of(self, question: str) -> str:
        """The first topic that a question is refused for; empty for none."""
        folded = visible(question)
        return next((name for name, pattern in self._topics if pattern.search(folded)), "")

    def instructs(self, text: str) -> bool:
        """Whether a text tells its reader, were it a program, what to do."""
        folded = visible(text)
        # Most texts have none of the phrases' longest words, which is quicker to see.
        if self._telling.isdisjoint(_TOKEN.findall(folded.lower())):
            return False
        return self._instructs.search(folded) is not None

    def without_instructions(self, text: str) -> str:
        """The sentences of a text that do not; nothing where it is only as a whole that it does."""
        if not self.instructs(text):
            return text
        kept = " ".join(part for part in _SENTENCE.split(text) if part.strip() and not self.instructs(part))
        return "" if self.instructs(kept) else kept

    def trusted(self, text: str) -> str:
        """The beginning of a catalog's text, up to the first sentence that gives instructions: what follows one is
        as likely its author's.
        """
        if not self.instructs(text):
            return text
        end = 0
        for match in _SENTENCE.finditer(text):
            if self.instructs(text[: match.start()]):
                break
            end = match.start()
        return text[:end].rstrip(_LOOSE)

    def trusted_product(self, product: Product) -> Product:
        """A product with the beginnings of its texts that can be trusted; places in them are as in its own."""
        texts = (product.title, product.description, *product.bullets)
        values = product.attributes.values()
        told = "\n".join((*texts, *(str(value) for value in values)))
        if not self.instructs(told) and not self.personal_data(told):
            return product
        attributes = {name: self._trusted_value(value) for name, value in product.attributes.items()}
        return replace(
            product,
            title=self.trusted(product.title).strip() or product.product_id,
            description=self.trusted(product.description),
            bullets=tuple(self.trusted(text) for text in product.bullets),
            attributes={name: value for name, value in attributes.items() if value != ""},
        )

    def _trusted_value(self, value: AttributeValue) -> AttributeValue:
        if isinstance(value, list):
            return [text if self.usable(text) else "" for text in value]
        if isinstance(value, str):
            return "" if self.personal_data(value) else self.trusted(value)
        return value

    def usable(self, text: str) -> bool:
        """Whether a sentence may be cited: it gives no instructions, has no personal data, and disparages no maker."""
        return not self.instructs(text) and not self.personal_data(text) and not self._disparages(text)

    def personal_data(self, text: str) -> bool:
        """Whether a text has an e-mail address, a telephone's or a card's number that is not the shop's."""
        found = [match.group().strip() for pattern in (_EMAIL, _PHONE, _CARD) for match in pattern.finditer(text)]
        return any(one not in self.personal.allowed for one in found)

    def _disparages(self, text: str) -> bool:
        protected, ill = self._brands
        return bool(self.brands.protected) and bool(protected.search(text)) and bool(ill.search(text))


def visible(text: str) -> str:
    """Without characters that nobody sees and that break words apart; compatibility forms as plain ones."""
    return _plain(text)


@lru_cache(maxsize=4_000)
def _plain(text: str) -> str:
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).split())


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of the phrases, as whole words; one that matches nothing where there are none."""
    patterns = [_phrase(phrase.split()) for phrase in phrases if phrase.split()]
    return re.compile("|".join(patterns) or r"(?!)", re.IGNORECASE)


def _phrase(words: Sequence[str]) -> str:
    out = ""
    gap = ""
    for word in words:
        if word == "*":
            gap = _GAP
            continue
        out += (gap or r"\W+") if out else ""
        out += re.escape(word)
        gap = ""
    start = r"(?<!\w)" if words[0][:1].isalnum() else ""
    end = r"(?!\w)" if words[-1][-1:].isalnum() else ""
    return f"{start}{out}{end}"
