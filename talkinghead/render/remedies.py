"""When a picture comes out black, flat or as noise: what is tried, and what this worker learned."""

from __future__ import annotations

from typing import NamedTuple

from talkinghead import logs
from talkinghead.comfy.studio import Studio
from talkinghead.errors import RenderDefective
from talkinghead.models.manifest import ModelProfile
from talkinghead.models.speedups import BY_THE_WEIGHTS
from talkinghead.plan.plan import Plan
from talkinghead.render.job import Job
from talkinghead.render.look import SHEET_NAME


class Remedy(NamedTuple):
    """A widget of a template's node, and the value with which a picture is computed safely.

    With `instead_of` it is for that value alone, else for any other.
    """

    name: str
    slot: str
    widget: str
    value: str
    instead_of: str | None = None


# In this order: most black pictures come of SageAttention, on cards or with versions that it does
# not suit; fp8 cuts off what is over 448; sums in fp16 overflow, as a VAE does in half precision.
REMEDIES = (
    Remedy("sdpa", "Wan model", "attention_mode", "sdpa"),
    Remedy("fp16 arithmetic", "Wan model", "quantization", BY_THE_WEIGHTS),
    Remedy("sums in fp32", "Wan model", "base_precision", "fp16", instead_of="fp16_fast"),
    Remedy("the VAE in fp32", "VAE", "precision", "fp32"),
)


class Remedies:
    """The ways to compute one render, each safer than the one before; a draft has none.

    `profile` is the one to render with: at first the worker's, with what helped before.
    """

    def __init__(self, job: Job, plan: Plan, studio: Studio) -> None:
        self.profile = studio.profile_for(plan)
        self._job = job
        self._studio = studio
        self._applied: list[str] = []
        all_left = () if plan.request.draft else REMEDIES
        self._left = [each for each in all_left if _needed(self.profile, each)]
        self._tried = [f"with {_value(self.profile, REMEDIES[0]) or 'sdpa'}"] if all_left else []
        if known := [each for each in self._left if each.name in studio.cures]:
            for remedy in known:
                self._apply(remedy)
            self._tried = [self._how]
            job.notes.append(f"an earlier render here did not come out right: made {self._how}")

    def try_next(self, error: RenderDefective, begun: float) -> None:
        """Go on with the next way, if there is as much time left as the last one took.

        Args:
            begun: when that was, in seconds of the job.

        Raises:
            RenderDefective: there is none, or no time for it.
        """
        job = self._job
        is_late = job.timeout_seconds - job.seconds <= job.seconds - begun
        if not self._left or is_late:
            tried = f"; so it came out {', '.join(self._tried)}" if self._tried else ""
            late = "; there is no time to render it again" if self._left else ""
            details = {**error.details, "seen": str(error), "tried": self._tried}
            raise RenderDefective(f"{error}{tried}{late}", **details)
        self._apply(self._left[0])
        self._tried.append(self._how)
        logs.retry(self._how, error.code, error)
        job.notes.append(f"{error}: rendered again {self._how}")

    def worked(self) -> None:
        """Remember for the next render what helped, and tell the doctor.

        No sheet is left of what did not come out right, now or in an earlier run of the request.
        """
        self._studio.stores.drop(self._job.place, SHEET_NAME)
        cures = self._studio.cures
        cures.extend(name for name in self._applied if name not in cures)
        if cures:
            said = f"renders came out black, flat or as noise, but with {', '.join(cures)}"
            self._studio.record.say("picture", [said])

    @property
    def _how(self) -> str:
        return f"with {' and '.join(self._applied)}"

    def _apply(self, remedy: Remedy) -> None:
        slots = self.profile.slots
        changed = {**(slots.get(remedy.slot) or {}), remedy.widget: remedy.value}
        update = {"slots": {**slots, remedy.slot: changed}}
        self.profile = self.profile.model_copy(update=update)
        self._left.remove(remedy)
        self._applied.append(remedy.name)


def _needed(profile: ModelProfile, remedy: Remedy) -> bool:
    """Whether it would change something. Every profile says its VAE's precision; of the attention
    one may say nothing, and the templates have sdpa."""
    value = _value(profile, remedy)
    return value not in (None, remedy.value) and remedy.instead_of in (None, value)


def _value(profile: ModelProfile, remedy: Remedy) -> object:
    return (profile.slots.get(remedy.slot) or {}).get(remedy.widget)
