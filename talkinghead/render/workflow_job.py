"""A job that brings its own workflow: check, fetch, place, run, collect everything, deliver.

No input reaches a node as a path or URL that the caller wrote: what a node loads is named in
`files`, fetched by us, and placed under a name of ours. What else the nodes can do, the caller can.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard, get_args

from comfy_client import ComfyClient, Event, OutputFile
from talkinghead import logs
from talkinghead.comfy.studio import Studio
from talkinghead.delivery.place import Item
from talkinghead.errors import InvalidRequest, OutputMissing, ResultTooLarge, WorkflowRejected
from talkinghead.media import sound, source_video
from talkinghead.media.picture import probe_picture
from talkinghead.net.fetch import Input as Download
from talkinghead.net.urls import parse_http_url
from talkinghead.plan.plan import MAX_VOICE_SECONDS
from talkinghead.plan.request import Delivery, Problem
from talkinghead.render.execute import Prompt, check_graph, comfy_errors, execute, surviving
from talkinghead.render.job import Job, patience
from talkinghead.render.progress import Progress
from talkinghead.settings import Settings
from talkinghead.workflow.convert import (
    ConvertError,
    Graph,
    Input,
    Schemas,
    Workflow,
    inputs_of,
    is_api,
    is_gui,
    title_of,
    to_api,
)
from talkinghead.workflow.lint import ELSEWHERE, FILE_INPUTS
from talkinghead.workflow.template import Problem as Misfit
from talkinghead.workflow.template import loaders_only, node_label, rejection

FIELDS = ("workflow", "files", "delivery")
MAX_FILES = 32  # each is fetched by a thread of its own
FILE_NAME = re.compile(r"\w[\w .,()+=@-]{0,127}")
CONTENT_TYPES = {
    **{".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"},
    **{".gif": "image/gif", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff"},
    **{".wav": "audio/wav", ".mp3": "audio/mpeg", ".flac": "audio/flac", ".ogg": "audio/ogg"},
    **{".opus": "audio/ogg", ".m4a": "audio/mp4", ".aac": "audio/aac"},
    **{".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm"},
    **{".mkv": "video/x-matroska", ".avi": "video/x-msvideo"},
}
# Texts that a node may open, by the name of the input. Prompts are not among them.
PATH_NAMES = re.compile(
    r"(^|_)(image|video|audio|file|filename|path|dir|directory|folder|url|uri)s?(_|\d|$)", re.I
)
PREFIX = "filename_prefix"
# Run after a job without models, so that ComfyUI drops what the job's nodes gave.
NOTHING: Graph = {
    "1": {"class_type": "PrimitiveInt", "inputs": {"value": 0}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


@dataclass(frozen=True)
class WorkflowRequest:
    """What the caller asked: a GUI file or an API graph, and the files it names, by URL."""

    workflow: dict[str, Any]
    files: Mapping[str, str]
    delivery: Delivery | None


def is_raw(data: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a job's input is one of these."""
    return isinstance(data, Mapping) and "workflow" in data


def run_workflow(job: Job, studio: Studio) -> dict[str, Any]:
    """Run the job's workflow and deliver all that it makes; returns the job's result.

    Raises:
        JobError: one of the tree in `talkinghead.errors`.
    """
    request = read_request(job.input, studio.settings)
    store = studio.stores.named(request.delivery)
    logs.tell("workflow job started", files=len(request.files))
    graph = understand(job, request, studio)
    with tempfile.TemporaryDirectory(prefix="talkinghead-") as name:
        folder = Path(name)
        with job.at("fetch", "fetching the files"):
            files = fetch(request, folder, studio, job.check)
        with job.at("prepare", "looking into the files"):
            for path in files:
                look_into(path, studio.settings, job.check)
        made = surviving(
            job, partial(_produce, job, request, graph, files, folder=folder, studio=studio)
        )
        with job.at("deliver", "delivering the outputs"):
            places = studio.stores.put(
                job.key, [each.item for each in made.files], store, patience(job, studio.settings)
            )
            outputs = _outputs(made, places, studio.settings.max_inline_mb)
    job.report(Progress("done", "done"))
    return {
        "status": "completed",
        "job_id": job.id,
        "outputs": outputs,
        "processing_time_seconds": round(job.seconds, 1),
        "timings": job.timings,
        "warnings": job.notes,
    }


def read_request(data: object, settings: Settings) -> WorkflowRequest:
    """The job's `input`.

    Raises:
        InvalidRequest: with all mistakes at once; also if this worker takes no such jobs.
    """
    assert is_raw(data)
    if not settings.allow_workflows:
        raise _invalid(
            [
                Problem(
                    "workflow",
                    "workflow: this worker does not take workflows: it would with "
                    "ALLOW_WORKFLOWS=true",
                )
            ]
        )
    problems = [
        *_unknown(data),
        *_wrong_workflow(data),
        *_wrong_files(data),
        *_wrong_delivery(data),
    ]
    if problems:
        raise _invalid(problems)
    return WorkflowRequest(data["workflow"], data.get("files") or {}, data.get("delivery"))


def _invalid(problems: Sequence[Problem]) -> InvalidRequest:
    text = "; ".join(problem.message for problem in problems)
    return InvalidRequest(text, problems=[asdict(problem) for problem in problems])


def _unknown(data: Mapping[str, Any]) -> Iterator[Problem]:
    for name in data:
        if name not in FIELDS:
            allowed = f"{', '.join(FIELDS[:-1])} and {FIELDS[-1]}"
            yield Problem(name, f"{name} is not a field of a workflow job, which has {allowed}")


def _wrong_workflow(data: Mapping[str, Any]) -> Iterator[Problem]:
    if not (is_gui(data["workflow"]) or is_api(data["workflow"])):
        yield Problem(
            "workflow",
            "workflow is neither a GUI workflow, with lists of nodes and links, nor an API graph, "
            "in which every entry has a class_type and inputs",
        )


def _wrong_files(data: Mapping[str, Any]) -> Iterator[Problem]:
    files = data.get("files") or {}
    if not isinstance(files, Mapping) or len(files) > MAX_FILES:
        yield Problem("files", f"files must be an object of up to {MAX_FILES} names and URLs")
        return
    for name, url in files.items():
        field = f"files.{name[:80]}"
        if not FILE_NAME.fullmatch(name) or PurePosixPath(name).suffix.lower() not in CONTENT_TYPES:
            allowed = f"a plain file name that ends in {', '.join(CONTENT_TYPES)}"
            yield Problem(field, f"{field}: the name is not allowed; allowed: {allowed}")
        elif not isinstance(url, str):
            yield Problem(field, f"{field} is not a URL, allowed: an http:// or https:// URL")
        else:
            with contextlib.suppress(ValueError):
                parse_http_url(url)
                continue
            yield Problem(field, f"{field} is not an http:// or https:// URL")


def _wrong_delivery(data: Mapping[str, Any]) -> Iterator[Problem]:
    if data.get("delivery") not in (None, *get_args(Delivery)):
        allowed = ", ".join(f'"{name}"' for name in get_args(Delivery))
        yield Problem("delivery", f"delivery is not one of {allowed}", None, allowed)


# ---- The graph


def understand(job: Job, request: WorkflowRequest, studio: Studio) -> Graph:
    """The workflow as a graph that ComfyUI will take; nothing is fetched or queued yet.

    Raises:
        WorkflowRejected, ModelsMissing, ComfyUIUnavailable
    """
    job.stage = "start"
    with studio.comfy(job.new_subfolder(), job.check) as client:
        job.stage = "understand"
        with comfy_errors():
            schemas = studio.schemas(client)
        graph = read_graph(request.workflow, schemas)
        check_graph(graph, studio, client)
    if problems := [*path_problems(graph, schemas, request.files)]:
        raise rejection(problems)
    used = {text for entry in graph.values() for text in _texts(entry["inputs"])}
    job.notes += [f"files.{name} is used by no node" for name in request.files if name not in used]
    return graph


def read_graph(content: Workflow | Graph, schemas: Schemas) -> Graph:
    """A GUI file or an API graph as a graph whose nodes all have titles.

    Raises:
        WorkflowRejected: a GUI file that cannot be converted.
    """
    try:
        graph = to_api(content, schemas) if is_gui(content) else content
    except ConvertError as error:
        raise WorkflowRejected(f"the workflow does not fit this ComfyUI: {error}") from None
    return {key: _titled(entry, schemas) for key, entry in graph.items()}


def _titled(entry: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    kind, meta = entry["class_type"], entry.get("_meta")
    given = meta.get("title") if isinstance(meta, dict) else None
    title = given if isinstance(given, str) and given else title_of({"type": kind}, schemas)
    return {"class_type": kind, "inputs": entry["inputs"], "_meta": {"title": title}}


def path_problems(graph: Graph, schemas: Schemas, files: Mapping[str, str]) -> Iterator[Misfit]:
    """Where a node would open what is not in `files`, or what a link may say."""
    for key, entry in graph.items():
        kind, inputs = entry["class_type"], entry["inputs"]
        label = node_label(entry["_meta"]["title"], kind, key)
        for target in inputs_of(schemas[kind], inputs):
            for message in _faults(kind, target, inputs.get(target.name), files):
                yield Misfit(label, target.name, message)


def _faults(kind: str, target: Input, value: object, files: Mapping[str, str]) -> Iterator[str]:
    opens = _opens_file(kind, target)
    if isinstance(value, list):
        if target.is_widget and (opens or target.name == PREFIX):
            yield "is fed by a link, which may say anything: write its value into the node itself"
        return
    for text in _texts(value):
        if not text or text in _own_values(target):
            continue
        if "vhs_path_extensions" in target.options:
            yield (
                "takes a path on ComfyUI's disk, which no job may give: take a node that loads "
                "from the input folder, such as VHS_LoadVideo"
            )
        elif opens and text not in files:
            yield f"names {text!r}, which is not in files{_nearest(text, files)}"
        elif not opens and not target.options.get("multiline") and ELSEWHERE.search(text):
            yield f"is {text!r}: a job may give no URL, absolute path, or one with .. in it"


def _opens_file(kind: str, target: Input) -> bool:
    """Whether the node opens the file or folder that this input names."""
    if FILE_INPUTS.get(kind) == target.name or "vhs_path_extensions" in target.options:
        return True
    if any(target.options.get(f"{each}_upload") for each in ("image", "audio", "video")):
        return True
    is_text = target.type == "STRING" and target.name != PREFIX
    return is_text and bool(PATH_NAMES.search(target.name))


def _own_values(target: Input) -> Sequence[object]:
    """What the node's author, or the server's disk, put there."""
    if target.type == "STRING":
        return [target.options.get("default")]
    uploads = any(target.options.get(f"{each}_upload") for each in ("image", "audio", "video"))
    return [] if uploads else target.options.get("options") or []


def _nearest(name: str, files: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, files, 1)
    return f"; the nearest there is {near[0]!r}" if near else ""


def _texts(value: object) -> Iterator[str]:
    """All texts in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def place(graph: Graph, uploaded: Mapping[str, str], subfolder: str) -> Graph:
    """The graph with our names of the files, and all that it saves in the job's own folder."""
    return {
        key: {
            **entry,
            "inputs": {
                name: _placed_prefix(value, subfolder)
                if name == PREFIX and isinstance(value, str)
                else _placed(value, uploaded)
                for name, value in entry["inputs"].items()
            },
        }
        for key, entry in graph.items()
    }


def _placed_prefix(prefix: str, subfolder: str) -> str:
    return f"{subfolder}/{prefix or 'output'}"


def _placed(value: object, uploaded: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return uploaded.get(value, value)
    if isinstance(value, Mapping):
        return {
            key: [_placed(item, uploaded) for item in each]
            if isinstance(each, list)
            else _placed(each, uploaded)
            for key, each in value.items()
        }
    return value  # a list is a link


# ---- The files that come


def fetch(
    request: WorkflowRequest, folder: Path, studio: Studio, check: Callable[[], None]
) -> list[Path]:
    """Download the files. What `check` raises ends it."""
    target = folder / "files"
    target.mkdir()
    downloads = [
        Download(f"files.{name}", url, target / name, _max_mb(name, studio.settings))
        for name, url in request.files.items()
    ]
    studio.fetcher.fetch(downloads, check=check)
    return [each.target for each in downloads]


def _kind(name: str) -> str:
    """image, audio, video or application."""
    return _content_type(name).partition("/")[0]


def _content_type(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return CONTENT_TYPES.get(suffix, "application/octet-stream")


def _max_mb(name: str, limits: Settings) -> float:
    return {
        "image": limits.max_image_mb,
        "audio": limits.max_audio_mb,
        "video": limits.max_video_mb,
    }[_kind(name)]


def look_into(path: Path, limits: Settings, check: Callable[[], None]) -> None:
    """Whether the file is what its name says: a node would open it unguarded, a playlist too.

    Raises:
        MediaInvalid, MediaTooLarge
    """
    field, kind = f"files.{path.name}", _kind(path.name)
    if kind == "image":
        probe_picture(field, path, max_megapixels=limits.max_image_megapixels)
    elif kind == "audio":
        sound.probe_sound(field, path, max_seconds=MAX_VOICE_SECONDS, check=check)
    else:
        megapixels = limits.max_video_megapixels
        source_video.probe_source(field, path, max_megapixels=megapixels, check=check)


# ---- The run


@dataclass(frozen=True)
class MadeFile:
    """A file that a node made; `node` is its title."""

    node: str
    item: Item


@dataclass(frozen=True)
class Made:
    """All that a workflow made. `texts` are titles and what these nodes say."""

    files: Sequence[MadeFile]
    texts: Sequence[tuple[str, str]]


def _produce(
    job: Job,
    request: WorkflowRequest,
    graph: Graph,
    files: Sequence[Path],
    *,
    folder: Path,
    studio: Studio,
) -> Made:
    subfolder = job.new_subfolder()
    with contextlib.ExitStack() as stack:
        with job.at("start", "waiting for ComfyUI"):
            client = stack.enter_context(studio.comfy(subfolder, job.check))
        with job.at("patch", "placing the files"), comfy_errors():
            uploaded = {path.name: client.upload(path, subfolder=subfolder) for path in files}
            placed = place(graph, uploaded, subfolder)
            loaders = loaders_only(placed, studio.schemas(client))
        gui = request.workflow if is_gui(request.workflow) else {}
        prompt = Prompt(str(uuid.uuid4()), gui, placed)
        studio.trim_after(client, prompt.id, loaders or NOTHING)
        with job.at("render", "running the workflow"):
            outcome = execute(job, prompt, studio, client, NodeProgress(placed).see)
        with job.at("collect", "collecting the outputs"), comfy_errors():
            made = collect(outcome.files, placed, folder / "made", client, job.check)
        texts = [
            (_title(placed, node), text) for node, all_ in outcome.texts.items() for text in all_
        ]
    if not made and not texts:
        raise OutputMissing("ComfyUI ended well, and no node of the workflow reports an output")
    return Made(made, texts)


def collect(
    reported: Sequence[OutputFile],
    graph: Graph,
    folder: Path,
    client: ComfyClient,
    check: Callable[[], None],
) -> list[MadeFile]:
    """Bring the files here, each under a name of its own. What `check` raises ends it."""
    folder.mkdir(exist_ok=True)
    made: dict[str, MadeFile] = {}
    for file in dict.fromkeys(reported):
        name = PurePosixPath(file.filename).name
        if name in made:
            name = f"{len(made) + 1}-{name}"
        path = folder / name
        client.download(file, path, watch=check)
        item = Item(path, _content_type(name))
        made[name] = MadeFile(_title(graph, file.node_id), item)
    return list(made.values())


def _title(graph: Graph, node: str) -> str:
    """The title of a node; of one that a node made while it ran, its id."""
    return str(graph[node]["_meta"]["title"]) if node in graph else node


def _outputs(
    made: Made, places: Sequence[Mapping[str, Any]], max_mb: float
) -> list[dict[str, Any]]:
    """What the result says of all that was made.

    Raises:
        ResultTooLarge: its texts do not fit into a result.
    """
    files = [
        {"node": each.node, "kind": _output_kind(each.item), **place, **_described(each.item.path)}
        for each, place in zip(made.files, places, strict=True)
    ]
    texts = [{"node": node, "kind": "text", "text": text} for node, text in made.texts]
    outputs = [*files, *texts]
    size_mb = len(json.dumps(outputs)) / 1e6
    if size_mb > max_mb:
        raise ResultTooLarge(
            f"the outputs make a result of {size_mb:.1f} MB, allowed: {max_mb:g} MB; save long "
            "texts as files, and deliver files to S3"
        )
    return outputs


def _output_kind(item: Item) -> str:
    kind = _kind(item.path.name)
    return "file" if kind == "application" else kind


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"filename": path.name, "sha256": sha256, "size": path.stat().st_size}


class NodeProgress:
    """ComfyUI's events about any graph as progress of the stage "render": each node counts one."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._done: set[str] = set()
        self._current = ""

    def see(self, event: Event) -> Progress | None:
        """What the event says of the run; None if nothing."""
        if event.type == "execution_cached":
            self._done |= set(map(str, event.data.get("nodes") or ())) & set(self._graph)
            return None
        node = str(event.data.get("node"))
        if node not in self._graph or event.type not in ("executing", "progress"):
            return None
        if node != self._current:
            self._done |= {self._current} & set(self._graph)
            self._current = node
        part = event.data["value"] / event.data["max"] if event.data.get("max") else 0.0
        done = len(self._done - {node})
        return Progress("render", _title(self._graph, node), (done + part) / len(self._graph))
