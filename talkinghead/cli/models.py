"""`talkinghead models list | fetch | verify | where | gather`."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
from rich.console import Console

from talkinghead.errors import JobError
from talkinghead.files import sha256_of
from talkinghead.models.fetch import ModelFetcher
from talkinghead.models.gpu import active_profile, read_host
from talkinghead.models.manifest import Manifest, ModelFile, load_manifest
from talkinghead.models.store import Files, ModelStore
from talkinghead.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The model files: what there is, and the rest.")
console = Console(stderr=True)

ProfileOption = Annotated[
    str | None, typer.Option(help="A profile of model_manifest.yaml; else the one of this host")
]


@app.command("list")
def list_profiles() -> None:
    """The profiles and their files, with what is known of each."""
    manifest = _manifest()
    for name, profile in manifest.profiles.items():
        typer.echo(f"profile {name}")
        for each, file in manifest.files.items():
            if each in profile.all_file_names:
                typer.echo(f"  {each}: {_described(file)}")


@app.command()
def where(profile: ProfileOption = None) -> None:
    """Where each file of a profile lies. Exits with 1 if one is missing or damaged."""
    store, files = ModelStore(Settings()), _files(profile)
    places = {name: store.find(name, file) for name, file in files.items()}
    for name, path in places.items():
        typer.echo(f"{name}: {path or 'missing'}")
    raise typer.Exit(0 if all(places.values()) else 1)


@app.command()
def fetch(
    profile: ProfileOption = None,
    most: Annotated[int | None, typer.Option(min=1, help="So many files, and no more")] = None,
) -> None:
    """Fetch what is missing, and fetch again what is damaged.

    It may be stopped at any time, and goes on where it was. HF_ENDPOINT names a mirror of the hub,
    HF_TOKEN is its token.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once: what is there is kept
    if not console.is_terminal:
        disable_progress_bars()
    store, files = ModelStore(Settings()), _files(profile)
    if most:  # the image has a layer for each
        wanted = [name for name, file in files.items() if store.find(name, file) is None]
        files = {name: files[name] for name in wanted[:most]}
    try:
        found = ModelFetcher(store, tell=typer.echo).fetch(files)
    except JobError as error:
        console.print(f"[red]failed:[/] {error}", highlight=False)
        raise typer.Exit(1) from None
    typer.echo(f"{len(found)} files are there")


@app.command()
def gather(
    folder: Annotated[Path, typer.Argument(help="A new folder", metavar="DIR")],
    profile: ProfileOption = None,
) -> None:
    """Lay a profile's files out as one repository of the hub, as RunPod's cached models want them.

    Linked where they lie on the same filesystem, else copied; then `hf upload OWNER/NAME DIR`.
    Exits with 1 if a file is missing or damaged.
    """
    store, files = ModelStore(Settings()), _files(profile)
    places = {name: store.find(name, file) for name, file in files.items()}
    if missing := [name for name, path in places.items() if path is None]:
        console.print(f"[red]missing or damaged:[/] {', '.join(missing)}", highlight=False)
        raise typer.Exit(1)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise typer.BadParameter(f"{folder} is no empty folder", param_hint="DIR")
    for name, path in places.items():
        if path is not None:
            _put(path, folder / files[name].folder / name)
    sources = "".join(f"- {name}: {_described(file)}\n" for name, file in files.items())
    (folder / "README.md").write_text(f"# Model files\n\n{sources}", encoding="utf-8")
    typer.echo(f"{len(files)} files are in {folder}; next: hf upload OWNER/NAME {folder}")


def _put(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path.resolve(), target)
    except OSError:  # another filesystem, or one without hard links
        shutil.copy2(path, target)


@app.command()
def verify(profile: ProfileOption = None) -> None:
    """Read every file of a profile anew. Exits with 1 if one is missing or damaged."""
    store, wrong = ModelStore(Settings()), 0
    for name, file in _files(profile).items():
        places = list(store.candidates(name, file))
        good = [_verify(store, path, file) for path in places]
        wrong += not any(good)
        if not places:
            typer.echo(f"missing: {name}")
    raise typer.Exit(min(wrong, 1))


def _verify(store: ModelStore, path: Path, file: ModelFile) -> bool:
    """Tell what the file is; whether it can be used."""
    if problem := store.problem(path, file, fresh=True):
        typer.echo(f"damaged: {path} {problem}: it is not used, and `models fetch` fetches another")
        return False
    known = "" if file.sha256 else f", {path.stat().st_size} bytes, sum {sha256_of(path)}"
    typer.echo(f"ok: {path}{known}")
    return True


def _manifest() -> Manifest:
    try:
        return load_manifest()
    except JobError as error:
        raise typer.BadParameter(str(error)) from None


def _files(profile: str | None) -> Files:
    manifest = _manifest()
    try:
        settings = Settings()
        if profile:
            named = manifest.profile(profile)
            names = named.all_file_names if settings.light_vae else named.file_names
            return {name: file for name, file in manifest.files.items() if name in names}
        chosen = active_profile(settings, read_host(settings))
    except JobError as error:
        raise typer.BadParameter(str(error)) from None
    return manifest.files_of(chosen)


def _described(file: ModelFile) -> str:
    if file.repo is None:
        return f"{file.folder}, made by scripts/make-tiny-models"
    size = f"{file.bytes / 1e9:.2f} GB" if file.bytes else "size unconfirmed"
    sha256 = f"sha256 {file.sha256 or file.stated_sha256}"
    source = f"{file.repo}/{file.path} at {file.revision}"
    return f"{file.folder}, {size}, {sha256}, {file.licence}, {source}"
