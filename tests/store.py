"""A real S3 server on loopback: SeaweedFS."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import requests
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

KEY, SECRET, BUCKET, REGION = "test-key", "test-secret-canary", "videos", "us-east-1"
START_SECONDS = 60.0


def free_port() -> int:
    """A free port whose companion, 10,000 above it, is free for SeaweedFS's gRPC."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


class S3Server:
    """`environment` is what a worker needs to deliver into its bucket."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            "S3_ENDPOINT": self.endpoint,
            "S3_BUCKET": BUCKET,
            "S3_REGION": REGION,
            "S3_KEY": KEY,
            "S3_SECRET": SECRET,
        }
        self._folder = folder

    def client(self) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with (self._folder / "log").open("wb") as log:
            process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        try:
            self._make_bucket(process)
            yield
        finally:
            process.kill()
            process.wait()

    def _command(self) -> list[str]:
        identity = {
            "name": "test",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self._folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port")}
        weed = Path(sys.executable).with_name("weed")
        return [
            *(str(weed), "server", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{name}={port}" for name, port in ports.items()),
            *("-filer", "-s3", f"-s3.port={self.endpoint.rsplit(':', 1)[1]}"),
            *(f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        ]

    def _make_bucket(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, (self._folder / "log").read_text()[-2000:]
            try:
                requests.get(self.endpoint, timeout=2)
                self.client().create_bucket(Bucket=BUCKET)
                return
            except (requests.RequestException, BotoCoreError, ClientError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
