"""The manifest: what it may say, and that its profiles are legal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from talkinghead.errors import ModelsMissing
from talkinghead.models.manifest import Manifest, load_manifest
from talkinghead.plan.talk_models import talk_files
from talkinghead.workflow.graph import model_files
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import lint_workflow
from talkinghead.workflow.schemas import load_schemas
from talkinghead.workflow.template import fill, for_jobs, load_template

MANIFEST = load_manifest()
SUM = "0" * 64
WHOLE = {"folder": "vae", "repo": "a/b", "path": "c/d.gguf", "sha256": SUM, "licence": "MIT"}


@pytest.mark.parametrize("profile", MANIFEST.profiles)
@pytest.mark.parametrize("talk_model", talk_files())
@pytest.mark.parametrize("template", ["infinitetalk_i2v", "infinitetalk_v2v"])
def test_each_profile_pairs_only_files_that_compute_rightly(
    profile: str, talk_model: str, template: str
) -> None:
    if (template, talk_model) == ("infinitetalk_v2v", "multitalk"):
        return  # refused by the plan
    schemas, chosen = load_schemas(), MANIFEST.profile(profile)
    slots = dict(chosen.slots_for(talk_model))
    if talk_model == "multitalk":
        slots["Talking image"] = {"mode": "multitalk", "motion_frame": 25}
    graph = to_api(fill(for_jobs(load_template(template)), slots, schemas), schemas)
    found = lint_workflow(graph, schemas)
    # The tiny profiles mute what looks at the first frame.
    assert [each for each in found if not each.message.startswith("leads to no output")] == []
    assert set(model_files(graph).values()) <= chosen.file_names


@pytest.mark.parametrize("profile", ["gguf-q4", "fp8", "fp16"])
def test_the_files_of_a_real_profile_have_source_sum_and_licence(profile: str) -> None:
    files = MANIFEST.files_of(MANIFEST.profile(profile))
    assert {file.folder for file in files.values()} == {
        *("diffusion_models", "loras", "vae", "text_encoders", "clip_vision", "wav2vec2"),
    }
    for name, file in files.items():
        assert file.repo and file.licence and file.stated_sha256, name
        assert str(file.path).endswith(name)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"folder": "unet"}, r"files\.x\.gguf\.folder: Input should be 'diffusion_models'"),
        ({"sha256": "abc"}, r"files\.x\.gguf\.sha256"),
        ({"bytes": 0}, r"files\.x\.gguf\.bytes: Input should be greater than 0"),
        ({"repo": "no-slash"}, r"files\.x\.gguf\.repo"),
        ({"path": "../d"}, r"files\.x\.gguf: .*path leads out of the repo"),
        ({"licence": None}, r"files\.x\.gguf: .*also needs licence"),
        ({"size": 3}, r"files\.x\.gguf\.size: Extra inputs are not permitted"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_the_field(
    change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({"files": {"x.gguf": WHOLE | change}, "profiles": {}}))
    with pytest.raises(ModelsMissing, match=expected):
        load_manifest(path)


def test_a_profile_may_not_name_a_file_that_is_not_listed() -> None:
    profile = {"slots": {"VAE": {"model_name": "y.gguf"}}, "talk_models": {}}
    with pytest.raises(ValueError, match=r"profiles.p names y.gguf, not in files"):
        Manifest.model_validate({"files": {"x.gguf": WHOLE}, "profiles": {"p": profile}})
