"""How it shall look: prompt, size, length, draft or model."""

from __future__ import annotations

import json

from nicegui import ui

from talkinghead.page.asked import DRAFT, MODEL, RESOLUTIONS, SHAPES
from talkinghead.page.parts import Alert, card
from talkinghead.page.person import Person

TOPICS = ("plan",)
QUALITIES = {
    DRAFT: "Draft: quick, the mouth of the picture moves",
    MODEL: "Model: every frame anew",
}


class OptionsCard:
    """The fields of a request that people set most."""

    def __init__(self, person: Person) -> None:
        self._person = person
        asked = person.asked
        self._alerts: dict[str, Alert] = {}
        with card("How it looks"):
            self._quality()
            prompt = ui.textarea("Prompt", placeholder="What the picture shall show, if you like")
            prompt.bind_value(asked, "prompt").on_value_change(person.touch)
            prompt.props("autogrow outlined stack-label").classes("wide")
            self._alert("prompt")
            with ui.row().classes("fields"):
                shape = ui.select(SHAPES, label="Shape").bind_value(asked, "shape")
                size = ui.select(RESOLUTIONS, label="Size").bind_value(asked, "resolution")
                seconds = ui.number("Seconds at most", min=0.2, step=1, placeholder="all")
                seed = ui.number("Seed", min=0, step=1, format="%d", placeholder="any")
            for each, name in ((seconds, "seconds"), (seed, "seed")):
                each.bind_value(asked, name)
                self._alert(name)
            for field in (shape, size, seconds, seed):
                field.on_value_change(person.touch).props("outlined stack-label")
            watch = ui.checkbox("Watch it while it is rendered, window by window")
            watch.bind_value(asked, "watch").on_value_change(person.touch)
            watch.bind_visibility_from(asked, "draft_or_model", value=MODEL)
            watch.set_enabled(person.place.has_bucket)
            if not person.place.has_bucket:
                why = ui.label("Watching needs a bucket: S3_BUCKET and the others are not set.")
                why.classes("hint").bind_visibility_from(asked, "draft_or_model", value=MODEL)
            self._alert("watch")
        self.refresh()

    def _quality(self) -> None:
        person = self._person
        radio = ui.radio(QUALITIES).bind_value(person.asked, "draft_or_model")
        radio.on_value_change(person.touch).props('aria-label="Draft or model"').classes("quality")
        if person.place.why_no_model:
            choices = [
                {"value": index, "label": words, "disable": name == MODEL}
                for index, (name, words) in enumerate(QUALITIES.items())
            ]
            radio.props[":options"] = json.dumps(choices)  # NiceGUI's own cannot be disabled
            ui.label(person.place.why_no_model).classes("hint")

    def _alert(self, part: str) -> None:
        self._alerts[part] = Alert()

    def refresh(self) -> None:
        """Show what is wrong with which field."""
        for part, alert in self._alerts.items():
            alert.tell(self._person.fault.at(part))
