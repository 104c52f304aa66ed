"""Test doubles of the GPU nodes; see ../README.md.

Importing the pack registers them in ComfyUI's own table instead of handing them over: only so
they keep the recorded python_module, and only so core nodes can be replaced.
"""

from typing import Protocol, TypeAlias

import nodes

from . import loaders, media, sampling, speech, video
from .files import files_for
from .schemas import Behaviour, double, methods, recorded_schemas

NODE_CLASS_MAPPINGS: dict[str, type] = {}

CoreInputs: TypeAlias = dict[str, dict[str, tuple[object, ...]]]


class CoreNode(Protocol):
    """What is used of ComfyUI's own node classes."""

    @classmethod
    def INPUT_TYPES(cls) -> CoreInputs: ...


BEHAVIOURS: dict[str, Behaviour] = {
    **loaders.BEHAVIOURS,
    **media.BEHAVIOURS,
    **sampling.BEHAVIOURS,
    **speech.BEHAVIOURS,
    **video.BEHAVIOURS,
}


def register_recorded() -> None:
    for name, schema in recorded_schemas().items():
        nodes.NODE_CLASS_MAPPINGS[name] = double(name, schema, BEHAVIOURS.get(name))
        if "display_name" in schema:
            nodes.NODE_DISPLAY_NAME_MAPPINGS[name] = schema["display_name"]


def replace_core() -> None:
    for name, behaviour in loaders.CORE_BEHAVIOURS.items():
        real = nodes.NODE_CLASS_MAPPINGS[name]
        body = methods(name, behaviour)
        body["INPUT_TYPES"] = classmethod(lambda cls, n=name, r=real: core_input_types(n, r))
        nodes.NODE_CLASS_MAPPINGS[name] = type(name, (real,), body)


def core_input_types(name: str, real: type[CoreNode]) -> CoreInputs:
    """The real node's inputs, its file list replaced by ours."""
    sections = real.INPUT_TYPES()
    for key, (kind, *options) in sections["required"].items():
        sections["required"][key] = (files_for(name, key) or kind, *options)
    return sections


register_recorded()
replace_core()
