"""A job that brings its own workflow: check, fetch, place, run, collect everything, deliver.

No input reaches a node as a path or URL that the caller wrote: what a node loads is named in
`files`, fetched by us, and placed under a name of ours. What else the nodes can do, the caller can.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from talkinghead import logs
from talkinghead.comfy.failures import comfy_errors
from talkinghead.comfy.studio import Studio
from talkinghead.errors import Faults, OutputMissing
from talkinghead.render.execute import (
    REPLACED_OR_KILLED,
    Prompt,
    check_graph,
    execute,
    once_more_on_a_new_comfyui,
)
from talkinghead.render.job import Job, patience
from talkinghead.render.progress import Progress
from talkinghead.render.workflow_job.graph import read_graph, title_in
from talkinghead.render.workflow_job.inputs import check_files, check_masks, fetch_files
from talkinghead.render.workflow_job.outputs import Outputs, collect_files, describe
from talkinghead.render.workflow_job.paths import path_problems, set_paths, texts_in
from talkinghead.render.workflow_job.progress import NodeProgress
from talkinghead.render.workflow_job.request import WorkflowRequest, read_request
from talkinghead.workflow.check import rejection
from talkinghead.workflow.graph import Graph, loaders_only
from talkinghead.workflow.gui_file import is_gui


def run_workflow(job: Job, studio: Studio) -> dict[str, Any]:
    """Run the job's workflow and deliver all that it makes; returns the job's result.

    Raises:
        JobError: one of the tree in `talkinghead.errors`.
    """
    request = read_request(job.input, studio.settings)
    job.price_per_hour = request.price_per_hour or job.price_per_hour
    store = studio.stores.named(request.delivery)  # first: a store that is not there costs nothing
    logs.tell("workflow job started", files=len(request.files))
    graph = understand(job, request, studio)
    with tempfile.TemporaryDirectory(prefix="talkinghead-") as name:
        folder = Path(name)
        with job.at("fetch", "fetching the files"):
            files = fetch_files(request.files, folder / "files", studio, job.check)
        with (
            job.at("prepare", "looking into the files"),
            studio.sandboxes.open(job.check) as sandbox,
        ):
            faults = Faults()
            check_files(files, studio.settings, sandbox, faults)
            faults.tell()
            check_masks(graph, files, studio.settings, sandbox)
        produce = partial(_produce, job, request, graph, files, folder=folder, studio=studio)
        outputs = once_more_on_a_new_comfyui(job, studio, produce, REPLACED_OR_KILLED)
        with job.at("deliver", "delivering the outputs", job.check_finishing):
            items = [each.item for each in outputs.files]
            places = studio.stores.put(job.key, items, store, patience(job, studio.settings))
            described = describe(outputs, places, studio.settings.max_inline_mb)
    job.tell(Progress("done", "done"))
    return {
        "status": "completed",
        "job_id": job.id,
        "outputs": described,
        "processing_time_seconds": round(job.seconds, 1),
        "timings": job.timings,
        "warnings": job.notes,
    }


def understand(job: Job, request: WorkflowRequest, studio: Studio) -> Graph:
    """The workflow as a graph that ComfyUI will take; nothing is fetched or queued yet.

    Raises:
        WorkflowRejected, ModelsMissing, ComfyUIUnavailable
    """
    job.stage = "start"
    with studio.comfy(job.new_subfolder(), job.check) as turn:
        job.stage = "understand"
        with comfy_errors():
            schemas = turn.schemas()
        graph, said = read_graph(request.workflow, schemas)
        # Before the paths: every node's class is known after it, and `path_problems` needs that.
        check_graph(graph, turn)
    if problems := [*path_problems(graph, schemas, request.files)]:
        raise rejection(problems)
    job.notes += said
    used = {text for entry in graph.values() for text in texts_in(entry["inputs"])}
    job.notes += [f"files.{name} is used by no node" for name in request.files if name not in used]
    return graph


def _produce(
    job: Job,
    request: WorkflowRequest,
    graph: Graph,
    files: Sequence[Path],
    *,
    folder: Path,
    studio: Studio,
) -> Outputs:
    """Run the graph and bring here what it makes. May be called again, on a new ComfyUI.

    Raises:
        OutputMissing: it makes nothing; and what `execute` raises.
    """
    # A new one each time: ComfyUI would answer from its cache, and the files be in the old folder.
    subfolder = job.new_subfolder()
    with contextlib.ExitStack() as stack:
        with job.at("start", "waiting for ComfyUI"):
            turn = stack.enter_context(studio.comfy(subfolder, job.check))
        with job.at("patch", "placing the files"), comfy_errors():
            uploaded = {path.name: turn.client.upload(path, subfolder=subfolder) for path in files}
            placed = set_paths(graph, uploaded, subfolder)
            loaders = loaders_only(placed, turn.schemas())
        gui = request.workflow if is_gui(request.workflow) else {}
        prompt = Prompt(str(uuid.uuid4()), gui, placed)
        # Asked for before the run: it is to happen after a render that fails or is cancelled, too.
        turn.set_last_prompt(prompt.id, loaders)
        with job.at("render", "running the workflow"):
            outcome = execute(job, prompt, turn, NodeProgress(placed).see)
        # Within the turn: when it ends, the job's folders in ComfyUI are emptied.
        check = job.check_finishing
        with job.at("collect", "collecting the outputs", check), comfy_errors():
            made = collect_files(outcome.files, placed, folder / "made", turn.client, check)
        texts = [
            (title_in(placed, node), text)
            for node, all_ in outcome.texts.items()
            for text in all_
            if node in placed  # and not a loader beside them
        ]
    if not made and not texts:
        raise OutputMissing("ComfyUI ended well, and no node of the workflow reports an output")
    return Outputs(made, texts)
