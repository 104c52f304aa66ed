"""What a command is asked to render: a request's file, or a picture and voices; and flags."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typing_extensions import get_type_hints

from talkinghead.files import read_json
from talkinghead.media.kinds import what_came
from talkinghead.plan.fields import RequestFields
from talkinghead.replay.sources import BadInput, as_urls

# The fields that people set most, as flags; the others stand in a request's file.
FLAGS = (
    "draft", "aspect_ratio", "resolution", "width", "height", "crop", "prompt", "negative_prompt",
    "seed", "steps", "cfg_scale", "audio_scale", "mode", "audio_mode", "fps", "max_audio_duration",
    "video_method", "keep_outside", "bundle", "embed_workflow",
)  # fmt: skip
EDGES = ("x0", "y0", "x1", "y1")
USAGE = "talkinghead run picture.jpg voice.mp3"

Files = Annotated[
    list[Path],
    typer.Argument(help="A picture or a video, and a voice for each person; or a request as JSON"),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(help="x0,y0,x1,y1 of a voice's person, in pixels or 0 to 1; one for each voice"),
]


def with_fields(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a flag for each of FLAGS; those that were given are its last argument.

    Their words are the fields' own.
    """
    known = [*inspect.signature(command).parameters.values()][:-1]
    hints = get_type_hints(command, include_extras=True)
    own = [each.replace(annotation=hints[each.name]) for each in known]
    flags = [_flag(name) for name in FLAGS]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        fields = {name: given.pop(name) for name in FLAGS}
        command(**given, fields={n: value for n, value in fields.items() if value is not None})

    called.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in (*own, *flags)}
    del called.__wrapped__
    return called


def _flag(name: str) -> inspect.Parameter:
    field = RequestFields.model_fields[name]
    kind, choices = _kind(field.annotation)
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", str(field.description))  # links, of a page
    option = typer.Option(
        help=words, metavar="|".join(choices) or None, rich_help_panel="The request's fields"
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _kind(annotation: object) -> tuple[type, tuple[str, ...]]:
    """What a field takes: the kind of a value, and the names that are allowed, if it has some."""
    if annotation in (bool, int, float, str):
        return annotation, ()
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return str, parts
    return _kind(parts[0])  # of Annotated, and of a union with None


def request_of(
    files: Sequence[Path], boxes: Sequence[str], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The request's fields, its local files as file:// URLs; what flags say goes before its own.

    Raises:
        BadInput: a file is not there, or is not what it should be.
    """
    for path in files:
        if not path.is_file():
            raise BadInput(f"{path}: {'is a folder' if path.is_dir() else 'there is no such file'}")
        if not path.stat().st_size:
            raise BadInput(f"{path} is empty")
    kinds = [what_came(path) for path in files]
    if _is_json(files[0], kinds[0]):
        if len(files) > 1 or boxes:
            raise BadInput(f"{files[0]} is a request: its picture, voices and boxes stand in it")
        return {**_read_request(files[0]), **fields}
    source, voices = _told_apart(files, kinds)
    if boxes and len(boxes) != len(voices):
        raise BadInput(f"{len(boxes)} --box for {len(voices)} voices: give one for each")
    places = [{"box": _box(each)} for each in boxes] or [{} for _ in voices]
    speakers = [
        {"audio_url": _url(voice), **place} for voice, place in zip(voices, places, strict=True)
    ]
    name = "image_url" if kinds[files.index(source)].endswith(("picture", "GIF")) else "video_url"
    return {name: _url(source), "speakers": speakers, **fields}


def _is_json(path: Path, kind: str) -> bool:
    return path.suffix.lower() == ".json" or kind.startswith("JSON")


def _told_apart(files: Sequence[Path], kinds: Sequence[str]) -> tuple[Path, list[Path]]:
    """Who is shown, and who is heard, whatever the order."""
    pictures = [f for f, kind in zip(files, kinds, strict=True) if kind.endswith("picture")]
    others = [f for f, kind in zip(files, kinds, strict=True) if not kind.endswith("sound")]
    if len(pictures) > 1:
        raise BadInput(f"{pictures[0]} and {pictures[1]} are pictures: one of them is shown")
    shown = (pictures or others)[:1]
    if not shown:
        raise BadInput(f"of whom? There is no picture and no video: {USAGE}")
    voices = [path for path in files if path != shown[0]]
    if not voices:
        raise BadInput(f"{shown[0]} says nothing: give a voice, too: {USAGE}")
    return shown[0], voices


def _box(text: str) -> list[float]:
    with contextlib.suppress(ValueError):
        box = [float(part) for part in text.split(",")]
        if len(box) == len(EDGES) and all(map(math.isfinite, box)):
            return box
    raise BadInput(f"--box {text}: {','.join(EDGES)}, such as 0,0,0.5,1")


def _url(path: Path) -> str:
    return path.absolute().as_uri()


def _read_request(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{path} is not a JSON file: {error}") from None
    fields = content.get("input", content) if isinstance(content, dict) else content
    if not isinstance(fields, dict):
        raise BadInput(f"{path} holds no request: a JSON object is needed")
    if "workflow" in fields:
        raise BadInput(f"{path} brings a workflow: `talkinghead replay` runs those")
    return {name: as_urls(name, value, path.parent) for name, value in fields.items()}
