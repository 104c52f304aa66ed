"""The frames that a render left on ComfyUI's disk: found there, and fetched one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from comfy_client import ComfyClient, FileMissing, Outcome, OutputFile
from talkinghead.comfy.failures import comfy_errors
from talkinghead.errors import OutputMissing
from talkinghead.plan.plan import Plan
from talkinghead.render.progress import Progress, Report
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.slots import FRAME_FOLDER


def first_frame(outcome: Outcome, graph: Graph) -> OutputFile:
    """The first frame, in the folder that the graph made in the job's folder of ComfyUI's output.

    Raises:
        OutputMissing: it reports none.
    """
    keys = {entry["_meta"]["title"]: key for key, entry in graph.items()}
    job_folder = Path(graph[keys["Talking image"]]["inputs"]["output_path"])
    said = "".join(outcome.texts.get(keys[FRAME_FOLDER], ())) or "nothing"
    if Path(said).parent != job_folder:
        raise OutputMissing(f"ComfyUI ended well without a folder of frames; it reports: {said}")
    subfolder = f"{job_folder.name}/{Path(said).name}"
    return OutputFile(keys[FRAME_FOLDER], "text", _name(0), subfolder, "output")


def pictures(
    first: OutputFile,
    plan: Plan,
    client: ComfyClient,
    folder: Path,
    *,
    report: Report,
    check: Callable[[], None],
) -> Iterator[Image.Image]:
    """The plan's frames in their order, each cut to what is delivered of it.

    One at a time is in `folder`; more than are planned may have been rendered. What `check` raises
    ends it.

    Raises:
        OutputMissing: there are fewer.
    """
    path = folder / "frame.png"
    for number in range(plan.frames):
        _fetch(replace(first, filename=_name(number)), path, plan, client, check)
        with Image.open(path) as image:
            yield image.crop(plan.delivered_box)
        done = number + 1
        report(Progress("collect", f"frame {done} of {plan.frames}", done / plan.frames))


def _name(number: int) -> str:
    return f"frame_{number:05d}.png"


def _fetch(
    frame: OutputFile, path: Path, plan: Plan, client: ComfyClient, check: Callable[[], None]
) -> None:
    with comfy_errors():
        try:
            client.download(frame, path, watch=check)
        except FileMissing:
            raise OutputMissing(
                f"ComfyUI ended well without all {plan.frames} frames: {frame.filename} is not "
                "there"
            ) from None
