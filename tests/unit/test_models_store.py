"""Finding, checking and fetching model files, against a stand-in for the hub on loopback."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from typer.testing import CliRunner

from talkinghead.cli.app import app
from talkinghead.errors import ModelsMissing
from talkinghead.files import sha256_of
from talkinghead.models.fetch import ModelFetcher, found_models
from talkinghead.models.links import link_models, paths_entry
from talkinghead.models.manifest import Manifest, ModelFile, ModelProfile, load_manifest
from talkinghead.models.store import ModelStore
from talkinghead.settings import PROJECT_DIR, Settings
from tests.hub import COMMIT, Hub, HubFile
from tests.timing import LAST_RESORT_SECONDS, wait_until

REPO = "org/models"
MB = 2**20
FOLDERS = ("diffusion_models", "loras", "vae", "text_encoders", "clip_vision", "wav2vec2")
KILLS = 10

FETCH = """
import sys
from pathlib import Path
from talkinghead.models.fetch import ModelFetcher
from talkinghead.models.store import ModelStore
from talkinghead.models.manifest import load_manifest
from talkinghead.settings import Settings
ModelFetcher(ModelStore(Settings())).fetch(load_manifest(Path(sys.argv[1])).files)
"""
EXITS_ON_SIGTERM = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as handler.py
"""


def hub_files(sizes: list[int]) -> dict[str, HubFile]:
    """Files of these sizes, random and always the same."""
    dice = random.Random(7)
    return {
        f"{REPO}/split_files/model_{index}.safetensors": HubFile(dice.randbytes(size))
        for index, size in enumerate(sizes)
    }


def manifest_of(files: dict[str, HubFile]) -> Manifest:
    """A manifest of what the hub has; every other file's size and sum are not known."""
    entries = {}
    for index, (key, file) in enumerate(files.items()):
        known = {"bytes": len(file.content), "sha256": file.sha256}
        path = key.removeprefix(f"{REPO}/")
        entries[Path(path).name] = {
            "folder": FOLDERS[index % len(FOLDERS)],
            "repo": REPO,
            "path": path,
            "licence": "MIT",
            **(known if index % 2 == 0 else {"sha256": "unconfirmed"}),
        }
    return Manifest.model_validate({"files": entries, "profiles": {}})


def write_manifest(manifest: Manifest, path: Path) -> Path:
    path.write_text(yaml.safe_dump(manifest.model_dump(mode="json", by_alias=True)))
    return path


def contents(store: ModelStore, manifest: Manifest) -> dict[str, bytes]:
    """What lies where ComfyUI will look for each file."""
    return {
        name: (store.folder / file.folder / name).read_bytes()
        for name, file in manifest.files.items()
    }


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    volume = tmp_path / "volume"
    (volume / "models").mkdir(parents=True)
    return Settings(comfyui_dir=tmp_path / "comfy", volume_dir=volume)


@pytest.fixture
def store(settings: Settings) -> ModelStore:
    return ModelStore(settings)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with two small files, the first of which has a known sum."""
    with Hub(hub_files([70_000, 50_000])).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def files(hub: Hub) -> dict[str, ModelFile]:
    return manifest_of(dict(hub.files)).files


def start_fetch(
    hub: Hub, manifest: Path, folder: Path, *, script: str = FETCH
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "MODELS_DIR": str(folder),
        "COMFYUI_DIR": str(folder.parent / "comfy"),
    }
    command = [sys.executable, "-c", script, str(manifest)]
    return subprocess.Popen(command, env=environment, cwd=PROJECT_DIR)


def kill_after(hub: Hub, megabytes: float, manifest: Path, folder: Path) -> bool:
    """End a fetch when the hub has sent it so much, and no more; whether it was still at work."""
    hub.limit = hub.sent.total() + megabytes * MB
    process = start_fetch(hub, manifest, folder)
    wait_until(
        lambda: hub.sent.total() >= hub.limit or process.poll() is not None,
        "the bytes after which to end it",
    )
    process.kill()
    return process.wait() == -signal.SIGKILL


def test_a_fetch_that_is_killed_ten_times_ends_with_every_file_whole(tmp_path: Path) -> None:
    # The hub's library writes pieces of 10 MB: only what is larger can be gone on with.
    files = hub_files([96 * MB, 25 * MB, *[MB] * 6])
    manifest, dice = manifest_of(files), random.Random(1)
    written, folder = write_manifest(manifest, tmp_path / "m.yaml"), tmp_path / "models"
    with Hub(files).running() as hub:
        for _ in range(KILLS):
            assert kill_after(hub, dice.uniform(0, 20), written, folder)
        hub.limit = math.inf
        assert start_fetch(hub, written, folder).wait(LAST_RESORT_SECONDS) == 0
    store = ModelStore(Settings(models_dir=folder, comfyui_dir=tmp_path / "comfy"))
    assert hub.ranges.total() > 0, "no download went on where it was"
    assert contents(store, manifest) == {Path(k).name: f.content for k, f in files.items()}
    assert not list(folder.rglob("*.incomplete"))
    assert [store.problem(p, f, fresh=True) for p, f in _places(store, manifest)] == [None] * 8


def _places(store: ModelStore, manifest: Manifest) -> list[tuple[Path, ModelFile]]:
    files = manifest.files.items()
    return [(store.folder / file.folder / name, file) for name, file in files]


def test_two_workers_that_share_a_volume_fetch_each_file_once(tmp_path: Path) -> None:
    files = hub_files([2 * MB] * 8)
    written = write_manifest(manifest_of(files), tmp_path / "m.yaml")
    with Hub(files, pause_seconds=0.05).running() as hub:
        both = [start_fetch(hub, written, tmp_path / "models") for _ in range(2)]
        assert [process.wait(LAST_RESORT_SECONDS) for process in both] == [0, 0]
    assert set(hub.gets.values()) == {1}
    assert hub.sent.total() == 8 * 2 * MB


def test_a_worker_that_waits_for_the_download_of_another_says_so(
    store: ModelStore, files: dict[str, ModelFile]
) -> None:
    store.private.mkdir(parents=True)
    other = FileLock(store.private / "model_1.safetensors.lock", thread_local=False)
    other.acquire()
    told: list[str] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        if sentence.startswith("waiting"):
            other.release()

    ModelFetcher(store, tell).fetch(files)
    assert "waiting for model_1.safetensors: another worker fetches it" in told
    assert not any("waiting for model_0" in sentence for sentence in told)


def test_a_worker_that_is_ended_while_it_fetches_ends_at_once(tmp_path: Path) -> None:
    """With an exit, as SIGTERM has it: the files that still come keep nobody."""
    files = hub_files([2 * MB] * 6)
    written = write_manifest(manifest_of(files), tmp_path / "m.yaml")
    with Hub(files).running() as hub:
        hub.limit = MB
        process = start_fetch(hub, written, tmp_path / "models", script=EXITS_ON_SIGTERM + FETCH)
        wait_until(lambda: hub.sent.total() >= MB, "the first bytes")
        process.terminate()
        assert process.wait(LAST_RESORT_SECONDS) == 0
        assert hub.sent.total() < 2 * MB


def test_a_file_that_the_hub_refuses_is_told_before_the_others_have_come(
    store: ModelStore, files: dict[str, ModelFile], hub: Hub
) -> None:
    first, second = files
    hub.files[f"{REPO}/{files[first].path}"].faulty = 9
    hub.held_back = f"{REPO}/{files[second].path}"
    with pytest.raises(ModelsMissing, match=r"model_0\.safetensors .* twice"):
        ModelFetcher(store).fetch(files)


def test_a_volume_that_was_filled_elsewhere_is_not_summed_again(
    tmp_path: Path, files: dict[str, ModelFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Pod has it at /workspace, a worker at /runpod-volume."""
    pod = Settings(comfyui_dir=tmp_path / "comfy", models_dir=tmp_path / "workspace" / "models")
    ModelFetcher(ModelStore(pod)).fetch(files)
    (tmp_path / "workspace").rename(tmp_path / "mounted")
    store = ModelStore(Settings(comfyui_dir=tmp_path / "comfy", volume_dir=tmp_path / "mounted"))
    with monkeypatch.context() as patch:
        patch.setattr("talkinghead.models.store.sha256_of", lambda path: "read again")
        assert None not in [store.find(name, file) for name, file in files.items()]
    path = store.find("model_1.safetensors", files["model_1.safetensors"])
    assert path
    path.write_bytes(b"damaged")  # the manifest has no sum of it: what the hub said counts
    assert store.find("model_1.safetensors", files["model_1.safetensors"]) is None


def test_a_folder_of_another_user_is_told_as_such(
    files: dict[str, ModelFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a volume that a Pod filled as root is to the image's `worker`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nowhere")
    with tempfile.TemporaryDirectory() as name:
        store = ModelStore(Settings(models_dir=Path(name), comfyui_dir=Path(name, "comfy")))
        store.private.mkdir()
        for folder in (store.private, store.folder):
            folder.chmod(0o555)
        user = os.geteuid()
        os.seteuid(10001 if user == 0 else user)
        try:
            with pytest.raises(ModelsMissing, match=r"cannot be written \(Permission denied\)"):
                ModelFetcher(store).fetch(files)
        finally:
            os.seteuid(user)
            store.folder.chmod(0o755)


def test_what_other_workers_have_fetched_in_part_needs_no_room_twice(
    store: ModelStore,
    files: dict[str, ModelFile],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also what is whole, and whose sum another worker is taking."""
    incoming = store.private / "incoming" / "model_0.safetensors"
    incoming.mkdir(parents=True)
    (incoming / "model_0.safetensors").write_bytes(bytes(70_000))
    free = shutil.disk_usage(store.folder)._replace(free=60_000)
    monkeypatch.setattr("talkinghead.models.fetch.shutil.disk_usage", lambda folder: free)
    assert len(ModelFetcher(store).fetch(files)) == 2


def test_what_was_fetched_is_found_and_not_fetched_again(
    store: ModelStore, files: dict[str, ModelFile], hub: Hub
) -> None:
    first = ModelFetcher(store).fetch(files)
    assert ModelFetcher(store).fetch(files) == first
    assert set(hub.gets.values()) == {1}
    assert first["model_0.safetensors"] == store.folder / "diffusion_models/model_0.safetensors"


def test_a_layer_of_an_image_keeps_what_is_known_of_a_file(
    store: ModelStore, files: dict[str, ModelFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer has whole seconds alone: what was fetched must have no other time."""
    for name, path in ModelFetcher(store).fetch(files).items():
        seconds = int(path.stat().st_mtime)
        os.utime(path, (seconds, seconds))
        monkeypatch.setattr("talkinghead.models.store.sha256_of", lambda path: "read again")
        assert store.problem(path, files[name]) is None


@pytest.mark.parametrize("name", ["model_0.safetensors", "model_1.safetensors"])
def test_a_file_that_was_damaged_is_set_aside_and_fetched_again(
    name: str, store: ModelStore, files: dict[str, ModelFile], hub: Hub
) -> None:
    path = ModelFetcher(store).fetch(files)[name]
    good = path.read_bytes()
    path.write_bytes(bytes(100) + good[100:])
    assert store.find(name, files[name]) is None
    assert ModelFetcher(store).fetch(files)[name].read_bytes() == good
    assert path.with_name(f"{name}.bad").read_bytes()[:100] == bytes(100)
    assert hub.gets[f"{REPO}/{files[name].path}"] == 2


def test_a_file_that_another_worker_fetched_while_it_was_summed_is_not_set_aside(
    store: ModelStore, files: dict[str, ModelFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find it damaged, and take minutes for its sum: one is quicker."""
    path = ModelFetcher(store).fetch(files)["model_0.safetensors"]
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))

    def slow(path: Path) -> str:
        found = sha256_of(path)
        path.write_bytes(good)
        return found

    monkeypatch.setattr("talkinghead.models.store.sha256_of", slow)
    store.set_bad_aside(files)
    assert path.read_bytes() == good


def test_a_download_that_arrives_damaged_is_fetched_again(
    store: ModelStore, files: dict[str, ModelFile], hub: Hub
) -> None:
    key = next(iter(hub.files))
    hub.files[key].faulty = 1
    path = ModelFetcher(store).fetch(files)["model_0.safetensors"]
    assert path.read_bytes() == hub.files[key].content
    assert hub.gets[key] == 2


def test_a_download_that_is_damaged_twice_is_never_put_into_place(
    store: ModelStore, files: dict[str, ModelFile], hub: Hub
) -> None:
    next(iter(hub.files.values())).faulty = 9
    with pytest.raises(ModelsMissing, match=r"model_0\.safetensors from org/models has the sum"):
        ModelFetcher(store).fetch(files)
    assert not (store.folder / "diffusion_models" / "model_0.safetensors").exists()


def test_a_full_disk_is_said_before_the_first_byte(
    store: ModelStore, files: dict[str, ModelFile], hub: Hub
) -> None:
    hub.files[f"{REPO}/split_files/model_1.safetensors"].announced = 10**16
    with pytest.raises(ModelsMissing, match=r"GB free, and 10000000\.\d GB are to be fetched"):
        ModelFetcher(store).fetch(files)
    assert hub.gets.total() == 0


def test_a_file_that_is_another_at_the_hub_is_refused_before_the_first_byte(
    store: ModelStore, files: dict[str, ModelFile], hub: Hub
) -> None:
    key = next(iter(hub.files))
    hub.files[key].content = hub.files[key].content[::-1]
    with pytest.raises(ModelsMissing, match=r"sha256 is \w+ at org/models, revision main, and"):
        ModelFetcher(store).fetch(files)
    assert hub.gets.total() == 0


def test_a_file_that_the_hub_does_not_have_is_named(
    store: ModelStore, files: dict[str, ModelFile]
) -> None:
    other = {"other.gguf": files["model_0.safetensors"].model_copy(update={"path": "no.gguf"})}
    with pytest.raises(ModelsMissing, match=r"other\.gguf cannot be fetched .* main: HTTP 404"):
        ModelFetcher(store).fetch(other)


def test_the_token_of_the_environment_is_sent_and_not_told(
    store: ModelStore,
    files: dict[str, ModelFile],
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    said: list[str] = []
    ModelFetcher(store, tell=said.append).fetch(files)
    assert hub.tokens == {"Bearer hf_canary"}
    assert "hf_canary" not in "".join(said) + caplog.text


def test_a_file_is_not_summed_again_while_size_and_time_stay(
    store: ModelStore, files: dict[str, ModelFile]
) -> None:
    name = "model_0.safetensors"
    path = ModelFetcher(store).fetch(files)[name]
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.problem(path, files[name]) is None
    assert "has the sum" in str(store.problem(path, files[name], fresh=True))


@pytest.mark.parametrize(
    "place",
    [
        "comfy/models/diffusion_models/model_0.safetensors",
        "comfy/models/unet/model_0.safetensors",
        "volume/models/diffusion_models/model_0.safetensors",
        f"volume/huggingface-cache/hub/models--org--models/snapshots/{COMMIT}/split_files/"
        "model_0.safetensors",
        f"volume/huggingface-cache/hub/models--me--gathered/snapshots/{COMMIT}/diffusion_models/"
        "model_0.safetensors",
        "baked/diffusion_models/model_0.safetensors",
    ],
)
def test_a_file_that_is_there_is_used_where_it_lies(
    place: str, settings: Settings, tmp_path: Path, files: dict[str, ModelFile], hub: Hub
) -> None:
    extra = settings.model_copy(update={"extra_model_dirs": str(tmp_path / "baked")})
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(next(iter(hub.files.values())).content)
    name = "model_0.safetensors"
    assert ModelFetcher(ModelStore(extra)).fetch({name: files[name]}) == {name: path}
    assert hub.gets.total() == 0


def test_a_damaged_file_in_a_cache_is_passed_over(
    settings: Settings, tmp_path: Path, files: dict[str, ModelFile], hub: Hub
) -> None:
    cache = settings.volume_dir / "huggingface-cache/hub/models--org--models/snapshots" / COMMIT
    path = cache / str(files["model_0.safetensors"].path)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(70_000))
    found = ModelFetcher(ModelStore(settings)).fetch(files)["model_0.safetensors"]
    assert found.is_relative_to(settings.volume_dir / "models")
    assert path.read_bytes() == bytes(70_000)


def test_files_are_fetched_to_the_volume_or_else_to_comfyui(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    with_volume = Settings(comfyui_dir=tmp_path / "comfy", volume_dir=volume)
    assert ModelStore(with_volume).folder == volume / "models"
    without = with_volume.model_copy(update={"volume_dir": tmp_path / "none"})
    assert ModelStore(without).folder == tmp_path / "comfy" / "models"
    chosen = with_volume.model_copy(update={"models_dir": tmp_path / "mine"})
    assert ModelStore(chosen).folder == tmp_path / "mine"


def test_a_damaged_file_where_comfyui_looks_is_set_aside_at_the_start(settings: Settings) -> None:
    profile = load_manifest().profile("gguf-q4")
    bad = settings.comfyui_dir / "models" / "vae" / "wan_2.1_vae.safetensors"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"half")
    assert found_models(settings, profile) == {}
    assert [path.name for path in bad.parent.iterdir()] == ["wan_2.1_vae.safetensors.bad"]


@pytest.mark.parametrize("fetch", [True, False])
def test_a_start_fetches_what_is_missing_if_the_settings_say_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fetch: bool
) -> None:
    name = "Wan2_1-InfiniteTalk_Multi_Q8.gguf"
    file = load_manifest().files[name]
    talk_models = dict.fromkeys(load_manifest().profile("gguf-q4").talk_models, name)
    with Hub({f"{file.repo}/{file.path}": HubFile(b"weights")}).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        chosen = settings.model_copy(update={"fetch_models": fetch})
        found = found_models(chosen, ModelProfile(slots={}, talk_models=talk_models))
    assert {key: path.read_bytes() for key, path in found.items()} == (
        {f"diffusion_models/{name}": b"weights"} if fetch else {}
    )


def test_found_files_are_linked_into_one_folder_that_goes_first(tmp_path: Path) -> None:
    here, there = tmp_path / "a" / "blob", tmp_path / "w.safetensors"
    here.parent.mkdir()
    here.write_bytes(b"vae")
    there.write_bytes(b"wav")
    links = tmp_path / "links"
    models = {"vae/v.safetensors": here, "wav2vec2/w.safetensors": there}
    for _ in range(2):
        link_models(models, links)
    entry = paths_entry(links)["models"]
    assert entry["base_path"] == str(links) and entry["is_default"]
    assert (entry["vae"], entry["wav2vec2"]) == ("vae", "wav2vec2")
    assert (links / "vae" / "v.safetensors").read_bytes() == b"vae"


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path / "comfy"))
    monkeypatch.setenv("MODELS_DIR", str(tmp_path / "models"))
    return CliRunner()


def test_the_list_names_every_file_of_every_profile(command_line: CliRunner) -> None:
    said = command_line.invoke(app, ["models", "list"]).output
    manifest = load_manifest()
    assert [name for name in (*manifest.profiles, *manifest.files) if name not in said] == []


def test_where_tells_each_place_and_fails_if_one_is_missing(
    command_line: CliRunner, tmp_path: Path
) -> None:
    tiny_files(tmp_path / "models")
    result = command_line.invoke(app, ["models", "where", "--profile", "tiny"])
    assert result.exit_code == 0, result.output
    assert f"tiny-wan-vae.safetensors: {tmp_path}/models/vae/tiny-wan-vae.safetensors" in (
        result.output
    )
    (tmp_path / "models/vae/tiny-wan-vae.safetensors").unlink()
    result = command_line.invoke(app, ["models", "where", "--profile", "tiny"])
    assert (result.exit_code, "tiny-wan-vae.safetensors: missing" in result.output) == (1, True)


def test_a_setting_s_own_file_is_among_those_of_a_profile_that_is_named(
    command_line: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Pod that fills a volume names it."""
    command = ["models", "where", "--profile", "fp8"]
    assert "lighttaew2_1.safetensors" not in command_line.invoke(app, command).output
    monkeypatch.setenv("LIGHT_VAE", "true")
    assert "lighttaew2_1.safetensors: missing" in command_line.invoke(app, command).output


def tiny_files(folder: Path) -> None:
    for name, file in load_manifest().files_of(load_manifest().profile("tiny")).items():
        path = folder / file.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"random")


def test_gather_lays_a_profile_out_as_a_repository_whose_cache_is_found(
    command_line: CliRunner, tmp_path: Path
) -> None:
    tiny_files(tmp_path / "models")
    cache = tmp_path / "volume/huggingface-cache/hub/models--me--talk/snapshots/1a2b"
    command = ["models", "gather", str(cache), "--profile", "tiny"]
    result = command_line.invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "hf upload" in result.output
    assert "tiny-wan-vae.safetensors: vae" in (cache / "README.md").read_text()

    shutil.rmtree(tmp_path / "models")
    store = ModelStore(Settings(volume_dir=tmp_path / "volume"))
    files = load_manifest().files_of(load_manifest().profile("tiny"))
    found = [store.find(name, file) for name, file in files.items()]
    assert all(path and path.is_relative_to(cache) for path in found)
    tiny_files(tmp_path / "models")
    for there in (cache, cache / "README.md"):
        result = command_line.invoke(app, ["models", "gather", str(there), "--profile", "tiny"])
        assert (result.exit_code, "is no empty folder" in result.output) == (2, True)


def test_gather_names_what_is_missing(command_line: CliRunner, tmp_path: Path) -> None:
    result = command_line.invoke(app, ["models", "gather", str(tmp_path / "a"), "--profile", "fp8"])
    assert result.exit_code == 1
    assert "clip_vision_h.safetensors" in result.output
    assert not (tmp_path / "a").exists()


def test_one_file_at_a_time_is_fetched_until_all_are_there(
    command_line: CliRunner, files: dict[str, ModelFile], tmp_path: Path
) -> None:
    written = write_manifest(Manifest.model_validate(profile_of(files)), tmp_path / "m.yaml")
    for count in (1, 2, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("talkinghead.cli.models.load_manifest", lambda: load_manifest(written))
            command = ["models", "fetch", "--profile", "one", "--most", "1"]
            result = command_line.invoke(app, command)
        assert result.exit_code == 0, result.output
        assert len(list((tmp_path / "models").glob("*/*.safetensors"))) == count


def profile_of(files: dict[str, ModelFile]) -> dict[str, object]:
    """A manifest with one profile, of these files."""
    talk_models = dict(zip(("infinitetalk_single", "multitalk"), files, strict=True))
    return {
        "files": {
            name: file.model_dump(mode="json", by_alias=True) for name, file in files.items()
        },
        "profiles": {"one": {"slots": {}, "talk_models": talk_models}},
    }


def test_verify_names_what_is_damaged_and_what_is_missing(
    command_line: CliRunner, tmp_path: Path
) -> None:
    bad = tmp_path / "models" / "vae" / "wan_2.1_vae.safetensors"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"half")
    result = command_line.invoke(app, ["models", "verify", "--profile", "fp8"])
    assert result.exit_code == 1
    assert f"damaged: {bad} has 4 bytes, expected: 253815318" in result.output
    assert "missing: clip_vision_h.safetensors" in result.output


def test_files_that_are_made_here_are_not_asked_of_the_hub(command_line: CliRunner) -> None:
    result = command_line.invoke(app, ["models", "fetch", "--profile", "tiny"])
    assert result.exit_code == 1
    assert "scripts/make-tiny-models makes it" in " ".join(result.output.split())


def test_an_unknown_profile_is_refused(command_line: CliRunner) -> None:
    result = command_line.invoke(app, ["models", "fetch", "--profile", "fp99"])
    assert result.exit_code == 2
    assert "fp99" in result.output
