"""The video: how far it is, and then the video itself."""

from __future__ import annotations

import json
from typing import Any

from nicegui import ui

from talkinghead.page.making import Making
from talkinghead.page.parts import Alert, card, player
from talkinghead.page.person import Person
from talkinghead.page.words import eta_text, in_words, progress_line, silence_text
from talkinghead.plan.pace import duration_text

TOPICS = ("making",)


class MakingCard:
    """Progress while there is some, then the result."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._shown: tuple[Making | None, bool, str | None] = (None, False, None)
        with card("The video"):
            self._state = ui.label().classes("state").props("role=status aria-live=polite")
            self._bar = ui.linear_progress(show_value=False, size="12px").props(
                'rounded animation-speed=300 aria-label="How far the render is"'
            )
            self._left = ui.label().classes("hint")
            self._cancel = ui.button("Cancel", on_click=person.cancel)
            self._cancel.props("no-caps outline color=negative")
            self._alert = Alert()
            self._result = ui.element("div").classes("result")
        self.refresh()

    def refresh(self) -> None:
        """Show what there is now."""
        making = self._person.made
        is_under_way = making is not None and not making.is_over
        for element in (self._bar, self._left, self._cancel):
            element.set_visibility(is_under_way)
        self._state.set_text(_words(making))
        if making is None:
            return
        self._bar.set_value(float(making.progress.get("percent") or 0) / 100)
        self._left.set_text(_figures(making))
        self._cancel.set_enabled(not making.is_cancelled)
        fault = " ".join(making.fault.by_part.values()) if making.fault else ""
        self._alert.tell(fault)
        shown = making, making.is_over, making.progress.get("playlist_url")
        if shown != self._shown:
            self._shown = shown
            self._result.clear()
            with self._result:
                _show(making)
            if making.video is not None:
                ui.run_javascript(f"bringIntoView({self._state.id}, 'start')")

    def bring_into_view(self) -> None:
        """Scroll to it, for who has just pressed Start above."""
        ui.run_javascript(f"bringIntoView({self._state.id}, 'nearest')")

    def tick(self) -> None:
        """A second has passed: what is left is less."""
        if (making := self._person.made) is not None and not making.is_over:
            self._left.set_text(_figures(making))


def _words(making: Making | None) -> str:
    if making is None:
        return "Nothing is rendered yet."
    if making.is_over:
        if making.video is not None:
            return "Done: here it is."
        return "Cancelled." if making.is_cancelled else "It failed."
    if making.is_cancelled:
        return "Cancelling…"
    if making.in_queue is not None:
        jobs = "1 job waits" if making.in_queue == 1 else f"{making.in_queue} jobs wait"
        return f"In the queue, in which {jobs}"
    return progress_line(making.progress) if making.progress else "Sending the request"


def _figures(making: Making) -> str:
    percent = f"{making.progress.get('percent') or 0:.0f} %"
    since = f"{int(making.seconds) // 60}:{int(making.seconds) % 60:02} so far"
    left = silence_text(making.seconds_silent) or eta_text(making.seconds_left)
    return ", ".join(
        filter(None, (percent, str(making.progress.get("message") or ""), since, left))
    )


def _show(making: Making) -> None:
    """What there is to see: the windows that are done, or the video and all about it."""
    playlist = making.progress.get("playlist_url")
    if making.video is None or making.result is None:
        if playlist and not making.is_over:
            _playlist(str(playlist))
        return
    url = f"/mine/{making.video.name}"
    player("video", url, "The finished video")
    with ui.element("a").classes("download") as link:
        ui.label(f"Download {making.name}")
    link.props["href"], link.props["download"] = url, making.name
    output: dict[str, Any] = dict(making.result.output)
    seed = (output.get("generation_params") or {}).get("seed")
    _about(output, seed)
    _request(making.shown_request | ({} if seed is None else {"seed": seed}))


def _playlist(url: str) -> None:
    video = player("video", url, "What is rendered so far").props("muted autoplay")
    for event in ("loadedmetadata", "ended", "error"):
        video.on(event, js_handler="watchOn")
    words = "This browser cannot play it while it is rendered: wait for the end."
    ui.html(words, sanitize=False, tag="p").props("hidden")


def _about(output: dict[str, Any], seed: object) -> None:
    info = output.get("video_info") or {}
    cost, took = output.get("cost"), output.get("processing_time_seconds")
    facts = (
        f"{info.get('width')} x {info.get('height')} pixels, {info.get('frames')} frames, "
        f"{info.get('duration_seconds') or 0:.2f} s"
        if info
        else "",
        f"seed {seed}" if seed is not None else "",
        f"done in {duration_text(took)}" if took is not None else "",
        f"cost {cost:.4f}" if cost is not None else "",
    )
    ui.label("; ".join(filter(None, facts)))
    if warnings := output.get("warnings"):
        with ui.element("ul").classes("notes"):
            for warning in warnings:
                with ui.element("li"):
                    ui.label(in_words(warning))


def _request(request: dict[str, Any]) -> None:
    text = json.dumps(request, indent=1)
    with ui.element("details").classes("wide"):
        ui.html("The request, as JSON", sanitize=False, tag="summary")
        ui.label("Put your files where these URLs say, or your own URLs in their place.").classes(
            "hint"
        )
        with ui.element("pre").props('tabindex=0 aria-label="The request as JSON"'):
            ui.label(text).classes("json")
        copied = ui.label().classes("hint").props("role=status")

        def copy() -> None:
            ui.clipboard.write(text)
            copied.set_text("Copied.")

        ui.button("Copy", on_click=copy).props("no-caps outline")
