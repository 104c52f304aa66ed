"""One tab of a browser: the cards in two columns, kept as its person has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from nicegui import ui

from talkinghead.page import making_card, options_card, plan_card, source_card, voices_card
from talkinghead.page.person import Person

LOOK_SECONDS = 0.2
BLUE, RED = "#1d4ed8", "#b42318"  # readable on white


class Card(Protocol):
    """A part of the page that can be shown anew."""

    def refresh(self) -> None:
        """Show what there is now."""


class Tab:
    """The page as one tab has it; it looks for what is new, since other tabs change it, too."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._seen: Counter[str] = Counter(person.changes)
        self._cards: list[tuple[Card, Sequence[str]]] = []
        self._build(person)
        ui.timer(LOOK_SECONDS, self._look)
        ui.timer(1.0, self._making.tick)

    def _build(self, person: Person) -> None:
        ui.colors(primary=BLUE, negative=RED)
        with ui.element("header"):
            ui.html("Talking heads", sanitize=False, tag="h1")
            ui.label(_where(person)).classes("hint")
        with ui.element("div").classes("cards"):
            with ui.element("div").classes("pile"):
                source = source_card.SourceCard(person)
                voices = voices_card.VoicesCard(person, source)
            with ui.element("div").classes("pile"):
                options = options_card.OptionsCard(person)
                plan = plan_card.PlanCard(person, self._started)
                self._making = making_card.MakingCard(person)
        self._cards = [
            (source, source_card.TOPICS),
            (voices, voices_card.TOPICS),
            (options, options_card.TOPICS),
            (plan, plan_card.TOPICS),
            (self._making, making_card.TOPICS),
        ]

    def _started(self) -> None:
        self._making.bring_into_view()

    def _look(self) -> None:
        now = Counter(self._person.changes)
        new = {topic for topic, count in now.items() if count != self._seen[topic]}
        self._seen = now
        for card, topics in self._cards:
            if new.intersection(topics):
                card.refresh()


def _where(person: Person) -> str:
    place = person.place
    if place.endpoint is not None:
        return f"Rendered on the endpoint {place.endpoint}."
    return "Rendered on this machine."
