from __future__ import annotations

import base64
import contextlib
import errno
import gzip
import http.server
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import trustme

from talkinghead.comfy.studio import Studio
from talkinghead.errors import (
    Cancelled,
    DownloadFailed,
    JobError,
    MediaInvalid,
    MediaTooLarge,
    UrlBlocked,
)
from talkinghead.net.fetch import Fetcher, Input
from talkinghead.net.guard import Resolver, UrlGuard
from talkinghead.net.inline import CHUNK_CHARACTERS
from talkinghead.plan.request import parse_request
from talkinghead.render import sources as job_sources
from talkinghead.settings import Settings
from tests.conftest import FileServer
from tests.store import S3Server
from tests.timing import LAST_RESORT_SECONDS, wait_until

ANYWHERE = UrlGuard(blocked=())
# 127.0.0.2 stands for the public internet, 127.0.0.1 for what is internal.
INTERNAL = (ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("::/0"))
PUBLIC = "127.0.0.2"

BODY = bytes(range(256)) * 1000
RETRY_AFTER_SECONDS = 1
FOREVER = 2 * LAST_RESORT_SECONDS


class OddServer(http.server.BaseHTTPRequestHandler):
    """Answers by path: as servers do that mean no good, or fare no good."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[dict[str, str]]] = []  # the headers of each request, and its path
    over: ClassVar[threading.Event] = threading.Event()  # until then the slow ones go on

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.asked.append({"path": path, **dict(self.headers)})
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            getattr(self, f"answer_{path.strip('/').split('/')[0]}")()

    @property
    def visits(self) -> int:
        return len([each for each in self.asked if each["path"] == self.path.split("?")[0]])

    def answer_file(self) -> None:
        self.head(200, {"Content-Length": str(len(BODY))})
        self.wfile.write(BODY)

    def answer_drip(self) -> None:
        self.head(200, {"Content-Length": "1000"})
        self.drip(b"x")

    def answer_slowhead(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.drip(b"X")

    def answer_continue(self) -> None:
        self.drip(b"HTTP/1.1 100 Continue\r\n\r\n")

    def answer_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self.drip(b"X")

    def answer_silence(self) -> None:
        self.over.wait(LAST_RESORT_SECONDS)

    def answer_bomb(self) -> None:
        body = gzip.compress(bytes(20_000_000))
        self.head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def answer_bombs(self) -> None:
        body = gzip.compress(gzip.compress(bytes(20_000_000)))
        self.head(200, {"Content-Encoding": "gzip, gzip", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def answer_notgzip(self) -> None:
        self.head(200, {"Content-Encoding": "gzip", "Content-Length": "4"})
        self.wfile.write(b"half")

    def answer_declared(self) -> None:
        self.head(200, {"Content-Length": "9999999999"})
        self.wfile.write(b"x" * 1000)

    def answer_endless(self) -> None:
        self.head(200, {"Transfer-Encoding": "chunked"})
        while True:
            self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    def answer_loop(self) -> None:
        self.head(302, {"Location": "/loop"})

    def answer_to(self) -> None:
        self.head(302, {"Location": self.path.split("?", 1)[1]})

    def answer_hops(self) -> None:
        left = int(self.path.split("/")[2])
        self.head(307, {"Location": f"/hops/{left - 1}" if left else "/file"})

    def answer_cut(self) -> None:
        self.head(200, {"Content-Length": "1000"})
        self.wfile.write(b"half")

    def answer_cutchunks(self) -> None:
        self.head(200, {"Transfer-Encoding": "chunked"})
        self.wfile.write(b"ff\r\nhalf")

    def answer_busy(self) -> None:
        """503 at first, the file then."""
        if self.visits == 1:
            self.head(503, {"Retry-After": f"{RETRY_AFTER_SECONDS}", "Content-Length": "0"})
        else:
            self.answer_file()

    def answer_together(self) -> None:
        """The file, when three have been asked for."""
        wait_until(lambda: len(self.asked) >= 3, "all three requests")
        self.answer_file()

    def answer_overrun(self) -> None:
        self.head(429, {"Retry-After": "3600", "Content-Length": "0"})

    def answer_missing(self) -> None:
        self.head(404, {"Content-Length": "0"})

    def answer_ill(self) -> None:
        self.head(503, {"Retry-After": "9" * 5000, "Content-Length": "0"})

    def answer_resumed(self) -> None:
        """Breaks off in the middle at first; then goes on from there."""
        if self.visits == 1:
            self.half('"one"')
        elif self.headers.get("If-Range") == '"one"':
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            length = len(BODY) - start
            whole = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
            self.head(206, {"Content-Length": str(length), "Content-Range": whole})
            self.wfile.write(BODY[start:])

    def answer_changed(self) -> None:
        """Breaks off in the middle at first; the file is another one then."""
        if self.visits == 1:
            self.half('"one"')
        else:
            self.head(200, {"Content-Length": "3"})
            self.wfile.write(b"new")

    def answer_weak(self) -> None:
        """Breaks off in the middle at first; says nothing of what would be the same file."""
        if self.visits == 1:
            self.half('W/"one"')
        else:
            assert "Range" not in self.headers
            self.answer_file()

    def answer_elsewhere(self) -> None:
        """Breaks off in the middle at first; goes on at another place then."""
        if self.visits == 1:
            self.half('"one"')
        elif self.visits == 2:
            self.head(206, {"Content-Length": "3", "Content-Range": "bytes 0-2/3"})
            self.wfile.write(b"bad")
        else:
            self.answer_file()

    def half(self, etag: str) -> None:
        self.head(200, {"Content-Length": str(len(BODY)), "ETag": etag})
        self.wfile.write(BODY[: len(BODY) // 2])

    def drip(self, data: bytes) -> None:
        while not self.over.wait(0.05):
            self.wfile.write(data)
            self.wfile.flush()

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not part of a test's output."""


@contextlib.contextmanager
def serving(host: str, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[int]:
    """An OddServer at the address; its port."""
    server = http.server.ThreadingHTTPServer((host, port), OddServer)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    OddServer.over.clear()
    yield server.server_port
    OddServer.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_end_to_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may be slow to answer: what ends a download is what the test says."""
    monkeypatch.setattr("talkinghead.net.download.READ_SECONDS", FOREVER)
    monkeypatch.setattr("talkinghead.net.connections.CONNECT_SECONDS", FOREVER)


@pytest.fixture
def odd() -> Iterator[str]:
    OddServer.asked.clear()
    with serving("127.0.0.1") as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def public() -> Iterator[int]:
    """The port of a server on what stands for the public internet."""
    OddServer.asked.clear()
    with serving(PUBLIC) as port:
        yield port


@pytest.fixture
def both() -> Iterator[int]:
    """The port of a server there, and of one inside."""
    OddServer.asked.clear()
    with contextlib.ExitStack() as servers:
        while True:
            port = servers.enter_context(serving(PUBLIC))
            with contextlib.suppress(OSError):  # somebody else has it
                servers.enter_context(serving("127.0.0.1", port=port))
                break
        yield port


class Names:
    """A resolver: what it is asked, and what it answers from a list, the last for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


def internet(resolver: Resolver) -> UrlGuard:
    return UrlGuard(blocked=INTERNAL, resolver=resolver)


def fetch(
    url: str,
    target: Path,
    *,
    seconds: float = FOREVER,
    max_mb: float = 1,
    guard: UrlGuard = ANYWHERE,
) -> None:
    Fetcher(seconds=seconds, guard=guard).fetch([Input("wav_url", url, target, max_mb)])


# What comes, and what is said if it does not


def test_a_file_arrives_as_it_is(files: FileServer, tmp_path: Path) -> None:
    (files.folder / "a.bin").write_bytes(BODY)
    fetch(files.url("a.bin"), tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == BODY


def test_a_404_names_field_and_url_without_its_query(files: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed) as caught:
        fetch(files.url("none.wav?token=topsecret"), tmp_path / "got")
    assert str(caught.value).startswith("wav_url: HTTP://127.0.0.1:")
    assert "none.wav" in str(caught.value) and "gave HTTP 404" in str(caught.value)
    assert "topsecret" not in str(caught.value) + str(caught.value.details)
    assert caught.value.details["field"] == "wav_url"


def test_no_server_is_said_as_no_connection(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]  # nobody else's, and nobody listens
        with pytest.raises(DownloadFailed, match="could not be fetched: no connection"):
            fetch(f"http://127.0.0.1:{port}/a.wav?key=topsecret", tmp_path / "got")


def test_a_name_that_nobody_knows_is_said(tmp_path: Path) -> None:
    def nobody(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(DownloadFailed, match="could not be fetched: its host is not known"):
        fetch("http://example.com/", tmp_path / "got", guard=UrlGuard(resolver=nobody))


def test_a_name_that_is_not_resolved_for_now_is_tried_again(public: int, tmp_path: Path) -> None:
    class Unsteady(Names):
        def __call__(self, host: str, port: int) -> list[str]:
            if not self.asked:
                self.asked.append(host)
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return super().__call__(host, port)

    url = f"http://media.example:{public}/file"
    fetch(url, tmp_path / "got", guard=internet(Unsteady(PUBLIC)))
    assert (tmp_path / "got").read_bytes() == BODY


def test_a_second_address_is_tried_where_the_first_does_not_answer(
    public: int, tmp_path: Path
) -> None:
    guard = internet(lambda host, port: ["127.0.0.3", PUBLIC])
    fetch(f"http://media.example:{public}/file", tmp_path / "got", guard=guard)
    assert (tmp_path / "got").read_bytes() == BODY


def test_a_presigned_url_is_asked_for_as_it_was_signed(s3: S3Server, tmp_path: Path) -> None:
    bucket, key = s3.environment["S3_BUCKET"], "caf\u00e9 au lait/a+b (1)~=&%.wav"
    s3.client().put_object(Bucket=bucket, Key=key, Body=BODY)
    place = {"Bucket": bucket, "Key": key}
    fetch(s3.client().generate_presigned_url("get_object", Params=place), tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == BODY


def test_a_local_file_is_read_for_the_command_line_only(tmp_path: Path) -> None:
    source = tmp_path / "a voice.wav"
    source.write_bytes(b"sound")
    wanted = Input("wav_url", source.as_uri(), tmp_path / "got", 1)
    Fetcher(seconds=FOREVER, local_files=True).fetch([wanted])
    assert (tmp_path / "got").read_bytes() == b"sound"
    with pytest.raises(UrlBlocked):
        fetch(source.as_uri(), tmp_path / "got2")


def test_a_full_disk_is_no_fault_of_the_url(odd: str) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        fetch(f"{odd}/file", Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC
    assert len(OddServer.asked) == 1


# Bounds


def linked(file: Path) -> Path:
    """Another name of the file, so that it stays where the fetcher removes what is not whole."""
    file.touch()
    other = file.with_name("linked")
    other.hardlink_to(file)
    return other


def test_a_file_over_the_limit_stops_at_the_limit(odd: str, tmp_path: Path) -> None:
    with pytest.raises(MediaTooLarge, match="wav_url: the file is larger than 1 MB"):
        fetch(f"{odd}/endless", linked(tmp_path / "got"))
    assert (tmp_path / "got").stat().st_size <= 1_000_000


def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read(
    odd: str, tmp_path: Path
) -> None:
    with pytest.raises(MediaTooLarge, match="larger than 1 MB"):
        fetch(f"{odd}/declared", linked(tmp_path / "got"))
    assert (tmp_path / "got").stat().st_size == 0


@pytest.mark.parametrize("path", ["bomb", "bombs"])
def test_the_limit_counts_what_a_compressed_answer_unpacks_to(
    odd: str, tmp_path: Path, path: str
) -> None:
    with pytest.raises(MediaTooLarge):
        fetch(f"{odd}/{path}", linked(tmp_path / "got"))
    assert (tmp_path / "got").stat().st_size <= 1_000_000


@pytest.mark.parametrize("path", ["drip", "slowhead", "headers", "continue", "silence"])
def test_a_server_that_is_slow_in_any_way_meets_the_total_deadline(
    odd: str, tmp_path: Path, path: str
) -> None:
    with pytest.raises(DownloadFailed, match="took too long") as caught:
        fetch(f"{odd}/{path}", tmp_path / "got", seconds=0.4)
    assert caught.value.details["field"] == "wav_url"
    wait_for_no_download()


def wait_for_no_download() -> None:
    """Each ends though its server, which the test holds, has not ended its answer."""
    wait_until(no_downloads, "the downloads' end")
    assert not OddServer.over.is_set()


def no_downloads() -> bool:
    return not any(thread.name.startswith("download") for thread in threading.enumerate())


def test_a_resolver_that_hangs_meets_the_total_deadline(tmp_path: Path) -> None:
    over = threading.Event()

    def hangs(host: str, port: int) -> list[str]:
        over.wait(LAST_RESORT_SECONDS)
        return [PUBLIC]

    try:
        with pytest.raises(DownloadFailed, match="took too long"):
            fetch("http://media.example/", tmp_path / "got", seconds=0.3, guard=internet(hangs))
        assert not over.is_set(), "the resolver was not waited for"
    finally:
        over.set()


def test_redirects_have_an_end(odd: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="more than 5 redirects"):
        fetch(f"{odd}/loop", tmp_path / "got")
    assert len(OddServer.asked) == 6


def test_five_redirects_are_followed(odd: str, tmp_path: Path) -> None:
    fetch(f"{odd}/hops/4", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == BODY


# The guard at the connection


def test_a_name_is_resolved_once_and_connected_to_where_it_was_checked(
    public: int, tmp_path: Path
) -> None:
    names = Names(PUBLIC, "127.0.0.1")
    fetch(f"http://media.example:{public}/file", tmp_path / "got", guard=internet(names))
    assert (tmp_path / "got").read_bytes() == BODY  # nobody listens at the other address
    assert names.asked == ["media.example"]
    assert OddServer.asked[0]["Host"] == f"media.example:{public}"


def test_a_name_that_turns_internal_at_a_redirect_is_blocked(both: int, tmp_path: Path) -> None:
    names = Names(PUBLIC, "127.0.0.1")
    url = f"http://media.example:{both}/hops/0?token=topsecret"
    with pytest.raises(UrlBlocked, match=r"^wav_url") as caught:
        fetch(url, tmp_path / "got", guard=internet(names))
    assert "topsecret" not in str(caught.value) + str(caught.value.details)
    assert names.asked == ["media.example"] * 2
    assert [each["path"] for each in OddServer.asked] == ["/hops/0"]


def test_a_name_that_turns_internal_at_another_attempt_is_blocked(
    both: int, tmp_path: Path
) -> None:
    names = Names(PUBLIC, "127.0.0.1")
    with pytest.raises(UrlBlocked):
        fetch(f"http://media.example:{both}/cut", tmp_path / "got", guard=internet(names))
    assert len(OddServer.asked) == 1


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/file",
        "//127.0.0.1:{port}/file",
        "http://localhost:{port}/file",
        "http://[::1]:{port}/file",
        "http://2130706433:{port}/file",
        "http://0x7f.1:{port}/file",
        "http://user:pass@media.example:{public}/file",
        "http://[::1/file",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/file",
        "http://\xff/",
    ],
)
def test_a_redirect_is_followed_to_no_internal_place(
    public: int, tmp_path: Path, location: str
) -> None:
    with serving("127.0.0.1") as port:
        place = location.format(port=port, public=public)
        guard = internet(lambda host, port: [PUBLIC if host == "media.example" else "127.0.0.1"])
        with pytest.raises(UrlBlocked):
            redirect_to(place, tmp_path / "got", guard)
    assert OddServer.asked == []


def redirect_to(location: str, target: Path, guard: UrlGuard) -> None:
    """Fetch from a server that sends us on to `location`, whatever bytes it holds."""
    with socket.create_server((PUBLIC, 0)) as server:
        answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"

        def once() -> None:
            connection = server.accept()[0]
            connection.recv(4096)
            connection.sendall(answer.encode("latin-1"))
            connection.close()

        threading.Thread(target=once, daemon=True).start()
        port = server.getsockname()[1]
        fetch(f"http://media.example:{port}/", target, guard=guard)


def test_a_location_in_utf_8_and_with_spaces_is_followed(public: int, tmp_path: Path) -> None:
    location = f"http://{PUBLIC}:{public}/file/caf\u00e9 au lait".encode().decode("latin-1")
    redirect_to(location, tmp_path / "got", internet(Names(PUBLIC)))
    assert OddServer.asked[0]["path"] == "/file/caf%C3%A9%20au%20lait"


def test_an_internal_url_is_told_beside_what_is_wrong_with_the_others(
    public: int, tmp_path: Path
) -> None:
    wanted = [
        Input("image_url", f"http://{PUBLIC}:{public}/missing", tmp_path / "a", 1),
        Input("wav_url", "http://127.0.0.1/b?sig=topsecret", tmp_path / "b", 1),
    ]
    with pytest.raises(UrlBlocked, match=r"; wav_url: http://127.0.0.1/b\?... may not") as caught:
        Fetcher(seconds=FOREVER, guard=internet(Names(PUBLIC))).fetch(wanted)
    assert caught.value.details["field"] == "wav_url"
    assert caught.value.details["url"] == "http://127.0.0.1/b?..."
    fields = [each["field"] for each in caught.value.details["problems"]]
    assert fields == ["image_url", "wav_url"]


def test_no_proxy_and_no_netrc_of_the_environment_is_used(
    public: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    names = Names(PUBLIC)
    fetch(f"http://media.example:{public}/file", tmp_path / "got", guard=internet(names))
    assert "Authorization" not in OddServer.asked[0]


# TLS


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the system trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    OddServer.asked.clear()
    return authority


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_the_certificate_must_be_the_hosts_at_the_address_that_was_checked(
    authority: trustme.CA, tmp_path: Path
) -> None:
    names = Names(PUBLIC, "127.0.0.1")
    seen: list[str | None] = []
    context = certified(authority, "media.example")
    context.sni_callback = lambda sock, name, context: seen.append(name)
    with serving(PUBLIC, context) as port:
        fetch(f"https://media.example.:{port}/file", tmp_path / "got", guard=internet(names))
    assert (tmp_path / "got").read_bytes() == BODY
    assert seen == ["media.example"] and names.asked == ["media.example."]
    assert OddServer.asked[0]["Host"] == f"media.example:{port}"


@pytest.mark.parametrize("name", ["other.example", PUBLIC])
def test_a_certificate_of_another_host_or_of_the_address_is_refused_at_once(
    authority: trustme.CA, tmp_path: Path, name: str
) -> None:
    with (
        serving(PUBLIC, certified(authority, name)) as port,
        pytest.raises(DownloadFailed, match="its certificate is not valid"),
    ):
        url = f"https://media.example:{port}/file"
        fetch(url, tmp_path / "got", guard=internet(Names(PUBLIC)))
    assert OddServer.asked == []


def test_a_certificate_of_an_authority_that_nobody_knows_is_refused(
    authority: trustme.CA, tmp_path: Path
) -> None:
    with (
        serving(PUBLIC, certified(trustme.CA(), "media.example")) as port,
        pytest.raises(DownloadFailed, match="its certificate is not valid"),
    ):
        url = f"https://media.example:{port}/file"
        fetch(url, tmp_path / "got", guard=internet(Names(PUBLIC)))


# Another attempt


@pytest.mark.parametrize("path", ["cut", "cutchunks"])
def test_an_answer_cut_short_is_no_file(odd: str, tmp_path: Path, path: str) -> None:
    with pytest.raises(DownloadFailed, match="could not be fetched: the connection broke"):
        fetch(f"{odd}/{path}", tmp_path / "got")
    assert len(OddServer.asked) == 4


def test_a_busy_server_is_asked_again_when_it_says(odd: str, tmp_path: Path) -> None:
    start = time.monotonic()
    fetch(f"{odd}/busy", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == BODY
    assert time.monotonic() - start >= RETRY_AFTER_SECONDS


def test_a_server_that_wants_to_be_left_alone_for_long_is(odd: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="could not be fetched: it gave HTTP 429"):
        fetch(f"{odd}/overrun", tmp_path / "got")
    assert len(OddServer.asked) == 1


def test_a_server_that_stays_ill_is_asked_four_times(odd: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="could not be fetched: it gave HTTP 503"):
        fetch(f"{odd}/ill", tmp_path / "got")
    assert len(OddServer.asked) == 4


@pytest.mark.parametrize("path", ["declared", "notgzip", "missing", "to?http://u:p@127.0.0.1/"])
def test_what_another_attempt_does_not_mend_is_not_tried_again(
    odd: str, tmp_path: Path, path: str
) -> None:
    with pytest.raises(JobError):
        fetch(f"{odd}/{path}", tmp_path / "got")
    assert len(OddServer.asked) == 1


def test_a_download_that_broke_off_goes_on_from_there(odd: str, tmp_path: Path) -> None:
    fetch(f"{odd}/resumed", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == BODY
    assert OddServer.asked[1]["Range"] == f"bytes={len(BODY) // 2}-"


@pytest.mark.parametrize(
    ("path", "expected"), [("changed", b"new"), ("weak", BODY), ("elsewhere", BODY)]
)
def test_a_download_that_cannot_go_on_starts_over(
    odd: str, tmp_path: Path, path: str, expected: bytes
) -> None:
    fetch(f"{odd}/{path}", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == expected


# Several at once


def wanted(odd: str, tmp_path: Path, *paths: str) -> list[Input]:
    return [Input(f"f{i}", f"{odd}/{path}", tmp_path / f"{i}", 1) for i, path in enumerate(paths)]


def test_files_come_at_the_same_time(odd: str, tmp_path: Path) -> None:
    paths = ["together", "together/2", "together/3"]
    Fetcher(seconds=FOREVER, guard=ANYWHERE).fetch(wanted(odd, tmp_path, *paths))
    assert all((tmp_path / name).read_bytes() == BODY for name in "012")


def test_a_failure_soon_ends_those_that_take_their_time(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.net.fetch.GRACE_SECONDS", 0.1)
    inputs = wanted(odd, tmp_path, "drip", "declared", "silence")
    with pytest.raises(MediaTooLarge, match=r"^f1: "):
        Fetcher(seconds=FOREVER, guard=ANYWHERE).fetch(inputs)
    wait_for_no_download()


def test_several_files_that_cannot_be_had_are_told_at_once_each_with_its_field(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkinghead.net.fetch.GRACE_SECONDS", FOREVER)
    inputs = wanted(odd, tmp_path, "missing", "file", "declared", "cut")
    inputs += [Input("f4", "ftp://x/?topsecret", tmp_path / "4", 1)]
    inputs += [Input("f5", "data:audio/wav;base64,QQ", tmp_path / "5", 1)]
    with pytest.raises(JobError) as caught:
        Fetcher(seconds=FOREVER, guard=ANYWHERE).fetch(inputs)
    problems = caught.value.details["problems"]
    assert [(each["field"], each["error_code"]) for each in problems] == [
        ("f0", "download_failed"),
        ("f2", "media_too_large"),
        ("f3", "download_failed"),
        ("f4", "url_blocked"),
        ("f5", "media_invalid"),
    ]
    assert str(caught.value) == "; ".join(each["message"] for each in problems)
    assert "topsecret" not in str(caught.value) + str(caught.value.details)
    # The first that no other try would mend says whether one is worth it.
    assert (caught.value.code, caught.value.retryable) == ("media_too_large", False)
    assert caught.value.details["field"] == "f2"


def test_the_end_of_the_time_tells_of_those_that_failed_before_too(
    odd: str, tmp_path: Path
) -> None:
    inputs = wanted(odd, tmp_path, "drip", "missing", "silence")
    with pytest.raises(DownloadFailed) as caught:
        Fetcher(seconds=1, guard=ANYWHERE).fetch(inputs)
    told = {each["field"]: each["message"] for each in caught.value.details["problems"]}
    assert set(told) == {"f0", "f1", "f2"}
    assert "HTTP 404" in told["f1"] and "too long" in told["f0"]


# Files in the request itself


def save(uri: str, target: Path, max_mb: float = 1) -> None:
    Fetcher(seconds=FOREVER).fetch([Input("wav_base64", uri, target, max_mb)])


@pytest.mark.parametrize("size", [1, 2, 3, 250_000, CHUNK_CHARACTERS * 3 // 4])
def test_a_file_in_the_request_arrives_as_it_is(tmp_path: Path, size: int) -> None:
    body = (BODY * 5)[:size]
    for text in (base64.b64encode(body).decode(), base64.encodebytes(body).decode()):
        save(f"data:audio/wav;charset=x;base64,{text}", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == body


@pytest.mark.parametrize(
    "text",
    ["QUI", "Q:_=", "QUI=QUI=", "QUI==", "é", "QUJDRA==x", "=", " ", "QUI=" + "QUJD" * 10**5],
)
def test_what_is_not_whole_base64_is_refused_with_its_field(tmp_path: Path, text: str) -> None:
    with pytest.raises(MediaInvalid, match=r"^wav_base64: ") as caught:
        save(f"data:;base64,{text}", tmp_path / "got")
    assert caught.value.details["url"].startswith("data: (")


def test_a_file_in_base64_for_urls_and_of_a_type_with_a_comma_arrives_as_it_is(
    tmp_path: Path,
) -> None:
    body = bytes(range(256)) * 3
    text = base64.urlsafe_b64encode(body).decode()
    asked = {"image_base64": text, "wav_url": f'data:audio/wav;name="a,b;base64,c";base64,{text}'}
    request = parse_request(asked)
    for uri in (request.image_url, request.speakers[0].audio_url):
        save(uri or "", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == body


def test_of_base64_without_its_padding_the_error_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MediaInvalid, match="no multiple of four characters: pad it with ="):
        save(f"data:;base64,{base64.b64encode(BODY).decode().rstrip('=')}", tmp_path / "got")


def test_a_cut_or_large_file_in_the_request_is_told_what_runpod_takes(tmp_path: Path) -> None:
    text = base64.b64encode(BODY).decode()
    with pytest.raises(MediaInvalid, match=r"cut off; .*10 MB by /run and 20 MB by /runsync"):
        save(f"data:;base64,{text[:-1]}", tmp_path / "got")
    with pytest.raises(MediaTooLarge, match=r"larger than 0\.1 MB; .* by its URL"):
        save(f"data:;base64,{text}", tmp_path / "got", max_mb=0.1)


def test_a_url_that_a_request_names_twice_is_fetched_once(odd: str, tmp_path: Path) -> None:
    studio = Studio(Settings(comfyui_url="http://127.0.0.1:9", allow_private_urls=True))
    voices = [f"{odd}/file/a", f"{odd}/file/b", f"{odd}/file/a"]
    request = parse_request({"image_url": f"{odd}/file/i", "audio_urls": voices})
    sources = job_sources.fetch(request, tmp_path, studio, lambda: None)
    assert [path.read_bytes() for path in sources.voices if path] == [BODY] * 3
    asked = [each["path"] for each in OddServer.asked]
    assert sorted(asked) == ["/file/a", "/file/b", "/file/i"]


def test_a_worker_fetches_from_no_internal_address_unless_it_is_set_to(
    odd: str, tmp_path: Path
) -> None:
    studio = Studio(Settings(comfyui_url="http://127.0.0.1:9"))
    request = parse_request({"image_url": f"{odd}/file", "wav_url": f"{odd}/file"})
    with pytest.raises(UrlBlocked, match=r"^image_url: .* not on the public internet"):
        job_sources.fetch(request, tmp_path, studio, lambda: None)
    assert OddServer.asked == []


@pytest.mark.parametrize("path", ["drip", "silence", "ill"])
def test_a_cancelled_job_ends_its_downloads(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("talkinghead.net.download.BACKOFF_SECONDS", [LAST_RESORT_SECONDS])
    monkeypatch.setattr("talkinghead.net.download.MAX_RETRY_AFTER_SECONDS", FOREVER)

    def check() -> None:
        if len(OddServer.asked) == 2:
            raise Cancelled("the job was cancelled")

    with pytest.raises(Cancelled, match=r"^the job was cancelled$"):
        inputs = wanted(odd, tmp_path, path, "drip")
        Fetcher(seconds=FOREVER, guard=ANYWHERE).fetch(inputs, check=check)
    wait_for_no_download()


UPLOADED = "volume:0123456789abcdef0123456789abcdef.wav"


def test_a_file_that_a_caller_put_on_the_volume_is_taken(tmp_path: Path) -> None:
    uploads = tmp_path / "talkinghead-uploads"
    uploads.mkdir()
    (uploads / UPLOADED.removeprefix("volume:")).write_bytes(b"abc")
    target = tmp_path / "voice"
    fetcher = Fetcher(seconds=LAST_RESORT_SECONDS, uploads=uploads)
    fetcher.fetch([Input("wav_url", UPLOADED, target, max_mb=1)])
    assert target.read_bytes() == b"abc"
    with pytest.raises(MediaTooLarge, match="wav_url: the file is larger than 2e-06 MB"):
        fetcher.fetch([Input("wav_url", UPLOADED, target, max_mb=2e-6)])


def test_what_is_not_among_the_uploads_of_the_volume_is_no_file(tmp_path: Path) -> None:
    uploads = tmp_path / "talkinghead-uploads"
    uploads.mkdir()
    (tmp_path / "secret").write_bytes(b"abc")
    (uploads / UPLOADED.removeprefix("volume:")).symlink_to(tmp_path / "secret")
    for folder in (uploads, tmp_path / "nowhere", None):
        fetcher = Fetcher(seconds=LAST_RESORT_SECONDS, uploads=folder)
        with pytest.raises(DownloadFailed, match="is not on this worker's volume") as caught:
            fetcher.fetch([Input("wav_url", UPLOADED, tmp_path / "voice", max_mb=1)])
        assert UPLOADED not in str(caught.value), "it is logged, and opens the file"


def test_an_upload_that_the_volume_does_not_give_is_a_download_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / UPLOADED.removeprefix("volume:")).write_bytes(b"abc")

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("shutil.copyfile", fail)
    fetcher = Fetcher(seconds=LAST_RESORT_SECONDS, uploads=tmp_path)
    with pytest.raises(DownloadFailed, match="could not be read: Input/output error"):
        fetcher.fetch([Input("wav_url", UPLOADED, tmp_path / "voice", 1)])
