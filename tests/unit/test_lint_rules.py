"""Rules register where they stand; their findings come by subject, then as they stand."""

import re
from collections.abc import Iterator
from pathlib import Path

from talkinghead.workflow import lint
from talkinghead.workflow.lint import SUBJECTS, speakers, talk_model
from talkinghead.workflow.lint.rules import GraphRule, Rules
from talkinghead.workflow.lint.view import Finding, GraphView


def rule_in(module: str, name: str) -> GraphRule:
    def rule(view: GraphView) -> Iterator[Finding]:
        yield Finding("error", "", "", name)

    rule.__module__ = module
    return rule


def test_every_file_with_rules_is_a_subject() -> None:
    folder = Path(lint.__file__).parent
    decorated = re.compile(r"^@(trap|gui_rule|file_rule)$", re.MULTILINE)
    found = {path.stem for path in folder.glob("*.py") if decorated.search(path.read_text())}
    assert found == {subject.__name__.rpartition(".")[2] for subject in SUBJECTS}


def test_findings_come_by_subject_then_as_the_rules_stand() -> None:
    rules: Rules[GraphRule] = Rules()
    for subject, name in ((talk_model, "c"), (speakers, "a"), (talk_model, "d"), (speakers, "b")):
        rules(rule_in(subject.__name__, name))
    view = GraphView({}, {})
    found = [each.message for rule in rules.of((speakers, talk_model)) for each in rule(view)]
    assert found == ["a", "b", "c", "d"]
