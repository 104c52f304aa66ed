"""The settings that `talkinghead bench --save` found best, for all hosts like the one it ran on.

They lie in one file, on the network volume or in ComfyUI's folder, with those of other hosts. A
worker takes the one that was measured on its card, driver, torch and pins, and with its profile.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

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
    times_published: Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Found:
    """The choice for this host, if there is one; `note` says why one that there is was not taken.

    `settings` are the worker's, with what was chosen where nothing was set by hand.
    """

    settings: Settings
    choice: Choice | None = None
    note: str | None = None

    @property
    def in_use(self) -> Choice | None:
        """The choice, if no value of it is another by hand: what it measured holds then."""
        chosen = self.choice.settings.items() if self.choice else ()
        is_so = all(getattr(self.settings, name) == value for name, value in chosen)
        return self.choice if is_so else None


CHOICE = TypeAdapter(Choice)
LOCK_SECONDS, POLL_SECONDS = 10.0, 0.05  # a file is changed in far less


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
    if settings.comfyui_url:
        return Found(settings)
    others: list[str] = []
    choices: list[tuple[Path, Choice]] = []
    for path in _files(settings):
        try:
            choices += [(path, each) for each in _valid(_entries(path), others, path)]
        except (OSError, ValueError) as error:
            others.append(f"{path} cannot be read: {error}")
    if choices:
        machine, manifest = machine_of(settings, host, pins), load_manifest()
        profile = tuning_for(settings, manifest, host).profile
    for path, choice in choices:
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


def save_choice(settings: Settings, choice: Choice | None = None) -> Path:
    """Write the choice where workers look first, in place of an older one; returns the file.

    Other hosts' stay, also those that this version does not understand. Several may save at once.
    Without a choice it is found out whether one could be written.

    Raises:
        OSError: it cannot be written, or is there and cannot be read.
    """
    path = next(iter(_files(settings)))
    with _alone(path.parent):
        try:
            entries = _entries(path)
        except ValueError as error:
            raise OSError(f"{path} holds no choices, and is left as it is: {error}") from None
        if choice is not None:
            entries = [each for each in entries if not _is_of(each, choice)]
            entries.append(CHOICE.dump_python(choice, mode="json"))
        fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            fresh.write_text(json.dumps(entries, indent=1), encoding="utf-8")
            if choice is not None:
                fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    return path


def is_by_hand(settings: Settings, name: str) -> bool:
    """Whether somebody has decided on this setting; `auto` leaves it to us."""
    return name in settings.model_fields_set and getattr(settings, name) not in ("auto", None)


def _files(settings: Settings) -> Iterator[Path]:
    if settings.volume_dir.is_dir():
        yield settings.volume_dir / FILE_NAME
    yield settings.comfyui_dir.absolute() / FILE_NAME


def _entries(path: Path) -> list[Any]:
    """What a file holds, one for each host; nothing if there is none.

    Raises:
        OSError, ValueError
    """
    try:
        found = read_json(path)
    except FileNotFoundError:
        return []
    if not isinstance(found, list):
        raise ValueError("it is no list of choices")
    return found


def _valid(entries: Iterable[Any], others: list[str], path: Path) -> Iterator[Choice]:
    """Those that this version understands; what is wrong with each of the others is told."""
    for entry in entries:
        try:
            yield _checked(CHOICE.validate_python(entry))
        except ValidationError as error:
            first = error.errors()[0]
            others.append(f"{path} has one with {'.'.join(map(str, first['loc']))}: {first['msg']}")
        except ValueError as error:
            others.append(f"{path} has one of which {error}")


def _checked(choice: Choice) -> Choice:
    """The choice, its values such as the settings have them: a file may say "false" or 5.0.

    Raises:
        ValueError: one is no setting that may be chosen, or cannot have this value.
    """
    if others := choice.settings.keys() - set(TUNABLE):
        raise ValueError(f"{', '.join(sorted(others))} is no setting that is chosen so")
    valid = Settings.model_validate(dict(choice.settings))
    return replace(choice, settings={name: getattr(valid, name) for name in choice.settings})


def _is_of(entry: object, choice: Choice) -> bool:
    """Whether it is of the same machine and profile."""
    try:
        other = CHOICE.validate_python(entry)
    except ValidationError:
        return False
    return (other.machine, other.profile) == (choice.machine, choice.profile)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile, where the file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(POLL_SECONDS)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)


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
