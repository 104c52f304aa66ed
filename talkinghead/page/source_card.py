"""Who speaks: the picture or video, the faces that were found, and boxes drawn on it."""

from __future__ import annotations

import json

from nicegui import events, ui

from talkinghead.page.asked import Box, Source, Voice
from talkinghead.page.overlay import overlay
from talkinghead.page.parts import Alert, card, drop_zone
from talkinghead.page.person import Person
from talkinghead.page.words import SOURCE, faces_line, people_lines

TOPICS = ("source", "plan", "voices", "drawing")
LEGEND = "Dashed: what moves with the voice."
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
            self._picture.on("loaded", self._describe)
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
        if self.drawing not in person.asked.voices:  # another tab removed it
            self.drawing = None
        self._alert.tell(person.source_fault or person.fault.at(SOURCE))
        self._picture.set_visibility(source is not None)
        self._picture.classes(**{"remove" if self.drawing is None else "add": "drawing"})
        if source is None:
            self._about.set_text("One or more people, seen from the front.")
            return
        self._picture.set_source(f"/mine/{source.shown.name}")
        self._picture.set_content(self._drawn())
        self._about.set_text(self._words(source))
        self._describe()
        self._tell_people()

    def _describe(self) -> None:
        """Say what the picture is to who does not see it: NiceGUI has no prop for that."""
        if self._person.asked.source is not None:
            words = json.dumps(self._about.text)
            shown = f"getHtmlElement({self._picture.id})?.querySelector('img')"
            ui.run_javascript(f"const img = {shown}; if (img) img.alt = {words}")

    def _words(self, source: Source) -> str:
        preview, planned = source.preview, self._person.planned
        video = f", {preview.seconds:.1f} s: its first frame" if preview.seconds else ""
        has_boxes = any(voice.box for voice in self._person.asked.voices)
        found = f" {faces_line(planned)} {'' if has_boxes else LEGEND}" if planned else ""
        return f"{source.name}, {preview.width} x {preview.height} pixels{video}.{found}"

    def _tell_people(self) -> None:
        self._people.clear()
        with self._people:
            for line in people_lines(self._person.planned or {}):
                ui.html(line, sanitize=False, tag="li")

    def _drawn(self) -> str:
        found = (self._person.planned or {}).get("speakers_found") or []
        pulled = self._pulled() if self._from is not None else None
        return overlay(self._person.asked, found, self.drawing, pulled)

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
            self._picture.set_content(self._drawn())

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
