"""Node schemas: what ComfyUI says of a node class, and what the GUI makes of its inputs. Pure.

Schemas map a node class to its entry in ``GET /object_info``. The rules for widgets are those of
comfyui_frontend_package 1.32.9, and for dynamic inputs those of 1.58.1; those of VHS nodes are from
VideoHelperSuite's VHS.core.js.

Dynamic inputs are those of newer ComfyUIs: a *dynamic combo* has other inputs for each of its
choices, named under it (``codec.encoding.crf``); an *autogrow* is any number of inputs of one type
(``images.image0``); inputs of a *match type* take what the others of their group take.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NotRequired, TypeAlias, TypedDict

Value: TypeAlias = str | int | float | bool | list[Any] | None

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"
WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC_COMBO})
# Widgets that exist in the browser only; the GUI exports them, no node takes them.
BROWSER_INPUTS = frozenset({"audioUI", "preview", "video-preview"})
# Two pictures side by side: nobody chooses its value, and what a file has for it is of another run.
COMPARED = "IMAGECOMPARE"
# Inputs whose value the browser makes when the GUI runs the workflow: no file holds it.
BROWSER_TYPES = frozenset({"AUDIO_RECORD", "LOAD_3D", "WEBCAM"})


class NodeSchema(TypedDict):
    """The part of a node class's ``/object_info`` entry that this package reads."""

    input: Mapping[str, Mapping[str, Sequence[Any]]]
    input_order: NotRequired[Mapping[str, Sequence[str]]]
    output: Sequence[Any]
    output_name: NotRequired[Sequence[str]]
    output_matchtypes: NotRequired[Sequence[str | None]]
    output_node: NotRequired[bool]
    display_name: NotRequired[str]


Schemas: TypeAlias = Mapping[str, NodeSchema]


def load_schemas() -> Schemas:
    """The schemas recorded of the nodes that our templates use, where no ComfyUI can be asked."""
    recorded: Schemas = _recorded("node_schemas.json")["nodes"]
    return recorded


def load_known_schemas() -> Schemas:
    """Those, and all that ComfyUI has without node packs: for workflows that people bring."""
    return {**_recorded("core_schemas.json")["nodes"], **load_schemas()}


def recorded_from() -> str:
    """The version of the ComfyUI whose own nodes are known."""
    return str(_recorded("core_schemas.json")["recorded_from"]["comfyui"])


def _recorded(name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class InputSpec:
    """One input of a node class, as its schema says.

    `type` is a socket type or, for a list of choices, COMBO, whose choices are in `options`.
    `from_format`: there only with the chosen VHS format. `grown`: one of an autogrow's, a socket.
    """

    name: str
    type: str
    options: Mapping[str, Any]
    optional: bool
    from_format: bool = False
    grown: bool = False

    @property
    def is_widget(self) -> bool:
        """Whether the GUI shows a field for its value; a link may still feed it."""
        # Only inputs of widgets say whether they have a socket besides: colours, boxes, curves.
        kinds = {self.type, self.options.get("widgetType")}
        shown = bool(kinds & WIDGET_TYPES) or "socketless" in self.options
        return shown and not self.is_forced and not self.grown

    @property
    def is_forced(self) -> bool:
        """Whether it is a socket whatever its type."""
        options = self.options
        forced = options.get("forceInput") or (self.optional and options.get("defaultInput"))
        return bool(forced) and not self.grown

    @property
    def match_group(self) -> str | None:
        """The inputs and outputs of a node that have the same type have the same group."""
        template = self.options.get("template")
        return template.get("template_id") if isinstance(template, dict) else None

    @property
    def choices(self) -> Sequence[Any]:
        """What a combo offers; of a dynamic one the keys, with each of which come other inputs."""
        offered = self.options.get("options") or ()
        return [each.get("key") for each in offered] if self.type == DYNAMIC_COMBO else offered

    @property
    def is_upload(self) -> bool:
        """Whether it names a file of ComfyUI's input folder, of which `options` lists a few."""
        return any(self.options.get(f"{kind}_upload") for kind in ("image", "audio", "video"))

    @property
    def default(self) -> Value:
        """What the GUI puts into a new node: the schema's default, or the first or empty value."""
        if self.options.get("default") is not None and self.type != DYNAMIC_COMBO:
            value: Value = self.options["default"]
            return value
        if self.type in ("COMBO", DYNAMIC_COMBO):
            return next(iter(self.choices), "")
        blank: dict[str, Value] = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False, COMPARED: ["", ""]}
        return blank.get(self.type, "")

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
    if spec[0] == MATCH_TYPE:
        allowed = options.get("template", {}).get("allowed_types", "*")
        return InputSpec(name, allowed, options, optional)
    return InputSpec(name, spec[0], options, optional)


def _read_section(
    specs: Mapping[str, Sequence[Any]], order: Iterable[str], prefix: str, optional: bool
) -> Iterator[InputSpec]:
    """Inputs in the GUI's order; an autogrow is as many as it may become."""
    for name in dict.fromkeys([*(name for name in order if name in specs), *specs]):
        spec = _read_spec(f"{prefix}{name}", specs[name], optional)
        is_list = spec.type == AUTOGROW and "template" in spec.options
        yield from _grown(spec) if is_list else [spec]


def _grown(autogrow: InputSpec) -> Iterator[InputSpec]:
    template = autogrow.options["template"] or {}
    names = template.get("names") or [
        f"{template.get('prefix', '')}{number}" for number in range(template.get("max", 100))
    ]
    # ComfyUI takes the first input of the template, and whether it is required from there.
    found = [
        (section, spec)
        for section in ("required", "optional")
        for spec in ((template.get("input") or {}).get(section) or {}).values()
    ]
    if not found:  # a mistake of the class: it says of what it takes any number nowhere
        return
    section, spec = found[0]
    for number, name in enumerate(names):
        optional = number >= template.get("min", 1) or section == "optional"
        read = _read_spec(f"{autogrow.name}.{name}", spec, optional)
        yield replace(read, grown=True)


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
    found: list[InputSpec] = []
    for section in ("required", "optional"):
        specs = key.schema["input"].get(section, {})
        ordered = key.schema.get("input_order", {}).get(section, ())
        found += _read_section(specs, ordered, "", section == "optional")
    return tuple(found)


def _chosen_inputs(combo: InputSpec, key: object) -> list[InputSpec]:
    """What comes with one choice of a dynamic combo, named under it; of no choice nothing."""
    sections: Mapping[str, Any] = next(
        (o.get("inputs") or {} for o in combo.options.get("options", ()) if o.get("key") == key), {}
    )
    return [
        each
        for section in ("required", "optional")
        for each in _read_section(
            sections.get(section) or {}, (), f"{combo.name}.", section == "optional"
        )
    ]


def _with_chosen(
    inputs: Iterable[InputSpec], key_of: Callable[[InputSpec], object]
) -> Iterator[InputSpec]:
    """Inputs, each dynamic combo followed by those of its value, which is asked for after it."""
    for each in inputs:
        yield each
        if each.type == DYNAMIC_COMBO:
            yield from _with_chosen(_chosen_inputs(each, key_of(each)), key_of)


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
    found = _with_chosen(class_inputs(schema), lambda combo: values.get(combo.name))
    return [*found, *_format_inputs(schema, values)]


def shown_inputs(schema: NodeSchema, values: Mapping[str, Any]) -> list[InputSpec]:
    """As `inputs_of`, in the GUI, where a dynamic combo without a value has its first choice."""
    found = _with_chosen(class_inputs(schema), lambda combo: values.get(combo.name, combo.default))
    return [*found, *_format_inputs(schema, values)]


def with_chosen_inputs(schema: NodeSchema, values: Mapping[str, Any], combo: str) -> dict[str, Any]:
    """An API node's inputs after a change of one: of a dynamic combo those of its choice alone.

    What comes with the choice has its default, as in the GUI when somebody chooses.
    """
    shown = {each.name: each for each in shown_inputs(schema, values)}
    kept = {n: value for n, value in values.items() if n in shown or not n.startswith(f"{combo}.")}
    widgets = [each for each in shown.values() if each.is_widget]
    return {e.name: e.default for e in widgets if e.name.startswith(f"{combo}.")} | kept


def widget_inputs(schema: NodeSchema, values: Mapping[str, Any]) -> list[InputSpec]:
    """The widgets of a node with these values, in the GUI's order, those of its format last."""
    return [each for each in shown_inputs(schema, values) if each.is_widget or each.from_format]


def widget_slots(schema: NodeSchema, values: Sequence[Value]) -> list[str | None]:
    """Widget names in the order of this ``widgets_values`` list; None: a slot of the GUI's own."""
    slots: list[str | None] = []

    def key_of(combo: InputSpec) -> Value:
        place = len(slots) - 1  # it is asked for when the combo alone has been placed
        return values[place] if place < len(values) else combo.default

    for each in _with_chosen(class_inputs(schema), key_of):
        if each.is_widget:
            slots += [each.name, *(None for _ in each.control)]
    return slots


def output_types(schema: NodeSchema) -> list[str]:
    """The types of a class's outputs, by slot."""
    names = ["*" if made == MATCH_TYPE else made for made in schema["output"]]
    return [made if isinstance(made, str) else "COMBO" for made in names]


def can_link(one: str, other: str) -> bool:
    """Whether two sockets' types can be linked; a type may be a list with commas."""
    if {one, other} & {"*", ""}:
        return True
    return bool(set(one.lower().split(",")) & set(other.lower().split(",")))
