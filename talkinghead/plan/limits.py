"""What the models cannot do, how long a sound they take, and which renders are long ones."""

from __future__ import annotations

from collections.abc import Sequence

from talkinghead.errors import MediaInvalid, MediaTooLarge, UnsupportedCombination
from talkinghead.media.picture import Picture
from talkinghead.media.source_video import SourceVideo
from talkinghead.memory import GIB
from talkinghead.plan.fields import either
from talkinghead.plan.frames import MODEL_FPS
from talkinghead.plan.request import RenderRequest
from talkinghead.plan.straying import Stray
from talkinghead.plan.talk_models import MODELS

# MultiTalkWav2VecEmbeds takes up to 10,000 frames, and we ask it for one more than we need.
MAX_MODEL_FRAMES = 9_999
MAX_DENOISE_FRAMES = 1_000  # the whole clip lies on the GPU: about 7 GB at 480p, 16 GB at 720p
MAX_VOICE_SECONDS = 7200
# One prompt holds every frame in the host's RAM: bytes a pixel, and the share that they may take.
PROMPT_BYTES_PER_PIXEL, PROMPT_RAM_SHARE = 18, 0.3
MIN_SECONDS = 0.4  # the loudness meter inside MultiTalkWav2VecEmbeds fails on less
NEEDS_CHAIN = ("prompts", "color_match", "playlist", "continue_later")


def check_combination(request: RenderRequest) -> None:
    """Refuse what the models cannot do, before a file is opened.

    Raises:
        UnsupportedCombination
    """
    if request.keep_outside and request.video_url is None:
        raise UnsupportedCombination(
            "keep_outside is true, but there is no video_url whose pixels could be kept"
        )
    if request.draft:
        return
    chained = [name for name in NEEDS_CHAIN if getattr(request, name)]
    if chained and (why := _unchained(request)):
        raise UnsupportedCombination(
            f"{chained[0]} needs a render window by window, and {why} is rendered in one prompt"
        )
    if request.video_url is None:
        return
    if not MODELS[request.mode].from_video:
        raise UnsupportedCombination(
            f'mode "{request.mode}" renders from a picture only: give image_url, or mode '
            + either({name: each for name, each in MODELS.items() if each.from_video})
        )
    if request.video_method == "denoise" and request.long:
        raise UnsupportedCombination(
            'long is true, but video_method "denoise" holds the whole clip on the GPU: give '
            '"keyframes", or leave long out'
        )
    if request.video_method == "denoise" and request.steps == 1:
        raise UnsupportedCombination(
            'steps is 1, but video_method "denoise" needs 2 or more: it skips the first half'
        )


def check_outside(
    request: RenderRequest, picture: Picture | SourceVideo, strays: Sequence[Stray]
) -> None:
    """Refuse to put back what is around the speakers where the model's picture does not go along.

    Raises:
        UnsupportedCombination
    """
    if not request.draft and (why := why_not_outside(request, picture, strays)):
        raise UnsupportedCombination(why)


def why_not_outside(
    request: RenderRequest, picture: Picture | SourceVideo, strays: Sequence[Stray]
) -> str | None:
    """Why the render, not its draft, cannot keep what is around the speakers; None if it can."""
    moved = picture.camera_moves_at if isinstance(picture, SourceVideo) else None
    if moved is not None and keeps_by_keyframes(request):
        return (
            f"keep_outside is true, but the camera of {request.picture_field} moves, or there is a "
            f"cut (seen at {moved:.1f} s): with keyframes the speakers would not move along; give "
            f'video_method "denoise" (up to {MAX_DENOISE_FRAMES // MODEL_FPS} s), or leave '
            "keep_outside out"
        )
    left = next((each for each in strays if each.of_region), None)
    if left is not None and request.keep_outside:
        return (
            f"keep_outside is true, but the face of {left.field} is outside of its region at "
            f"{left.second:.1f} s: what is rendered of it would be cut off there; give a box in "
            "speakers that holds the whole way, or leave keep_outside out"
        )
    return None


def keeps_by_keyframes(request: RenderRequest) -> bool:
    """Whether a render puts the source back around what is made from its keyframes alone."""
    keyframes = request.video_url is not None and request.video_method == "keyframes"
    return request.keep_outside and keyframes


def _unchained(request: RenderRequest) -> str | None:
    """Of the request, what keeps it from being rendered window by window."""
    if MODELS[request.mode].long != "chain":
        return f'mode "{request.mode}"'
    if request.long is False:
        return "long: false"
    if request.video_url is not None and request.video_method == "denoise":
        return 'video_method "denoise"'
    return None


def is_long(request: RenderRequest, pixels: int, frames: int, ram_gib: float) -> bool:
    """Whether the render shall not hold all of its frames, `pixels` in all, in memory."""
    if request.draft or (request.video_url is not None and request.video_method == "denoise"):
        return False
    if request.long is not None:
        return request.long
    if frames > MAX_MODEL_FRAMES or any(getattr(request, name) for name in NEEDS_CHAIN):
        return True
    return pixels * PROMPT_BYTES_PER_PIXEL > ram_gib * GIB * PROMPT_RAM_SHARE


def check_length(request: RenderRequest, duration: float, *, long: bool) -> None:
    """Refuse a sound of so many seconds that the render cannot take.

    Raises:
        MediaInvalid, MediaTooLarge
    """
    voices = ", ".join(person.field for person in request.speakers if person.audio_url)
    if duration < MIN_SECONDS:
        raise MediaInvalid(
            f"{voices}: the sound is {duration:.2f} s long, or cut to that by max_frame or "
            f"max_audio_duration; allowed: {MIN_SECONDS} s or more"
        )
    limit, why = _limit(request, long=long)
    if duration > limit:
        raise MediaTooLarge(
            f"{voices}: the sound is {duration:.1f} s long; allowed: {limit:g} s{why}: "
            "set max_audio_duration"
        )


def _limit(request: RenderRequest, *, long: bool) -> tuple[float, str]:
    """The longest sound, in seconds, and a remark on the limit."""
    chained = MODELS[request.mode].long == "chain"
    if request.draft or (long and chained):
        return MAX_VOICE_SECONDS, ""
    if request.video_url is not None and request.video_method == "denoise":
        return MAX_DENOISE_FRAMES / MODEL_FPS, ' with video_method "denoise"'
    if not chained:
        others = either({name: each for name, each in MODELS.items() if each.long == "chain"})
        return MAX_MODEL_FRAMES / MODEL_FPS, (
            f' with mode "{request.mode}", {MAX_MODEL_FRAMES} frames (mode {others} has no such '
            "limit)"
        )
    return MAX_MODEL_FRAMES / MODEL_FPS, " with long: false"
