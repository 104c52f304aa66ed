"""`talkinghead look`, and the same look in a replay's report."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from talkinghead.cli.app import app
from talkinghead.media.sandbox import Sandboxes
from talkinghead.replay.look import OutputLook
from tests.unit.test_lip_sync import Frames, drafted, encoded, written

SIDE = 256


@pytest.fixture(scope="module")
def face() -> npt.NDArray[np.uint8]:
    path = Path(__file__).parents[2] / "examples" / "portrait.jpg"
    return np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE)))


@pytest.fixture(scope="module")
def draft(face: npt.NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Frames:
    voice = Path(__file__).parents[2] / "examples" / "voice.wav"
    with av.open(str(voice)) as container:
        resampler = av.AudioResampler("flt", "mono", 16_000)
        frames = [*container.decode(audio=0), None]
        blocks = [block.to_ndarray()[0] for frame in frames for block in resampler.resample(frame)]
    track = tmp_path_factory.mktemp("look") / "speech.wav"
    return drafted(face, written(track, np.concatenate(blocks)))


def look(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["look", *map(str, arguments)])


def figures(result: Result) -> dict[str, object]:
    lines = [line.partition(": ") for line in result.stdout.splitlines()]
    told = ("warning", "defective")
    return {name: json.loads(rest) for name, to, rest in lines if to and name not in told}


def with_sound(video: Path, target: Path, sound: Path) -> Path:
    """The video, with the sound in it."""
    with (
        av.open(str(video)) as picture,
        av.open(str(sound)) as voice,
        av.open(str(target), "w") as output,
    ):
        shown = output.add_stream_from_template(picture.streams.video[0])
        heard = output.add_stream("aac", rate=voice.streams.audio[0].rate, layout="mono")
        for packet in picture.demux(video=0):
            if packet.dts is not None:
                packet.stream = shown
                output.mux(packet)
        assert isinstance(heard, av.AudioStream)
        resampler = av.AudioResampler(heard.format.name, "mono", heard.rate)
        for frame in [*voice.decode(audio=0), None]:
            for block in resampler.resample(frame):
                output.mux(heard.encode(block))
        output.mux(heard.encode(None))
    return target


def test_a_good_video_is_told_with_its_figures_and_a_sheet(
    draft: Frames, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    video = with_sound(encoded(tmp_path / "v.mp4", draft), tmp_path / "video.mp4", voice)
    result = look(video, "--source", portrait)
    assert result.exit_code == 0, result.output
    found = figures(result)
    assert (found["windows"], found["black_frames"], found["frozen_seconds"]) == (2, 0, 0)
    assert isinstance(found["first_frame_likeness"], float) and found["first_frame_likeness"] > 0.9
    sync = found["lip_sync"]
    assert isinstance(sync, dict) and abs(sync["lag_frames"]) <= 1
    assert "warning" not in result.stdout
    with Image.open(tmp_path / "video.look.png") as sheet:
        assert sheet.format == "PNG" and sheet.width >= 640 and sheet.height > 300


def test_a_sound_of_its_own_is_held_against_the_mouth_and_a_lag_is_warned_of(
    draft: Frames, tmp_path: Path, voice: Path
) -> None:
    video = encoded(tmp_path / "video.mp4", draft, late=4)
    assert figures(look(video))["lip_sync"] is None, "it has no sound"
    result = look(video, "--sound", voice)
    assert result.exit_code == 0
    assert "warning: the voice: the mouth moves 4 frames (160 ms) after the sound" in result.stdout


@pytest.mark.parametrize("what", ["black", "of one colour", "noise"])
def test_what_a_worker_would_not_deliver_exits_with_1(
    draft: Frames, tmp_path: Path, portrait: Path, what: str
) -> None:
    random = np.random.default_rng(0)
    frames = list(draft)
    for number in range(81, len(frames)):
        frames[number] = {
            "black": np.zeros_like(draft[0]),
            "of one colour": np.full_like(draft[0], 120),
            "noise": random.integers(0, 256, (32, 32, 3), np.uint8).repeat(8, 0).repeat(8, 1),
        }[what]
    result = look(encoded(tmp_path / "video.mp4", frames), "--source", portrait)
    assert result.exit_code == 1
    assert f"defective: window 2 is {what}" in result.stdout
    assert (tmp_path / "video.look.png").exists()


def test_what_is_no_video_exits_with_2(tmp_path: Path, voice: Path) -> None:
    (tmp_path / "text.mp4").write_text("I am a text file")
    for path, expected in (
        (tmp_path / "text.mp4", "failed: "),
        (voice, "failed: "),
        (tmp_path / "nothing.mp4", "does not exist"),
        (tmp_path, "is a directory"),
    ):
        result = look(path)
        assert result.exit_code == 2
        assert expected in " ".join(result.stderr.replace("│", "").split())
        assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.png"))


def test_of_a_video_that_is_cut_off_it_is_said_how_much_is_seen(
    tmp_path: Path, portrait: Path
) -> None:
    with Image.open(portrait) as image:
        shown = np.asarray(image.convert("RGB").resize((320, 320)))
    frames = [np.roll(shown, step, axis=1) for step in range(100)]
    path = encoded(tmp_path / "video.mp4", frames)
    with av.open(str(path)) as container:
        last = [packet.pos for packet in container.demux(video=0) if packet.pos][-20]
    content = bytearray(path.read_bytes())
    end = content.rfind(b"moov") - 4  # its index is behind its frames
    content[last:end] = bytes(end - last)
    path.write_bytes(content)
    result = look(path)
    assert "of its 100 frames can be decoded" in result.stdout, result.output


@pytest.mark.parametrize("size", [(320, 180), (180, 320)])
def test_a_source_of_another_shape_is_known_by_any_part_of_it(
    face: npt.NDArray[np.uint8], tmp_path: Path, size: tuple[int, int]
) -> None:
    wide = Image.fromarray(face).resize((640, 640))
    width, height = size
    scale = max(size) / 640
    shown = wide.resize((round(640 * scale), round(640 * scale)))
    for left, top in ((0, 0), (shown.width - width, shown.height - height)):
        part = np.asarray(shown.crop((left, top, left + width, top + height)))
        video = encoded(tmp_path / "video.mp4", [part] * 25)
        wide.save(tmp_path / "source.png")
        found = figures(look(video, "--source", tmp_path / "source.png"))
        likeness = found["first_frame_likeness"]
        assert isinstance(likeness, float) and likeness > 0.95


def test_windows_are_counted_by_time(draft: Frames, tmp_path: Path) -> None:
    frames = [frame for frame in draft for _ in range(2)]
    video = encoded(tmp_path / "video.mp4", frames, fps=50)
    assert figures(look(video))["windows"] == 2


@pytest.fixture
def output_look() -> Iterator[OutputLook]:
    with Sandboxes() as sandboxes:
        yield OutputLook(sandboxes, threading.Event())


def test_a_report_tells_what_is_seen_of_a_video(
    output_look: OutputLook, draft: Frames, tmp_path: Path
) -> None:
    black = [np.zeros_like(frame) for frame in draft]
    seen = output_look.of(encoded(tmp_path / "black.mp4", black))["look"]
    assert seen["defect"] == "window 1 is black in all its 81 frames"
    assert seen["quality"]["windows"] == 2
    assert json.dumps(seen)


def test_a_report_tells_why_a_video_cannot_be_looked_at(
    output_look: OutputLook, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("I am a text file")
    assert "text.mp4" in output_look.of(tmp_path / "text.mp4")["look"]["error"]


def test_a_report_tells_nothing_of_what_is_no_video(
    output_look: OutputLook, portrait: Path, tmp_path: Path
) -> None:
    assert output_look.of(portrait) == {}


def test_a_replay_that_is_stopped_looks_at_nothing_more(draft: Frames, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with Sandboxes() as sandboxes:
        assert OutputLook(sandboxes, stop).of(encoded(tmp_path / "a.mp4", draft)) == {}
