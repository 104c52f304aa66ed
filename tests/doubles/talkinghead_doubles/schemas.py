"""Node classes made from the recorded schemas of the real packs."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from . import control
from .files import files_for

REPOSITORY = Path(__file__).resolve().parents[3]
RECORDED = REPOSITORY / "talkinghead" / "workflow" / "node_schemas.json"
FLOAT_OR_INT = ("frame_rate", "force_rate")
DOUBLED_PACKS = ("custom_nodes.comfyui-wanvideowrapper", "custom_nodes.comfyui-videohelpersuite")

Outputs: TypeAlias = tuple[object, ...] | dict[str, object]
Schema: TypeAlias = dict[str, object]
Inputs: TypeAlias = dict[str, dict[str, object]]


@dataclass(frozen=True)
class Behaviour:
    """What a double does; `is_changed` and `validate` are ComfyUI's optional class methods."""

    run: Callable[..., Outputs]
    is_changed: Callable[..., str] | None = None
    validate: Callable[..., bool | str] | None = None
    extra_inputs: bool = False
    list_files: Callable[[], list[str]] | None = None


class NumberType(str):
    """The type FLOAT that an INT may be linked to as well, as VideoHelperSuite has it."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return other not in ("FLOAT", "INT")

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class OpenInputs(dict[str, object]):
    """Hidden inputs that let every key of the prompt through (crf, pix_fmt, ...)."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> tuple[None, dict[str, object]]:
        return (None, {})


def recorded_schemas() -> dict[str, Schema]:
    """The recorded nodes of the doubled packs, by class name."""
    path = Path(os.environ.get("DOUBLES_SCHEMAS") or RECORDED)
    nodes = cast(dict[str, Schema], json.loads(path.read_text(encoding="utf-8"))["nodes"])
    return {
        name: schema
        for name, schema in nodes.items()
        if str(schema["python_module"]).lower().startswith(DOUBLED_PACKS)
    }


def double(name: str, schema: Schema, behaviour: Behaviour | None) -> type:
    """One node class: the recorded face, and `behaviour` behind it."""
    what = behaviour or Behaviour(_without_behaviour(name))
    body: dict[str, object] = {
        "INPUT_TYPES": classmethod(lambda cls: input_types(name, schema, what)),
        "RETURN_TYPES": tuple(cast(list[str], schema["output"])),
        "RETURN_NAMES": tuple(cast(list[str], schema["output_name"])),
        "OUTPUT_IS_LIST": tuple(cast(list[bool], schema["output_is_list"])),
        "OUTPUT_NODE": schema["output_node"],
        "CATEGORY": schema.get("category", "test doubles"),
        "RELATIVE_PYTHON_MODULE": schema["python_module"],
        **methods(name, what),
    }
    return type(name, (), body)


def methods(name: str, behaviour: Behaviour) -> dict[str, object]:
    """The parts of a node class that do something."""

    def execute(self: object, **inputs: object) -> Outputs:
        control.trip(name)
        return behaviour.run(**inputs)

    body: dict[str, object] = {"FUNCTION": "execute", "execute": execute}
    if behaviour.is_changed:
        body["IS_CHANGED"] = staticmethod(behaviour.is_changed)
    if behaviour.validate:
        body["VALIDATE_INPUTS"] = staticmethod(behaviour.validate)
    return body


def input_types(name: str, schema: Schema, behaviour: Behaviour) -> dict[str, object]:
    """INPUT_TYPES as recorded, with the file lists filled."""
    sections: dict[str, object] = {}
    for section, inputs in cast(Inputs, schema["input"]).items():
        if section == "hidden":
            sections[section] = OpenInputs(inputs) if behaviour.extra_inputs else inputs
        else:
            sections[section] = {
                key: _input(name, key, cast(list[object], spec), behaviour)
                for key, spec in inputs.items()
            }
    return sections


def _input(name: str, key: str, spec: list[object], behaviour: Behaviour) -> tuple[object, ...]:
    kind, *options = spec
    files = files_for(name, key)
    if files is None and kind == [] and behaviour.list_files:
        files = behaviour.list_files()
    if files is not None:
        kind = files
    elif key in FLOAT_OR_INT and kind == "FLOAT":
        kind = NumberType(kind)
    return (kind, *options)


def _without_behaviour(name: str) -> Callable[..., Outputs]:
    def refuse(**_inputs: object) -> Outputs:
        raise RuntimeError(f"{name} is a test double and has no behaviour")

    return refuse
