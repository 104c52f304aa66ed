"""What the cards of the page are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from nicegui import events, ui

from talkinghead.page.person import Person

Took = Callable[[Path, str], Awaitable[None]]


@contextlib.contextmanager
def card(title: str) -> Iterator[None]:
    """A part of the page with its title, which names it for screen readers."""
    name = f"title-{title.lower().replace(' ', '-')}"
    with ui.element("section").classes("card").props(f"aria-labelledby={name}"):
        ui.html(title, sanitize=False, tag="h2").props(f"id={name}")
        yield


def player(tag: str, url: str, label: str) -> ui.element:
    """A video or a sound, with the browser's own controls."""
    element = ui.element(tag).props("controls playsinline")
    # Not by `props("…")`, which would read a name or an address of somebody else's as more props.
    element.props["src"], element.props["aria-label"] = url, label
    return element


class Alert:
    """A line that is there, and read out, when something is wrong."""

    def __init__(self) -> None:
        self._label = ui.label().classes("alert").props("role=alert")
        self.tell("")

    def tell(self, text: str) -> None:
        """What is wrong; empty if nothing is."""
        self._label.set_text(text)
        self._label.set_visibility(bool(text))


def drop_zone(
    person: Person, label: str, accept: str, took: Took, kinds: str, *, multiple: bool
) -> ui.upload:
    """Where files are dropped or chosen; each goes to a file of the person's, and to `took`."""

    async def uploaded(event: events.MultiUploadEventArguments) -> None:
        refused.tell("")
        for file in event.files:  # in the order in which they were chosen
            path = person.new_file(file.name)
            await file.save(path)
            await took(path, file.name)

    zone = ui.upload(auto_upload=True, multiple=multiple, on_multi_upload=uploaded)
    zone.classes("drop").props(f'flat bordered accept="{accept}"')
    # Quasar's own head has a button without a name. A template of Vue's in its place is built anew
    # with whatever changes on the page: it would lose the focus, and its input while one chooses.
    with zone.add_slot("header"), ui.element("div").classes("drop-head"):
        pick = f"() => getElement({zone.id}).$refs.qRef.pickFiles()"
        ui.button(label).props("no-caps unelevated").on("click", js_handler=pick)
        ui.element("q-uploader-add-trigger")
        ui.label("or drop it here").classes("hint")
        busy = ui.spinner(size="1.4em").props('aria-label="The file is being sent"')
        busy.set_visibility(False)
    refused = Alert()
    zone.on("start", lambda: busy.set_visibility(True), args=[])
    zone.on("finish", lambda: busy.set_visibility(False), args=[])
    # Else the same file could not be chosen again; before it is taken, that would be a failure.
    zone.on("finish", js_handler=f"() => getElement({zone.id}).$refs.qRef.reset()")
    zone.on(
        "failed", lambda: refused.tell("The file did not arrive: choose it once more."), args=[]
    )
    zone.on_rejected(lambda: refused.tell(f"That file is of another kind: {kinds} are taken."))
    return zone
