"""Node schemas: what ComfyUI says of a node class, and what the GUI makes of its inputs. Pure.

Schemas map a node class to its entry in ``GET /object_info``. The rules for widgets are those of
comfyui_frontend_package 1.32.9 and of VideoHelperSuite's VHS.core.js.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NotRequired, TypeAlias, TypedDict

Value: TypeAlias = str | int | float | bool | list[Any] | None

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
# Widgets that exist in the browser only; the GUI exports them, no node takes them.
BROWSER_INPUTS = frozenset({"audioUI", "preview", "video-preview"})
# Inputs whose value the browser makes when the GUI runs the workflow: no file holds it.
BROWSER_TYPES = frozenset({"AUDIO_RECORD", "LOAD_3D", "WEBCAM"})


class NodeSchema(TypedDict):
    """The part of a node class's ``/object_info`` entry that this package reads."""

    input: Mapping[str, Mapping[str, Sequence[Any]]]
    input_order: NotRequired[Mapping[str, Sequence[str]]]
    output: Sequence[Any]
    output_name: NotRequired[Sequence[str]]
    output_node: NotRequired[bool]
    display_name: NotRequired[str]


Schemas: TypeAlias = Mapping[str, NodeSchema]


def load_schemas() -> Schemas:
    """The schemas recorded of the nodes that our templates use, where no ComfyUI can be asked."""
    path = Path(__file__).with_name("node_schemas.json")
    recorded: Schemas = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    return recorded


@dataclass(frozen=True)
class InputSpec:
    """One input of a node class, as its schema says.

    `type` is a socket type or, for a list of choices, COMBO, whose choices are in `options`.
    `from_format`: there only with the chosen VHS format.
    """

    name: str
    type: str
    options: Mapping[str, Any]
    optional: bool
    from_format: bool = False

    @property
    def is_widget(self) -> bool:
        """Whether the GUI shows a field for its value; a link may still feed it."""
        return self.type in WIDGET_TYPES and not self.is_forced

    @property
    def is_forced(self) -> bool:
        """Whether it is a socket whatever its type."""
        options = self.options
        return bool(options.get("forceInput") or (self.optional and options.get("defaultInput")))

    @property
    def is_upload(self) -> bool:
        """Whether it names a file of ComfyUI's input folder, of which `options` lists a few."""
        return any(self.options.get(f"{kind}_upload") for kind in ("image", "audio", "video"))

    @property
    def default(self) -> Value:
        """What the GUI puts into a new node: the schema's default, or the first or empty value."""
        if self.options.get("default") is not None:
            value: Value = self.options["default"]
            return value
        if self.type == "COMBO":
            return next(iter(self.options.get("options") or ()), "")
        return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(self.type, "")

    @property
    def control(self) -> list[str]:
        """The GUI's own slots after this widget: control_after_generate and a combo's filter."""
        seed = self.type == "INT" and self.name in ("seed", "noise_seed")
        if not self.options.get("control_after_generate", seed):
            return []
        return {"INT": ["fixed"], "COMBO": ["fixed", ""]}.get(self.type, [])


def _read_spec(name: str, spec: Sequence[Any], optional: bool) -> InputSpec:
    options = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
    if isinstance(spec[0], list):
        return InputSpec(name, "COMBO", {"options": spec[0], **options}, optional)
    return InputSpec(name, spec[0], options, optional)


class _Itself:
    """A schema as a key: equal to the same object alone, which it keeps alive."""

    def __init__(self, schema: NodeSchema) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.schema is other.schema


def class_inputs(schema: NodeSchema) -> tuple[InputSpec, ...]:
    """The inputs that every node of the class has, in the GUI's order: required ones first."""
    return _inputs_by_key(_Itself(schema))


@lru_cache(maxsize=1024)  # asked for some 600 times a job
def _inputs_by_key(key: _Itself) -> tuple[InputSpec, ...]:
    found = []
    for section in ("required", "optional"):
        specs = key.schema["input"].get(section, {})
        ordered = key.schema.get("input_order", {}).get(section, ())
        names = dict.fromkeys([*(name for name in ordered if name in specs), *specs])
        found += [_read_spec(name, specs[name], section == "optional") for name in names]
    return tuple(found)


def _format_inputs(schema: NodeSchema, values: Mapping[str, Any]) -> list[InputSpec]:
    """What VHS_VideoCombine adds for the chosen ``format``: pix_fmt, crf, ..."""
    formats = next(
        (i.options.get("formats") for i in class_inputs(schema) if i.name == "format"), None
    )
    chosen = values.get("format")
    added = formats.get(chosen) if formats and isinstance(chosen, str) else None
    if not isinstance(added, list):
        return []
    return [
        replace(_read_spec(name, spec, optional=False), from_format=True) for name, *spec in added
    ]


def inputs_of(schema: NodeSchema, values: Mapping[str, Any]) -> list[InputSpec]:
    """All inputs of a node with these values, in the GUI's order, those of its format last."""
    return [*class_inputs(schema), *_format_inputs(schema, values)]


def widget_inputs(schema: NodeSchema, values: Mapping[str, Any]) -> list[InputSpec]:
    """The widgets of a node with these values, in the GUI's order, those of its format last."""
    own = [each for each in class_inputs(schema) if each.is_widget]
    return own + _format_inputs(schema, values)


def widget_slots(schema: NodeSchema) -> list[str | None]:
    """Widget names in the order of a ``widgets_values`` list; None is a slot of the GUI's own."""
    slots: list[str | None] = []
    for each in class_inputs(schema):
        if each.is_widget:
            slots += [each.name, *(None for _ in each.control)]
    return slots


def output_types(schema: NodeSchema) -> list[str]:
    """The types of a class's outputs, by slot."""
    return [made if isinstance(made, str) else "COMBO" for made in schema["output"]]


def can_link(one: str, other: str) -> bool:
    """Whether two sockets' types can be linked; a type may be a list with commas."""
    if {one, other} & {"*", ""}:
        return True
    return bool(set(one.lower().split(",")) & set(other.lower().split(",")))
