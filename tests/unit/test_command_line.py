"""What a person meets at the terminal: files by name, flags, refusals, Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import talkinghead
from talkinghead.cli.app import COMMANDS, app
from talkinghead.cli.asked import FLAGS, request_of
from talkinghead.comfy import warm
from talkinghead.comfy.warm import Warm
from talkinghead.delivery.asked import Asked
from talkinghead.delivery.file import FilePlace
from talkinghead.delivery.place import FinishedVideo
from talkinghead.delivery.retry import Patience
from talkinghead.errors import DeliveryFailed
from talkinghead.plan.fields import RequestFields
from talkinghead.plan.request import parse_request
from talkinghead.replay.comfy_place import ComfyPlace
from talkinghead.replay.places import Away
from talkinghead.replay.sources import BadInput
from talkinghead.settings import PROJECT_DIR, Settings
from talkinghead.worker import to_file
from tests.conftest import write_pan
from tests.timing import LAST_RESORT_SECONDS

EXAMPLES = PROJECT_DIR / "examples"
PORTRAIT, VOICE = EXAMPLES / "portrait.jpg", EXAMPLES / "voice.wav"
WIDE = {"COLUMNS": "400", "TERM": "dumb"}


def called(*words: object, **environment: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, [*map(str, words)], env=WIDE | environment)
    return ended.exit_code, ended.output


# ---- What there is, without waiting for it


def test_the_line_that_help_has_for_a_command_is_the_commands_own() -> None:
    _, listed = called("--help")
    for name, command in COMMANDS.items():
        own = " ".join(str(command.load(name).help).split())
        assert own.startswith(command.help.rstrip(".")), name
        assert command.help in listed


def test_help_and_a_typo_load_none_of_what_takes_seconds() -> None:
    for words, code in ((["--help"], 0), (["rnu"], 2), (["--version"], 0)):
        script = (
            "import sys; from talkinghead.__main__ import main\n"
            f"sys.argv = ['talkinghead', *{words}]\n"
            "try: main()\n"
            "finally: print(*sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], check=False, capture_output=True, text=True
        )
        assert done.returncode == code
        heavy = {"av", "boto3", "cv2", "huggingface_hub", "numpy", "requests", "runpod"}
        assert not heavy & set(done.stderr.split())
    assert done.stdout == f"talkinghead {talkinghead.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [["run", PORTRAIT, VOICE, "--draft"], ["doctor"], ["replay", "x"], ["serve", "--port", "0"]],
)
def test_ctrl_c_leaves_no_traceback_at_any_moment(words: list[object], tmp_path: Path) -> None:
    def stopped_after(seconds: float) -> tuple[int, str]:
        # From when on the command has the say: before, Python itself starts.
        script = f"""
import sys, talkinghead.__main__ as door
sys.argv = ["talkinghead", *{list(map(str, words))}]
print("here", flush=True)
door.main()"""
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=os.environ | {"WORK_DIR": str(tmp_path / "work"), "PYTHONPATH": str(PROJECT_DIR)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: its children get it, too
        output, _ = process.communicate(timeout=LAST_RESORT_SECONDS)
        return process.returncode, output

    for seconds in (0.0, 0.3, 1.0, 2.0, 4.0):
        code, output = stopped_after(seconds)
        assert "Traceback" not in output and "KeyboardInterrupt" not in output, output
        if code not in (-signal.SIGINT, 130):  # it had ended by itself
            assert code in (0, 1)


# ---- A picture and a voice


def test_a_picture_and_a_voice_are_a_request_in_any_order() -> None:
    for files in ([PORTRAIT, VOICE], [VOICE, PORTRAIT]):
        asked = request_of(files, [], {"draft": True})
        assert asked == {
            "image_url": PORTRAIT.as_uri(),
            "speakers": [{"audio_url": VOICE.as_uri()}],
            "draft": True,
        }
        assert parse_request(asked, local_files=True).draft


def test_each_voice_is_a_person_and_a_box_says_who(tmp_path: Path) -> None:
    second = tmp_path / "second.wav"
    second.write_bytes(VOICE.read_bytes())
    asked = request_of([PORTRAIT, second, VOICE], ["0.5,0,1,1", "0,0,0.5,1"], {})
    assert asked["speakers"] == [
        {"audio_url": second.as_uri(), "box": [0.5, 0, 1, 1]},
        {"audio_url": VOICE.as_uri(), "box": [0, 0, 0.5, 1]},
    ]


def test_a_video_gets_another_voice(tmp_path: Path) -> None:
    video = write_pan(tmp_path / "me.mp4", PORTRAIT)
    asked = request_of([video, VOICE], [], {})
    assert asked["video_url"] == video.as_uri() and "image_url" not in asked


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["portrait.jpg"], "portrait.jpg says nothing: give a voice, too"),
        (["voice.wav"], "There is no picture and no video"),
        (["none.jpg", "voice.wav"], "none.jpg: there is no such file"),
        ([".", "voice.wav"], "is a folder"),
        (["portrait.jpg", "portrait.jpg", "voice.wav"], "are pictures: one of them is shown"),
        (["demo.json", "voice.wav"], "demo.json is a request"),
    ],
)
def test_what_is_missing_is_told_with_what_to_type(names: list[str], sentence: str) -> None:
    for command in ("run", "estimate"):
        code, output = called(command, *(EXAMPLES / name for name in names))
        assert code == 1 and sentence in output


def test_boxes_that_fit_no_voices_are_told() -> None:
    for boxes, sentence in ((["1,2"] * 2, "2 --box for 1 voices"), (["left"], "x0,y0,x1,y1")):
        with pytest.raises(BadInput, match=sentence):
            request_of([PORTRAIT, VOICE], boxes, {})


def test_flags_are_the_requests_own_fields_and_go_before_those_of_the_file() -> None:
    _, listed = called("run", "--help")
    words = " ".join(listed.split())
    for name in FLAGS:
        assert f"--{name.replace('_', '-')}" in words
        assert str(RequestFields.model_fields[name].description).split(";")[0][:30] in words
    asked = request_of([EXAMPLES / "demo.json"], [], {"seed": 11, "aspect_ratio": "16:9"})
    assert (asked["seed"], asked["aspect_ratio"], asked["draft"]) == (11, "16:9", True)


def test_a_flags_mistake_is_told_as_the_field_is() -> None:
    code, output = called("estimate", PORTRAIT, VOICE, "--aspect-ratio", "4:3", "--steps", "99")
    assert code == 1 and "aspect_ratio is '4:3'" in output and "steps is 99" in output


def test_an_estimate_says_in_words_who_speaks_where_and_how_to_say_it_otherwise(
    tmp_path: Path,
) -> None:
    voice = tmp_path / "meine Stimme ü.wav"
    voice.write_bytes(VOICE.read_bytes())
    code, output = called("estimate", PORTRAIT, voice, "--draft")
    assert code == 0 and re.search(r"meine Stimme ü\.wav +180,64,272,176 +0,0,456,512", output)
    assert "If it is not so, a box for each voice: --box 0,0,456,512" in output
    code, output = called("estimate", PORTRAIT, voice, VOICE, "--draft")
    assert code == 0 and re.search(r"of nobody +180,64,272,176 +stays still", output)
    assert "--box x0,y0,x1,y1 --box x0,y0,x1,y1" in output
    code, output = called("estimate", EXAMPLES / "demo.json")
    assert code == 0 and "`box` of a speaker in the request" in output


# ---- What it will not do


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="there is a GPU")
@pytest.mark.parametrize(
    "words",
    [
        ["run", PORTRAIT, VOICE],
        ["estimate", EXAMPLES / "demo.json"],
        ["bench"],
        ["up"],
        ["gui"],
        ["serve"],
        ["checkpoints", "list"],
        ["replay", EXAMPLES / "demo.json"],
        ["models", "verify"],
        ["lint", PROJECT_DIR / "workflows" / "infinitetalk_i2v.json"],
    ],
    ids=lambda words: str(words[0]),
)
def test_a_setting_that_is_wrong_is_told_by_its_variable(
    words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = called(*words, ATTENTION="SDPA")
    assert code == 1
    assert "ATTENTION: Input should be 'auto', 'sdpa'" in output and "pydantic" not in output


def test_without_a_gpu_it_says_so_before_anything_starts(tmp_path: Path) -> None:
    environment = {"WORK_DIR": str(tmp_path / "work"), "MODEL_PROFILE": "auto", "COMFYUI_URL": ""}
    code, output = called("run", PORTRAIT, VOICE, "--out", tmp_path / "v.mp4", **environment)
    assert code == 1 and "no NVIDIA GPU is here" in output and "--draft renders" in output
    assert not (tmp_path / "work").exists()


def test_a_video_that_is_there_stays_unless_somebody_says_so(tmp_path: Path) -> None:
    there = tmp_path / "v.mp4"
    there.write_bytes(b"mine")
    code, output = called("run", PORTRAIT, VOICE, "--draft", "--out", there)
    assert code == 1 and "is there already: --overwrite replaces it" in output
    (tmp_path / "w.bundle.json").write_text("{}")
    code, output = called("run", PORTRAIT, VOICE, "--draft", "--out", tmp_path / "w.mp4")
    assert code == 1 and "w.bundle.json is there already" in output
    assert there.read_bytes() == b"mine"


def test_the_video_of_a_test_input_is_a_file_and_not_a_screen_of_text(tmp_path: Path) -> None:
    result = {"video": "data:video/mp4;base64,bXA0", "seed": 1}
    for name in ("out.mp4", "out-2.mp4"):
        told = to_file(result, tmp_path / "out.mp4")
        assert told == {"seed": 1, "path": str(tmp_path / name)}
        assert (tmp_path / name).read_bytes() == b"mp4"
    assert to_file({"video_url": "https://a"}) == {"video_url": "https://a"}


def test_what_cannot_be_done_is_said_before_anything_is_rendered(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    for words, said in (
        ((tmp_path / "empty.jpg", VOICE), "empty.jpg is empty"),
        ((PORTRAIT, VOICE, "--out", tmp_path / "me.jpg"), "the video is an MP4, such as"),
        ((PORTRAIT, VOICE, "--out", "/proc/me.mp4"), "/proc/me.mp4 cannot be written"),
        ((PORTRAIT, VOICE, "--box", "0,0,1"), "--box 0,0,1: x0,y0,x1,y1"),
        ((PORTRAIT, VOICE, "--box", "0,0,1,nan"), "--box 0,0,1,nan: x0,y0,x1,y1"),
        ((PORTRAIT, VOICE, "--server", "http://127.0.0.1:9"), "http://127.0.0.1:9 does not answer"),
        ((PORTRAIT, VOICE, "--endpoint", "http://127.0.0.1:9"), "nobody answers at http://127."),
    ):
        code, output = called("run", *words, "--draft")
        assert code == 1 and said in output and "Traceback" not in output, output


def a_video(path: Path, bundle: dict[str, Any] | None = None) -> FinishedVideo:
    path.write_bytes(path.name.encode())
    return FinishedVideo("job", Asked("job", ""), path, {}, bundle)


def test_two_runs_at_once_do_not_write_over_each_others_video(tmp_path: Path) -> None:
    out = tmp_path / "out" / "me.mp4"
    places = [FilePlace(out, overwrite=False) for _ in range(2)]
    made = [a_video(tmp_path / "first", {"made": 1}), a_video(tmp_path / "second", {"made": 2})]
    paths = [place.deliver(each, Patience(0)) for place, each in zip(places, made, strict=True)]
    assert [Path(each["path"]).name for each in paths] == ["me.mp4", "me-2.mp4"]
    assert [Path(each["path"]).read_text() for each in paths] == ["first", "second"]
    assert json.loads((out.parent / "me-2.bundle.json").read_text()) == {"made": 2}
    assert len(list(out.parent.iterdir())) == 4, "nothing half is left"
    FilePlace(out).deliver(made[1], Patience(0))
    assert out.read_text() == "second", "somebody said so"


def test_a_video_that_cannot_be_written_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    place = FilePlace(tmp_path / "a file" / "me.mp4")
    with pytest.raises(DeliveryFailed, match=r"me\.mp4 cannot be written: File exists"):
        place.deliver(a_video(tmp_path / "made"), Patience(0))


# ---- A ComfyUI that runs already


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(work_dir=tmp_path, comfyui_dir=tmp_path / "comfyui", comfyui_cpu=True)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a ComfyUI there says of itself."""
    stats: dict[str, Any] = {"system": {"argv": ["main.py", "--user", f"{tmp_path}/work/user"]}}
    monkeypatch.setattr("comfy_client.ComfyClient.system_stats", lambda self: stats)
    yield stats


def test_a_comfyui_that_somebody_keeps_is_found_and_only_as_long(
    settings: Settings, said: dict[str, Any], tmp_path: Path
) -> None:
    ours = Warm("http://127.0.0.1:1", tmp_path / "work")
    assert warm.find(settings) is None
    with warm.told(settings, ours):
        assert warm.find(settings) == ours
        said["system"]["argv"] = ["main.py", "--user", "/another/user"]
        assert warm.find(settings) is None
    assert warm.find(settings) is None


def test_what_a_killed_one_has_left_is_nothing(settings: Settings, said: dict[str, Any]) -> None:
    with warm.told(settings, Warm("http://127.0.0.1:1", settings.work_dir)):
        (path,) = settings.work_dir.glob("warm-*.json")
        content = path.read_text()
    path.write_text(content)  # nobody holds it
    assert warm.find(settings) is None
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert warm.find(settings) == Warm(**{**json.loads(content), "folder": settings.work_dir})


def test_one_whose_node_packs_have_changed_since_is_not_used(
    settings: Settings, said: dict[str, Any], tmp_path: Path
) -> None:
    pack = tmp_path / "comfyui" / "custom_nodes" / "pack"
    pack.mkdir(parents=True)
    with warm.told(settings, Warm("http://127.0.0.1:1", tmp_path / "work")):
        assert warm.find(settings) is not None
        (pack / "nodes.py").write_text("")
        assert warm.find(settings) is None


def test_one_that_was_started_with_other_arguments_is_not_used(
    settings: Settings, said: dict[str, Any], tmp_path: Path
) -> None:
    with warm.told(settings, Warm("http://127.0.0.1:1", tmp_path / "work")):
        other = settings.model_copy(update={"comfyui_args": "--fp32-vae"})
        assert warm.find(other) is None


@pytest.mark.usefixtures("said")
def test_a_replay_goes_on_with_a_comfyui_of_its_own_when_the_one_that_was_kept_ends(
    settings: Settings, tmp_path: Path
) -> None:
    settings.comfyui_dir.mkdir()
    url = "http://127.0.0.1:1"
    with warm.told(settings, Warm(url, tmp_path / "work")):
        place = ComfyPlace(settings, threading.Event())
        assert place.joined == url
        named = settings.model_copy(update={"comfyui_url": "http://127.0.0.1:2"})
        assert ComfyPlace(named, threading.Event()).joined is None, "one that is named goes before"
    with place, pytest.raises(Away, match="there is no ComfyUI"):
        place.connect()
    assert place.joined is None
