"""What delivery means on any blob store, on one that lies in memory; and the kinds of places."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from pydantic import SecretStr

from talkinghead.delivery import retry
from talkinghead.delivery.asked import asked_by
from talkinghead.delivery.blobs import StoredFile, StoredPlace, StoreError
from talkinghead.delivery.place import FinishedVideo, Item
from talkinghead.delivery.retry import Patience
from talkinghead.delivery.stores import KINDS
from talkinghead.errors import Cancelled, DeliveryFailed
from talkinghead.settings import Settings
from tests.timing import LAST_RESORT_SECONDS

REQUEST = asked_by({"image_url": "https://x/i.jpg"})
RESULT = {"status": "completed"}


class Memory:
    """A blob store; `calls` are those that change it, `faults` what the next of them end in."""

    name = "the memory"

    def __init__(self, *, keeps_tags: bool = True) -> None:
        self.keeps_tags = keeps_tags
        self.held: dict[tuple[str, str], tuple[bytes, str | None]] = {}
        self.calls: list[str] = []
        self.faults: list[Exception] = []

    def put(
        self,
        job: str,
        name: str,
        content: Path | bytes,
        content_type: str,
        *,
        tag: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.calls.append(f"put {name}")
        if self.faults:
            raise self.faults.pop(0)
        data = content.read_bytes() if isinstance(content, Path) else content
        self.held[job, name] = (data, tag)

    def get(
        self, job: str, name: str, into: BinaryIO, check: Callable[[], None] = lambda: None
    ) -> bool:
        if self.faults:
            raise self.faults.pop(0)
        if (job, name) not in self.held:
            return False
        into.write(self.held[job, name][0])
        return True

    def has(self, job: str, name: str, tag: str) -> bool:
        return (job, name) in self.held and self.held[job, name][1] in (tag, None)

    def files(self, job: str, folder: str) -> list[StoredFile]:
        return []

    def jobs(self) -> list[str]:
        return []

    def delete(self, job: str, names: Iterable[str]) -> list[str]:
        for name in names:
            self.calls.append(f"delete {name}")
            self.held.pop((job, name), None)
        return []

    def url(self, job: str, name: str) -> str:
        return f"memory:{job}/{name}"

    def tidy(self) -> None:
        self.calls.append("tidy")


class MemoryPlace(StoredPlace):
    def where(self, job: str, *, bundled: bool) -> dict[str, Any]:
        return {"video": self.store.url(job, "talkinghead.mp4"), "bundled": bundled}

    def where_item(self, job: str, name: str) -> dict[str, Any]:
        return {"at": self.store.url(job, name)}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.0)
    return Memory()


@pytest.fixture
def video(tmp_path: Path) -> FinishedVideo:
    (tmp_path / "v.mp4").write_bytes(b"video")
    return FinishedVideo("job", REQUEST, tmp_path / "v.mp4", RESULT, {"seed": 7})


def test_the_documents_are_written_first_and_the_video_last(
    memory: Memory, video: FinishedVideo
) -> None:
    where = MemoryPlace(memory).deliver(video, Patience(9))
    assert where == {"video": "memory:job/talkinghead.mp4", "bundled": True}
    puts = ["put result.json", "put talkinghead.json", "put talkinghead.mp4"]
    assert memory.calls == [*puts, "tidy"]


def test_where_no_tag_tells_of_which_request_a_video_is_the_one_before_goes_first(
    memory: Memory, video: FinishedVideo
) -> None:
    memory.keeps_tags = False
    MemoryPlace(memory).deliver(video, Patience(9))
    assert memory.calls[:2] == ["delete talkinghead.mp4", "put result.json"]


def test_after_a_fault_that_passes_all_is_written_again_from_the_first(
    memory: Memory, video: FinishedVideo
) -> None:
    memory.faults = [StoreError("busy", passes=True)]
    MemoryPlace(memory).deliver(video, Patience(9))
    assert memory.calls[:3] == ["put result.json", "put result.json", "put talkinghead.json"]
    assert memory.calls.count("tidy") == 1


def test_a_refusal_is_told_at_once_with_the_stores_name_and_what_was_left_is_tidied(
    memory: Memory, video: FinishedVideo
) -> None:
    memory.faults = [StoreError("no")]
    with pytest.raises(DeliveryFailed, match=r"^the memory did not take the video: no$"):
        MemoryPlace(memory).deliver(video, Patience(9))
    assert memory.calls == ["put result.json", "tidy"]
    memory.faults = [StoreError("no")]
    with pytest.raises(DeliveryFailed, match=r"^the memory did not take the outputs: no$"):
        MemoryPlace(memory).put("job", [Item(video.path, "video/mp4")], Patience(9))


def test_a_cancelled_job_does_not_wait_for_the_tidying(
    memory: Memory, video: FinishedVideo
) -> None:
    tidying, may_end = threading.Event(), threading.Event()

    def tidy() -> None:
        tidying.set()
        may_end.wait(LAST_RESORT_SECONDS)

    memory.tidy = tidy  # type: ignore[method-assign]
    memory.faults = [Cancelled("the job was cancelled")]
    with pytest.raises(Cancelled):
        MemoryPlace(memory).deliver(video, Patience(9))
    assert tidying.wait(LAST_RESORT_SECONDS)
    may_end.set()
    assert memory.calls == ["put result.json"]


def test_found_before_is_a_result_of_the_same_request_whose_video_is_there(
    memory: Memory, video: FinishedVideo
) -> None:
    place = MemoryPlace(memory)
    where = place.deliver(video, Patience(9))
    assert place.find("job", REQUEST, Patience(9)) == RESULT | where
    assert place.find("job", asked_by("another"), Patience(9)) is None
    data, _ = memory.held["job", "talkinghead.mp4"]
    memory.held["job", "talkinghead.mp4"] = (data, "of another request")
    assert place.find("job", REQUEST, Patience(9)) is None


def test_a_store_that_is_away_has_nothing_and_one_that_is_wrong_ends_the_job(
    memory: Memory, video: FinishedVideo
) -> None:
    place = MemoryPlace(memory)
    place.deliver(video, Patience(9))
    memory.faults = [StoreError("busy", passes=True)]
    assert place.find("job", REQUEST, Patience(9)) is None
    memory.faults = [StoreError("moved", passes=True, misconfigured=True)]
    with pytest.raises(DeliveryFailed, match=r"^the memory did not take the video: moved$"):
        place.find("job", REQUEST, Patience(9))


# The kinds of places


def test_every_kind_names_settings_that_there_are_and_its_secrets_among_them() -> None:
    for kind in KINDS:
        assert set(kind.credentials) <= set(kind.settings) <= Settings.model_fields.keys()
    fields = Settings.model_fields.items()
    secrets = {name for name, field in fields if field.annotation == SecretStr | None}
    of_the_local_api = {"api_token"}
    assert secrets - of_the_local_api == {name for kind in KINDS for name in kind.credentials}
    assert secrets > of_the_local_api


def test_without_any_setting_the_result_is_the_only_place() -> None:
    assert [kind.name for kind in KINDS if kind.open(Settings())] == ["inline"]
    assert [kind.check(Settings()) for kind in KINDS] == [None, None, None]
