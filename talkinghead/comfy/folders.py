"""The folders of one ComfyUI, and its command line, which names them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from talkinghead.comfy.claim import Hold, sweep, sweep_dead
from talkinghead.models.links import link_models, write_paths


class Folders:
    """Where one ComfyUI reads and writes: all of it in `work_dir`, which nobody else uses."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.input = work_dir / "input"
        self.output = work_dir / "output"
        self.temp = work_dir / "temp"
        self.user = work_dir / "user"
        self.models = work_dir / "models"
        self.model_paths = work_dir / "extra_model_paths.yaml"
        self.log = work_dir / "comfyui.log"
        self._hold: Hold | None = None  # says that they are ours

    def make(self, models: Mapping[str, Path], node_dirs: Sequence[Path]) -> None:
        """Make what is missing, with links to the models by folder/name, and the paths of packs.

        What killed workers left beside them is deleted.
        """
        sweep(self.work_dir.parent)
        if self._hold is None:
            self._hold = Hold(self.work_dir)
        sweep_dead(self.work_dir)
        for folder in (self.input, self.output, self.temp, self.user):
            folder.mkdir(parents=True, exist_ok=True)
        self.link(models)
        write_paths(self.model_paths, node_dirs=node_dirs, models_dir=self.models)

    def link(self, models: Mapping[str, Path]) -> None:
        """Have ComfyUI find these model files, by folder/name; also while it runs."""
        link_models(models, self.models)

    def clear(self, subfolder: str) -> None:
        """Delete what a job left: its subfolder of input and output, and all temporary files."""
        self.clear_job(subfolder)
        for path in self.temp.glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def clear_job(self, subfolder: str) -> None:
        """Delete a job's subfolder of input and output: all that is its own where others work."""
        for folder in (self.input / subfolder, self.output / subfolder):
            shutil.rmtree(folder, ignore_errors=True)

    def delete(self) -> None:
        """Delete them all, with the log."""
        shutil.rmtree(self.work_dir, ignore_errors=True)
        if self._hold is not None:
            self._hold.release()
            self._hold = None


def command_line(python: Path, folders: Folders, port: int, args: Sequence[str]) -> list[str]:
    """ComfyUI on 127.0.0.1, to be run in the folder of its main.py; `args` come last."""
    # A job's files are uploaded over HTTP: 1000 MB holds any sound that the limits admit.
    return [
        *(str(python), "-u", "main.py"),
        *("--listen", "127.0.0.1", "--port", str(port)),
        *("--input-directory", str(folders.input)),
        *("--output-directory", str(folders.output)),
        *("--temp-directory", str(folders.temp.parent)),  # ComfyUI adds /temp itself
        *("--user-directory", str(folders.user)),
        *("--extra-model-paths-config", str(folders.model_paths)),
        *("--database-url", "sqlite:///:memory:"),
        *("--max-upload-size", "1000"),
        *("--disable-auto-launch", "--disable-api-nodes", "--disable-metadata"),
        *args,
    ]
