"""What a person puts together on the page, and the request that it makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from talkinghead.media.kinds import what_came
from talkinghead.media.preview import Preview
from talkinghead.page.words import speaker_number
from talkinghead.plan.shown import without_secrets

MOST_VOICES = 4
SHAPES = {"auto": "As the picture", "9:16": "Upright, 9:16", "16:9": "Wide, 16:9"}
RESOLUTIONS = {"480p": "480p", "720p": "720p, slower"}
TOGETHER, IN_TURN = "parallel", "sequential"
TURNS = {TOGETHER: "All begin together", IN_TURN: "One after the other"}
MODEL, DRAFT = "model", "draft"
# Where a caller of the API would have put the files that this page has.
EXAMPLE_URL = "https://example.com/"


@dataclass
class Box:
    """Where somebody is: x and y of the upper left corner, in pixels of the source."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def of(cls, corners: Sequence[float]) -> Box:
        """From x0, y0, x1, y1, as a request has it."""
        x0, y0, x1, y1 = map(round, corners)
        return cls(x0, y0, x1 - x0, y1 - y0)

    def corners(self) -> list[int]:
        """As a request has it. What is not typed yet is 0, which the request's checks refuse."""
        edges = self.x, self.y, self.width, self.height
        x, y, width, height = (round(each or 0) for each in edges)
        return [x, y, x + width, y + height]


@dataclass
class Voice:
    """A voice's file, and where who speaks it is, if the person said so."""

    path: Path
    name: str
    box: Box | None = None


@dataclass(frozen=True)
class Source:
    """The picture or video of who speaks, with what is shown of it."""

    path: Path
    name: str
    field: str  # image_url or video_url
    shown: Path
    preview: Preview


def source_field(path: Path) -> str:
    """The field of the request that takes this file."""
    kind = what_came(path)
    return "video_url" if not kind.endswith(("picture", "GIF")) and _moves(kind) else "image_url"


def _moves(kind: str) -> bool:
    return any(word in kind for word in ("video", "MP4", "Matroska", "WMV", "stream"))


@dataclass
class Asked:
    """Everything on the page that decides a video."""

    draft_or_model: str
    source: Source | None = None
    voices: list[Voice] = field(default_factory=list)
    prompt: str = ""
    shape: str = "auto"
    resolution: str = "480p"
    seconds: float | None = None
    turns: str = TOGETHER
    seed: float | None = None
    watch: bool = False

    def options(self) -> dict[str, Any]:
        """The request but for its files."""
        told: dict[str, Any] = {
            "aspect_ratio": self.shape,
            "resolution": self.resolution,
            "prompt": self.prompt.strip(),
            "max_audio_duration": self.seconds,
            "seed": None if self.seed is None else int(self.seed),
            "draft": self.draft_or_model == DRAFT,
        }
        if len(self.voices) > 1:
            told["audio_mode"] = self.turns
        if self.watch and not told["draft"]:
            told["playlist"] = True
        return {name: value for name, value in told.items() if value not in (None, "", False)}

    def files(self) -> Iterator[tuple[str, Path, str]]:
        """Each file: its field, as the client names these; where it is; and its own name."""
        if self.source is not None:
            yield self.source.field, self.source.path, self.source.name
        for index, voice in enumerate(self.voices):
            yield f"speakers.{index}.audio_url", voice.path, voice.name

    def places(self) -> list[dict[str, Any]]:
        """The `speakers` of a request, without their voices."""
        boxes = [voice.box for voice in self.voices]
        return [{"box": box.corners()} if box else {} for box in boxes]

    def give_boxes(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Each voice a box: where its speaker was found, or a strip of the picture.

        All of them, since who has none beside others that have one would be nowhere.

        Args:
            found: `speakers_found` of the plan.
        """
        if self.source is None:
            return
        places = {speaker_number(person): person.get("box") for person in found}
        width = self.source.preview.width / max(len(self.voices), 1)
        for index, voice in enumerate(self.voices):
            strip = [index * width, 0, (index + 1) * width, self.source.preview.height]
            voice.box = voice.box or Box.of(places.get(index) or strip)

    def drop_boxes(self) -> None:
        """Who is where is found by the faces."""
        for voice in self.voices:
            voice.box = None

    def with_urls(self, urls: Mapping[str, str]) -> dict[str, Any]:
        """The request, with these URLs for its files."""
        speakers = [
            {"audio_url": urls[f"speakers.{index}.audio_url"], **place}
            for index, place in enumerate(self.places())
        ]
        of_source = {self.source.field: urls[self.source.field]} if self.source else {}
        return {**of_source, "speakers": speakers, **self.options()}

    def local_request(self) -> dict[str, Any]:
        """The request as this machine renders it, with the files where they are."""
        return self.with_urls({name: path.as_uri() for name, path, _ in self.files()})

    def shown_request(self) -> dict[str, Any]:
        """The request as others can send it: their own URLs take the place of the files."""
        urls: dict[str, str] = {}
        for number, (name, _, own) in enumerate(self.files()):
            url = f"{EXAMPLE_URL}{quote(own)}"
            # Of two files of one name, as two recordings are, each has a place of its own.
            urls[name] = url if url not in urls.values() else f"{EXAMPLE_URL}{number}/{quote(own)}"
        shown = without_secrets(self.with_urls(urls))
        assert isinstance(shown, dict)
        return shown

    @property
    def missing(self) -> str:
        """What is still needed, in words; empty if nothing is."""
        if self.source is None and not self.voices:
            return "Add a picture or a video, and a voice."
        if self.source is None:
            return "Add a picture or a video of who speaks."
        return "" if self.voices else "Add a voice."
