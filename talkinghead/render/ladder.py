"""When memory runs out: what is tried instead, and what this worker has learned of it."""

from __future__ import annotations

from talkinghead import logs
from talkinghead.comfy.studio import Studio
from talkinghead.errors import OutOfMemory
from talkinghead.plan.plan import Plan, lighter_plans
from talkinghead.render.job import Job


class Ladder:
    """The plans of one render, each of which takes less memory than the one before.

    `plan` is the one to render by: at first the caller's, or the one that worked for the last
    render of the same size and model on this worker.
    """

    def __init__(self, job: Job, plan: Plan, studio: Studio) -> None:
        self.plan = self._asked = plan
        self._job = job
        self._studio = studio
        self._how = "as planned"
        self._tried: list[str] = []
        picture = plan.framing.render_width, plan.framing.render_height
        self._kind = f"{plan.talk_model} {'long' if plan.long else 'short'} {picture}"
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
        if self.plan != self._asked:
            self._studio.lighter_ways[self._kind] = self._how

    def _begin_where_it_worked(self) -> None:
        known = self._studio.lighter_ways.get(self._kind)
        if known not in [how for how, _ in lighter_plans(self.plan)]:
            return  # nothing is known, or the caller asked for other settings, or for no second try
        while self._how != known:
            self._how, self.plan = next(self._left)
        self._job.notes.append(
            f"an earlier render of this size ran out of memory here; rendered {known}"
        )
