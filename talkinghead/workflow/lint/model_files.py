"""Rules on the files of models: which of them go together, and with which settings."""

from collections.abc import Iterator

from talkinghead.workflow.lint.model_names import FP8, GGUF, PLAIN, SCALED, weights_of
from talkinghead.workflow.lint.rules import trap
from talkinghead.workflow.lint.view import Finding, GraphView, NodeView
from talkinghead.workflow.node_classes import LOADER, LORA, SET_LORAS

# Base model -> talk models that it can carry.
TALK_MODELS = {
    GGUF: (GGUF, FP8, PLAIN),
    SCALED: (SCALED, FP8, PLAIN),
    FP8: (FP8, PLAIN),
    PLAIN: (FP8, PLAIN),
}
WHY_NOT = {
    GGUF: "the loader takes a GGUF talk model only with a GGUF base model",
    SCALED: "its scales would be left out, and the speech be wrong without an error",
}


def _base_weights(loader: NodeView) -> str:
    """What the base model is once it is loaded."""
    kind = weights_of(loader.text("model"))
    return FP8 if kind == PLAIN and "fp8" in loader.text("quantization") else kind


@trap
def _talk_model_fits_base(view: GraphView) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        talk = view.source(loader, "multitalk_model")
        base, file = loader.text("model"), talk.text("model") if talk else ""
        if not talk or not base or not file:
            continue
        kind, base_kind = weights_of(file), _base_weights(loader)
        # With a LoRA on the loader, linears are replaced by ones that know scales.
        rescued = (base_kind, kind) == (FP8, SCALED) and loader.is_linked("lora")
        if kind not in TALK_MODELS[base_kind] and not rescued:
            yield talk.error(
                "model",
                f"{file} is {kind} by its name and the base model {base} is {base_kind}: "
                f"{WHY_NOT[kind]}; take a talk model that is {', '.join(TALK_MODELS[base_kind])}",
            )


@trap
def _quantization_fits_base(view: GraphView) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        quantization, base = loader.text("quantization"), loader.text("model")
        if not base or not quantization:
            continue
        if weights_of(base) == GGUF and quantization != "disabled":
            yield loader.error(
                "quantization", f'is {quantization}, which fails with a GGUF: set it to "disabled"'
            )
        elif "scaled" in quantization and weights_of(base) != SCALED:
            yield loader.error(
                "quantization",
                f"is {quantization}, and {base} is not scaled fp8 by its name, which fails: "
                'set it to "disabled", which chooses by the weights',
            )


@trap
def _fast_goes_without_lora(view: GraphView) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        merged = any(_merges(lora) for lora in _loras(view, loader))
        later = [node for node in view.of(SET_LORAS) if loader in view.before(node, LOADER)]
        unmerged = loader.is_linked("lora") and not merged
        if "fast" in loader.text("quantization") and (
            unmerged or any(_loras(view, node) for node in later)
        ):
            yield loader.error(
                "quantization",
                "the _fast ones fail with a LoRA that is not merged: take one without _fast",
            )


def _loras(view: GraphView, node: NodeView) -> list[NodeView]:
    """The LoRAs linked to this node; the nodes leave out those of strength 0."""
    chain = view.before(view.source(node, "lora"), LORA)
    return [lora for lora in chain if lora.number("strength") != 0]


def _merges(lora: NodeView) -> bool:
    return lora.values.get("merge_loras") is True


@trap
def _lora_can_be_merged(view: GraphView) -> Iterator[Finding]:
    for node in view.of(LOADER, SET_LORAS):
        kind = _base_weights(node) if node.class_type == LOADER else ""
        for lora in filter(_merges, _loras(view, node)):
            if kind == GGUF:
                yield lora.error("merge_loras", "fails with a GGUF base model: set it to false")
            elif node.class_type == SET_LORAS:
                yield lora.error("merge_loras", f"fails with {SET_LORAS}: set it to false")
            elif kind == FP8:
                yield lora.warning(
                    "merge_loras",
                    "the sum would be rounded to fp8, and is not known to be good: set it to false",
                )


@trap
def _gguf_has_its_limits(view: GraphView) -> Iterator[Finding]:
    for loader in view.of(LOADER):
        if weights_of(loader.text("model")) != GGUF:
            continue
        if loader.is_linked("vram_management_args"):
            yield loader.error(
                "vram_management_args", "fails with a GGUF: take it out and swap blocks instead"
            )
        if loader.text("rms_norm_function") not in ("", "default"):
            yield loader.warning(
                "rms_norm_function", 'is not known to work with a GGUF: set it to "default"'
            )
