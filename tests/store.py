"""A real S3 server on loopback: SeaweedFS."""

from __future__ import annotations

import contextlib
import json
import math
import random
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.canary import CANARY
from tests.timing import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

KEY, SECRET, BUCKET, REGION = "test-key", f"test-secret-{CANARY}", "videos", "us-east-1"


def free_port() -> int:
    """A free port whose companion, 10,000 above it, is free for SeaweedFS's gRPC.

    It is none of those that the kernel gives to whoever wants any.
    """
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many of them, no two alike."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = random.randrange(20_000, 30_000)
            one, other = (held.enter_context(socket.socket()) for _ in range(2))
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
                ports.append(port)
        return ports


class S3Server:
    """`environment` is what a worker needs to deliver into its bucket."""

    def __init__(self, folder: Path) -> None:
        port, *self._ports = free_ports(4)
        self.endpoint = f"http://127.0.0.1:{port}"
        self.environment = {
            "S3_ENDPOINT": self.endpoint,
            "S3_BUCKET": BUCKET,
            "S3_REGION": REGION,
            "S3_KEY": KEY,
            "S3_SECRET": SECRET,
        }
        self._folder = folder

    @property
    def port(self) -> int:
        return int(self.endpoint.rsplit(":", 1)[1])

    def client(self, endpoint: str | None = None) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(signature_version="s3v4"),
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        names = ("master.port", "volume.port", "filer.port")
        ports = dict(zip(names, self._ports, strict=True))
        with self._process("server", *self._storage(ports)):
            self._gateway_command = self._gateway(ports["filer.port"])
            try:
                self.come()
                yield
            finally:
                self.go()
        shutil.rmtree(self._folder)  # pytest would keep its gigabytes

    def come(self) -> None:
        """Answer, with the bucket and all that it held before."""
        self._gateway_process = self._start("s3", *self._gateway_command)
        self._make_bucket(self._gateway_process)

    def go(self) -> None:
        """Die at once, as far as clients can see; what is stored stays."""
        self._gateway_process.kill()
        self._gateway_process.wait()

    def keys(self, prefix: str) -> list[str]:
        """What lies in the bucket."""
        listed = self.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for each in listed.get("Contents", [])]

    def unfinished(self, prefix: str) -> list[str]:
        """Keys of multipart uploads that have neither ended nor been aborted."""
        listed = self.client().list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for each in listed.get("Uploads", [])]

    def _storage(self, ports: dict[str, int]) -> list[str]:
        return [
            *("server", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer"),
            *(f"-{name}={port}" for name, port in ports.items()),
        ]

    def _gateway(self, filer: int) -> list[str]:
        identity = {
            "name": "test",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self._folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        return [
            *("s3", "-ip.bind=127.0.0.1", f"-port={self.port}", f"-filer=127.0.0.1:{filer}"),
            *(f"-config={config}", "-port.iceberg=0", "-port.lance=0"),
        ]

    @contextlib.contextmanager
    def _process(self, name: str, *arguments: str) -> Iterator[None]:
        process = self._start(name, *arguments)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        weed = str(Path(sys.executable).with_name("weed"))
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([weed, *arguments], stdout=log, stderr=log)

    def _make_bucket(self, process: subprocess.Popen[bytes]) -> None:
        def has_bucket() -> bool:
            assert process.poll() is None, (self._folder / "s3.log").read_text()[-2000:]
            try:
                requests.get(self.endpoint, timeout=2)
                client = self.client()
                with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=BUCKET)
            except (requests.RequestException, BotoCoreError, ClientError):
                return False
            return True

        wait_until(has_bucket, "the S3 server's bucket")


class Wire:
    """TCP to a server's port, with so many bytes a second at most; `passed` went to the server.

    When `limit` bytes have passed, it holds all others back until the limit is another. While it
    is `away`, all connections to it end; `refused` is how many it, or the server, did not take.
    """

    def __init__(
        self, port: int, *, bytes_per_second: float = math.inf, limit: float = math.inf
    ) -> None:
        self.bytes_per_second = bytes_per_second
        self.limit = limit
        self.passed = 0
        self.refused = 0
        self.away = False
        wire = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                server = None if wire.away else wire._connect(port)
                if server is None:
                    wire.refused += 1
                    return
                with contextlib.suppress(OSError), server:
                    back = threading.Thread(target=_copy, args=(server, self.request), daemon=True)
                    back.start()
                    wire._pass_on(self.request, server)
                    back.join()

        self._lock = threading.Lock()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.away, self.limit = True, math.inf
        self._server.shutdown()
        self._server.server_close()

    def _connect(self, port: int) -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port))
        return None

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(1 << 16):
            with self._lock:  # the connections share the rate
                wait_until(lambda: self.passed < self.limit, "leave to pass more on")
                time.sleep(len(data) / self.bytes_per_second)
                self.passed += len(data)
            if self.away:
                break
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
