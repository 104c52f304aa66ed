"""The whole space of requests: an error that names a field, or a graph that fits; nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from talkinghead.errors import (
    InvalidRequest,
    JobError,
    MediaInvalid,
    MediaTooLarge,
    UnsupportedCombination,
)
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.media.source_video import SourceVideo
from talkinghead.models.manifest import load_manifest
from talkinghead.plan.fields import RequestFields
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.windows import window
from talkinghead.workflow import template
from talkinghead.workflow.check import check
from talkinghead.workflow.gui_to_api import to_api
from talkinghead.workflow.lint import traps
from talkinghead.workflow.schemas import Schemas, load_schemas
from talkinghead.workflow.slots import Inputs, WindowInputs

SCHEMAS: Schemas = load_schemas()
MANIFEST = load_manifest()

DATA = "data:image/png;base64,iVBORw0KGgo="
URLS = st.sampled_from(["https://example.com/a.wav", "http://x/y.mp4?q=1", DATA])
CONTENTS = st.sampled_from(["iVBORw0KGgo=", DATA])
BAD: st.SearchStrategy[Any] = st.sampled_from(
    [None, -1, 1e9, "", "x", [], {}, True, float("nan"), ["a"] * 9, "file:///e"]
)
SPEAKER = st.fixed_dictionaries(
    {},
    optional={
        "audio_url": URLS,
        "box": st.lists(st.floats(0, 1), min_size=4, max_size=4),
        "mask_url": URLS,
    },
)
PROMPT = st.fixed_dictionaries({"at": st.floats(0, 7200), "text": st.text(max_size=9)})
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "input_type": st.sampled_from(["image", "video"]),
    "person_count": st.sampled_from(["single", "multi"]),
    "image_url": URLS,
    "video_url": URLS,
    "wav_url": URLS,
    "wav_url_2": URLS,
    "image_base64": CONTENTS,
    "video_base64": CONTENTS,
    "wav_base64": CONTENTS,
    "wav_base64_2": CONTENTS,
    "image": URLS,
    "audio": URLS,
    "size": st.sampled_from(["480p", "720p"]),
    "enable_safety_checker": st.booleans(),
    "audio_urls": st.lists(URLS, min_size=1, max_size=4),
    "speakers": st.lists(SPEAKER, min_size=1, max_size=4),
    "prompt": st.text(max_size=40),
    "positive_prompt": st.text(max_size=40),
    "negative_prompt": st.text(max_size=40),
    "aspect_ratio": st.sampled_from(["16:9", "9:16", "auto"]),
    "prompts": st.lists(PROMPT, min_size=1, max_size=4),
    "resolution": st.sampled_from(["480p", "720p"]),
    "width": st.integers(256, 1536),
    "height": st.integers(256, 1536),
    "fps": st.floats(10, 60) | st.sampled_from([25, 30, 24, 29.97]),
    "steps": st.integers(1, 50),
    "cfg_scale": st.floats(0.1, 20),
    "audio_cfg_scale": st.floats(0, 10),
    "audio_scale": st.floats(0, 3),
    "shift": st.floats(1, 20),
    "scheduler": st.sampled_from(["unipc", "euler", "dpm++_sde", "flowmatch_distill", "lcm/beta"]),
    "seed": st.integers(0, 2**53 - 1),
    "mode": st.sampled_from(["infinitetalk", "multitalk"]),
    "use_block_swap": st.booleans(),
    "blocks_to_swap": st.integers(0, 40),
    "use_speed_lora": st.booleans(),
    "speed_lora_strength": st.floats(0, 2),
    "max_frame": st.integers(1, 20_000),
    "max_audio_duration": st.floats(0.01, 5000),
    "audio_mode": st.sampled_from(["parallel", "sequential"]),
    "video_method": st.sampled_from(["keyframes", "denoise"]),
    "voice_filter": st.sampled_from([None, "speech"]),
    "crop": st.sampled_from(["faces", "center", "top", "left", "right", "bottom"]),
    "keep_outside": st.booleans(),
    "draft": st.booleans(),
    "retry_out_of_memory": st.booleans(),
    "check_picture": st.sampled_from(["fail", "warn", "off"]),
    "delivery": st.sampled_from(["s3", "volume", "inline"]),
    "upload_url": URLS,
    "bundle": st.booleans(),
    "embed_workflow": st.booleans(),
    "long": st.booleans(),
    "color_match": st.booleans(),
    "playlist": st.booleans(),
    "continue_later": st.booleans(),
    "request_id": st.sampled_from(["a", "Job_1-2"]),
    "dry_run": st.booleans(),
    "price_per_hour": st.floats(0.1, 10),
}
# A request that stands, to which anything may be added; or nothing at all.
CORES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"image_url": "https://x/i.jpg", "wav_url": "https://x/a.wav"},
        {"image_url": "https://x/i.jpg", "audio_urls": ["https://x/a.wav", "https://x/b.wav"]},
        {"image_url": "https://x/i.jpg", "speakers": [{"audio_url": "https://x/a.wav"}, {}]},
        {"video_url": "https://x/v.mp4", "wav_url": "https://x/a.wav"},
        {"image": "https://x/i.jpg", "audio": "https://x/a.wav", "size": "480p"},
        {},
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    fields: dict[str, Any] = draw(CORES).copy()
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=8, unique=True)):
        fields[name] = draw(GOOD[name])
    if draw(st.integers(0, 4)) == 0:
        fields[draw(st.sampled_from([*sorted(GOOD), "stepps"]))] = draw(BAD)
    return fields


VOICES = st.builds(
    Sound,
    duration=st.floats(0.01, 4000),
    rate=st.sampled_from([8000, 44_100, 192_000]),
    channels=st.sampled_from([1, 2, 6]),
    silent=st.booleans(),
)


def test_the_space_is_that_of_the_request() -> None:
    assert set(GOOD) == set(RequestFields.model_fields)


@settings(max_examples=2000, suppress_health_check=list(HealthCheck))
@given(requests(), st.lists(VOICES, min_size=4, max_size=4), st.floats(0.04, 600))
def test_a_request_gives_an_error_that_names_a_field_or_a_graph_that_fits(
    fields: dict[str, Any], voices: list[Sound], video_seconds: float
) -> None:
    try:
        request = parse_request(fields)
        heard = [v if s.audio_url else None for v, s in zip(voices, request.speakers, strict=False)]
        source = (
            SourceVideo(640, 480, video_seconds, round(video_seconds * 25), 25.0)
            if request.video_url
            else Picture(640, 480)
        )
        plan = make_plan(request, heard, source)
    except (InvalidRequest, UnsupportedCombination, MediaInvalid, MediaTooLarge) as error:
        assert names_a_field(error), str(error)
        return
    people = len(request.speakers)
    masks = "j/m.gif" if people > 1 else None
    profile, speech = MANIFEST.profile("gguf-q4"), ("j/s.wav",) * people
    if plan.chained:
        last = window(plan, plan.windows - 1)
        motion = "j/m.latent" if last.index else None
        files = WindowInputs("j/p", "j/r", speech, masks, motion, "j/v")
        gui = template.fill_window(plan, last, files, profile, SCHEMAS)
    else:
        inputs = Inputs("j/p", speech, "j/m.wav", masks, "j/v")
        gui = template.fill_template(plan, inputs, profile, SCHEMAS)
    graph = to_api(gui, SCHEMAS)
    assert check(graph, SCHEMAS) == []
    assert [finding for finding in traps(graph, SCHEMAS) if finding.severity == "error"] == []


def names_a_field(error: JobError) -> bool:
    text = str(error)
    return any(name in text for name in [*GOOD, "stepps"])
