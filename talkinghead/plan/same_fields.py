"""Fields that a request may give by another name, or as the file itself: brought under one name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from talkinghead.plan.fields import BASE64_FIELDS, RequestFields
from talkinghead.plan.mistakes import Problem

# What each is under its first name. Contract C is RunPod's public InfiniteTalk.
SAME_FIELDS: Mapping[str, str] = {**BASE64_FIELDS, "image": "image_url", "size": "resolution"}


def given_of(fields: RequestFields, *names: str) -> list[str]:
    """Which of the fields are given."""
    return [name for name in names if getattr(fields, name) is not None]


def one_form_each(fields: RequestFields) -> Iterator[Problem]:
    """A problem for each field that is given in two forms."""
    for name, other in SAME_FIELDS.items():
        forms = given_of(
            fields, other, *(each for each in SAME_FIELDS if SAME_FIELDS[each] == other)
        )
        if name in forms[1:]:
            yield Problem(name, f"{forms[0]} and {name} exclude each other: give one of them")


def by_one_name(fields: RequestFields) -> RequestFields:
    """The fields; what is given by another name, or as the file itself, is under the first, too."""
    same = {SAME_FIELDS[name]: getattr(fields, name) for name in given_of(fields, *SAME_FIELDS)}
    return fields.model_copy(update=same)


def name_given(fields: RequestFields, name: str) -> str:
    """The field that holds what the field of that name does."""
    forms = (each for each in given_of(fields, *SAME_FIELDS) if SAME_FIELDS[each] == name)
    return next(forms, name)
