"""What it will take, before it starts; and the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui

from talkinghead.page.parts import Alert, card
from talkinghead.page.person import Person
from talkinghead.page.words import GENERAL, in_words, plan_rows

TOPICS = ("plan", "voices", "source", "making")


class PlanCard:
    """The estimate, kept up to date, and Start; `started` is called after it."""

    def __init__(self, person: Person, started: Callable[[], None]) -> None:
        self._person, self._started = person, started
        with card("What it takes"):
            self._state = ui.label().classes("hint").props("role=status")
            self._rows = ui.element("dl").classes("rows")
            self._notes = ui.element("ul").classes("notes")
            if person.place.endpoint is not None:
                self._ask = ui.button("Ask the endpoint for its time and price")
                self._ask.on_click(person.ask_endpoint).props("no-caps flat dense")
                ui.label(
                    "It is planned on this machine, which costs nothing. The endpoint may have to "
                    "start a worker to answer."
                ).classes("hint")
            self._alert = Alert()
            self._start = ui.button("Start", on_click=self._begin)
            self._start.props("no-caps unelevated color=primary size=lg").classes("start")
        self.refresh()

    def refresh(self) -> None:
        """Show what is known now."""
        person = self._person
        planned = person.there or person.planned
        self._state.set_text(self._words())
        self._alert.tell(person.fault.at(GENERAL))
        self._show(planned or {})
        self._start.set_enabled(not person.is_making)
        self._start.set_text("It is being rendered" if person.is_making else "Start")

    def _words(self) -> str:
        person = self._person
        if person.asked.missing:
            return person.asked.missing
        if person.is_planning:
            return "Looking at the files…"
        if person.is_asking:
            return "Waiting for the endpoint…"
        if person.there is not None:
            return "The endpoint says:"
        if person.planned is None:
            return "Not known: see what is wrong." if person.fault.by_part else ""
        return "Ready to start."

    def _show(self, planned: Mapping[str, Any]) -> None:
        self._rows.clear()
        self._notes.clear()
        if not planned.get("estimate"):
            return
        with self._rows:
            for name, value in plan_rows(planned):
                ui.html(name, sanitize=False, tag="dt")
                with ui.element("dd"):
                    ui.label(value)
        with self._notes:
            for note in planned.get("warnings") or []:
                with ui.element("li"):
                    ui.label(in_words(note))

    def _begin(self) -> None:
        if missing := self._person.asked.missing:
            self._alert.tell(missing)
            return
        self._person.start()
        self._started()
