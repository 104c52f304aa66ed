"""The model manifest: which files a profile uses, and which settings suit them."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from talkinghead.errors import ModelsMissing
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow import Slots

MANIFEST_PATH = PROJECT_DIR / "model_manifest.yaml"


class ModelFile(BaseModel):
    """Where a file comes from. `bytes` and `sha256` are expected values until a download."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    repo: str | None = None
    path: str | None = None
    revision: str = "main"
    bytes: int | None = None
    sha256: str | None = None


class Manifest(BaseModel):
    """`files`: name -> origin. `profiles`: name -> template slots, by node title."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, ModelFile]
    profiles: dict[str, dict[str, dict[str, str | int | float | bool] | None]]


def load_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """The manifest, validated.

    Raises:
        ModelsMissing: the file does not follow its schema.
    """
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ModelsMissing(f"{path.name} is not valid: {error}") from error


def profile_slots(manifest: Manifest, profile: str) -> Slots:
    """What the profile puts into a template.

    Raises:
        ModelsMissing: there is no such profile.
    """
    if profile not in manifest.profiles:
        known = ", ".join(manifest.profiles)
        raise ModelsMissing(f"MODEL_PROFILE is {profile!r}, allowed: {known}")
    return manifest.profiles[profile]
