from __future__ import annotations

import hashlib
import json
from typing import Any

from talkinghead import __version__
from talkinghead.media.picture import Picture
from talkinghead.media.sound import Sound
from talkinghead.plan.plan import make_plan
from talkinghead.plan.request import parse_request
from talkinghead.plan.shown import without_secrets
from talkinghead.render.bundle import make_bundle

REQUEST = {
    "image_url": "https://user:canary-1@x.example/i.jpg?X-Amz-Signature=canary-2",
    "speakers": [{"audio_url": "https://x.example/a.wav?token=canary-3#canary-4"}, {}],
    "upload_url": "https://bucket.example/key?X-Amz-Signature=canary-5",
    "prompt": "smiling",
    "seed": 7,
}


def bundle_of(inputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    plan = make_plan(
        parse_request(REQUEST), [Sound(2.0, 16_000, 1, silent=False), None], Picture(512, 512)
    )
    return make_bundle(
        REQUEST,
        plan,
        workflow={"nodes": []},
        graph={"1": {"class_type": "LoadImage", "inputs": {"image": "job-1/picture.png"}}},
        inputs=inputs,
        result={"video_info": {"sha256": "ab"}},
        pins={"https://x.example/ComfyUI": "v0.3.75", "https://x.example/Pack": "ab12"},
        machine={
            "system": {"comfyui_version": "0.3.75", "argv": ["/home/somebody/main.py"]},
            "devices": [{"name": "cuda:0 NVIDIA L4"}],
        },
    )


def test_a_request_loses_what_its_urls_carry_in_secret_and_keeps_the_rest() -> None:
    assert without_secrets(REQUEST) == {
        "image_url": "https://x.example/i.jpg?...",
        "speakers": [{"audio_url": "https://x.example/a.wav?..."}, {}],
        "prompt": "smiling",
        "seed": 7,
    }


def test_a_bundle_tells_what_made_the_video() -> None:
    picture = {"sha256": hashlib.sha256(b"pixels").hexdigest(), "bytes": 6}
    bundle = bundle_of({"image_url": picture})
    assert bundle["plan"]["seed"] == 7
    assert bundle["plan"]["frames"] == 50
    assert bundle["inputs"] == {"image_url": picture}
    assert bundle["graph"]["1"]["class_type"] == "LoadImage"
    assert bundle["machine"]["devices"] == [{"name": "cuda:0 NVIDIA L4"}]
    assert bundle["machine"]["system"] == {"comfyui_version": "0.3.75"}


def test_a_bundle_names_every_version() -> None:
    versions = bundle_of({})["versions"]
    assert versions["talkinghead"] == __version__
    assert versions["pins"] == {
        "https://x.example/ComfyUI": "v0.3.75",
        "https://x.example/Pack": "ab12",
    }


def test_a_bundle_holds_no_secret_and_is_json() -> None:
    assert "canary" not in json.dumps(bundle_of({}))


def test_what_a_field_holds_decides_what_is_hidden_of_it() -> None:
    asked = {
        "wav_url": "bucket.example/a b.wav?X-Amz-Signature=canary",
        "image_base64": "Y2FuYXJ5",
        "speakers": [{"mask_url": "data:image/png;base64,Y2FuYXJ5", "box": [0, 0, 1, 1]}],
        "speakers.0.audio_url": "user:canary@h/a",
        "audio_urls": ["HTTPS:/h/'a'?canary"],
        "prompt": "why? see <https://h/?canary> and data:image/png;base64,Y2FuYXJ5",
        "UPLOAD": {"upload_url": "https://h/?canary"},
        "steps": 4,
    }
    assert without_secrets(asked) == {
        "wav_url": "bucket.example/a b.wav?...",
        "image_base64": "base64 (6 bytes)",
        "speakers": [{"mask_url": "data:image/png (6 bytes)", "box": [0, 0, 1, 1]}],
        "speakers.0.audio_url": "h/a",
        "audio_urls": ["HTTPS:/h/'a'?..."],
        "prompt": "why? see <https://h/?... and data:image/png (6 bytes)",
        "UPLOAD": {},
        "steps": 4,
    }
