"""What is measured: settings and fields by name, and which of them suit a host. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from talkinghead.models.choice import Value
from talkinghead.models.gpu import MODEL_BLOCKS, Host, Tuning
from talkinghead.models.manifest import Manifest

PLAIN, TOGETHER = "plain", "together"


@dataclass(frozen=True)
class Configuration:
    """A named set of settings of the worker and fields of the request, over the plain ones.

    One that `keeps_model` and has no fields may be chosen for a host: the others change what is
    rendered, or are for the caller to decide.
    """

    name: str
    settings: Mapping[str, Value] = field(default_factory=dict)
    fields: Mapping[str, Value] = field(default_factory=dict)
    keeps_model: bool = True

    @property
    def can_be_chosen(self) -> bool:
        """Whether a worker may take it by itself."""
        return self.keeps_model and not self.fields


# In the order in which they are measured: what is worth most comes first. One line each.
TABLE = (
    Configuration("sageattn", {"attention": "sageattn"}),
    Configuration("compiled", {"torch_compile": True}),
    Configuration("compiled, sage", {"torch_compile": True, "attention": "sageattn_compiled"}),
    Configuration("fp16 sums", {"base_precision": "fp16_fast"}),
    Configuration("weights kept", {"force_offload": False}),
    Configuration("no block swapped", {"blocks_to_swap": 0}),
    Configuration("20 blocks swapped", {"blocks_to_swap": 20}),
    Configuration("40 blocks swapped", {"blocks_to_swap": 40}),
    Configuration("chain", fields={"long": True}),
    Configuration("chain, light VAE", {"light_vae": True}, {"long": True}),
)


def plain_settings(tuning: Tuning) -> dict[str, Value]:
    """What suits the host by the arithmetic on its memory, with PyTorch's own attention."""
    return {
        "model_profile": tuning.profile,
        "attention": "sdpa",
        "force_offload": tuning.force_offload,
        "blocks_to_swap": tuning.blocks_to_swap,
        "base_precision": "auto",
        "torch_compile": False,
        "light_vae": False,
    }


def configurations(
    plain: Mapping[str, Value], profiles: Mapping[str, Mapping[str, Value]]
) -> Iterator[Configuration]:
    """The plain one first, then what differs from it; last the other profiles, by their names."""
    yield Configuration(PLAIN)
    for each in TABLE:
        if each.fields or any(plain[name] != value for name, value in each.settings.items()):
            yield each
    for name, settings in profiles.items():
        yield Configuration(f"profile {name}", settings, keeps_model=False)


def why_not(
    configuration: Configuration, plain: Mapping[str, Value], host: Host, manifest: Manifest
) -> str | None:
    """Why it cannot run on this host, as far as that is known before it is tried."""
    settings = {**plain, **configuration.settings}
    if str(settings["attention"]).startswith("sageattn") and not host.sage:
        return "SageAttention is not installed beside ComfyUI, or not right and quicker here"
    needs = manifest.profile(str(settings["model_profile"])).needs
    if host.gpu is None or needs is None:
        return None
    swapped = int(settings["blocks_to_swap"]) / MODEL_BLOCKS
    on_gpu = needs.base * (1 - swapped) + needs.beside
    if on_gpu > host.gpu.vram_gib:
        return f"its weights take {on_gpu:.0f} GB of the card's {host.gpu.vram_gib:.0f}"
    return None


def together(quicker: Sequence[Configuration]) -> Configuration | None:
    """What was quicker than the plain one, the quickest first, all at once; None of fewer than two.

    Of two that set the same, it is the quicker one's.
    """
    settings: dict[str, Value] = {}
    taken = 0
    for each in quicker:
        fresh = {name: value for name, value in each.settings.items() if name not in settings}
        if len(fresh) == len(each.settings):
            settings |= fresh
            taken += 1
    return Configuration(TOGETHER, settings) if taken > 1 else None
