"""Workflow jobs, as far as no ComfyUI is needed: what is refused, and where files go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_client import ComfyClient, Event, OutputFile
from talkinghead.delivery.inline import InlinePlace
from talkinghead.delivery.place import Item
from talkinghead.delivery.retry import Patience
from talkinghead.delivery.stores import Stores
from talkinghead.delivery.volume import VolumePlace, VolumeStore
from talkinghead.errors import DeliveryFailed, Faults, InvalidRequest, MediaInvalid, ResultTooLarge
from talkinghead.media.sandbox import Sandbox
from talkinghead.render.workflow_job.graph import read_graph
from talkinghead.render.workflow_job.inputs import check_files, check_masks
from talkinghead.render.workflow_job.outputs import collect_files
from talkinghead.render.workflow_job.paths import path_problems, set_paths
from talkinghead.render.workflow_job.progress import NodeProgress
from talkinghead.render.workflow_job.request import read_request
from talkinghead.settings import Settings
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.template import load_template

ON = Settings(allow_workflows=True)
GRAPH = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
SCHEMAS = load_schemas()


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": kind, "inputs": inputs, "_meta": {"title": "The node"}}}


def complaints(graph: dict[str, Any], *files: str) -> list[str]:
    return [str(each) for each in path_problems(graph, SCHEMAS, dict.fromkeys(files, "http://x/"))]


def test_workflow_jobs_are_refused_by_a_worker_that_was_not_told_to_take_them() -> None:
    with pytest.raises(InvalidRequest, match="ALLOW_WORKFLOWS=true"):
        read_request({"workflow": GRAPH}, Settings())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"workflow": "x.json"}, "workflow is neither a GUI workflow"),
        ({"workflow": {"1": {"class_type": "A"}}}, "nor an API graph"),
        ({"prompt": "hello"}, "prompt is not a field of a workflow job, which has workflow, files"),
        ({"files": ["http://x/a.png"]}, "files must be an object of up to 32 names and URLs"),
        ({"files": {f"{n}.png": "http://x/" for n in range(33)}}, "files must be an object"),
        ({"files": {"../a.png": "http://x/a"}}, r"files\.\.\./a\.png: the name is not allowed"),
        ({"files": {"list.m3u8": "http://x/a"}}, r"list\.m3u8: the name is not allowed"),
        ({"files": {"a.png": "file:///etc/passwd"}}, "a.png is not an http:// or https:// URL"),
        ({"files": {"a.png": 3}}, "files.a.png is not a URL"),
        ({"delivery": "ftp"}, 'delivery is not one of "s3", "volume", "inline"'),
        ({"delivery": ["s3"]}, "delivery is not one of"),
        ({"files": {"a.png": "volume:short.png"}}, "a.png is not an http:// or https:// URL, vol"),
        ({"price_per_hour": 0}, "price_per_hour is not a number above 0"),
        ({"price_per_hour": True}, "price_per_hour is not a number above 0"),
        ({"price_per_hour": "1"}, "price_per_hour is not a number above 0"),
    ],
)
def test_a_mistake_in_the_request_is_named(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidRequest, match=expected):
        read_request({"workflow": GRAPH, **fields}, ON)


def test_a_file_on_the_endpoints_volume_is_taken_as_in_a_request() -> None:
    url = "volume:0123456789abcdef0123.png"
    assert read_request({"workflow": GRAPH, "files": {"a.png": url}}, ON).files == {"a.png": url}


def test_all_mistakes_come_at_once_and_without_the_query_of_a_url() -> None:
    fields = {"workflow": 1, "files": {"a.png": "ftp://x/?sig=canary"}, "crop": "top"}
    with pytest.raises(InvalidRequest) as caught:
        read_request(fields, ON)
    problems = caught.value.details["problems"]
    assert [each["field"] for each in problems] == ["crop", "workflow", "files.a.png"]
    assert "canary" not in str(caught.value) + str(problems)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (node("LoadImage", image="b.png"), "names 'b.png', which is not in files; the nearest"),
        (node("LoadImage", image="/etc/x.png"), "names '/etc/x.png', which is not in files"),
        (node("LoadVideo", file="../other/x.mp4"), "which is not in files"),
        (node("LoadAudio", audio="out.wav [output]"), "which is not in files"),
        (node("LoadLatent", latent="job-1/motion.latent"), "which is not in files"),
        (node("LoadImage", image=["2", 0]), "is fed by a link"),
        (node("SaveImage", filename_prefix=["2", 0]), "is fed by a link"),
        (node("VHS_LoadVideo", video={"__value__": ["x.mp4"]}), "names 'x.mp4'"),
        (node("VHS_LoadVideoPath", video="a.png"), "takes a path on ComfyUI's disk"),
        (node("VHS_LoadVideoPath", video=["2", 0]), "is fed by a link"),
        (node("VHS_LoadAudio", audio_file="http://x/a.wav"), "takes a path on ComfyUI's disk"),
        (
            node("WanVideoImageToVideoMultiTalk", output_path="frames"),
            "output_path: names 'frames'",
        ),
        (node("PrimitiveString", value="/etc/passwd"), "may give no URL, absolute path"),
        (node("PrimitiveString", value="https://x/a"), "may give no URL, absolute path"),
        (node("PrimitiveString", value="C:\\x"), "may give no URL, absolute path"),
        (node("WanVideoVAELoader", model_name="../x.safetensors"), "may give no URL"),
    ],
)
def test_what_a_node_would_open_must_be_in_files(graph: dict[str, Any], expected: str) -> None:
    found = complaints(graph, "a.png")
    assert len(found) == 1 and expected in found[0], found
    assert found[0].startswith("The node (")


@pytest.mark.parametrize(
    "graph",
    [
        node("LoadImage", image="a.png"),
        node("VHS_LoadAudio", audio_file="input/"),
        node("CLIPTextEncode", text="see http://x/y, or /this\n../that"),
        node("SaveImage", filename_prefix="some/folder/name"),
        node("WanVideoImageToVideoMultiTalk", output_path="", width=480),
        node("PrimitiveString", value="a/b, c//d"),
    ],
)
def test_names_in_files_prompts_and_defaults_pass(graph: dict[str, Any]) -> None:
    assert complaints(graph, "a.png") == []


def test_files_get_our_names_and_what_is_saved_goes_to_the_jobs_folder() -> None:
    graph = {
        **node("LoadImage", image="a.png"),
        "2": {"class_type": "X", "inputs": {"list": {"__value__": ["a.png", "b"]}, "in": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": ""}},
        "4": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a.png"}},
    }
    placed = set_paths(graph, {"a.png": "job-1/a.png", "1": "never"}, "job-1")
    assert placed["1"]["inputs"] == {"image": "job-1/a.png"}
    assert placed["2"]["inputs"] == {"list": {"__value__": ["job-1/a.png", "b"]}, "in": ["1", 0]}
    assert placed["3"]["inputs"] == {"filename_prefix": "job-1/output"}
    assert placed["4"]["inputs"] == {"filename_prefix": "job-1/a.png"}


def test_every_node_has_a_title_in_either_format() -> None:
    titles = {each["_meta"]["title"] for each in read_graph(GRAPH, SCHEMAS)[0].values()}
    assert titles == {"Load Image"}
    gui, _ = read_graph(load_template("draft_i2v"), SCHEMAS)
    assert {"Portrait", "Video"} < {each["_meta"]["title"] for each in gui.values()}


def test_a_playlist_under_the_name_of_a_video_is_refused(tmp_path: Path, sandbox: Sandbox) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1/x.ts\n")
    faults = Faults()
    check_files([path], ON, sandbox, faults)
    with pytest.raises(MediaInvalid, match=r"^files\.a\.mp4: "):
        faults.tell()


def test_a_masks_file_that_newer_comfyuis_load_a_part_of_is_refused(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    pictures = [Image.new("1", (64, 64), shade) for shade in (0, 1)]
    pictures[0].save(tmp_path / "m.gif", save_all=True, append_images=pictures[1:])
    voices = {f"audio_{n}": ["9", 0] for n in (1, 2)}
    graph = {
        **node("LoadImageMask", image="m.gif", channel="red"),
        "2": {
            "class_type": "MultiTalkWav2VecEmbeds",
            "inputs": {**voices, "ref_target_masks": ["1", 0]},
        },
    }
    check_masks(graph, [tmp_path / "other.png"], ON, sandbox)
    with pytest.raises(MediaInvalid, match=r"^files\.m\.gif: its frames have no delay"):
        check_masks(graph, [tmp_path / "m.gif"], ON, sandbox)


def test_progress_goes_from_node_to_node() -> None:
    graph = {key: {"_meta": {"title": f"Node {key}"}} for key in "abcd"}
    progress = NodeProgress(graph)
    events: list[tuple[str, dict[str, Any]]] = [
        ("execution_cached", {"nodes": ["a", "inner"]}),
        ("executing", {"node": "b"}),
        ("progress", {"node": "b", "value": 1, "max": 2}),
        ("executing", {"node": "c"}),
        ("executing", {"node": None}),
    ]
    seen = [progress.see(Event(kind, data)) for kind, data in events]
    told = [(each.message, each.fraction) for each in seen if each]
    assert told == [("Node b", 0.25), ("Node b", 0.375), ("Node c", 0.5)]


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    (tmp_path / "a.png").write_bytes(b"a" * 300)
    (tmp_path / "b.txt").write_bytes(b"b" * 300)
    return [Item(tmp_path / "a.png", "image/png"), Item(tmp_path / "b.txt", "text/plain")]


def test_the_limit_of_an_inline_result_is_for_all_items_together(items: list[Item]) -> None:
    assert len(InlinePlace(0.0008).put("job", items, Patience(5))) == 2
    with pytest.raises(ResultTooLarge, match=r"allowed: 0\.0007 MB; configure S3"):
        InlinePlace(0.0007).put("job", items, Patience(5))


def test_a_volume_gets_the_items_in_the_jobs_folder(tmp_path: Path, items: list[Item]) -> None:
    volume = VolumePlace(VolumeStore(tmp_path / "volume"))
    places = volume.put("job", items, Patience(5))
    assert [place["path"] for place in places] == [
        str(tmp_path / "volume" / "job" / name) for name in ("a.png", "b.txt")
    ]
    assert Path(places[1]["path"]).read_bytes() == b"b" * 300


def test_what_cannot_be_delivered_is_kept_on_the_volume(
    tmp_path: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    stores = Stores(Settings(volume_dir=tmp_path / "volume", max_inline_mb=0.0001))
    with pytest.raises(ResultTooLarge, match="what was made is kept: ") as caught:
        stores.put("job", items, stores.named(None), Patience(5))
    assert [Path(path).name for path in caught.value.details["paths"]] == ["a.png", "b.txt"]
    assert all(Path(path).is_file() for path in caught.value.details["paths"])
    (tmp_path / "volume" / "talkinghead" / "other").write_text("a file where a folder should be")
    with pytest.raises(DeliveryFailed, match="the volume did not take the outputs"):
        stores.put("other", items, stores.named("volume"), Patience(5))


def test_every_output_of_a_workflow_is_delivered_whatever_their_names(tmp_path: Path) -> None:
    class Server(ComfyClient):
        def download(
            self, file: OutputFile, path: Path, *, watch: Callable[[], None] = lambda: None
        ) -> None:
            path.write_text(file.node_id)

    names = ["3-a.png", "a.png", "a.png", "2-a.png", "a.png"]
    reported = [
        OutputFile(str(node), "images", name, f"folder-{node}", "output")
        for node, name in enumerate(names)
    ]
    server = Server("http://127.0.0.1:9")
    made = collect_files(reported, {}, tmp_path / "made", server, lambda: None)
    assert [each.item.path.read_text() for each in made] == ["0", "1", "2", "3", "4"]
    assert len({each.item.path for each in made}) == 5
