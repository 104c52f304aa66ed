"""`talkinghead replay` with a worker as its endpoint."""

from __future__ import annotations

from pathlib import Path

from tests.comfy.test_replay import entries, finish, replay, write
from tests.conftest import FileServer
from tests.contract.conftest import Worker


def test_requests_go_to_a_worker_as_its_callers_send_them(
    worker: Worker, files: FileServer, tmp_path: Path, portrait: Path, voice: Path
) -> None:
    folder, out = tmp_path / "files", tmp_path / "out"
    folder.mkdir()
    for file in (portrait, voice):
        (files.folder / file.name).write_bytes(file.read_bytes())
    urls = {"image_url": files.url(portrait.name), "wav_url": files.url(voice.name)}
    request = urls | {"draft": True, "max_frame": 12, "width": 256, "height": 256}
    write(folder / "request_good.json", {"input": request})
    write(folder / "request_absent.json", request | {"wav_url": files.url("absent.wav")})
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    words: list[str | Path] = [folder, "--endpoint-url", worker.url, "--rows", rows]
    words += ["--seed=5", "--jobs=2", "--out", out, "--name={stem}-{seed}-{row}"]
    code, said = finish(replay(*words))
    assert code == 1
    assert "wav_url: " in said
    found = {entry["name"]: entry for entry in entries(out)}
    assert {name: entry["status"] for name, entry in found.items()} == {
        **{"request_good-5-1": "done", "request_good-5-2": "done"},
        **{"request_absent-5-1": "failed", "request_absent-5-2": "failed"},
    }
    assert found["request_good-5-1"]["files"][0]["path"] == "request_good-5-1.mp4"
