"""Who speaks: the picture or video, the faces that were found, and boxes drawn on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui import events, ui

from talkinghead.page.asked import Box, Source, Voice
from talkinghead.page.parts import Alert, card, drop_zone
from talkinghead.page.person import Person
from talkinghead.page.words import SOURCE, faces_line, people_lines, speaker_number

TOPICS = ("source", "plan", "voices", "drawing")
COLOURS = ("#ffb000", "#42b4ff", "#ff6fb5", "#5ee08a")  # of the voices, bright on any picture
STILL = "#e0e0e0"
LEGEND = "Dashed: what moves with the voice."
LETTERS_A_SIDE = 34  # lines of a label's height that the picture's longer side would hold
LEAST_PIXELS = 8  # of a box, in what is shown: less was a click
MOVES_SECONDS = 0.04  # between two looks at a pointer that draws


class SourceCard:
    """The picture, with who was found on it; a box is drawn for the voice that is `drawing`."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self.drawing: Voice | None = None
        self._from: tuple[float, float] | None = None
        self._to = (0.0, 0.0)
        with card("Who speaks"):
            drop_zone(
                person,
                "Choose a picture or a video",
                "image/*,video/*,.heic,.avif,.mkv",
                person.take_source,
                "pictures and videos",
                multiple=False,
            )
            self._alert = Alert()
            self._picture = ui.interactive_image(sanitize=False).classes("source")
            for name in ("pointerdown", "pointermove", "pointerup", "pointerleave"):
                throttle = MOVES_SECONDS if name == "pointermove" else 0
                self._picture.on(f"svg:{name}", self._pointed, throttle=throttle)
            self._about = ui.label().classes("hint")
            self._people = ui.element("ul").classes("unseen")
        self.refresh()

    def draw_for(self, voice: Voice | None) -> None:
        """Have a box drawn for this voice; None: no more."""
        self.drawing, self._from = voice, None
        self.refresh()
        if voice is not None:
            shown = f"getHtmlElement({self._picture.id})"
            ui.run_javascript(f"{shown}.scrollIntoView({{block: 'center'}})")

    def refresh(self) -> None:
        """Show what there is now."""
        person, source = self._person, self._person.asked.source
        self._alert.tell(person.source_fault or person.fault.at(SOURCE))
        self._picture.set_visibility(source is not None)
        if source is None:
            self._about.set_text("One or more people, seen from the front.")
            return
        self._picture.set_source(f"/mine/{source.shown.name}")
        self._picture.set_content(self._drawn(source))
        words = self._words(source)
        self._about.set_text(words)
        self._picture.props(f'role=img aria-label="{words}"'.replace("\n", " "))
        self._tell_people()

    def _words(self, source: Source) -> str:
        preview, planned = source.preview, self._person.planned
        video = f", {preview.seconds:.1f} s: its first frame" if preview.seconds else ""
        name = source.name.replace('"', "'").replace("\\", "/")
        found = f" {faces_line(planned)} {LEGEND}" if planned else ""
        return f"{name}, {preview.width} x {preview.height} pixels{video}.{found}"

    def _tell_people(self) -> None:
        self._people.clear()
        with self._people:
            for line in people_lines(self._person.planned or {}):
                ui.html(line, sanitize=False, tag="li")

    # ---- What is drawn on it

    def _drawn(self, source: Source) -> str:
        scale = 1 / source.preview.scale
        width, height = source.preview.width * scale, source.preview.height * scale
        side = max(width, height)
        shapes = [*self._people_shapes(scale, side), *self._box_shapes(scale, side)]
        if self.drawing is not None:
            shapes.append(
                f'<rect id="canvas" width="{width}" height="{height}" fill="transparent" '
                'pointer-events="all" style="cursor:crosshair;touch-action:none"/>'
            )
            if self._from is not None:
                shapes.append(_rect(self._pulled(), self._colour(self.drawing), dashed=True))
        return "".join(shapes)

    def _people_shapes(self, scale: float, side: float) -> list[str]:
        shapes = []
        people = (self._person.planned or {}).get("speakers_found") or []
        for person in people:
            who = speaker_number(person)
            colour = STILL if who is None else COLOURS[who % len(COLOURS)]
            alone = self.drawing is not None or self._has_box(who)
            shapes += _person_shapes(person, colour, scale, face_alone=alone)
            place = person.get("face") or person.get("box")
            if place is not None and not self._has_box(who):
                words = "still" if who is None else f"voice {who + 1}"
                shapes.append(_tag(words, place[0] * scale, place[1] * scale, colour, side))
        return shapes

    def _box_shapes(self, scale: float, side: float) -> list[str]:
        shapes = []
        for number, voice in enumerate(self._person.asked.voices, 1):
            if voice.box is None:
                continue
            corners = [each * scale for each in voice.box.corners()]
            shapes.append(_rect(corners, self._colour(voice)))
            shapes.append(
                _tag(f"voice {number}", corners[0], corners[1], self._colour(voice), side)
            )
        return shapes

    def _has_box(self, who: int | None) -> bool:
        voices = self._person.asked.voices
        return who is not None and who < len(voices) and voices[who].box is not None

    def _colour(self, voice: Voice) -> str:
        return COLOURS[self._person.asked.voices.index(voice) % len(COLOURS)]

    # ---- A box that is drawn

    def _pointed(self, event: events.GenericEventArguments) -> None:
        source, voice = self._person.asked.source, self.drawing
        if source is None or voice is None or voice not in self._person.asked.voices:
            return
        kind, point = event.args["type"], (event.args["image_x"], event.args["image_y"])
        if kind == "pointerdown":
            self._from = self._to = point
        elif self._from is not None:
            self._to = point
        if kind in ("pointerup", "pointerleave") and self._from is not None:
            self._end(source, voice)
        if self._from is not None or kind != "pointermove":
            self._picture.set_content(self._drawn(source))

    def _end(self, source: Source, voice: Voice) -> None:
        preview, (x0, y0, x1, y1) = source.preview, self._pulled()
        self._from = None
        if min(x1 - x0, y1 - y0) < LEAST_PIXELS:
            return
        right, bottom = float(preview.width), float(preview.height)
        corners = [
            min(max(edge * preview.scale, 0.0), most)
            for edge, most in zip((x0, y0, x1, y1), (right, bottom, right, bottom), strict=True)
        ]
        self.drawing = None
        self._person.changes["drawing"] += 1
        self._person.set_box(voice, Box.of(corners))

    def _pulled(self) -> list[float]:
        assert self._from is not None
        (x0, y0), (x1, y1) = self._from, self._to
        return [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]


def _person_shapes(
    person: Mapping[str, Any], colour: str, scale: float, *, face_alone: bool
) -> list[str]:
    """The face, and dashed the region that moves with the voice."""
    face, region = person.get("face"), person.get("box")
    shapes = []
    if face is not None:
        shapes.append(_rect([edge * scale for edge in face], colour))
    if region is not None and not face_alone:
        shapes.append(_rect([edge * scale for edge in region], colour, dashed=True))
    return shapes


def _rect(corners: list[float], colour: str, *, dashed: bool = False) -> str:
    x0, y0, x1, y1 = corners
    place = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
    dashes = ' stroke-dasharray="7 5"' if dashed else ""
    common = f'<rect {place} fill="none" vector-effect="non-scaling-stroke"'
    under = f'{common} stroke="#000" stroke-opacity="0.6" stroke-width="5"/>'
    return f'{under}{common} stroke="{colour}" stroke-width="3"{dashes}/>'


def _tag(words: str, x: float, y: float, colour: str, side: float) -> str:
    """A label above a place, or within it at the picture's upper edge; `side` is the longer one."""
    size = side / LETTERS_A_SIDE
    top = max(y - size * 1.3, 0)
    return (
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{len(words) * size * 0.58 + size * 0.5:.1f}" '
        f'height="{size * 1.3:.1f}" fill="{colour}"/><text x="{x + size * 0.25:.1f}" '
        f'y="{top + size:.1f}" font-size="{size:.1f}" font-weight="600" fill="#000">{words}</text>'
    )
