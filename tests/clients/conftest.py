"""A stand-in of RunPod's API, and each client behind the same interface."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.drivers import DIST, NODE, AsyncDriver, Driver, NodeDriver, PythonDriver
from tests.clients.runpod import RunPod

TYPESCRIPT = DIST.parent


@pytest.fixture(scope="session")
def runpod() -> Iterator[RunPod]:
    api = RunPod()
    yield api
    api.close()


@pytest.fixture
def api(runpod: RunPod) -> RunPod:
    runpod.forget()
    return runpod


@pytest.fixture(scope="session")
def built() -> Path:
    """The TypeScript client as JavaScript: it is compiled with --strict, once."""
    tsc = TYPESCRIPT / "node_modules" / "typescript" / "bin" / "tsc"
    if not tsc.exists():
        pytest.skip("NO TEST OF THE TYPESCRIPT CLIENT RAN: scripts/install-typescript tells why")
    sources = [*(TYPESCRIPT / "src").glob("*.ts"), TYPESCRIPT / "tsconfig.json"]
    marker = DIST / ".made"
    newest = max(path.stat().st_mtime for path in sources)
    if marker.exists() and marker.stat().st_mtime > newest:
        return DIST
    made = subprocess.run(
        [NODE, str(tsc), "--project", str(TYPESCRIPT)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout
    marker.touch()
    return DIST


@pytest.fixture(scope="session")
def node(built: Path) -> Iterator[NodeDriver]:
    driver = NodeDriver()
    yield driver
    driver.close()


@pytest.fixture(params=["python", "async", "typescript"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    """Each of the clients."""
    if request.param == "typescript":
        driver: Driver = request.getfixturevalue("node")
        return driver
    return PythonDriver(tmp_path) if request.param == "python" else AsyncDriver(tmp_path)
