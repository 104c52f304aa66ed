"""The model manifest: which files a profile uses, and which settings suit them."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from talkinghead.errors import ModelsMissing
from talkinghead.plan import TalkModel
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow import Slots

MANIFEST_PATH = PROJECT_DIR / "model_manifest.yaml"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelFile(_Entry):
    """Where a file comes from. `bytes` and `sha256` are expected values until a download."""

    folder: str
    repo: str | None = None
    path: str | None = None
    revision: str = "main"
    bytes: int | None = None
    sha256: str | None = None


class Profile(_Entry):
    """A set of files that go together, as slots of the templates."""

    slots: dict[str, dict[str, str | int | float | bool] | None]
    talk_models: dict[TalkModel, str]

    def slots_for(self, talk_model: TalkModel) -> Slots:
        """What the profile puts into a template for a render with this talk model."""
        return self.slots | {"Talk model": {"model": self.talk_models[talk_model]}}


class Manifest(_Entry):
    """Every file by its name, every profile by its name."""

    files: dict[str, ModelFile]
    profiles: dict[str, Profile]

    def profile(self, name: str) -> Profile:
        """The profile of this name.

        Raises:
            ModelsMissing: there is none.
        """
        if name not in self.profiles:
            known = ", ".join(self.profiles)
            raise ModelsMissing(f"MODEL_PROFILE is {name!r}, allowed: {known}")
        return self.profiles[name]


def load_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """The manifest, validated.

    Raises:
        ModelsMissing: the file does not follow its schema.
    """
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ModelsMissing(f"{path.name} is not valid: {error}") from error
