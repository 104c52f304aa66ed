"""Rules on files: what the graph loads, and what of it can be delivered."""

from collections.abc import Iterator

from talkinghead.workflow.file_inputs import ELSEWHERE, FILE_INPUTS
from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView
from talkinghead.workflow.node_classes import COMBINE, SAVE_VIDEO

MP4_FORMATS = (
    *("auto", "mp4"),  # SaveVideo's
    *(f"video/{codec}-mp4" for codec in ("h264", "h265", "nvenc_av1", "nvenc_h264", "nvenc_hevc")),
)


@trap
def _video_can_be_delivered(view: GraphView) -> Iterator[Finding]:
    for combine in view.of(COMBINE):
        if combine.values.get("save_metadata") is True:
            yield combine.warning(
                "save_metadata", "puts prompt and file names into the video: set it to false"
            )
        if combine.values.get("save_output") is False:
            yield combine.warning(
                "save_output", "writes to the temp folder, which is emptied: set it to true"
            )
        if (made := combine.text("format")) and made not in MP4_FORMATS:
            yield combine.warning(
                "format", f"{made} is no MP4, which the worker delivers: take video/h264-mp4"
            )


@trap
def _one_video_is_made(view: GraphView) -> Iterator[Finding]:
    savers = view.of(COMBINE, SAVE_VIDEO)
    for node in [node for node in savers if node.text("format") in MP4_FORMATS][1:]:
        yield node.warning("", "is a second video, and the worker delivers one: take one out")


@trap
def _prefix_stays_in_output(view: GraphView) -> Iterator[Finding]:
    for node in view.nodes.values():
        if (prefix := node.text("filename_prefix")) and ELSEWHERE.search(prefix):
            yield node.error(
                "filename_prefix",
                f"{prefix!r} may leave ComfyUI's output folder, which is refused once all is "
                "rendered: give a relative path without ..",
            )


@trap
def _files_come_from_input(view: GraphView) -> Iterator[Finding]:
    for node in view.of(*FILE_INPUTS):
        name = FILE_INPUTS[node.class_type]
        if ELSEWHERE.search(node.text(name)):
            yield node.warning(
                name,
                "is a URL, an absolute path or one with .., good on one machine at most: put the "
                "file into ComfyUI's input folder and give its name",
            )
