"""The model manifest: which files a profile uses, and which settings suit them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from talkinghead.errors import ModelsMissing
from talkinghead.models.links import Folder
from talkinghead.plan.fields import CheckPicture
from talkinghead.plan.talk_models import talk_files
from talkinghead.settings import PROJECT_DIR
from talkinghead.workflow.file_inputs import MODEL_SUFFIXES
from talkinghead.workflow.slots import Slots

MANIFEST_PATH = PROJECT_DIR / "model_manifest.yaml"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _known(talk_model: str) -> str:
    if talk_model not in talk_files():
        raise ValueError(f"is none of {', '.join(talk_files())}")
    return talk_model


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelFile(_Entry):
    """Where a file comes from, and what it must be; a file without `repo` is made here.

    `sha256` is None if there is no sum to hold it against before a download.
    """

    folder: Folder
    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    path: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)*$")] | None = None
    revision: str = "main"
    bytes: Annotated[int, Field(gt=0)] | None = None
    stated_sha256: Literal["unconfirmed"] | Sha256 | None = Field(None, alias="sha256")
    licence: str | None = None

    @model_validator(mode="after")
    def _source_is_whole(self) -> Self:
        source = {"path": self.path, "sha256": self.stated_sha256, "licence": self.licence}
        missing = [name for name, value in source.items() if value is None]
        if self.repo is not None and missing:
            raise ValueError(f"a file with a repo also needs {', '.join(missing)}")
        if self.path is not None and ".." in PurePosixPath(self.path).parts:
            raise ValueError("path leads out of the repo")
        return self

    @property
    def sha256(self) -> str | None:
        """The sum that the file must have."""
        return None if self.stated_sha256 == "unconfirmed" else self.stated_sha256


class Needs(_Entry):
    """What a profile takes, GiB: the least GPU and host; its base model, and what goes beside."""

    gpu: float
    host: float
    base: float
    beside: float


class ModelProfile(_Entry):
    """A set of files that go together, as slots of the templates.

    `blocks_to_swap` and `check_picture` are for requests that do not say.
    """

    slots: dict[str, dict[str, str | int | float | bool] | None]
    talk_models: dict[Annotated[str, AfterValidator(_known)], str]
    needs: Needs | None = None
    blocks_to_swap: int = 0
    check_picture: CheckPicture = "fail"

    def slots_for(self, talk_model: str) -> Slots:
        """What the profile puts into a template for a render with this talk model."""
        return self.slots | {"Talk model": {"model": self.talk_models[talk_model]}}

    @property
    def file_names(self) -> frozenset[str]:
        """The names of all model files that a render with this profile may load."""
        widgets = [value for slot in self.slots.values() for value in (slot or {}).values()]
        named = {value for value in widgets if str(value).endswith(MODEL_SUFFIXES)}
        return frozenset(map(str, named)) | frozenset(self.talk_models.values())


class Manifest(_Entry):
    """The whole of model_manifest.yaml: every file by its name, every profile by its name."""

    files: dict[Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")], ModelFile]
    profiles: dict[str, ModelProfile]

    @model_validator(mode="after")
    def _files_are_listed(self) -> Self:
        for name, profile in self.profiles.items():
            if unlisted := sorted(profile.file_names - self.files.keys()):
                raise ValueError(f"profiles.{name} names {', '.join(unlisted)}, not in files")
        return self

    def profile(self, name: str) -> ModelProfile:
        """The profile of this name.

        Raises:
            ModelsMissing: there is none.
        """
        if name not in self.profiles:
            known = ", ".join(["auto", *self.profiles])
            raise ModelsMissing(f"MODEL_PROFILE is {name!r}, allowed: {known}")
        return self.profiles[name]

    def files_of(self, profile: ModelProfile) -> dict[str, ModelFile]:
        """The files of a profile, in the manifest's order."""
        return {name: file for name, file in self.files.items() if name in profile.file_names}


def load_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """The manifest, validated.

    Raises:
        ModelsMissing: the file does not follow its schema; the message names each field.
    """
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ModelsMissing(f"{path.name} cannot be read: {error}") from None
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ")
            for each in error.errors()
        )
        raise ModelsMissing(f"{path.name} is not valid: {found}") from None
