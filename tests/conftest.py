"""What several test folders share: media files made on the spot, a real HTTP file server."""

from __future__ import annotations

import functools
import http.server
import logging
import signal
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from PIL import Image, ImageDraw

from talkinghead.media.sandbox import Sandbox, Sandboxes
from tests.canary import (
    CANARY,
    pytest_configure,  # noqa: F401 - hooks of pytest's
    pytest_runtest_logreport,  # noqa: F401
    pytest_sessionfinish,  # noqa: F401
    pytest_terminal_summary,  # noqa: F401
)
from tests.loopback import LoopbackServer, QuietHandler
from tests.store import S3Server

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

# An example may take as long as it does: on a busy machine that says nothing.
hypothesis_settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _own_logger_and_signals() -> Iterator[None]:
    """A command that is run in this process starts the log, and says what Ctrl-C does.

    Afterwards it is as before.
    """
    log = logging.getLogger("talkinghead")
    before = list(log.handlers), log.level, log.propagate
    signals = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in signals.items():
        signal.signal(each, handler)
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(scope="session")
def sandboxes() -> Iterator[Sandboxes]:
    with Sandboxes() as sandboxes:
        yield sandboxes


@pytest.fixture
def sandbox(sandboxes: Sandboxes) -> Iterator[Sandbox]:
    """Where a job's files are decoded."""
    with sandboxes.open() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def portrait() -> Path:
    return EXAMPLES / "portrait.jpg"


@pytest.fixture(scope="session")
def voice() -> Path:
    return EXAMPLES / "voice.wav"


def write_tone(
    path: Path, *, seconds: float = 1.0, rate: int = 16_000, channels: int = 1, hz: float = 300
) -> Path:
    """A WAV with a tone of its own pitch on each channel, swelling twice a second."""
    time = np.arange(round(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * (hz + 170 * c) * time) for c in range(channels)]
    swell = 0.3 * np.sin(2 * np.pi * time) ** 2
    samples = (np.stack(tones, 1) * swell[:, None] * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def write_pan(
    path: Path, picture: Path, *, seconds: float = 1.0, fps: int = 30, still: bool = False
) -> Path:
    """A video of 320x240 that moves over the picture from left to right, or stands `still`."""
    with av.open(str(path), "w") as container, Image.open(picture) as whole:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        frames = round(seconds * fps)
        for index in range(frames):
            left = 0 if still else round((whole.width - 320) * index / frames)
            shown = whole.convert("RGB").crop((left, 0, left + 320, 240))
            frame = av.VideoFrame.from_ndarray(np.asarray(shown), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def drawn_pair() -> Image.Image:
    """A drawn person at each side of 1280x720."""
    image = Image.new("RGB", (1280, 720), (120, 160, 122))
    draw = ImageDraw.Draw(image)
    for x, ground in ((20, (91, 141, 199)), (860, (199, 161, 90))):
        draw.rectangle((x, 0, x + 400, 720), fill=ground)
        draw.ellipse((x + 75, 518, x + 325, 920), fill=(200, 30, 40))
        draw.ellipse((x + 88, 88, x + 313, 497), fill=(232, 184, 150))
        draw.chord((x + 88, 88, x + 313, 420), 180, 360, fill=(60, 36, 22))
        for eye in (155, 244):
            draw.ellipse((x + eye - 14, 283, x + eye + 14, 305), fill="white")
            draw.ellipse((x + eye - 6, 288, x + eye + 6, 301), fill="black")
        draw.ellipse((x + 155, 389, x + 245, 418), fill=(170, 40, 50))
    return image


@pytest.fixture
def tone(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tone: tone("name.wav", seconds=..., rate=..., channels=...)."""

    def make(name: str = "tone.wav", **options: float) -> Path:
        return write_tone(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small picture that is not a face."""
    rows = np.linspace(60, 200, 64, dtype=np.uint8)
    pixels = np.stack([np.tile(rows[:, None], (1, 48))] * 3, axis=-1)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


class _Handler(QuietHandler, http.server.SimpleHTTPRequestHandler):
    """Of files."""


class FileServer(LoopbackServer):
    """Serves a folder on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(functools.partial(_Handler, directory=str(folder)))

    def url(self, name: str) -> str:
        """The file's URL, signed with a secret that nothing may repeat.

        It is written as no redaction expects: a scheme in capitals, a quote and angle brackets.
        """
        path, _, query = name.partition("?")
        query = f"{query}&it's=<a>&X-Signature={CANARY}".lstrip("&")
        return f"HTTP{self.origin.removeprefix('http')}/{path}?{query}"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileServer]:
    """An empty folder behind HTTP: put files into `files.folder`, ask for `files.url(name)`."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = FileServer(folder)
    yield server
    server.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with an empty bucket."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    with server.running():
        yield server
