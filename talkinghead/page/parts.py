"""What the cards of the page are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from nicegui import events, ui

from talkinghead.page.person import Person

Took = Callable[[Path, str], Awaitable[None]]

# Quasar's own head of an uploader has a button without a name.
_HEAD = """
<div class="drop-head">
  <q-btn no-caps unelevated color="primary" label="{label}" @click="props.pickFiles">
    <q-uploader-add-trigger />
  </q-btn>
  <span class="hint">or drop it here</span>
  <q-spinner v-if="props.isUploading" size="1.4em" aria-label="The file is being sent" />
</div>
"""


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
        zone.reset()  # else the same file could not be chosen again
        for file in event.files:  # in the order in which they were chosen
            path = person.new_file(file.name)
            await file.save(path)
            await took(path, file.name)

    zone = ui.upload(auto_upload=True, multiple=multiple, on_multi_upload=uploaded)
    zone.classes("drop").props(f'flat bordered accept="{accept}"')
    zone.add_slot("header", _HEAD.replace("{label}", label))
    refused = Alert()
    zone.on_rejected(lambda: refused.tell(f"That file is of another kind: {kinds} are taken."))
    return zone
