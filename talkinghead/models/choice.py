"""The settings that `talkinghead bench --save` found best, for all hosts like the one it ran on.

They lie in one file, on the network volume or in ComfyUI's folder, with those of other hosts. A
worker takes the one that was measured on its card, driver, torch and pins, and with its profile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from talkinghead.errors import SettingsExcluded
from talkinghead.files import read_json
from talkinghead.models.gpu import Host, read_driver, tuning_for, version_beside_comfyui
from talkinghead.models.manifest import load_manifest
from talkinghead.settings import Settings

FILE_NAME = "talkinghead-tuning.json"
# The settings that may be chosen so; each can be measured by the bench.
TUNABLE = ("attention", "base_precision", "blocks_to_swap", "force_offload", "torch_compile")

Value = str | int | float | bool


@dataclass(frozen=True)
class Machine:
    """What a measurement holds for. `gpu` and `driver` are empty where there is none."""

    gpu: str
    driver: str
    torch: str
    pins: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.gpu or 'no GPU'}, driver {self.driver or 'none'}, torch {self.torch}"


@dataclass(frozen=True)
class Choice:
    """What was measured to be best on a machine, with a profile, on a day (ISO).

    `times_published` is how many times as long a window took as the figures for an RTX 4090 say.
    """

    machine: Machine
    profile: str
    settings: Mapping[str, Value]
    date: str
    times_published: float


@dataclass(frozen=True)
class Found:
    """The choice for this host, if there is one; `note` says why one that there is was not taken.

    `settings` are the worker's, with what was chosen where nothing was set by hand.
    """

    settings: Settings
    choice: Choice | None = None
    note: str | None = None


CHOICES = TypeAdapter(tuple[Choice, ...])


def machine_of(settings: Settings, host: Host, pins: Mapping[str, str]) -> Machine:
    """This host, as a measurement is kept for it; `pins` are ComfyUI's and its packs'."""
    torch = version_beside_comfyui("torch", settings.comfyui_python)
    return Machine(host.gpu.name if host.gpu else "", read_driver(), torch, dict(pins))


def find_choice(settings: Settings, host: Host, pins: Mapping[str, str]) -> Found:
    """The settings as they are after the choice that was saved for hosts like this one.

    Raises:
        ModelsMissing: MODEL_PROFILE names no profile.
        SettingsExcluded: what is set by hand excludes each other.
    """
    if settings.comfyui_url or not any(path.exists() for path in _files(settings)):
        return Found(settings)
    machine = machine_of(settings, host, pins)
    manifest = load_manifest()
    profile = tuning_for(settings, manifest, host).profile
    others: list[str] = []
    for path in _files(settings):
        try:
            choices = _read(path)
        except (OSError, ValueError) as error:
            others.append(f"{path} cannot be read: {error}")
            continue
        for choice in choices:
            difference = _difference(choice, machine, profile, host)
            if difference is None:
                chosen = _with(settings, choice)
                try:
                    tuning_for(chosen, manifest, host)
                except SettingsExcluded as error:  # beside what is set by hand
                    difference = f"other settings: {error}"
                else:
                    return Found(chosen, choice)
            others.append(f"{path} has one for {difference}")
    note = f"what was measured is not for this host, and not taken: {'; '.join(others)}"
    return Found(settings, note=note if others else None)


def save_choice(settings: Settings, choice: Choice) -> Path:
    """Write the choice where workers look first, in place of an older one; returns the file.

    Raises:
        OSError: it cannot be written, or is there and cannot be read.
        ValueError: what is there is no such file.
    """
    path = next(iter(_files(settings)))
    same = choice.machine, choice.profile
    older = _read(path) if path.exists() else ()
    kept = [each for each in older if (each.machine, each.profile) != same]
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(CHOICES.dump_python((*kept, choice), mode="json"), indent=1))
    fresh.replace(path)
    return path


def is_by_hand(settings: Settings, name: str) -> bool:
    """Whether somebody has decided on this setting; `auto` leaves it to us."""
    return name in settings.model_fields_set and getattr(settings, name) not in ("auto", None)


def _files(settings: Settings) -> Iterator[Path]:
    if settings.volume_dir.is_dir():
        yield settings.volume_dir / FILE_NAME
    yield settings.comfyui_dir.absolute() / FILE_NAME


def _read(path: Path) -> tuple[Choice, ...]:
    """The choices in a file, whose settings are all known and valid.

    Raises:
        OSError, ValueError
    """
    if not path.exists():
        return ()
    try:
        choices = CHOICES.validate_python(read_json(path))
        for settings in (each.settings for each in choices):
            if others := settings.keys() - set(TUNABLE):
                raise ValueError(f"{', '.join(sorted(others))} is no setting that is chosen so")
            Settings.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return choices


def _with(settings: Settings, choice: Choice) -> Settings:
    chosen = {n: value for n, value in choice.settings.items() if not is_by_hand(settings, n)}
    return settings.model_copy(update=chosen)


def _difference(choice: Choice, machine: Machine, profile: str, host: Host) -> str | None:
    """In what the choice's host is another: the first thing that differs, if one does."""
    for name in ("gpu", "driver", "torch", "pins"):
        their, our = getattr(choice.machine, name), getattr(machine, name)
        if their != our:
            return f"{name} {their or 'none'}, here {our or 'none'}"
    if choice.profile != profile:
        return f"profile {choice.profile}, here {profile}"
    if str(choice.settings.get("attention")).startswith("sageattn") and not host.sage:
        return "SageAttention, which does not run here"
    return None
