"""What a deployer may switch on to render quicker, and which nodes and widgets that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from talkinghead.models.exclusions import COMPILE, LIGHT_VAE, STEP_CACHES
from talkinghead.models.manifest import ModelProfile, Widgets
from talkinghead.settings import BasePrecision, Settings, StepCache

FP8_MATMUL, BY_THE_WEIGHTS = "fp8_e4m3fn_scaled_fast", "disabled"
# The pack's own defaults, but for TeaCache's: the middle of what its tooltip gives for 14B.
CACHE_WIDGETS: dict[str, Widgets] = {
    "TeaCache": {"rel_l1_thresh": 0.2},
    "MagCache": {"magcache_thresh": 0.02},
    "EasyCache": {"easycache_thresh": 0.015},
}


@dataclass(frozen=True)
class Speedups:
    """The settings of these names; `fp8_matmul` is None where nothing was said of it."""

    base_precision: BasePrecision = "auto"
    fp8_matmul: bool | None = None
    torch_compile: bool = False
    step_cache: StepCache = "off"
    light_vae: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the environment."""
        return cls(
            base_precision=settings.base_precision,
            fp8_matmul=settings.fp8_matmul,
            torch_compile=settings.torch_compile,
            step_cache=settings.step_cache,
            light_vae=settings.light_vae,
        )

    def apply(self, profile: ModelProfile) -> ModelProfile:
        """The profile with them; the profile itself stays as it is."""
        model = dict(profile.slots.get("Wan model") or {})
        if self.base_precision != "auto":
            model["base_precision"] = self.base_precision
        if self.fp8_matmul is not None:
            model["quantization"] = FP8_MATMUL if self.fp8_matmul else BY_THE_WEIGHTS
        changes = {"slots": {**profile.slots, "Wan model": model}, "optional": self._nodes(profile)}
        return profile.model_copy(update=changes)

    def _nodes(self, profile: ModelProfile) -> dict[str, Widgets]:
        """Those that are in no template, by title."""
        nodes: dict[str, Widgets] = {}
        if self.torch_compile:
            nodes[COMPILE] = {"backend": "inductor"}
        if self.step_cache != "off":
            title = STEP_CACHES[self.step_cache]
            nodes[title] = CACHE_WIDGETS[title]
        if self.light_vae and profile.light_vae is not None:
            nodes[LIGHT_VAE] = profile.light_vae
        return nodes

    def __str__(self) -> str:
        said = [
            "" if self.base_precision == "auto" else self.base_precision,
            "fp8 arithmetic" if self.fp8_matmul else "",
            "compiled" if self.torch_compile else "",
            STEP_CACHES.get(self.step_cache, ""),
            "light VAE" if self.light_vae else "",
        ]
        return ", ".join(each for each in said if each)


NO_SPEEDUPS = Speedups()


def wants_fp8(profile: ModelProfile) -> bool:
    """Whether the profile is made for fp8 arithmetic."""
    return (profile.slots.get("Wan model") or {}).get("quantization") == FP8_MATMUL
