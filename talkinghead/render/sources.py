"""What a request names: its files as they come, and what is in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from talkinghead.comfy.studio import Studio
from talkinghead.errors import FILE_FAULTS, Faults, JobError
from talkinghead.files import sha256_of
from talkinghead.media import faces, sound, source_video
from talkinghead.media.camera import camera_moves_at
from talkinghead.media.masks import Box
from talkinghead.media.picture import Picture, probe_picture
from talkinghead.media.regions import mask_box
from talkinghead.media.sandbox import Sandbox
from talkinghead.media.sound import Sound
from talkinghead.net.fetch import Input
from talkinghead.plan.frames import MODEL_FPS
from talkinghead.plan.limits import MAX_VOICE_SECONDS, keeps_by_keyframes
from talkinghead.plan.people import bodies_of
from talkinghead.plan.plan import duration_of
from talkinghead.plan.request import RenderRequest
from talkinghead.plan.talk_models import MODELS
from talkinghead.settings import Settings

NO_VOICES = "No valid audio files could be downloaded"  # contract B's own words


@dataclass(frozen=True)
class Sources:
    """The files that a request names, as they came; None for a voice or mask that is not given."""

    picture: Path
    voices: tuple[Path | None, ...]
    masks: tuple[Path | None, ...]

    def by_field(self, request: RenderRequest) -> dict[str, Path]:
        """The files by the fields of the request that named them."""
        people = [person.field for person in request.speakers]
        named = [
            (request.picture_field, self.picture),
            *zip(people, self.voices, strict=True),
            *zip([f"{field}.mask_url" for field in people], self.masks, strict=True),
        ]
        return {field: path for field, path in named if path is not None}

    @functools.cached_property
    def sums(self) -> Mapping[Path, str]:
        """The sha256 of each file, taken once: that of a long video takes seconds."""
        files = {self.picture, *self.voices, *self.masks}
        return {path: sha256_of(path) for path in files if path is not None}


def fetch(
    request: RenderRequest, folder: Path, studio: Studio, check: Callable[[], None]
) -> Sources:
    """Download what the request names. What `check` raises ends it.

    Where a file cannot be had, those that came are opened: one answer tells what is wrong with any.

    Raises:
        UrlBlocked, DownloadFailed, MediaInvalid, MediaTooLarge
        OSError: the disk is full.
    """
    limits = studio.settings
    inputs: dict[tuple[str, float], Input] = {}  # what is named twice is fetched once

    def get(name: str, url: str | None, max_mb: float) -> Path | None:
        if url is None:
            return None
        new = Input(name, url, folder / f"source_{name}", max_mb)
        return inputs.setdefault((url, max_mb), new).target

    picture = get(request.picture_field, request.video_url, limits.max_video_mb)
    picture = picture or get(request.picture_field, request.image_url, limits.max_image_mb)
    assert picture is not None
    people = request.speakers
    voices = [get(p.field, p.audio_url, limits.max_audio_mb) for p in people]
    masks = [get(f"{p.field}.mask_url", p.mask_url, limits.max_image_mb) for p in people]
    sources = Sources(picture, tuple(voices), tuple(masks))
    try:
        studio.fetcher.fetch(list(inputs.values()), check=check)
    except FILE_FAULTS as error:
        failed = {problem["field"] for problem in error.details["problems"]}
        had = [each for each in inputs.values() if each.name not in failed]
        fault = _with_those_that_came(error, request, sources, studio, check)
        if request.dialect == "B" and not any(each.target in voices for each in had):
            raise type(fault)(f"{NO_VOICES}: {fault}", **fault.details) from None
        raise fault from None
    return sources


def _with_those_that_came(
    error: JobError,
    request: RenderRequest,
    sources: Sources,
    studio: Studio,
    check: Callable[[], None],
) -> JobError:
    """The error of the files that did not come, with what is wrong with the others."""
    faults = Faults(error)
    with studio.sandboxes.open(check) as sandbox:
        _picture(request, sources, studio.settings, sandbox, faults)
        _people(request, sources, studio.settings, sandbox, faults)
    return faults.together()


@dataclass(frozen=True)
class Opened:
    """What is in the files of a request; None for a voice or mask that is not given.

    Of a mask it is where it is white, as fractions of the picture.
    """

    voices: tuple[Sound | None, ...]
    picture: Picture | source_video.SourceVideo
    masks: tuple[Box | None, ...]
    faces: tuple[faces.Face, ...]


def open_files(
    request: RenderRequest, sources: Sources, limits: Settings, sandbox: Sandbox
) -> Opened:
    """Look into all files, and for faces; what is wrong with several of them is told together.

    Raises:
        MediaInvalid, MediaTooLarge
    """
    faults = Faults()
    picture = _picture(request, sources, limits, sandbox, faults)
    with ThreadPoolExecutor(1) as beside:
        if picture is not None:
            found = beside.submit(_faces, request, sources, picture, limits, sandbox)
        voices, masks = _people(request, sources, limits, sandbox, faults)
        faults.tell()
        assert picture is not None
        opened = Opened(voices, picture, masks, found.result())
    return _with_motion(request, sources, opened, sandbox)


def _picture(
    request: RenderRequest, sources: Sources, limits: Settings, sandbox: Sandbox, faults: Faults
) -> Picture | source_video.SourceVideo | None:
    """What the picture or video is; None if it did not come, or is at fault."""
    with faults.of(request.picture_field):
        if sources.picture.exists():
            return _probe(request, sources.picture, limits, sandbox)
    return None


def _people(
    request: RenderRequest, sources: Sources, limits: Settings, sandbox: Sandbox, faults: Faults
) -> tuple[tuple[Sound | None, ...], tuple[Box | None, ...]]:
    """What is in voices and masks; None for those that did not come, or are at fault."""
    voices: list[Sound | None] = []
    boxes: list[Box | None] = []
    for person, voice, mask in zip(request.speakers, sources.voices, sources.masks, strict=True):
        voices.append(None)
        boxes.append(None)
        with faults.of(person.field):
            if voice is not None and voice.exists():
                voices[-1] = _heard(person.field, voice, sandbox)
        with faults.of(name := f"{person.field}.mask_url"):
            if mask is not None and mask.exists():
                megapixels = limits.max_image_megapixels
                boxes[-1] = sandbox.call(name, mask_box, name, mask, max_megapixels=megapixels)
    return tuple(voices), tuple(boxes)


def _with_motion(
    request: RenderRequest, sources: Sources, opened: Opened, sandbox: Sandbox
) -> Opened:
    """The same, with what is to be known of camera and people in what is used."""
    video, field, path = opened.picture, request.picture_field, sources.picture
    if isinstance(video, Picture):
        return opened
    seconds = duration_of(request, opened.voices)
    if opened.faces:
        wanted, look = len(opened.faces), faces.faces_later
        later = sandbox.call(field, look, field, path, seconds=seconds, wanted=wanted, video=video)
        video = replace(video, faces_later=later)
    if keeps_by_keyframes(request):
        moves = sandbox.call(
            field,
            camera_moves_at,
            field,
            path,
            video,
            seconds=seconds,
            span=MODELS[request.mode].new_frames() / MODEL_FPS,
            people=bodies_of(request, opened.faces, (video.width, video.height)),
        )
        video = replace(video, camera_moves_at=moves)
    return replace(opened, picture=video)


def _heard(field: str, path: Path, sandbox: Sandbox) -> Sound:
    return sandbox.call(field, sound.probe_sound, field, path, max_seconds=MAX_VOICE_SECONDS)


def _probe(
    request: RenderRequest, source: Path, limits: Settings, sandbox: Sandbox
) -> Picture | source_video.SourceVideo:
    field = request.picture_field
    if request.video_url is None:
        megapixels = limits.max_image_megapixels
        return sandbox.call(field, probe_picture, field, source, max_megapixels=megapixels)
    megapixels, probe = limits.max_video_megapixels, source_video.probe_source
    return sandbox.call(field, probe, field, source, max_megapixels=megapixels)


def _faces(
    request: RenderRequest,
    sources: Sources,
    picture: Picture | source_video.SourceVideo,
    limits: Settings,
    sandbox: Sandbox,
) -> tuple[faces.Face, ...]:
    field, path, wanted = request.picture_field, sources.picture, len(request.speakers)
    if isinstance(picture, source_video.SourceVideo):
        find = faces.faces_in_video
        return sandbox.call(field, find, field, path, wanted=wanted, video=picture)
    if any(person.box or person.mask_url for person in request.speakers):
        wanted = faces.MOST_FACES  # one that is found at once may be somebody else's
    megapixels = limits.max_image_megapixels
    look = faces.faces_in_picture
    return sandbox.call(field, look, field, path, wanted=wanted, max_megapixels=megapixels)
