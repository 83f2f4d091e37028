"""Times in readable units."""

from collections.abc import Iterable
from typing import NamedTuple

from cluebench.foundation.text import Phrase


class Unit(NamedTuple):
    """The unit of the times in a column of a table."""

    key: str  # the name of the column in files
    text: Phrase
    seconds: int
    digits: int

    def shown(self, seconds: float) -> str:
        return f"{seconds / self.seconds:,.{self.digits}f}"


_UNITS = (
    Unit("hours", Phrase("h"), 3600, 1),
    Unit("minutes", Phrase("min"), 60, 1),
    Unit("seconds", Phrase("s"), 1, 0),
)


def unit_of(seconds: Iterable[float]) -> Unit:
    """The unit of a column of times: the largest unit that fits twice into the longest time."""
    longest = max(seconds, default=0.0)
    return next((unit for unit in _UNITS if longest >= 2 * unit.seconds), _UNITS[-1])


def duration(seconds: float | None) -> Phrase:
    """``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``; ``unknown`` for None."""
    if seconds is None:
        return Phrase("unknown")
    seconds = max(0, round(seconds))
    if seconds < 120:
        return Phrase("{s} s", s=seconds)
    minutes = round(seconds / 60)
    if minutes < 120:
        return Phrase("{min} min", min=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return Phrase("{h} h {min} min", h=hours, min=f"{minutes:02d}")
    return Phrase("{d} d {h} h", d=hours // 24, h=hours % 24)
