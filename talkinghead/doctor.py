"""Whether this host can render: each thing that a job needs, and what to do where it is not so.

`talkinghead doctor` shows it; a worker looks before it takes jobs.
"""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from comfy_client import ComfyError, Place
from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.health import one_operation
from talkinghead.comfy.options import CLASSIC, keeps_frames
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.stores import KINDS
from talkinghead.errors import JobError
from talkinghead.media.confinement import has_no_network
from talkinghead.models.gpu import read_host, tuning_for
from talkinghead.models.manifest import ModelProfile, load_manifest
from talkinghead.models.store import ModelStore
from talkinghead.settings import PROJECT_DIR, Settings
from talkinghead.workflow.check import check
from talkinghead.workflow.gui_file import ConvertError
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import traps
from talkinghead.workflow.schemas import Schemas
from talkinghead.workflow.template import fill, load_template

log = logging.getLogger("talkinghead")

State = Literal["ok", "warning", "failed", "skipped"]

# A job's files: the frames of ten minutes at 480p, losslessly encoded, and the sources.
FREE_GB = 5.0
SHOWN_PROBLEMS = 3
PYTHON_SECONDS = 60.0  # for one that starts on a busy machine, from a cold disk
# With transformers 5 the pinned WanVideoWrapper gets no hidden states of wav2vec.
FIRST_UNFIT_TRANSFORMERS = 5


@dataclass(frozen=True)
class Check:
    """One thing looked at; `message` says what was found, or what to do."""

    name: str
    state: State
    message: str


class Unfit(Exception):
    """This worker could not render; the message says why."""


def ensure_fit(studio: Studio) -> None:
    """For a worker before it takes jobs; ends ComfyUI if it is not fit.

    Raises:
        Unfit: a check failed.
    """
    checks = list(examine(studio))
    for each in checks:
        if each.state == "warning":
            log.warning("%s: %s", each.name, each.message)
    failed = [each for each in checks if each.state == "failed"]
    if failed:
        studio.close()
        raise Unfit("; ".join(f"{each.name}: {each.message}" for each in failed))


def examine(studio: Studio) -> Iterator[Check]:
    """Every check, one after another. The studio is entered: its ComfyUI starts meanwhile."""
    settings = studio.settings
    yield _gpu(settings)
    yield _disk(settings)
    yield _models(studio)
    yield _storage(settings)
    yield _transformers(settings)
    yield _sandbox(studio)
    yield _picture(studio)
    yield from _comfyui(studio)


def _drafts_only(settings: Settings) -> bool:
    """A host without GPU, and nobody asks for models: it renders the CPU preview."""
    return settings.comfyui_url is None and settings.on_cpu and settings.model_profile == "auto"


def _gpu(settings: Settings) -> Check:
    host = read_host(settings)
    if host.gpu is not None:
        tuning = tuning_for(settings, load_manifest(), host)
        capability = f", compute capability {host.gpu.capability}" if host.gpu.capability else ""
        found = f"{host.gpu.name}, {host.gpu.vram_gib:.0f} GB{capability}: {tuning}"
        return Check("GPU", "ok", f"{found}; host memory {host.ram_gib:.0f} GB")
    if settings.comfyui_url:
        return Check("GPU", "skipped", "the server at COMFYUI_URL tells of none")
    if settings.on_cpu:
        return Check("GPU", "skipped", "none here: only drafts are rendered in useful time")
    return Check("GPU", "failed", "nvidia-smi does not answer: check the driver of the host")


def _disk(settings: Settings) -> Check:
    place = settings.work_dir.absolute()
    there = next(each for each in (place, *place.parents) if each.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    if free < FREE_GB:
        todo = f"{FREE_GB:g} GB are needed: make room, or set WORK_DIR"
        return Check("disk", "failed", f"{there} has {free:.1f} GB free; {todo}")
    return Check("disk", "ok", f"{there} has {free:.0f} GB free")


def _models(studio: Studio) -> Check:
    settings, name = studio.settings, "model files"
    if settings.comfyui_url:
        return Check(name, "skipped", "those of the server at COMFYUI_URL: see the workflows")
    if _drafts_only(settings):
        return Check(name, "skipped", "drafts need none")
    store, files = ModelStore(settings), load_manifest().files_of(studio.profile)
    missing = [each for each, file in files.items() if store.find(each, file) is None]
    if missing:
        todo = "run `talkinghead models fetch`"
        return Check(name, "failed", f"missing or damaged: {', '.join(missing)}; {todo}")
    return Check(name, "ok", f"{len(files)} files, whole as far as their sums are known")


def _storage(settings: Settings) -> Check:
    try:
        found = [said for kind in KINDS if (said := kind.check(settings))]
    except JobError as error:
        return Check("storage", "failed", str(error))
    if not found:
        return Check("storage", "skipped", "no bucket is set: results carry short videos alone")
    return Check("storage", "ok", "; ".join(found))


def _transformers(settings: Settings) -> Check:
    name = "transformers"
    if settings.comfyui_url:
        return Check(name, "skipped", "the server at COMFYUI_URL does not tell its version")
    version = transformers_of(settings.comfyui_python)
    if not version.partition(".")[0].isdigit():
        return Check(name, "skipped", "ComfyUI's Python does not tell a version of it")
    if int(version.partition(".")[0]) < FIRST_UNFIT_TRANSFORMERS:
        return Check(name, "ok", version)
    state: State = "warning" if _drafts_only(settings) else "failed"
    python = settings.comfyui_python or sys.executable
    todo = f"`pip install 'transformers<{FIRST_UNFIT_TRANSFORMERS}'` for {python}"
    return Check(name, state, f"{version}, with which MultiTalkWav2VecEmbeds fails: {todo}")


def transformers_of(python: Path | None) -> str:
    """The version of transformers beside ComfyUI; empty if it cannot be told.

    `python` is ComfyUI's own, which is run to tell it; None is the one that runs here.
    """
    code = "from importlib.metadata import version; print(version('transformers'))"
    try:
        if python is None:
            return importlib.metadata.version("transformers")
        return subprocess.run(
            [str(python), "-c", code],
            capture_output=True,
            text=True,
            timeout=PYTHON_SECONDS,
            check=True,
        ).stdout.strip()
    except (importlib.metadata.PackageNotFoundError, OSError, subprocess.SubprocessError):
        return ""


def _sandbox(studio: Studio) -> Check:
    """Whether a sandbox can be had, and how much it holds off here."""
    name = "sandbox"
    try:
        with studio.sandboxes.open() as sandbox:
            is_confined = sandbox.call(name, has_no_network)
    except JobError as error:
        return Check(name, "failed", str(error))
    if not is_confined:
        todo = "a file that took a decoder over could use the network: run on a kernel with seccomp"
        return Check(name, "warning", f"system calls are not filtered here; {todo}")
    return Check(name, "ok", "decoders have no network, and start no other process")


def _picture(studio: Studio) -> Check:
    """What this worker's renders say of how it computes."""
    name = "picture"
    if not studio.cures:
        return Check(name, "ok", "no render had to be made again for it to be seen")
    found = f"renders came out black, flat or as noise here, but with {', '.join(studio.cures)}"
    return Check(name, "warning", f"{found}; docs/troubleshooting.md, `render_defective`")


def _comfyui(studio: Studio) -> Iterator[Check]:
    try:
        with studio.comfy("doctor", lambda: None) as turn:
            schemas = turn.schemas(fresh=True)
            system = turn.client.system_stats().get("system", {})
    except (JobError, ComfyError) as error:
        yield Check("ComfyUI", "failed", str(error))
        return
    version = system.get("comfyui_version", "")
    yield Check("ComfyUI", "ok", f"{version} with {len(schemas)} node classes".strip())
    yield _computes(studio)
    yield _cache(system, studio.settings)
    for path in sorted((PROJECT_DIR / "workflows").glob("*.json")):
        yield _workflow(path, studio, schemas)


def _computes(studio: Studio) -> Check:
    """Whether the device computes, by one operation; and what this worker's renders say of it."""
    name = "device"
    if studio.health.is_lost:
        return Check(name, "failed", f"{studio.health}; let RunPod replace the worker")
    try:
        with studio.comfy("doctor", lambda: None) as turn, comfy_errors():
            done = turn.client.run(
                one_operation(),
                deadline_seconds=studio.settings.stall_seconds,
                on_place=_no_turn,
            )
            turn.client.forget(done.prompt_id)
    except _Busy:
        return Check(name, "skipped", "ComfyUI is at other prompts first")
    except (JobError, ComfyError) as error:
        return Check(name, "failed", f"{error}; let RunPod replace the worker")
    return Check(name, "ok", "it computes")


class _Busy(Exception):
    """ComfyUI is at prompts of other clients: it computes, and may be at it for hours."""


def _no_turn(place: Place) -> None:
    if place.ahead:
        raise _Busy


def _cache(system: Mapping[str, Any], settings: Settings) -> Check:
    if not keeps_frames(system):
        return Check("cache", "ok", "ComfyUI drops the frames of a job after it")
    whose = "the server at COMFYUI_URL" if settings.comfyui_url else "ComfyUI, by COMFYUI_ARGS,"
    found = f"{whose} keeps the frames of earlier jobs while its host has memory free"
    todo = f"start it with {CLASSIC}" if settings.comfyui_url else "leave its cache to us"
    return Check("cache", "warning", f"{found}, whatever a container may use: {todo}")


def _workflow(path: Path, studio: Studio, schemas: Schemas) -> Check:
    name, draft = f"workflow {path.stem}", path.stem.startswith("draft_")
    if not draft and _drafts_only(studio.settings):
        return Check(name, "skipped", "needs a GPU")
    profile = None if draft else studio.profile
    if problems := list(dict.fromkeys(_problems(path.stem, profile, schemas))):
        more = len(problems) - SHOWN_PROBLEMS
        shown = "; ".join(problems[:SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        return Check(name, "failed", shown)
    return Check(name, "ok", "node classes, inputs and model files are there")


def _problems(template: str, profile: ModelProfile | None, schemas: Schemas) -> Iterator[str]:
    """What ComfyUI would refuse or compute wrongly, with each talk model of the profile."""
    fillings = [profile.slots_for(talk) for talk in profile.talk_models] if profile else [{}]
    for slots in fillings:
        try:
            graph = to_api(fill(load_template(template), slots, schemas), schemas)
        except (JobError, ConvertError) as error:
            yield str(error)
            continue
        yield from map(str, check(graph, schemas))
        yield from (str(each) for each in traps(graph, schemas) if each.severity == "error")
