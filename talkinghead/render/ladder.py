"""When memory runs out: what is tried instead, and what this worker has learned of it."""

from __future__ import annotations

from talkinghead import logs
from talkinghead.comfy.studio import Studio
from talkinghead.errors import OutOfMemory
from talkinghead.plan.plan import Plan, lighter_plans
from talkinghead.render.job import Job

# Then the caller's plan is tried again: what had filled the memory may be gone. A try that fails
# costs about a load of the models and a step, some tenths of a render; blocks that are swapped for
# nothing cost as much of every render. Not at a new ComfyUI: on a host with little memory, where
# this matters most, one is started after each job.
RENDERS_BETWEEN_TRIES = 10


class Ladder:
    """The plans of one render, each of which takes less memory than the one before.

    `plan` is the one to render by: at first the caller's, or the one that worked for the last
    render on this worker that needed as much memory, or less.
    """

    def __init__(self, job: Job, plan: Plan, studio: Studio) -> None:
        self.plan = self._asked = plan
        self._job = job
        self._studio = studio
        self._how = "as planned"
        self._tried: list[str] = []
        self._kind = _kind_of(plan)
        # All frames of one prompt are in memory at once; else those of a window.
        self._windows = 1 if plan.long else plan.windows
        self._left = lighter_plans(plan)
        self._begin_where_it_worked()

    def step_down(self, error: OutOfMemory, where: str = ";", *, worked: bool = False) -> None:
        """Go on with the next plan after this error; the note says `where` it came.

        With the lightest one the render goes on if it `worked` since memory last ran out.

        Raises:
            OutOfMemory: the lightest plan, too, takes too much.
        """
        self._tried.append(self._how)
        again = self._how if worked and self.plan.request.retry_out_of_memory else None
        how, plan = next(self._left, (again, self.plan))
        if how is None:
            details = {**error.details, "tried": self._tried}
            raise type(error)(f"{error}; so it did {', '.join(self._tried)}", **details)
        logs.retry(how, error.code)
        self._studio.free_memory()
        self._job.notes.append(f"ComfyUI ran out of memory{where} rendered {how}")
        self._how, self.plan = how, plan

    def worked(self) -> None:
        """Remember the plan for the next render of this kind.

        That ComfyUI's memory was freed is nothing to repeat: what had filled it is gone.
        """
        if self.plan == self._asked:
            return
        ways, known = self._studio.lighter_ways, self._known()
        how, renders = ways[known] if known else ("", 0)
        if known and how == self._how and renders + 1 >= RENDERS_BETWEEN_TRIES:
            del ways[known]
        elif known and how == self._how:
            ways[known] = how, renders + 1
        else:
            ways[self._kind, self._windows] = self._how, 0
        said = [
            f"{kind}: memory ran out, and sufficed {how}" for (kind, _), (how, _) in ways.items()
        ]
        self._studio.record.say("memory", said)

    def _known(self) -> tuple[str, int] | None:
        """Of what is known, that of the render which took most memory, and no more than this."""
        ways = self._studio.lighter_ways
        fits = [key for key in ways if key[0] == self._kind and key[1] <= self._windows]
        return max(fits, default=None)

    def _begin_where_it_worked(self) -> None:
        key = self._known()
        known = self._studio.lighter_ways[key][0] if key else None
        if known not in [how for how, _ in lighter_plans(self.plan)]:
            return  # nothing is known, or the caller asked for other settings, or for no second try
        while self._how != known:
            self._how, self.plan = next(self._left)
        self._job.notes.append(
            f"an earlier render of this kind ran out of memory here; rendered {known}"
        )


def _kind_of(plan: Plan) -> str:
    """What the memory of one window depends on: how it is made, of what size, for how many."""
    size = f"{plan.framing.render_width} x {plan.framing.render_height}"
    what = " ".join(filter(None, (plan.talk_model, plan.template, plan.video_method)))
    return f"{what}, {size}, {len(plan.offsets)} speaking"
