"""The model manifest: which files a profile uses, and which settings suit them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from talkinghead.errors import ModelsMissing
from talkinghead.models.exclusions import left_out
from talkinghead.models.links import Folder
from talkinghead.plan.fields import CheckPicture
from talkinghead.plan.plan import Plan
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


Widgets = dict[str, str | int | float | bool]


class ModelProfile(_Entry):
    """A set of files that go together, as slots of the templates.

    `without_speed_lora` is what else a render without it gets, where the base model itself is
    distilled. `light_vae` is for LIGHT_VAE, and in no template; what is switched on by settings is
    in `optional`. `auto` never takes what is `only_by_name`. `blocks_to_swap` and `check_picture`
    are for requests that do not say.
    """

    slots: dict[str, Widgets | None]
    talk_models: dict[Annotated[str, AfterValidator(_known)], str]
    without_speed_lora: dict[str, Widgets] = {}
    light_vae: Widgets | None = None
    optional: dict[str, Widgets] = {}
    needs: Needs | None = None
    only_by_name: bool = False
    blocks_to_swap: int = 0
    check_picture: CheckPicture = "fail"

    def slots_for(self, talk_model: str, *, speed_lora: bool = True) -> Slots:
        """What the profile puts into any template for a render with this talk model."""
        slots = self.slots | {"Talk model": {"model": self.talk_models[talk_model]}}
        for title, widgets in ({} if speed_lora else self.without_speed_lora).items():
            slots[title] = {**(slots.get(title) or {}), **widgets}
        return slots

    def filling(self, plan: Plan) -> Slots:
        """What the profile puts into the plan's template, and the nodes that it adds to it."""
        slots = self.slots_for(plan.talk_model, speed_lora=plan.request.speed_lora_strength > 0)
        added = self.optional.keys() - left_out(plan)
        return {**slots, **{title: self.optional[title] for title in sorted(added)}}

    def without(self, title: str) -> ModelProfile:
        """The profile without one of the nodes that it adds."""
        left = {each: widgets for each, widgets in self.optional.items() if each != title}
        return self.model_copy(update={"optional": left})

    @property
    def file_names(self) -> frozenset[str]:
        """The names of all model files that a render with this profile may load."""
        return self._files_in(self.slots, self.optional, self.without_speed_lora) | frozenset(
            self.talk_models.values()
        )

    @property
    def all_file_names(self) -> frozenset[str]:
        """Those, and what a setting may add."""
        return self.file_names | self._files_in({"Light VAE": self.light_vae})

    @staticmethod
    def _files_in(*slots: Mapping[str, Widgets | None]) -> frozenset[str]:
        widgets = [
            value for each in slots for slot in each.values() for value in (slot or {}).values()
        ]
        return frozenset(str(value) for value in widgets if str(value).endswith(MODEL_SUFFIXES))


class Manifest(_Entry):
    """The whole of model_manifest.yaml: every file by its name, every profile by its name."""

    files: dict[Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")], ModelFile]
    profiles: dict[str, ModelProfile]

    @model_validator(mode="after")
    def _files_are_listed(self) -> Self:
        for name, profile in self.profiles.items():
            if unlisted := sorted(profile.all_file_names - self.files.keys()):
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
