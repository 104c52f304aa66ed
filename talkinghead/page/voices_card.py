"""The voices: dropped, chosen or recorded, each with who speaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from talkinghead.page.asked import MOST_VOICES, TURNS, Box, Voice
from talkinghead.page.overlay import COLOURS
from talkinghead.page.parts import Alert, card, drop_zone, player
from talkinghead.page.person import Person
from talkinghead.page.source_card import SourceCard

TOPICS = ("voices", "plan", "drawing", "source")
ASK_SECONDS = 120.0  # for the microphone, at a person who has to allow it
EDGES = ("x", "y", "width", "height")


class VoicesCard:
    """The list of voices. What is typed into a box is kept as it is typed."""

    def __init__(self, person: Person, source: SourceCard) -> None:
        self._person, self._source = person, source
        self._is_recording = False
        self._alerts: list[Alert] = []
        self._built: tuple[object, ...] = ()
        with card("What they say"):
            self._zone = drop_zone(
                person,
                "Choose a voice",
                "audio/*,video/*",
                self._take,
                "sounds and videos",
                multiple=True,
            )
            with ui.row().classes("line"):
                self._record = ui.button("Record a voice", on_click=self._toggle)
                self._record.props("no-caps outline icon=mic")
                self._state = ui.label().classes("hint").props("role=status")
            self._alert = Alert()
            self._list = ui.element("ol").classes("voices")
            self._turns = ui.select(TURNS, label="Several voices").bind_value(person.asked, "turns")
            self._turns.on_value_change(person.touch).props("outlined").classes("wide")
        self.refresh()

    async def _take(self, path: Path, name: str) -> None:
        if len(self._person.asked.voices) >= MOST_VOICES:
            self._alert.tell(f"{MOST_VOICES} voices are the most: {name} was left out.")
            return
        self._alert.tell("")
        self._person.add_voice(path, name)

    def refresh(self) -> None:
        """Show what there is now; the list is made anew only if voices or boxes came or went."""
        voices = self._person.asked.voices
        self._turns.set_visibility(len(voices) > 1)
        built = (
            *((id(voice), id(voice.box)) for voice in voices),
            id(self._source.drawing),
            self._person.asked.source is None,
        )
        if built != self._built:
            self._built = built
            self._list.clear()
            with self._list:
                self._alerts = [self._voice(*each) for each in enumerate(voices)]
        for index, alert in enumerate(self._alerts):
            alert.tell(self._person.fault.at(f"voice{index}"))

    # ---- One voice

    def _voice(self, index: int, voice: Voice) -> Alert:
        name = f"Voice {index + 1}"
        with ui.element("li").style(f"border-color: {COLOURS[index]}"):
            with ui.row().classes("line"):
                ui.label(f"{name}: {voice.name}").classes("voice-name")
                remove = ui.button(icon="close", on_click=lambda: self._remove(voice))
                remove.props(f'flat round dense aria-label="Remove voice {index + 1}"')
            player("audio", f"/mine/{voice.path.name}", name)
            alert = Alert()
            if self._person.asked.source is not None:
                self._place(name, voice)
        return alert

    def _remove(self, voice: Voice) -> None:
        self._alert.tell("")
        self._person.remove_voice(voice)
        # The button that had the focus goes: the next key is pressed where voices are chosen.
        ui.run_javascript(f"getHtmlElement({self._zone.id}).querySelector('button').focus()")

    def _place(self, name: str, voice: Voice) -> None:
        """Where who speaks it is: found, drawn or typed."""
        if self._source.drawing is voice:
            with ui.row().classes("line"):
                ui.label("Draw a box on the picture around this person.").props("role=status")
                _small("Stop drawing", lambda: self._do(voice, lambda: self._draw(None)))
            return
        with ui.row().classes("line"):
            if voice.box is None:
                ui.label("Who speaks it is found by the faces.").classes("hint")
            _small("Draw a box", lambda: self._do(voice, lambda: self._draw(voice))).props(
                f'aria-label="Draw a box for {name.lower()}"'
            )
            if voice.box is None:
                _small("Type a box", lambda: self._do(voice, self._person.give_boxes)).props(
                    f'aria-label="Type a box for {name.lower()}"'
                )
            else:
                _small("Find the faces again", lambda: self._do(voice, self._person.drop_boxes))
        if voice.box is not None:
            self._typed(name, voice.box)

    def _typed(self, name: str, box: Box) -> None:
        with ui.row().classes("box"):
            for edge in EDGES:
                number = ui.number(edge, min=0, step=1, format="%d").bind_value(box, edge)
                number.props(f'dense outlined aria-label="{name}, {edge} of its box in pixels"')
                number.on_value_change(self._typed_one)

    def _typed_one(self) -> None:
        self._person.changes["plan"] += 1  # it is drawn at once
        self._person.touch()

    def _do(self, voice: Voice, act: Callable[[], object]) -> None:
        """Do what a button of this voice says. The button goes; the focus stays at the voice."""
        act()
        self.refresh()
        voices = self._person.asked.voices
        if voice in voices:  # another tab may have removed it
            words = f"focusWithin({self._list.id}, {voices.index(voice)})"
            self._list.client.run_javascript(words)

    def _draw(self, voice: Voice | None) -> None:
        self._source.draw_for(voice)

    # ---- Recording

    async def _toggle(self) -> None:
        if self._is_recording:
            self._set_recording(False, "")
            await ui.run_javascript(f"stopRecording({self._zone.id})", timeout=ASK_SECONDS)
            return
        self._state.set_text("Your browser asks for the microphone.")
        fault = await ui.run_javascript("startRecording()", timeout=ASK_SECONDS)
        if fault:
            self._set_recording(False, f"No recording: {fault}")
        else:
            self._set_recording(True, "Recording: speak, then press Stop.")

    def _set_recording(self, is_recording: bool, words: str) -> None:
        self._is_recording = is_recording
        self._record.set_text("Stop recording" if is_recording else "Record a voice")
        self._record.props(f"icon={'stop' if is_recording else 'mic'}")
        self._state.set_text(words)


def _small(words: str, act: Callable[[], object]) -> ui.button:
    return ui.button(words, on_click=act).props("flat dense no-caps").classes("small")
