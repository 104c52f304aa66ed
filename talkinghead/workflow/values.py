"""What ComfyUI makes of the values in a graph before it checks them: `validate_inputs` there. Pure.

Both versions do the same with numbers, texts and booleans. Nothing else is converted: a choice of
a list, say, must be one of the list as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from talkinghead.workflow.schemas import InputSpec

WRAPPER = "__value__"  # how a list is sent that is no link
CONVERSIONS: Mapping[str, Callable[[Any], object]] = {
    **{"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool},
}


def converted(target: InputSpec, value: object) -> object:
    """The value that the node gets for this one, which no link feeds.

    A list stays in its wrapper: without it, it would be taken for a link.

    Raises:
        ValueError: ComfyUI refuses it.
    """
    plain = value[WRAPPER] if isinstance(value, Mapping) and WRAPPER in value else value
    if target.from_format:
        # ComfyUI does not know these; VHS writes them as text, and asks whether it is "False".
        return str(plain) != "False" if target.type == "BOOLEAN" else plain
    convert = CONVERSIONS.get(target.type)
    if convert is None:
        return value if isinstance(plain, list) else plain
    try:
        return convert(plain)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def meaning_lost(target: InputSpec, value: object) -> str | None:
    """What a person may not expect of the conversion of this value, if it can be converted."""
    made = converted(target, value)
    if target.type == "INT" and isinstance(value, float) and made != value:
        return f"is {value}, of which ComfyUI makes {made}"
    if target.type == "BOOLEAN" and made is True and str(value).lower() in ("false", "0", "no"):
        return f"is {value!r}, which counts as true: write false"
    if target.type == "STRING" and (
        isinstance(value, bool) or not isinstance(value, str | int | float)
    ):
        return f"is {value!r}, of which ComfyUI makes the text {made!r}"
    return None
