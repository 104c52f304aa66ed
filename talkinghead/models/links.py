"""Model files of many places, as links in one folder that ComfyUI looks into first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

import yaml

# The folders of ComfyUI's models/ that the loaders of our templates read.
Folder = Literal[
    "diffusion_models", "loras", "vae", "vae_approx", "text_encoders", "clip_vision", "wav2vec2"
]


def link_models(models: Mapping[str, Path], folder: Path) -> None:
    """Link the files, by "folder/name", into one folder, laid out like ComfyUI's models/.

    A link that is there already is replaced: its file may lie elsewhere now.
    """
    for name, path in models.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(path.absolute())


def write_paths(target: Path, *, node_dirs: Iterable[Path], models_dir: Path) -> None:
    """Write ComfyUI's extra_model_paths.yaml: folders of node packs, and that of the links."""
    packs = {f"pack_{i}": {"custom_nodes": str(d)} for i, d in enumerate(node_dirs)}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump({**packs, **paths_entry(models_dir)}))


def paths_entry(folder: Path) -> dict[str, dict[str, object]]:
    """The entry of extra_model_paths.yaml that has ComfyUI look there first."""
    kinds = {kind: kind for kind in get_args(Folder)}
    return {"models": {"base_path": str(folder), "is_default": True, **kinds}}
