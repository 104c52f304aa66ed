"""A client of our own ComfyUI: what is on its disk need not go through its HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comfy_client import ComfyClient, FileMissing, OutputFile
from talkinghead.comfy.folders import Folders


class OwnClient(ComfyClient):
    """The same as any client, but that files are copied into ComfyUI's folders, and out of them."""

    def __init__(self, url: str, folders: Folders, **options: Any) -> None:
        super().__init__(url, **options)
        self._folders = folders

    def upload(self, path: Path, *, subfolder: str = "") -> str:
        """Put a file into the input folder; returns its name as nodes take it.

        Raises:
            OSError: such as a disk that is full.
        """
        name = f"{subfolder}/{path.name}" if subfolder else path.name
        target = self._folders.input / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return name

    def download(
        self, file: OutputFile, path: Path, *, watch: Callable[[], None] = lambda: None
    ) -> None:
        """Copy an output to `path`. `watch` is called before; what it raises ends it.

        Raises:
            FileMissing: it is not in the folder that it is said to be in, or no longer.
            OSError: such as a disk that is full.
        """
        watch()
        ours = self._folders
        folder = {"output": ours.output, "temp": ours.temp, "input": ours.input}.get(file.type)
        source = folder and (folder / file.subfolder / file.filename).resolve()
        # A node may name any file: as ComfyUI's own /view, this gives none of another folder.
        if not (folder and source and source.is_relative_to(folder.resolve()) and source.is_file()):
            raise FileMissing(f"ComfyUI has no file {file.filename} of node {file.node_id}")
        shutil.copyfile(source, path)
