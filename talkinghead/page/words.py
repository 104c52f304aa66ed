"""What the page says: of faults, of what a render will take, of how far it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from talkinghead.client import FileTooLarge, Unauthorized
from talkinghead.plan.pace import duration_text

# The parts of the page at which a fault is told, by the beginning of the request's field.
SOURCE, GENERAL = "source", "general"
PARTS = {
    "image_url": SOURCE,
    "video_url": SOURCE,
    "prompt": "prompt",
    "max_audio_duration": "seconds",
    "seed": "seed",
    "playlist": "watch",
}
WAYS = {
    "prompt": "in one prompt",
    "chain": "window by window",
    "frames": "in one prompt, its frames on disk",
    "draft": "as a draft, without the model",
}
STAGES = {
    "understand": "Reading the request",
    "fetch": "Fetching the files",
    "prepare": "Decoding picture and voices",
    "start": "Waiting for ComfyUI: its start takes about half a minute",
    "patch": "Handing over the files",
    "render": "Rendering",
    "collect": "Joining picture and sound",
    "deliver": "Delivering the video",
    "done": "Done",
}
_FIELDS = (
    (re.compile(r"\bspeakers\.(\d)\.box\b"), lambda m: f"the box of voice {int(m[1]) + 1}"),
    (re.compile(r"\bspeakers\.(\d)(\.audio_url)?\b"), lambda m: f"voice {int(m[1]) + 1}"),
    (re.compile(r"\bimage_url\b"), lambda m: "the picture"),
    (re.compile(r"\bvideo_url\b"), lambda m: "the video"),
    (re.compile(r"\bmax_audio_duration\b"), lambda m: "the length"),
)


BUCKET_NEEDED = (
    "Larger ones go through a bucket: start the page with S3_BUCKET, S3_KEY and S3_SECRET set."
)
UNHEARD = "The endpoint did not hear it: the job may go on. Press Cancel once more."
KEY_NEEDED = (
    "The endpoint does not take the key: start the page with RUNPOD_API_KEY set to RunPod's, or "
    "TALKINGHEAD_TOKEN to the API_TOKEN of a `talkinghead serve`."
)
_NAMED = re.compile(r"([a-z_]+(?:\.\d+)?(?:\.[a-z_]+)*): ")


@dataclass(frozen=True)
class Fault:
    """Why there is nothing: what is wrong, by the part of the page at which it is told."""

    by_part: Mapping[str, str] = field(default_factory=dict)

    def at(self, part: str) -> str:
        """What is told at this part; empty if nothing is."""
        return self.by_part.get(part, "")


def fault_of(error: Exception) -> Fault:
    """The fault that an error of a job, or of the client, tells."""
    details: Mapping[str, Any] = getattr(error, "details", None) or {}
    if isinstance(error, FileTooLarge):  # whose own words are for programs
        return Fault({GENERAL: f"{str(error).partition('. Give')[0]}. {BUCKET_NEEDED}"})
    if isinstance(error, Unauthorized):
        return Fault({GENERAL: KEY_NEEDED})
    named = _NAMED.match(str(error))  # many a sentence begins with its field
    field_name = details.get("field") or (named[1] if named else None)
    problems = details.get("problems") or [{"field": field_name, "message": str(error)}]
    told: dict[str, list[str]] = {}
    for problem in problems:
        part = part_of(str(problem.get("field") or ""))
        told.setdefault(part, []).append(_sentence(problem))
    return Fault({part: " ".join(sentences) for part, sentences in told.items()})


def part_of(field_name: str) -> str:
    """Where on the page a field of the request is."""
    first, _, rest = field_name.partition(".")
    if first == "speakers" and rest[:1].isdecimal():
        return f"voice{rest[0]}"
    return PARTS.get(first, GENERAL)


def _sentence(problem: Mapping[str, Any]) -> str:
    text, allowed = in_words(str(problem.get("message") or "")), problem.get("allowed")
    if allowed not in (None, False, "") and str(allowed) not in text and "allowed" not in text:
        text = f"{text}; allowed: {allowed}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def in_words(text: str) -> str:
    """A sentence of the worker's, with what the page calls the fields."""
    for pattern, words in _FIELDS:
        text = pattern.sub(words, text)
    return text[:1].upper() + text[1:]


def plan_rows(planned: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a render will take, for people: names and values."""
    found: Mapping[str, Any] = planned.get("estimate") or {}
    yield (
        "Video",
        f"{found['width']} x {found['height']} pixels, {found['duration_seconds']:.2f} s, "
        f"{found['delivered_frames']} frames",
    )
    windows = f", {found['windows']} windows" if found.get("windows") else ""
    yield "Rendered", f"{WAYS.get(found['way'], found['way'])}{windows}"
    yield from _time_rows(found)
    if found["way"] != "draft":
        yield "Memory, disk", f"{found['ram_gb']:.1f} GB for frames, {found['disk_gb']:.2f} GB"


def _time_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    seconds, per_hour = found.get("seconds"), found.get("price_per_hour")
    if found["way"] == "draft":
        yield "Time", "Seconds to minutes, with the length: nobody has figures for drafts"
        yield "Price", "None: no GPU is used"
        return
    if seconds is None:
        yield from _rows_by_card(found.get("seconds_by_card") or {}, per_hour)
        return
    late = "" if found.get("fits_timeout") is not False else ": longer than a job may take"
    yield "Time", f"{duration_text(seconds)} ({found['seconds_source']}){late}"
    price = found.get("price")
    yield "Price", _NO_PRICE if price is None else f"{price:.2f}, at {per_hour:g} an hour"


def _rows_by_card(
    seconds: Mapping[str, float], per_hour: float | None
) -> Iterator[tuple[str, str]]:
    by_card = "; ".join(f"{card}: {duration_text(each)}" for card, each in seconds.items())
    yield "Time", f"By published figures, {by_card}"
    if per_hour is None or not seconds:
        yield "Price", _NO_PRICE
        return
    costs = [each / 3600 * per_hour for each in seconds.values()]
    yield "Price", f"{min(costs):.2f} to {max(costs):.2f} by the card, at {per_hour:g} an hour"


SILENT_SECONDS = 20.0  # an endpoint is asked every two
_NO_PRICE = "Not known: PRICE_PER_HOUR is not set"


def faces_line(planned: Mapping[str, Any]) -> str:
    """Who was found, in a sentence."""
    people = planned.get("speakers_found") or []
    faces = sum(1 for person in people if person.get("face"))
    return "1 face was found." if faces == 1 else f"{faces or 'No'} faces were found."


def people_lines(planned: Mapping[str, Any]) -> Iterator[str]:
    """Who speaks, for those who do not see the picture."""
    found = planned.get("speakers_found") or []
    for number, person in enumerate(found, 1):
        if place := person.get("face") or person.get("box"):
            x0, y0, x1, y1 = place
            size = f"{x1 - x0} x {y1 - y0} pixels"
            yield f"Person {number}, at {x0}, {y0}, {size}: {role(person, found)}."


def role(person: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    """What somebody who was found does, in a word or two."""
    who = speaker_number(person)
    if who is not None:
        return f"voice {who + 1}"
    # Of too few faces for the voices nobody knows whose they are.
    return "still" if any(speaker_number(each) is not None for each in found) else "face"


def speaker_number(person: Mapping[str, Any]) -> int | None:
    """Which voice, from 0, somebody who was found speaks; None: none."""
    found = re.search(r"speakers\.(\d)", str(person.get("speaker") or ""))
    return int(found[1]) if found else None


def progress_line(progress: Mapping[str, Any]) -> str:
    """How far a job is, in a sentence that changes with the stage and the window."""
    stage = str(progress.get("stage"))
    if stage == "render" and progress.get("windows"):
        return f"Rendering window {progress['window']} of {progress['windows']}"
    return STAGES.get(stage, str(progress.get("message")))


def silence_text(seconds: float) -> str:
    """That nobody has said how the job is for so long, once it is longer than a busy moment."""
    return f"no answer for {duration_text(seconds)}" if seconds > SILENT_SECONDS else ""


def eta_text(seconds: float | None) -> str:
    """How long it will take, as far as anybody knows."""
    return "" if seconds is None else f"about {duration_text(seconds)} left"
