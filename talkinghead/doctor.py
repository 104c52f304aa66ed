"""Whether this host can render: each thing that a job needs, and what to do where it is not so.

`talkinghead doctor` shows it; a worker looks before it takes jobs.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from comfy_client import ComfyError, Place
from talkinghead.comfy.health import computes
from talkinghead.comfy.options import CLASSIC, keeps_frames
from talkinghead.comfy.record import said_here
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.stores import KINDS
from talkinghead.errors import JobError
from talkinghead.media.confinement import has_no_network
from talkinghead.models.gpu import read_host, tuning_for, version_beside_comfyui
from talkinghead.models.manifest import ModelProfile, load_manifest
from talkinghead.settings import PROJECT_DIR, Settings
from talkinghead.workflow.check import check
from talkinghead.workflow.gui_file import ConvertError
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import traps
from talkinghead.workflow.schemas import Schemas
from talkinghead.workflow.slots import Slots
from talkinghead.workflow.template import fill, for_jobs, load_template

log = logging.getLogger("talkinghead")

State = Literal["ok", "warning", "failed", "skipped"]

# A job's files: the frames of ten minutes at 480p, losslessly encoded, and the sources.
FREE_GB = 5.0
SHOWN_PROBLEMS = 3
MODELS, WORKFLOW = "model files", "workflow "  # names of checks
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

    Without its models it is: drafts need none, and other jobs end as `models_missing`, where they
    would else wait for ever for a worker that has them.

    Raises:
        Unfit: a check failed.
    """
    checks = list(examine(studio))
    failed = [each for each in checks if each.state == "failed"]
    if missing := [each for each in failed if each.name == MODELS]:
        failed = [each for each in failed if each not in missing and not _renders(each)]
        log.error("%s. This worker takes drafts, and answers models_missing", missing[0].message)
    for each in checks:
        if each.state == "warning":
            log.warning("%s: %s", each.name, each.message)
    if failed:
        studio.close()
        raise Unfit("; ".join(f"{each.name}: {each.message}" for each in failed))
    studio.record.is_fit()


def _renders(check: Check) -> bool:
    """Whether it is of a workflow that needs models."""
    return check.name.startswith(WORKFLOW) and not check.name.startswith(f"{WORKFLOW}draft_")


def examine(studio: Studio) -> Iterator[Check]:
    """Every check, one after another. The studio is entered: its ComfyUI starts meanwhile."""
    settings = studio.settings
    yield _gpu(settings)
    yield from _choice(studio)
    yield _disk(settings)
    yield _models(studio)
    yield _storage(settings)
    yield _transformers(settings)
    yield _sandbox(studio)
    yield from _workers(settings)
    yield from _comfyui(studio)


def _gpu(settings: Settings) -> Check:
    host = read_host(settings)
    if host.gpu is not None:
        tuning = tuning_for(settings, load_manifest(), host)
        capability = f", compute capability {host.gpu.capability}" if host.gpu.capability else ""
        card = f"{host.gpu.name}, {host.gpu.vram_gib:.0f} GB{capability}: {tuning}"
        found = (card, f"host memory {host.ram_gib:.0f} GB", *host.found)
        return Check("GPU", "ok", "; ".join(found))
    if settings.comfyui_url:
        return Check("GPU", "skipped", "the server at COMFYUI_URL tells of none")
    if settings.on_cpu:
        return Check("GPU", "skipped", "none here: only drafts are rendered in useful time")
    return Check("GPU", "failed", "nvidia-smi does not answer: check the driver of the host")


def _choice(studio: Studio) -> Iterator[Check]:
    """Whether the settings for this card were measured on it, or follow from its memory."""
    name, found = "tuning", studio.found
    if found.note:
        yield Check(name, "warning", f"{found.note}; `talkinghead bench --save` measures here")
    if found.choice is not None:
        used = {each: getattr(studio.settings, each) for each in found.choice.settings}
        said = [
            f"{each} {value}" if value == found.choice.settings[each] else f"{each} {value} by hand"
            for each, value in used.items()
        ]
        when = f"measured by talkinghead bench on {found.choice.date}"
        yield Check(name, "ok", f"{when}: {', '.join(said)}")
    elif found.note is None and studio.host.gpu and not studio.settings.comfyui_url:
        todo = "`talkinghead bench --save` measures"
        yield Check(name, "ok", f"assumed from what the card says of itself; {todo}")


def _disk(settings: Settings) -> Check:
    place = settings.work_dir.absolute()
    there = next(each for each in (place, *place.parents) if each.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    if free < FREE_GB:
        todo = f"{FREE_GB:g} GB are needed: make room, or set WORK_DIR"
        return Check("disk", "failed", f"{there} has {free:.1f} GB free; {todo}")
    return Check("disk", "ok", f"{there} has {free:.0f} GB free")


def _models(studio: Studio) -> Check:
    settings, name = studio.settings, MODELS
    if settings.comfyui_url:
        return Check(name, "skipped", "those of the server at COMFYUI_URL: see the workflows")
    if settings.drafts_only:
        return Check(name, "skipped", "drafts need none")
    files = load_manifest().files_of(studio.profile)
    if missing := [n for n, each in files.items() if f"{each.folder}/{n}" not in studio.models]:
        todo = "set FETCH_MODELS=true, or run `talkinghead models fetch` where the volume is"
        return Check(name, "failed", f"missing or damaged: {', '.join(missing)}; {todo}")
    return Check(name, "ok", f"{len(files)} files, whole as far as their sums are known")


def _storage(settings: Settings) -> Check:
    found: list[str] = []
    state: State = "ok"
    for kind in KINDS:
        try:
            said = kind.check(settings)
        except JobError as error:
            if kind.is_default:
                return Check("storage", "failed", str(error))
            said, state = str(error), "warning"  # models can be read from it all the same
        if said:
            found.append(said)
    if not found:
        return Check("storage", "skipped", "no bucket is set: results carry short videos alone")
    return Check("storage", state, "; ".join(found))


def _transformers(settings: Settings) -> Check:
    name = "transformers"
    if settings.comfyui_url:
        return Check(name, "skipped", "the server at COMFYUI_URL does not tell its version")
    python = settings.comfyui_python
    version = version_beside_comfyui("transformers", python)
    if not version.partition(".")[0].isdigit():
        return Check(name, "skipped", "ComfyUI's Python does not tell a version of it")
    if int(version.partition(".")[0]) < FIRST_UNFIT_TRANSFORMERS:
        return Check(name, "ok", version)
    state: State = "warning" if settings.drafts_only else "failed"
    todo = f"`pip install 'transformers<{FIRST_UNFIT_TRANSFORMERS}'` for {python or sys.executable}"
    return Check(name, state, f"{version}, with which MultiTalkWav2VecEmbeds fails: {todo}")


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


def _workers(settings: Settings) -> Iterator[Check]:
    """What workers of this machine have said of themselves: why one asked to be replaced."""
    for each in said_here(settings.work_dir):
        minutes = round(each.seconds / 60)
        message = f"{'; '.join(each.sentences)} (said {minutes} min ago)"
        yield Check(f"worker {each.worker}", "warning", message)


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
        with studio.comfy("doctor", lambda: None) as turn:
            seconds = studio.settings.stall_seconds
            computes(turn.client, deadline_seconds=seconds, on_place=_no_turn)
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
    name, draft = f"{WORKFLOW}{path.stem}", path.stem.startswith("draft_")
    if not draft and studio.settings.drafts_only:
        return Check(name, "skipped", "needs a GPU")
    profile = None if draft else studio.profile
    if problems := list(dict.fromkeys(_problems(path.stem, profile, schemas))):
        more = len(problems) - SHOWN_PROBLEMS
        shown = "; ".join(problems[:SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        return Check(name, "failed", shown)
    return Check(name, "ok", "node classes, inputs and model files are there")


def _fillings(template: str, profile: ModelProfile) -> Iterator[Slots]:
    """With each talk model, with and without the speed LoRA, and what settings add to a chain."""
    optional = profile.optional if template == "infinitetalk_window" else {}
    for talk, speed_lora in itertools.product(profile.talk_models, (True, False)):
        yield {**profile.slots_for(talk, speed_lora=speed_lora), **optional}


def _problems(template: str, profile: ModelProfile | None, schemas: Schemas) -> Iterator[str]:
    """What ComfyUI would refuse or compute wrongly, with each talk model of the profile."""
    fillings = list(_fillings(template, profile)) if profile else [{}]
    for slots in fillings:
        try:
            graph = to_api(fill(for_jobs(load_template(template)), slots, schemas), schemas)
        except (JobError, ConvertError) as error:
            yield str(error)
            continue
        yield from map(str, check(graph, schemas))
        yield from (str(each) for each in traps(graph, schemas) if each.severity == "error")
