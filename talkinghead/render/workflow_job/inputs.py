"""The files that a workflow job names: fetched, and checked before a node opens them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from talkinghead.comfy.studio import Studio
from talkinghead.errors import FILE_FAULTS, Faults, MediaInvalid
from talkinghead.media import sound, source_video
from talkinghead.media.picture import probe_picture, save_for_nodes
from talkinghead.media.sandbox import Sandbox
from talkinghead.net.fetch import Input as Download
from talkinghead.plan.limits import MAX_VOICE_SECONDS
from talkinghead.render.workflow_job.content_types import kind_of
from talkinghead.settings import Settings
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.mask_files import mask_problems

# PyAV, and with it LoadAudio and its ComfyUI, crash at so many planes of samples. A WAV has none.
CRASHING_CHANNELS = 8


def fetch_files(
    files: Mapping[str, str], folder: Path, studio: Studio, check: Callable[[], None]
) -> list[Path]:
    """Download the files into the new `folder`, under their names. What `check` raises ends it.

    Where one cannot be had, those that came are opened: one answer tells what is wrong with any.

    Raises:
        UrlBlocked, DownloadFailed, MediaInvalid, MediaTooLarge
    """
    folder.mkdir()
    downloads = [
        Download(f"files.{name}", url, folder / name, _max_mb(name, studio.settings))
        for name, url in files.items()
    ]
    try:
        studio.fetcher.fetch(downloads, check=check)
    except FILE_FAULTS as error:
        faults = Faults(error)
        came = [each.target for each in downloads if each.target.exists()]
        with studio.sandboxes.open(check) as sandbox:
            check_files(came, studio.settings, sandbox, faults)
        raise faults.together() from None
    return [each.target for each in downloads]


def _max_mb(name: str, limits: Settings) -> float:
    return {
        "image": limits.max_image_mb,
        "audio": limits.max_audio_mb,
        "video": limits.max_video_mb,
    }[kind_of(name)]


def check_files(files: Sequence[Path], limits: Settings, sandbox: Sandbox, faults: Faults) -> None:
    """Look into each as `_check_file` does; what is wrong with one is added to `faults`."""
    for path in files:
        with faults.of(f"files.{path.name}"):
            _check_file(path, limits, sandbox)


def _check_file(path: Path, limits: Settings, sandbox: Sandbox) -> None:
    """Whether the file is what its name says: a node would open it unguarded, a playlist too.

    A picture that no node opens, or not every ComfyUI, is made one that all do; a sound at which
    ComfyUI would crash becomes a WAV, in its place.

    Raises:
        MediaInvalid, MediaTooLarge
    """
    field, kind = f"files.{path.name}", kind_of(path.name)
    if kind == "image":
        megapixels = limits.max_image_megapixels
        sandbox.call(field, probe_picture, field, path, max_megapixels=megapixels)
        sandbox.call(field, save_for_nodes, field, path, max_megapixels=megapixels)
    elif kind == "audio":
        heard = sandbox.call(field, sound.probe_sound, field, path, max_seconds=MAX_VOICE_SECONDS)
        if heard.channels == CRASHING_CHANNELS:
            packed, voice = path.with_name("packed"), sound.Voice(field, path, heard)
            sandbox.call(field, sound.save_mix, [voice], packed, seconds=heard.duration)
            packed.replace(path)
    else:
        megapixels, probe = limits.max_video_megapixels, source_video.probe_source
        sandbox.call(field, probe, field, path, max_megapixels=megapixels)


def check_masks(graph: Graph, files: Sequence[Path], limits: Settings, sandbox: Sandbox) -> None:
    """Whether the files that say who is where have a mask for each voice, in any ComfyUI.

    Raises:
        MediaInvalid
    """
    named = {path.name: path for path in files}
    megapixels = limits.max_image_megapixels
    for problem in mask_problems(graph, named, sandbox, max_megapixels=megapixels):
        raise MediaInvalid(f"files.{problem}")
