"""Runs on a ComfyUI: our own, or one at a URL."""

from __future__ import annotations

import contextlib
import copy
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import comfy_client
from comfy_client import ComfyClient, Event, Outcome, OutputFile
from talkinghead.comfy import warm
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.file import FilePlace
from talkinghead.delivery.place import VIDEO_NAME
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.redact import redact_url
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.render.workflow_job.graph import title_in
from talkinghead.render.workflow_job.progress import NodeProgress
from talkinghead.replay.places import (
    Away,
    Failed,
    Refused,
    RunResult,
    Seen,
    Stopped,
    error_of,
    read_result,
)
from talkinghead.replay.runs import UPLOADS, Run, sha256_of_input
from talkinghead.settings import Settings
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.mask_files import mask_problems
from talkinghead.workflow.schemas import Schemas


class ComfyPlace:
    """One ComfyUI: that of `settings.comfyui_url`, one that runs here already, or a child."""

    width = 1  # ComfyUI runs one prompt at a time

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self.name = redact_url(settings.comfyui_url) if settings.comfyui_url else "own ComfyUI"
        self.schemas: Schemas = {}
        self._settings, self._stop = settings, stop
        self._seconds = settings.job_timeout_seconds
        self._place = FilePlace(Path(VIDEO_NAME))
        self._studio = self._new_studio()

    def _new_studio(self) -> Studio:
        settings, folders = warm.joined(self._settings)
        self._is_joined = folders is not None
        return Studio(settings, store=self._place, local_files=True, folders=folders)

    def __enter__(self) -> ComfyPlace:
        self._studio.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._studio.close()

    @property
    def joined(self) -> str | None:
        """Where the ComfyUI answers that ran on this machine already, if it is one."""
        return self._studio.settings.comfyui_url if self._is_joined else None

    @property
    def is_own(self) -> bool:
        """Whether it is a child of ours."""
        return self._studio.server is not None

    def connect(self) -> None:
        """Read the node schemas: after a restart they may be others."""
        with _errors():
            if self._is_joined and warm.find(self._settings) is None:  # it was ended: go on alone
                self._studio.close()
                self._studio = self._new_studio().__enter__()
            with self._studio.comfy("replay-connect", self._check) as turn:
                self.schemas = turn.client.object_info()

    def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> RunResult:
        """Run a graph as it is; a request as the worker would, its stages and retries included.

        Raises:
            Away, Refused, Failed, Stopped
        """
        if run.kind == "request":
            return self._run_request(run, folder, seen)
        prefix = f"replay-{run.key[:12]}-{uuid.uuid4().hex[:8]}"
        with _errors(), self._studio.comfy(prefix, self._check) as turn:
            return self._run_workflow(run, prefix, folder, seen, turn.client)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _watch(self) -> None:
        self._check()
        self._studio.check_alive()

    def _run_workflow(
        self, run: Run, prefix: str, folder: Path, seen: Seen, client: ComfyClient
    ) -> RunResult:
        if errors := errors_in(run.content, self.schemas):
            raise Refused("; ".join(errors))
        megapixels = self._studio.settings.max_image_megapixels
        with self._studio.sandboxes.open(self._check) as sandbox:
            problems = mask_problems(run.content, run.files, sandbox, max_megapixels=megapixels)
            faults = list(problems)
        if faults:
            raise Refused("; ".join(faults))
        start = time.monotonic()
        graph = with_uploads(run, client)
        uploaded = time.monotonic()
        outcome = client.run(
            with_prefix(graph, prefix),
            deadline_seconds=self._seconds,
            workflow=run.gui,
            on_event=_telling(NodeProgress(graph), seen),
            watch=self._watch,
        )
        rendered = time.monotonic()
        collect_outputs(outcome, graph, folder, client, self._check)
        client.forget(outcome.prompt_id)  # after its outputs came: the history names them
        marks = {"upload": uploaded - start, "render": rendered - uploaded}
        marks["collect"] = time.monotonic() - rendered
        return RunResult(timings={stage: round(seconds, 3) for stage, seconds in marks.items()})

    def _run_request(self, run: Run, folder: Path, seen: Seen) -> RunResult:
        self._place.path = folder / VIDEO_NAME
        job = Job(id=run.key[:16], input=run.content, cancelled=self._stop)
        job.report = lambda progress: seen(progress.percent / 100, progress.message)
        result = run_job(job, self._studio)
        if "error" in result:
            raise self._as_error(result)
        return read_result(result)

    def _as_error(self, result: Mapping[str, Any]) -> Exception:
        if self._stop.is_set():  # first: a stop may look like a ComfyUI that is gone
            return Stopped()
        if result["error_code"] == ComfyUIUnavailable.code:
            return Away(result["error"])
        return error_of(result["error"], result["error_code"])


def _telling(progress: NodeProgress, seen: Seen) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if (told := progress.see(event)) is not None:
            seen(told.fraction, told.message)

    return tell


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """ComfyUI's errors as those of a place."""
    try:
        yield
    except (comfy_client.Unreachable, comfy_client.PromptLost, ComfyUIUnavailable) as error:
        raise Away(str(error)) from error
    except comfy_client.PromptRejected as error:
        raise Refused(str(error)) from error
    except comfy_client.TimedOut as error:
        raise Failed("took longer than JOB_TIMEOUT_SECONDS", again=False) from error
    except comfy_client.ComfyError as error:
        raise Failed(str(error), again=True) from error


def errors_in(graph: Graph, schemas: Schemas) -> list[str]:
    """Why this graph would fail there."""
    return [str(each) for each in lint_workflow(graph, schemas) if each.severity == "error"]


def with_uploads(run: Run, client: ComfyClient) -> Graph:
    """The graph, with its local files on the server, under names made of their content."""
    graph = copy.deepcopy(run.content)
    names = {
        name: client.upload(path, subfolder=f"replay/{sha256_of_input(path)[:16]}")
        for name, path in run.files.items()
    }
    for entry in graph.values():
        name = UPLOADS.get(entry["class_type"], "")
        value = entry["inputs"].get(name)
        if isinstance(value, str) and value in names:
            entry["inputs"][name] = names[value]
    return graph


def with_prefix(graph: Graph, prefix: str) -> Graph:
    """The graph, writing below a folder never used before.

    Without that ComfyUI would answer an identical graph from its cache, and name the old files.
    """
    graph = copy.deepcopy(graph)
    for entry in graph.values():
        own = entry["inputs"].get("filename_prefix")
        if isinstance(own, str):
            entry["inputs"]["filename_prefix"] = f"{prefix}/{own}"
    return graph


def collect_outputs(
    outcome: Outcome, graph: Graph, folder: Path, client: ComfyClient, check: Callable[[], None]
) -> None:
    """Bring all files and texts of a prompt into `folder`.

    Raises:
        Failed: there are none.
    """
    made = [file for file in outcome.files if file.type != "input"]
    for file in made:
        client.download(file, folder / _free_name(file, folder), watch=check)
    for key, texts in outcome.texts.items():
        title = re.sub(r"[^\w.-]", "_", title_in(graph, key))
        name = f"{title}.txt" if not (folder / f"{title}.txt").exists() else f"{title}-{key}.txt"
        (folder / name.replace(":", "_")).write_text("\n".join(texts), encoding="utf-8")
    if not made and not outcome.texts:
        raise Failed("ComfyUI ended well, and reports no output", again=False)


def _free_name(file: OutputFile, folder: Path) -> str:
    name = Path(file.filename).name
    node = file.node_id.replace(":", "_")
    names = (name, f"{node}-{name}", f"{node}-{file.type}-{name}")
    return next((n for n in names if not (folder / n).exists()), f"{uuid.uuid4().hex[:6]}-{name}")
