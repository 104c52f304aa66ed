"""What the README says of the code, held against the code."""

from __future__ import annotations

import re
import runpy

from talkinghead.errors import JobError
from talkinghead.plan.fields import PromptFields, RequestFields, SpeakerFields
from talkinghead.settings import PROJECT_DIR

README = (PROJECT_DIR / "README.md").read_text("utf-8")


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    readme = runpy.run_path(str(PROJECT_DIR / "scripts" / "write-docs"))["readme"]
    assert readme() == README, "run scripts/write-docs"


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in JobError.__subclasses__()]
    assert len(set(codes)) == len(codes)
    inner = [
        (each, error) for error in JobError.__subclasses__() for each in error.__subclasses__()
    ]
    assert all(each.code == error.code and not each.__subclasses__() for each, error in inner)


def test_every_field_of_the_request_has_words() -> None:
    for model in (RequestFields, SpeakerFields, PromptFields):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_every_link_in_the_docs_leads_to_a_file() -> None:
    for page in [PROJECT_DIR / "README.md", *(PROJECT_DIR / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
