"""Which candidates are read together: windows from the tail to the head, as RankGPT slides them.

Sun et al. 2023, "Is ChatGPT Good at Search? Investigating Large Language Models as Re-Ranking Agents", section 3.2:
each window's best are in the next one too, so that a good candidate climbs from the last window to the first.
"""

from __future__ import annotations

from collections.abc import Iterator


def windows(n: int, size: int, stride: int) -> Iterator[range]:
    """Ranges of at most ``size`` places of ``n``, the last ones first; each begins ``stride`` before the one before it,
    and the last one given begins at 0.
    """
    begin = max(n - size, 0)
    while n:
        yield range(begin, min(begin + size, n))
        if not begin:
            return
        begin = max(begin - stride, 0)
