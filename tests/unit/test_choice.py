"""What a bench found best for a host is taken by workers on hosts like it, and by no others."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from talkinghead.comfy import studio as studios
from talkinghead.comfy.studio import Studio
from talkinghead.doctor import examine
from talkinghead.files import read_json
from talkinghead.models import choice as choices
from talkinghead.models.choice import FILE_NAME, TUNABLE, Choice, Machine, save_choice
from talkinghead.models.gpu import Gpu, Host
from talkinghead.plan.pace import Benched
from talkinghead.settings import Settings

CARD = Host(Gpu("NVIDIA L40S", 45, 8.9), math.inf, sage=True)
HERE = Machine("NVIDIA L40S", "580.1", "2.9.1", {"ComfyUI": "0.33.0"})
BEST = Choice(HERE, "fp8", {"attention": "sdpa", "blocks_to_swap": 5}, "2026-11-29", 0.5)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings of a host with a card and a volume; the driver and torch are those of HERE."""
    monkeypatch.setattr(studios, "read_host", lambda settings: CARD)
    monkeypatch.setattr(studios, "pins", lambda settings, machine: {"ComfyUI": "0.33.0"})
    monkeypatch.setattr("talkinghead.doctor.read_host", lambda settings: CARD)
    monkeypatch.setattr(choices, "read_driver", lambda: "580.1")
    monkeypatch.setattr(choices, "version_beside_comfyui", lambda package, python: "2.9.1")
    for name in ("volume", "comfy"):
        (tmp_path / name).mkdir()

    def make(**fields: Any) -> Settings:
        return Settings(
            volume_dir=tmp_path / "volume",
            comfyui_dir=tmp_path / "comfy",
            work_dir=tmp_path,
            comfyui_cpu=False,
            **fields,
        )

    return make


def attention(studio: Studio) -> object:
    return (studio.profile.slots["Wan model"] or {})["attention_mode"]


def told(studio: Studio) -> list[str]:
    return [f"{each.state}: {each.message}" for each in examine(studio) if each.name == "tuning"]


def test_a_worker_takes_what_was_saved_for_its_host(settings: Callable[..., Settings]) -> None:
    path = save_choice(settings(), BEST)
    assert path == settings().volume_dir / FILE_NAME
    studio = Studio(settings())
    assert (attention(studio), studio.profile.blocks_to_swap) == ("sdpa", 5)
    assert told(studio) == [
        "ok: measured by talkinghead bench on 2026-11-29: attention sdpa, blocks_to_swap 5"
    ]


def test_what_is_set_by_hand_wins(settings: Callable[..., Settings]) -> None:
    save_choice(settings(), BEST)
    studio = Studio(settings(attention="sageattn"))
    assert (attention(studio), studio.profile.blocks_to_swap) == ("sageattn", 5)
    assert told(studio)[0].endswith(": attention sageattn by hand, blocks_to_swap 5")
    assert studio.pace.benched is None, "sdpa's seconds are not those of sageattn"
    assert Studio(settings()).pace.benched == Benched(0.5, "2026-11-29")
    assert attention(Studio(settings(attention="auto"))) == "sdpa"
    assert Studio(settings(blocks_to_swap=0)).profile.blocks_to_swap == 0


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (replace(HERE, gpu="NVIDIA A40"), "gpu NVIDIA A40, here NVIDIA L40S"),
        (replace(HERE, driver="570.9"), "driver 570.9, here 580.1"),
        (replace(HERE, torch="2.8.0"), "torch 2.8.0, here 2.9.1"),
        (replace(HERE, pins={"ComfyUI": "0.3.75"}), "pins {'ComfyUI': '0.3.75'}, here "),
    ],
)
def test_what_was_saved_for_another_host_is_not_taken_and_that_is_said(
    settings: Callable[..., Settings], theirs: Machine, said: str
) -> None:
    save_choice(settings(), replace(BEST, machine=theirs))
    studio = Studio(settings())
    assert (attention(studio), studio.profile.blocks_to_swap) == ("sageattn", 0)
    warning, *others = told(studio)
    assert not others and warning.startswith("warning: what was measured is not for this host")
    assert said in warning and warning.endswith("`talkinghead bench --save` measures here")


def test_what_was_measured_with_another_profile_is_not_taken(
    settings: Callable[..., Settings],
) -> None:
    save_choice(settings(), BEST)
    studio = Studio(settings(model_profile="gguf-q4"))
    assert attention(studio) == "sageattn"
    assert "profile fp8, here gguf-q4" in told(studio)[0]


def test_sageattention_is_not_taken_where_it_does_not_run(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_choice(settings(), replace(BEST, settings={"attention": "sageattn"}))
    monkeypatch.setattr(studios, "read_host", lambda settings: replace(CARD, sage=False))
    studio = Studio(settings())
    assert attention(studio) == "sdpa"
    assert "SageAttention, which does not run here" in told(studio)[0]


def test_a_choice_that_does_not_go_with_what_is_set_by_hand_keeps_no_worker_from_its_jobs(
    settings: Callable[..., Settings],
) -> None:
    save_choice(settings(), replace(BEST, settings={"attention": "sageattn_compiled"}))
    studio = Studio(settings(fp8_matmul=False))
    assert attention(studio) == "sageattn_compiled"
    here = replace(CARD, gpu=Gpu("NVIDIA L40S", 45, 8.6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studios, "read_host", lambda settings: here)
        save_choice(settings(), replace(BEST, settings={"torch_compile": True}))
        studio = Studio(settings())
    assert not studio.settings.torch_compile
    assert "e4m3 can generally not be compiled there" in told(studio)[0]


def test_hosts_of_a_fleet_share_the_file_and_each_finds_its_own(
    settings: Callable[..., Settings],
) -> None:
    save_choice(settings(), replace(BEST, machine=replace(HERE, gpu="NVIDIA A40")))
    save_choice(settings(), replace(BEST, settings={"blocks_to_swap": 20}))
    save_choice(settings(), BEST)
    assert Studio(settings()).profile.blocks_to_swap == 5
    assert len(json.loads((settings().volume_dir / FILE_NAME).read_text())) == 2


def test_without_a_volume_it_lies_in_comfyuis_folder(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    image = settings().model_copy(update={"volume_dir": tmp_path / "none"})
    assert save_choice(image, BEST) == image.comfyui_dir / FILE_NAME
    assert Studio(settings()).profile.blocks_to_swap == 5  # with an empty volume, too


def test_several_that_save_at_once_lose_nobodys_choice(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, both = settings(), threading.Barrier(2)
    save_choice(here, replace(BEST, machine=replace(HERE, gpu="NVIDIA T4")))

    def read_both(path: Path) -> list[Any]:
        found: list[Any] = read_json(path)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1.0)  # the other has read, too, if it may
        return found

    monkeypatch.setattr(choices, "read_json", read_both)
    cards = ["NVIDIA A40", "NVIDIA L4"]
    with ThreadPoolExecutor() as pool:
        saves = [
            pool.submit(save_choice, here, replace(BEST, machine=replace(HERE, gpu=card)))
            for card in cards
        ]
        for each in saves:
            each.result()
    saved = json.loads((here.volume_dir / FILE_NAME).read_text())
    assert sorted(each["machine"]["gpu"] for each in saved) == [*cards, "NVIDIA T4"]


def test_what_a_later_version_saved_stays_and_does_not_hide_what_this_one_understands(
    settings: Callable[..., Settings],
) -> None:
    path = settings().volume_dir / FILE_NAME
    later = replace(BEST, settings={"vae_tiling": True}, machine=replace(HERE, gpu="B200"))
    save_choice(settings(), later)
    other = [*json.loads(path.read_text()), {"anything": 1}]
    path.write_text(json.dumps(other))
    assert "vae_tiling is no setting" in told(Studio(settings()))[0]
    save_choice(settings(), BEST)
    assert Studio(settings()).profile.blocks_to_swap == 5
    assert json.loads(path.read_text())[:2] == other


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("torch_compile", "false", False),
        ("force_offload", "no", False),
        ("blocks_to_swap", "5", 5),
        ("blocks_to_swap", 5.0, 5),
    ],
)
def test_a_value_that_was_written_as_text_is_taken_for_what_it_says(
    settings: Callable[..., Settings], name: str, written: str | float, value: object
) -> None:
    save_choice(settings(), replace(BEST, settings={name: written}))
    found = getattr(Studio(settings()).settings, name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("times", [0.0, -1.0, math.nan, math.inf])
def test_a_speed_that_is_none_is_no_measurement(
    settings: Callable[..., Settings], times: float
) -> None:
    save_choice(settings(), replace(BEST, times_published=times))
    assert "times_published: Input should be" in told(Studio(settings()))[0]


@pytest.mark.parametrize(
    "content",
    ["no json", "{}", '"text"', "[[]", ""],
)
def test_a_file_that_is_damaged_is_said_and_keeps_no_worker_from_its_jobs(
    settings: Callable[..., Settings], content: str
) -> None:
    (settings().volume_dir / FILE_NAME).write_text(content)
    studio = Studio(settings())
    assert attention(studio) == "sageattn"
    assert "cannot be read: " in told(studio)[0]


@pytest.mark.parametrize(
    "content", ["[{}]", json.dumps([{"settings": {}}]), "[1]", "[null]", "[[]]"]
)
def test_a_choice_that_is_none_is_said_and_keeps_no_worker_from_its_jobs(
    settings: Callable[..., Settings], content: str
) -> None:
    (settings().volume_dir / FILE_NAME).write_text(content)
    studio = Studio(settings())
    assert attention(studio) == "sageattn"
    assert f"{FILE_NAME} has one with " in told(studio)[0]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("attention", "SageAttn", "attention: Input should be"),
        ("s3_key", "x", "s3_key is no setting"),
        ("blocks_to_swap", 41, "less than or equal to 40"),
    ],
)
def test_a_choice_of_something_else_is_refused(
    settings: Callable[..., Settings], name: str, value: object, said: str
) -> None:
    save_choice(settings(), replace(BEST, settings={name: value}))  # type: ignore[dict-item]
    assert said in told(Studio(settings()))[0]


def test_without_a_bench_the_doctor_says_that_the_settings_are_assumed(
    settings: Callable[..., Settings],
) -> None:
    said = "assumed from what the card says of itself; `talkinghead bench --save` measures"
    assert told(Studio(settings())) == [f"ok: {said}"]


def test_what_can_be_chosen_are_settings() -> None:
    assert set(TUNABLE) <= Settings.model_fields.keys()
