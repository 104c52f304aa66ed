"""What has to be equal to go on with a kept render: all that decides pixels, and nothing else."""

from __future__ import annotations

import http.server
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from comfy_client import ComfyClient
from talkinghead.comfy.pins import STAMP
from talkinghead.comfy.studio import Studio
from talkinghead.media.picture import Picture
from talkinghead.media.sandbox import Sandboxes
from talkinghead.media.sound import Sound
from talkinghead.models.gpu import Attention, Gpu, Host, choose
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.fields import CheckPicture
from talkinghead.plan.plan import lighter_plans, make_plan
from talkinghead.plan.request import parse_request
from talkinghead.render.fit import changes, fit_of, lighter_of, means_of, state_of
from talkinghead.render.job import Job
from talkinghead.render.rendering import Task
from talkinghead.render.sources import Sources
from talkinghead.settings import Settings

CARD = Gpu("RTX 4090", 24, 8.9)
COMFYUI, PACK = ("https://x.example/ComfyUI", "v0.3.75"), ("https://x.example/Wrapper", "ab12")
REQUEST = parse_request(
    {"image_url": "http://a/a.png", "wav_url": "http://a/a.wav", "long": True, "seed": 5}
)
PLAN = make_plan(REQUEST, [Sound(60.0, 16_000, 1, False)], Picture(512, 512))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"x")
    return tmp_path


def worker(
    folder: Path,
    gpu: Gpu = CARD,
    *,
    pins: tuple[tuple[str, str], ...] = (COMFYUI, PACK),
    profile: str = "fp8",
    attention: Attention = "sdpa",
    force_offload: bool | None = None,
) -> Task:
    """The job on a worker with this card, and what was installed there."""
    stamp = {"source": "Git, with the node packs", "environments": {}}
    sources: list[dict[str, Any]] = [{"url": url, "ref": ref} for url, ref in pins]
    (folder / STAMP).write_text(json.dumps({**stamp, "pins": sources}))
    host, manifest = Host(gpu, 256.0), load_manifest()
    tuning = choose(
        host, manifest, profile=profile, attention=attention, force_offload=force_offload
    )
    studio = SimpleNamespace(
        settings=Settings(comfyui_dir=folder),
        host=host,
        profile=tuning.apply(manifest.profile(profile)),
    )
    file = folder / "file"
    with ThreadPoolExecutor() as pool, Sandboxes().open() as sandbox:
        files = Sources(file, (file,), (None,))
        job = Job("job", None)
        return Task(job, REQUEST, files, (), folder, pool, cast("Studio", studio), sandbox)


@pytest.mark.parametrize(
    "other",
    [
        {"gpu": Gpu("L40S", 48, 8.9)},
        {"gpu": Gpu("H100", 80, 9.0)},
        {"gpu": Gpu("RTX 2080 Ti", 22, 7.5)},
        {"attention": "sageattn"},
        {"force_offload": False},
        {"pins": ((COMFYUI[0], "v0.33.0"), PACK)},
    ],
    ids=["larger", "much larger", "without bf16", "attention", "offload", "ComfyUI"],
)
def test_another_way_to_compute_the_same_picture_may_go_on(
    folder: Path, other: dict[str, Any]
) -> None:
    assert fit_of(worker(folder), PLAN) == fit_of(worker(folder, **other), PLAN)


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"profile": "fp16"}, {"models"}),
        ({"pins": (COMFYUI, (PACK[0], "cd34"))}, {"packs"}),
    ],
    ids=["models", "packs"],
)
def test_what_decides_pixels_may_not_be_another(
    folder: Path, other: dict[str, Any], differs: set[str]
) -> None:
    ours, theirs = fit_of(worker(folder), PLAN), fit_of(worker(folder, **other), PLAN)
    assert {name for name in ours if ours[name] != theirs[name]} == differs


@pytest.mark.parametrize("lax", ["warn", "off"])
def test_what_was_kept_under_a_laxer_look_is_nothing_to_go_on_with(
    folder: Path, lax: CheckPicture
) -> None:
    """It may be black, and would be delivered without a word."""
    strict = worker(folder)
    task = replace(strict, request=REQUEST.model_copy(update={"check_picture": lax}))
    assert fit_of(task, PLAN).items() - fit_of(strict, PLAN).items() == {("check_picture", lax)}


def test_a_plan_that_takes_less_memory_goes_on_with_the_one_before(folder: Path) -> None:
    task = worker(folder)
    assert [fit_of(task, plan) for _, plan in lighter_plans(PLAN)] == [fit_of(task, PLAN)] * 3


def test_a_file_that_takes_seconds_to_read_is_read_once_for_all_that_ask_for_its_sum(
    folder: Path,
) -> None:
    sources = worker(folder).sources
    first = sources.sums
    sources.picture.unlink()
    assert sources.sums == first == {sources.picture: first[sources.picture]}
    assert fit_of(replace(worker(folder), sources=sources), PLAN)["picture"]


def test_what_changed_is_told_and_the_memory_it_took_is_the_same_cards_alone(folder: Path) -> None:
    state = state_of(means_of(worker(folder).studio), PLAN)
    same = means_of(worker(folder).studio)
    assert (list(changes(state, same)), len(lighter_of(state, same))) == ([], 2)
    newer = worker(folder, Gpu("L40S", 48, 8.9), pins=((COMFYUI[0], "v0.33.0"), PACK))
    other = means_of(newer.studio)
    assert list(changes(state, other)) == [
        "card L40S instead of RTX 4090",
        "ComfyUI v0.33.0 instead of v0.3.75",
    ]
    assert lighter_of(state, other) == {}


def test_a_server_that_is_busy_when_its_version_is_asked_costs_no_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(1.0)  # ten times what other small requests may take
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"system": {"comfyui_version": "0.33.0"}}')

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not part of a test's output."""

    defaults = {**(ComfyClient.__init__.__kwdefaults__ or {}), "answer_seconds": 0.1}
    monkeypatch.setattr(ComfyClient.__init__, "__kwdefaults__", defaults)
    task = worker(folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        task.studio.settings = Settings(comfyui_url=url)
        assert means_of(task.studio)["ComfyUI"] == "0.33.0"
        server.shutdown()
