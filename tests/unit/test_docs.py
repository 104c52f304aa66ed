"""What the documents say of the code, held against the code."""

from __future__ import annotations

import re
import runpy

from talkinghead.errors import JobError
from talkinghead.plan.fields import PromptFields, RequestFields, SpeakerFields
from talkinghead.settings import PROJECT_DIR

README = PROJECT_DIR / "README.md"


def test_the_tables_of_the_reference_are_those_of_the_code() -> None:
    pages = runpy.run_path(str(PROJECT_DIR / "scripts" / "write-docs"))["pages"]()
    assert {"request.md", "result.md", "settings.md"} < {path.name for path in pages}
    for path, text in pages.items():
        assert path.read_text("utf-8") == text, f"{path.name}: run scripts/write-docs"


def test_the_first_screen_says_what_was_never_tried_and_the_page_stays_a_front_page() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert any("not yet run on a GPU" in line for line in lines[:20])
    assert len(lines) <= 130


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
    for page in [README, *(PROJECT_DIR / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_link_to_a_heading_leads_to_one() -> None:
    for page in [README, *(PROJECT_DIR / "docs").glob("*.md")]:
        for target, name in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text("utf-8")):
            other = (page.parent / target) if target else page
            heads = re.findall(r"^#+ (.+)$", other.read_text("utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert name in known, f"{page.name}: {target}#{name}"
