"""What the README says of the code, held against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from talkinghead.errors import JobError
from talkinghead.plan.request import RequestFields
from talkinghead.settings import PROJECT_DIR, Settings

README = (PROJECT_DIR / "README.md").read_text("utf-8")


def errors(kind: type[JobError] = JobError) -> Iterator[type[JobError]]:
    for child in kind.__subclasses__():
        yield child
        yield from errors(child)


def test_the_readme_lists_every_setting_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", README, re.MULTILINE))
    assert listed == {name.upper() for name in Settings.model_fields}


def test_the_readme_lists_every_error_code_and_no_other() -> None:
    section = README.split("| error_code | meaning |")[1].split("##")[0]
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))
    assert listed == {error.code for error in errors()}


def test_the_readme_names_every_field_of_the_request() -> None:
    section = README.split("## The request")[1].split("## The result")[0]
    assert [name for name in RequestFields.model_fields if name not in section] == []


def test_every_link_in_the_docs_leads_to_a_file() -> None:
    for page in [PROJECT_DIR / "README.md", *(PROJECT_DIR / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
