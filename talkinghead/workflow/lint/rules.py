"""The rules of all files here, each registered where it stands.

    @trap
    def _mode_fits_talk_model(view: GraphView) -> Iterator[Finding]:

A `trap` reads a graph that is about to run, a `gui_rule` one that the GUI may open, a `file_rule`
a GUI file. Findings come in the order of SUBJECTS, where `lint_workflow` lists the files, and
within a file in the order in which its rules stand. A new rule is one function; a new file of
rules goes into SUBJECTS as well.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Generic, TypeAlias, TypeVar

from talkinghead.workflow.gui_file import Workflow
from talkinghead.workflow.lint.view import Finding, GraphView
from talkinghead.workflow.schemas import Schemas

GraphRule: TypeAlias = Callable[[GraphView], Iterable[Finding]]
FileRule: TypeAlias = Callable[[Workflow, Schemas], Iterable[Finding]]
Rule = TypeVar("Rule", GraphRule, FileRule)


class Rules(Generic[Rule]):
    """The rules of one kind; as a decorator it registers one."""

    def __init__(self) -> None:
        self._by_module: dict[str, list[Rule]] = {}

    def __call__(self, rule: Rule) -> Rule:
        """Register a rule under the file that it stands in."""
        self._by_module.setdefault(rule.__module__, []).append(rule)
        return rule

    def of(self, subjects: Sequence[ModuleType]) -> Iterator[Rule]:
        """The rules of these files, in the order of the files, then as they stand."""
        for subject in subjects:
            yield from self._by_module.get(subject.__name__, ())


trap: Rules[GraphRule] = Rules()
gui_rule: Rules[GraphRule] = Rules()
file_rule: Rules[FileRule] = Rules()
