"""What a job asks for, as sums: by them a video that was made before is found, or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from talkinghead.files import hash_of
from talkinghead.net.signatures import without_signature
from talkinghead.plan.fields import url_fields
from talkinghead.plan.given import as_given

# Where the video goes, when, and what is told of it: none of them decides how it looks.
DELIVERY_FIELDS = (
    "upload_url",
    "delivery",
    "playlist",
    "request_id",
    "continue_later",
    "dry_run",
    "price_per_hour",
    "enable_safety_checker",
)
CHOOSE_A_SEED = (0, -1)


@dataclass(frozen=True)
class Asked:
    """What a job asks for, as hex digits of SHA-256.

    Attributes:
        video: of all that decides the video. URLs that are signed anew are the same ones.
        signed: of the same, and of the signatures in it.
        files: of each file that its URLs gave, by field; None before they are here.
    """

    video: str
    signed: str
    files: Mapping[str, str] | None = None

    @property
    def is_signed(self) -> bool:
        """Whether there are signatures in it."""
        return self.signed != self.video

    def may_have(self, made: Asked) -> bool:
        """Whether what was made for another job is what this one asks for, and its caller's to get.

        The name of an object is no secret. Who has its signature is let in, or who has another,
        once that has opened the same file.
        """
        opened = self.files is not None and self.files == made.files
        return self.video == made.video and (self.signed == made.signed or opened)

    def as_json(self) -> dict[str, Any]:
        """As it is stored beside a video. "asked" is an older name than ours."""
        return {"asked": self.video, "signed": self.signed, "files": self.files}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Asked:
        """What `as_json` made.

        Raises:
            KeyError: an older version stored it.
        """
        return cls(fields["asked"], fields["signed"], fields["files"])


def asked_by(data: object) -> Asked:
    """What a job's input asks for, whatever the order of its fields.

    Null and what is blank are not given, and so is the seed that has one chosen.
    """
    decides = data
    if isinstance(data, Mapping):
        given = as_given(data)
        decides = {name: value for name, value in given.items() if name not in DELIVERY_FIELDS}
        if decides.get("seed") in CHOOSE_A_SEED:
            del decides["seed"]
    return Asked(hash_of(_unsigned("", decides)), hash_of(decides))


def _unsigned(field: str, value: object) -> object:
    """The value of a field, its URLs without signatures; a text such as a prompt stays whole."""
    if isinstance(value, Mapping):
        return {name: _unsigned(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unsigned(field, item) for item in value]
    if isinstance(value, str) and field in url_fields():
        return without_signature(value)
    return value
