"""The way into ComfyUI's GUI: a job's workflow out of its bundle, and a local ComfyUI to open it.

The GUI lists the files of its user's folder `workflows`. It must be given GUI files: an API graph
opens empty there, and Save then destroys the file.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import quote

import requests
import typer
from rich.console import Console
from rich.markup import escape

from comfy_client import ComfyClient, ComfyError
from talkinghead.comfy import warm
from talkinghead.comfy.options import memory_options
from talkinghead.comfy.process import environment_of_comfyui
from talkinghead.errors import ComfyUIUnavailable, JobError
from talkinghead.files import read_json
from talkinghead.models.fetch import found_models
from talkinghead.models.gpu import active_profile, read_host
from talkinghead.models.links import link_models, write_paths
from talkinghead.settings import PROJECT_DIR, Settings
from talkinghead.workflow.file_inputs import FILE_INPUTS
from talkinghead.workflow.gui_file import (
    BYPASSED,
    MUTED,
    Node,
    Workflow,
    is_gui,
    set_widget,
    title_of,
    widgets_of,
)
from talkinghead.workflow.schemas import Schemas

HTTP_SECONDS = 30.0
END_SECONDS = 10.0
MAX_SAME_NAME = 100
LISTED = "talkinghead"  # the folder of our templates in the GUI's list
# The draft as a template of our pack: the GUI opens it, and not its own example.
DRAFT = "?template=draft_i2v&source=talkinghead_draft"
EXAMPLES = ("portrait.jpg", "voice.wav")  # what the templates name
console = Console(stderr=True)


class OpenError(Exception):
    """The workflow cannot be opened; the message says why."""


@dataclass(frozen=True)
class Bundled:
    """The GUI workflow of a replay bundle, and a name for it.

    `windows` is how many such prompts made the video, of which this is the first.
    """

    workflow: Workflow
    name: str
    windows: int


def read_workflow(path: Path) -> Bundled:
    """What a replay bundle has for the GUI.

    Raises:
        OpenError: the file is none.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise OpenError(f"{path} cannot be read as JSON: {error}") from None
    found = content.get("workflow") if isinstance(content, dict) else None
    if not is_gui(found):
        raise OpenError(f"{path} is no replay bundle: it holds no GUI workflow as `workflow`")
    result = content.get("result") or {}
    job, params = result.get("job_id", ""), result.get("generation_params") or {}
    name = re.sub(r"[^\w-]+", "_", str(job)).strip("_") or path.stem
    windows = params["windows"] if params.get("way") == "chain" else 1
    return Bundled(found, f"{LISTED}-{name}", windows)


@dataclass(frozen=True)
class FileInput:
    """A file that an active node of a GUI workflow loads."""

    node: Node
    widget: str
    title: str
    name: str

    @property
    def short(self) -> str:
        """The file's name without its folder, which was the job's own."""
        return PurePosixPath(self.name).name


def file_inputs(workflow: Workflow, schemas: Schemas) -> Iterator[FileInput]:
    """What the workflow loads from ComfyUI's input folder."""
    for node in workflow["nodes"]:
        widget = FILE_INPUTS.get(node["type"])
        if widget is None or node["type"] not in schemas or node.get("mode") in (MUTED, BYPASSED):
            continue
        name = widgets_of(node, schemas).get(widget)
        if isinstance(name, str) and name:
            yield FileInput(node, widget, title_of(node, schemas), name)


class GuiServer:
    """A ComfyUI whose GUI gets a workflow."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client = ComfyClient(self.url)

    def open(
        self, workflow: Workflow, name: str, files: Mapping[str, Path]
    ) -> tuple[str, list[FileInput]]:
        """Put the workflow into the GUI's list; returns its name there, and what files it lacks.

        `files` are uploaded for it: by the names that it has for them, with or without a folder.

        Raises:
            OpenError: the workflow loads no file of such a name, or the server does not answer.
        """
        try:
            schemas = self._client.object_info()
            inputs = list(file_inputs(workflow, schemas))
            _check_names(files, inputs)
            for each in inputs:
                path = files.get(each.name) or files.get(each.short)
                if path is not None:
                    folder = str(PurePosixPath(each.name).parent)
                    new = self._client.upload(path, subfolder="" if folder == "." else folder)
                    set_widget(each.node, each.widget, new, schemas)
            saved = self._save(workflow, name)
            lacking = [i for i in file_inputs(workflow, schemas) if not self._has(i.name)]
            return saved, lacking
        except (ComfyError, requests.RequestException) as error:
            raise OpenError(f"{self.url} did not take the workflow: {error}") from None

    def _save(self, workflow: Workflow, name: str) -> str:
        """Save it under a name that is free: what a person saved there stays."""
        for each in (name, *(f"{name}-{number}" for number in range(2, MAX_SAME_NAME))):
            target = quote(f"workflows/{each}.json", safe="")
            answer = requests.post(
                f"{self.url}/userdata/{target}",
                params={"overwrite": "false"},
                data=json.dumps(workflow).encode(),
                timeout=HTTP_SECONDS,
            )
            if answer.status_code != requests.codes.conflict:
                answer.raise_for_status()
                return each
        raise OpenError(f"{self.url} has too many workflows with the name {name}: delete some")

    def _has(self, name: str) -> bool:
        path = PurePosixPath(name)
        folder = "" if str(path.parent) == "." else str(path.parent)
        query = {"filename": path.name, "subfolder": folder, "type": "input"}
        answer = requests.head(f"{self.url}/view", params=query, timeout=HTTP_SECONDS)
        return bool(answer.status_code == requests.codes.ok)


def _check_names(files: Mapping[str, Path], inputs: list[FileInput]) -> None:
    known = {name for each in inputs for name in (each.name, each.short)}
    for name, path in files.items():
        if name not in known:
            there = ", ".join(sorted({each.short for each in inputs}))
            raise OpenError(f"the workflow loads no {name}; it loads: {there}")
        if not path.is_file():
            raise OpenError(f"{path} is not a file")


# ---- A local ComfyUI with its GUI


def prepare_folders(comfy_dir: Path) -> list[str]:
    """Put templates and example inputs where the GUI finds them; returns what was left as it was.

    They are copies: Save in the GUI shall not touch the repository's files, nor a new start what
    was saved.
    """
    workflows = comfy_dir / "user" / "default" / "workflows" / LISTED
    kept = []
    for source in sorted((PROJECT_DIR / "workflows").glob("*.json")):
        target = workflows / source.name
        if not _copied(source, target) and target.read_bytes() != source.read_bytes():
            kept.append(str(target))
    for name in EXAMPLES:
        _copied(PROJECT_DIR / "examples" / name, comfy_dir / "input" / name)
    gui_settings = comfy_dir / "user" / "default" / "comfy.settings.json"
    if not gui_settings.exists():  # else a tour lies over the canvas
        gui_settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))
    return kept


def _copied(source: Path, target: Path) -> bool:
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return True


def start_gui(
    port: Annotated[int, typer.Option(help="Of ComfyUI, on 127.0.0.1")] = 8188,
) -> None:
    """Start the local ComfyUI with our workflows in its GUI; Ctrl-C ends it.

    While it runs, `talkinghead run` uses it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def tell(url: str) -> None:
        console.print(
            f"\n[bold]Open {url}/{DRAFT}[/] and press Run", highlight=False, soft_wrap=True
        )
        listed = f"the others: key w (Workflows), folder {LISTED}; Ctrl-C ends ComfyUI"
        console.print(f"{listed}\n", highlight=False, soft_wrap=True)

    try:
        settings = Settings()
        for path in prepare_folders(settings.comfyui_dir):
            console.print(
                f"kept as it was saved: {path}; without it, a fresh copy comes", soft_wrap=True
            )
        raise typer.Exit(serve(settings, port, tell))
    except JobError as error:
        console.print(f"[red]failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def serve(settings: Settings, port: int, tell: Callable[[str], None]) -> int:
    """Run ComfyUI in its own folders until it ends or Ctrl-C comes; returns its exit code.

    Its log goes where ours does. `tell` is called with its address once it answers.

    Raises:
        ComfyUIUnavailable: it does not start.
        ModelsMissing: MODEL_PROFILE names no profile.
    """
    _check_free(port)
    process = subprocess.Popen(
        _command(settings, port),
        cwd=settings.comfyui_dir,
        env=environment_of_comfyui(),
        start_new_session=True,  # Ctrl-C comes to us alone, and we hand it on once
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_ready(url, process, settings.comfyui_start_seconds)
        with warm.told(settings, warm.Warm(url, settings.comfyui_dir.absolute())):
            tell(url)
            return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(process)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ComfyUIUnavailable(
                f"port {port} cannot be used ({error.strerror}): give another one with --port"
            ) from None


def _command(settings: Settings, port: int) -> list[str]:
    comfy_dir, args = settings.comfyui_dir.absolute(), shlex.split(settings.comfyui_args)
    models = found_models(settings, active_profile(settings, read_host(settings)))
    folder = comfy_dir / "user" / "talkinghead"
    link_models(models, folder / "models")
    paths_file = folder / "extra_model_paths.yaml"
    write_paths(paths_file, node_dirs=settings.node_dirs, models_dir=folder / "models")
    return [
        *(str(settings.comfyui_python or sys.executable), "-u", "main.py"),
        *("--listen", "127.0.0.1", "--port", str(port)),
        *("--extra-model-paths-config", str(paths_file)),
        *("--database-url", "sqlite:///:memory:"),
        *("--disable-auto-launch", "--disable-api-nodes"),
        *(["--cpu"] if settings.on_cpu else []),
        *memory_options(comfy_dir, args, dynamic_vram=settings.dynamic_vram),
        *args,
    ]


def _wait_ready(url: str, process: subprocess.Popen[bytes], seconds: float) -> None:
    client, deadline = ComfyClient(url), time.monotonic() + seconds
    while True:
        with contextlib.suppress(ComfyError):
            client.system_stats()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise ComfyUIUnavailable("ComfyUI did not start: its log above says why")
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(END_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
