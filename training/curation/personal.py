"""Personal data that shoppers type or paste into a search box: e-mail addresses, phone, card and bank account numbers.

Rules that a person can check, not a model. Names and postal addresses are not found.
"""

from __future__ import annotations

import re
from collections.abc import Set

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_IBAN = re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.IGNORECASE)
# Digits, singly parted by spaces, dashes, dots or brackets: where cards and phones are looked for.
_DIGITS = re.compile(r"(?<![\w.-])\+?\(?[0-9](?:[ .()/-]{0,2}[0-9]){6,18}(?![\w-])")
_CARD = re.compile(r"[2-6][0-9]{13,18}")
_GROUPED_PHONE = re.compile(r"\(?[0-9]{2,5}\)?[ .-]?[0-9]{3,5}[ .-][0-9]{3,5}")


def find_personal(text: str, codes: Set[str]) -> list[tuple[str, int, int]]:
    """What kind of personal data is in ``text``, and where: start and end, in order, without overlaps.

    Kinds are email, iban, card and phone. Numbers among ``codes``, which are a catalog's own, in digits and letters
    without what parts them, are none.
    """
    found = [("email", match.start(), match.end()) for match in _EMAIL.finditer(text)]
    for match in _IBAN.finditer(text):
        if _is_iban(match[0]) and not _overlaps(match, found):
            found.append(("iban", match.start(), match.end()))
    for match in _DIGITS.finditer(text):
        kind = _number_kind(match[0])
        if kind and plain_code(match[0]) not in codes and not _overlaps(match, found):
            found.append((kind, match.start(), match.end()))
    return sorted(found, key=lambda item: item[1])


def mask_personal(text: str, codes: Set[str]) -> str:
    """``text`` with each piece of personal data replaced by its kind in angle brackets."""
    for kind, start, end in reversed(find_personal(text, codes)):
        text = f"{text[:start]}<{kind}>{text[end:]}"
    return text


def plain_code(text: str) -> str:
    """Letters and digits alone, in lower case: how codes are compared."""
    return "".join(c for c in text.lower() if c.isalnum())


def _number_kind(text: str) -> str:
    digits = "".join(c for c in text if c.isdigit())
    if _CARD.fullmatch(digits) and passes_luhn(digits):
        return "card"
    if text.startswith("+"):
        return "phone" if 8 <= len(digits) <= 15 else ""
    if not 9 <= len(digits) <= 11:
        return ""  # dates and sizes are shorter, the codes under bars longer
    return "phone" if (digits == text and len(digits) >= 10) or _GROUPED_PHONE.fullmatch(text) else ""


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others, as on payment cards: ISO/IEC 7812-1, annex B."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[::-2])) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether the check digits of a bank account number are right: ISO 13616-1, remainder 1 modulo 97."""
    plain = "".join(text.split()).upper()
    if not (15 <= len(plain) <= 34 and any(c.isdigit() for c in plain[4:])):
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _overlaps(match: re.Match[str], found: list[tuple[str, int, int]]) -> bool:
    return any(match.start() < end and start < match.end() for _, start, end in found)
