"""Where runs are done: a ComfyUI, our own or one at a URL."""

from __future__ import annotations

import contextlib
import copy
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import comfy_client
from comfy_client import ComfyClient, Event, Outcome, OutputFile
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.file import FilePlace
from talkinghead.delivery.place import VIDEO_NAME
from talkinghead.errors import ComfyUIUnavailable
from talkinghead.redact import redact_url
from talkinghead.render.job import Job
from talkinghead.render.run import run_job
from talkinghead.replay.changes import title_in
from talkinghead.replay.runs import UPLOADS, Run, sha256_of
from talkinghead.settings import Settings
from talkinghead.workflow.convert import Graph, Schemas
from talkinghead.workflow.lint import lint_workflow

Seen = Callable[[float, str], None]  # fraction, 0 to 1, and what is done

# Codes of the errors that come again however often a run is tried.
FINAL_CODES = frozenset(
    {
        "invalid_request",
        "unsupported_combination",
        "url_blocked",
        "media_invalid",
        "media_too_large",
        "result_too_large",
    }
)
# Codes of the errors that another server need not have.
PLACE_CODES = frozenset({"models_missing", "workflow_rejected"})


class Away(Exception):
    """The place does not answer: the run is to be done elsewhere, or later."""


class Refused(Exception):
    """The place cannot do this run; another may."""


class Failed(Exception):
    """The run failed. `again`: another try may end better."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


class Stopped(Exception):
    """The replay is being stopped."""


@dataclass(frozen=True)
class Made:
    """What is said of a run that succeeded: its seed, if drawn there, and seconds by stage."""

    seed: int | None = None
    timings: Mapping[str, float] = field(default_factory=dict)


class Place(Protocol):
    """Somewhere to do runs, `width` of them at a time."""

    name: str
    width: int

    def connect(self) -> None:
        """Raises:
        Away: it does not answer.
        """

    def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> Made:
        """Do a run; its outputs are left in the empty `folder`.

        Raises:
            Away, Refused, Failed, Stopped
        """


class ComfyPlace:
    """One ComfyUI: that of `settings.comfyui_url`, or without it a child process of ours."""

    width = 1  # ComfyUI runs one prompt at a time

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self.name = redact_url(settings.comfyui_url) if settings.comfyui_url else "own ComfyUI"
        self.schemas: Schemas = {}
        self._stop = stop
        self._seconds = settings.job_timeout_seconds
        self._place = FilePlace(Path(VIDEO_NAME))
        self._studio = Studio(settings, store=self._place, local_files=True)

    def __enter__(self) -> ComfyPlace:
        self._studio.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._studio.close()

    def connect(self) -> None:
        """Read the node schemas: after a restart they may be others."""
        with _errors(), self._studio.comfy("replay-connect", self._check) as client:
            self.schemas = client.object_info()

    def run(self, run: Run, folder: Path, seen: Seen, stop: threading.Event) -> Made:
        if run.kind == "request":
            return self._run_request(run, folder, seen)
        prefix = f"replay-{run.key[:12]}-{uuid.uuid4().hex[:8]}"
        with _errors(), self._studio.comfy(prefix, self._check) as client:
            return self._run_workflow(run, prefix, folder, seen, client)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _watch(self) -> None:
        self._check()
        self._studio.check_alive()

    def _run_workflow(
        self, run: Run, prefix: str, folder: Path, seen: Seen, client: ComfyClient
    ) -> Made:
        if errors := errors_in(run.content, self.schemas):
            raise Refused("; ".join(errors))
        start = time.monotonic()
        graph = with_uploads(run, client)
        uploaded = time.monotonic()
        outcome = client.run(
            with_prefix(graph, prefix),
            deadline_seconds=self._seconds,
            workflow=run.gui,
            on_event=GraphProgress(graph, seen).see,
            watch=self._watch,
        )
        rendered = time.monotonic()
        collect(outcome, graph, folder, client, self._check)
        client.forget(outcome.prompt_id)
        marks = {"upload": uploaded - start, "render": rendered - uploaded}
        marks["collect"] = time.monotonic() - rendered
        return Made(timings={stage: round(seconds, 3) for stage, seconds in marks.items()})

    def _run_request(self, run: Run, folder: Path, seen: Seen) -> Made:
        self._place.path = folder / VIDEO_NAME
        job = Job(id=run.key[:16], input=run.content, cancelled=self._stop)
        job.report = lambda progress: seen(progress.percent / 100, progress.message)
        result = run_job(job, self._studio)
        if "error" in result:
            raise self._as_error(result)
        return made_of(result)

    def _as_error(self, result: Mapping[str, Any]) -> Exception:
        if self._stop.is_set():
            return Stopped()
        if result["error_code"] == ComfyUIUnavailable.code:
            return Away(result["error"])
        return error_of(result["error"], result["error_code"])


def error_of(message: str, code: str | None) -> Exception:
    """The worker's account of a failed job as Refused or Failed."""
    if code in PLACE_CODES:
        return Refused(message)
    return Failed(message, again=code not in FINAL_CODES)


def made_of(result: Mapping[str, Any]) -> Made:
    """What the worker's result says of the run.

    Raises:
        Failed: the job ended well, and made no video.
    """
    match result.get("status"):
        case "estimated":
            raise Failed("dry_run is true, and renders nothing: set it to false", again=False)
        case "incomplete":
            done, all_ = result.get("windows_done"), result.get("windows")
            message = f"{done} of {all_} windows are rendered: the next try goes on after them"
            raise Failed(message, again=True)
    return Made((result.get("generation_params") or {}).get("seed"), result.get("timings") or {})


@contextlib.contextmanager
def _errors() -> Iterator[None]:
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
        name: client.upload(path, subfolder=f"replay/{sha256_of(path)[:16]}")
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


def collect(
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
        title = re.sub(r"[^\w.-]", "_", title_in(graph, key)) if key in graph else key
        name = f"{title}.txt" if not (folder / f"{title}.txt").exists() else f"{title}-{key}.txt"
        (folder / name.replace(":", "_")).write_text("\n".join(texts), encoding="utf-8")
    if not made and not outcome.texts:
        raise Failed("ComfyUI ended well, and reports no output", again=False)


def _free_name(file: OutputFile, folder: Path) -> str:
    name = Path(file.filename).name
    node = file.node_id.replace(":", "_")
    names = (name, f"{node}-{name}", f"{node}-{file.type}-{name}")
    return next((n for n in names if not (folder / n).exists()), f"{uuid.uuid4().hex[:6]}-{name}")


class GraphProgress:
    """ComfyUI's events as the share of the nodes that are done."""

    def __init__(self, graph: Graph, seen: Seen) -> None:
        self._graph, self._seen = graph, seen
        self._done: set[str] = set()
        self._node: str | None = None

    def see(self, event: Event) -> None:
        data = event.data
        if event.type == "execution_cached":
            self._done.update(map(str, data.get("nodes") or ()))
        elif event.type == "executing":
            self._done |= {self._node} if self._node else set()
            self._node = str(data["node"]) if data.get("node") is not None else None
            self._tell(0.0)
        elif event.type == "progress" and data.get("max"):
            self._tell(float(data["value"]) / float(data["max"]))

    def _tell(self, part: float) -> None:
        known = self._node in self._graph
        title = title_in(self._graph, str(self._node)) if known else ""
        self._seen(min((len(self._done) + part) / len(self._graph), 1.0), title)
