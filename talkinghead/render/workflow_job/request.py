"""The request of a job that brings its own workflow: its fields, and all mistakes in them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeGuard, get_args

from talkinghead.net.inline import content_at
from talkinghead.net.urls import name_on_volume, parse_http_url
from talkinghead.plan.fields import Delivery
from talkinghead.plan.mistakes import Problem
from talkinghead.plan.request import checked_json, invalid
from talkinghead.plan.schema import WORKFLOW
from talkinghead.redact import is_data
from talkinghead.render.workflow_job.content_types import CONTENT_TYPES
from talkinghead.settings import Settings
from talkinghead.workflow.forms import workflow_in

FIELDS = tuple(WORKFLOW["properties"])
MAX_FILES = 32  # each is fetched by a thread of its own
FILE_NAME = re.compile(r"\w[\w .,()+=@-]{0,127}")


@dataclass(frozen=True)
class WorkflowRequest:
    """What the caller asked: a GUI file or an API graph, and the files it names, by URL."""

    workflow: dict[str, Any]
    files: Mapping[str, str]
    delivery: Delivery | None
    price_per_hour: float | None = None


def is_workflow_job(data: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a job's input brings a workflow of its own."""
    return isinstance(data, Mapping) and "workflow" in data


def read_request(data: object, settings: Settings) -> WorkflowRequest:
    """The job's `input`.

    Raises:
        InvalidRequest: with all mistakes at once; also if this worker takes no such jobs.
    """
    assert is_workflow_job(data)
    sound, faults = checked_json(data)
    if not settings.allow_workflows:
        off = "this worker does not take workflows: it would with ALLOW_WORKFLOWS=true"
        raise invalid([Problem("workflow", f"workflow: {off}")])
    workflow = workflow_in(sound.get("workflow"))
    problems = [
        *faults,
        *_unknown(sound),
        *(_wrong_workflow(workflow) if "workflow" in sound else ()),
        *_wrong_files(sound),
        *_wrong_delivery(sound),
        *_wrong_price(sound),
    ]
    if problems or workflow is None:
        raise invalid(problems)
    files = {name: url.strip() for name, url in (sound.get("files") or {}).items()}
    delivery, price = sound.get("delivery") or None, sound.get("price_per_hour")
    return WorkflowRequest(workflow, files, delivery, price)


def _unknown(data: Mapping[str, Any]) -> Iterator[Problem]:
    for name in data:
        if name not in FIELDS:
            allowed = f"{', '.join(FIELDS[:-1])} and {FIELDS[-1]}"
            yield Problem(name, f"{name} is not a field of a workflow job, which has {allowed}")


def _wrong_workflow(workflow: object) -> Iterator[Problem]:
    if workflow is None:
        yield Problem(
            "workflow",
            "workflow is neither a GUI workflow, with lists of nodes and links, nor an API graph, "
            "in which every entry has a class_type and inputs",
        )


def _wrong_files(data: Mapping[str, Any]) -> Iterator[Problem]:
    files = data.get("files") or {}
    if not isinstance(files, Mapping) or len(files) > MAX_FILES:
        yield Problem("files", f"files must be an object of up to {MAX_FILES} names and URLs")
        return
    for name, url in files.items():
        field = f"files.{name[:80]}"
        # The suffix decides how a node will open the file: one that is not in the table could
        # be a playlist, which names URLs and paths of its own.
        if not FILE_NAME.fullmatch(name) or PurePosixPath(name).suffix.lower() not in CONTENT_TYPES:
            allowed = f"a plain file name that ends in {', '.join(CONTENT_TYPES)}"
            yield Problem(field, f"{field}: the name is not allowed; allowed: {allowed}")
        elif not isinstance(url, str):
            yield Problem(field, f"{field} is not a URL, allowed: an http:// or https:// URL")
        else:
            with contextlib.suppress(ValueError):
                _check_url(url.strip())
                continue
            allowed = "an http:// or https:// URL, volume:NAME, or data:, its type, ;base64, and"
            yield Problem(field, f"{field} is not {allowed} the file")


def _check_url(url: str) -> None:
    """Raises ValueError unless it is what the URLs of a request may be."""
    if is_data(url):
        content_at(url)
    elif not name_on_volume(url):
        parse_http_url(url)


def _wrong_delivery(data: Mapping[str, Any]) -> Iterator[Problem]:
    if data.get("delivery") not in (None, "", *get_args(Delivery)):
        allowed = ", ".join(f'"{name}"' for name in get_args(Delivery))
        yield Problem("delivery", f"delivery is not one of {allowed}", None, allowed)


def _wrong_price(data: Mapping[str, Any]) -> Iterator[Problem]:
    price = data.get("price_per_hour")
    is_number = isinstance(price, int | float) and not isinstance(price, bool)
    if price is not None and not (is_number and price > 0):
        yield Problem("price_per_hour", "price_per_hour is not a number above 0", None, "above 0")
