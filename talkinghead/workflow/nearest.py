"""A hint for a name that is not known: the nearest one that is."""

import difflib
from collections.abc import Iterable

NEAREST, NEAREST_QUOTED = "; the nearest is {}", "; the nearest is {!r}"
DID_YOU_MEAN = "; did you mean {!r}?"


def nearest(name: str, known: Iterable[str], hint: str = NEAREST_QUOTED) -> str:
    """`hint` with the known name that is nearest to this one; empty where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return hint.format(close[0]) if close else ""
