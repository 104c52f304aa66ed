from __future__ import annotations

import gzip
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from talkinghead.errors import Cancelled, DownloadFailed, MediaTooLarge
from talkinghead.fetch import Fetcher
from tests.conftest import FileServer


class OddServer(http.server.BaseHTTPRequestHandler):
    """Answers by path: as servers do that mean no good, or fare no good."""

    def do_GET(self) -> None:
        {"/drip": self._drip, "/bomb": self._bomb, "/loop": self._loop, "/cut": self._cut}[
            self.path
        ]()

    def _drip(self) -> None:
        self._head(200, {"Content-Length": "1000"})
        for _ in range(100):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def _bomb(self) -> None:
        body = gzip.compress(bytes(20_000_000))
        self._head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _loop(self) -> None:
        self._head(302, {"Location": "/loop"})

    def _cut(self) -> None:
        self._head(200, {"Content-Length": "1000"})
        self.wfile.write(b"half")

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not part of a test's output."""


@pytest.fixture
def odd() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OddServer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(url: str, target: Path, seconds: float = 5, max_mb: float = 1) -> None:
    Fetcher(seconds=seconds).fetch("wav_url", url, target, max_mb=max_mb)


def test_a_file_arrives_as_it_is(files: FileServer, tmp_path: Path) -> None:
    (files.folder / "a.bin").write_bytes(bytes(range(256)) * 999)
    fetch(files.url("a.bin"), tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == bytes(range(256)) * 999


def test_a_404_names_field_and_url_without_its_query(files: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed) as caught:
        fetch(files.url("none.wav?token=topsecret"), tmp_path / "got")
    assert str(caught.value).startswith("wav_url: http://127.0.0.1:")
    assert "none.wav" in str(caught.value) and "gave HTTP 404" in str(caught.value)
    assert "topsecret" not in str(caught.value) + str(caught.value.details)


def test_a_file_over_the_limit_stops_at_the_limit(files: FileServer, tmp_path: Path) -> None:
    (files.folder / "big").write_bytes(bytes(3_000_000))
    with pytest.raises(MediaTooLarge, match="wav_url: the file is larger than 1 MB"):
        fetch(files.url("big"), tmp_path / "got")
    assert (tmp_path / "got").stat().st_size <= 1_000_000


def test_the_limit_counts_what_a_compressed_answer_unpacks_to(odd: str, tmp_path: Path) -> None:
    with pytest.raises(MediaTooLarge):
        fetch(f"{odd}/bomb", tmp_path / "got")


def test_a_server_that_drips_meets_the_total_deadline(odd: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(DownloadFailed, match="took too long"):
        fetch(f"{odd}/drip", tmp_path / "got", seconds=0.5)
    assert time.monotonic() - start < 2


def test_redirects_have_an_end(odd: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="more than 5 redirects"):
        fetch(f"{odd}/loop", tmp_path / "got")


def test_an_answer_cut_short_is_no_file(odd: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed):
        fetch(f"{odd}/cut", tmp_path / "got")


def test_no_server_is_said_as_no_connection(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadFailed, match="could not be fetched: no connection"):
        fetch(f"http://127.0.0.1:{port}/a.wav?key=topsecret", tmp_path / "got")


def test_a_local_file_is_read_for_the_command_line_only(tmp_path: Path) -> None:
    source = tmp_path / "a voice.wav"
    source.write_bytes(b"sound")
    fetcher = Fetcher(seconds=5, local_files=True)
    fetcher.fetch("wav_url", source.as_uri(), tmp_path / "got", max_mb=1)
    assert (tmp_path / "got").read_bytes() == b"sound"
    with pytest.raises(DownloadFailed):
        fetch(source.as_uri(), tmp_path / "got2")


def test_a_cancelled_job_ends_its_download(odd: str, tmp_path: Path) -> None:
    def check() -> None:
        raise Cancelled("the job was cancelled")

    start = time.monotonic()
    with pytest.raises(Cancelled, match=r"^the job was cancelled$"):
        Fetcher(seconds=60).fetch("a", f"{odd}/drip", tmp_path / "got", max_mb=1, check=check)
    assert time.monotonic() - start < 1
