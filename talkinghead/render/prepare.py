"""A job's inputs: from its sources to the files that the nodes load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from talkinghead.comfy.studio import Studio
from talkinghead.media import looking, mux, sound, source_video, voice_filter
from talkinghead.media.outside import Outside, put_back
from talkinghead.media.picture import save_picture
from talkinghead.media.regions import save_inside, save_regions
from talkinghead.media.sandbox import Sandbox
from talkinghead.media.sound import Sound
from talkinghead.plan.fields import CheckPicture
from talkinghead.plan.plan import Plan, make_plan
from talkinghead.plan.prompt import check_prompt
from talkinghead.plan.request import RenderRequest
from talkinghead.plan.windows import prompt_notes
from talkinghead.render.sources import Opened, Sources

# From a rendered file to another, which of the delivered frames, what number the first rendered one
# has, and what is called meanwhile.
PutBack: TypeAlias = Callable[[Path, Path, range, int, Callable[[], None]], None]
MASKS_NAME, INSIDE_NAME = "masks.png", "inside.png"
NO_DISK_NOTE = (
    "the frames are held in the memory of the ComfyUI at COMFYUI_URL, all of them: MultiTalk could "
    "write them to disk, but not where this worker can tell the folder"
)


def decide(
    request: RenderRequest,
    sources: Sources,
    opened: Opened,
    *,
    folder: Path,
    studio: Studio,
    sandbox: Sandbox,
) -> Plan:
    """Decide the render, and write its masks: so a dry run tells what is wrong with them, too.

    Raises:
        InvalidRequest, UnsupportedCombination, MediaInvalid, MediaTooLarge
    """
    check_prompt("prompt", request.prompt, studio.text_encoder)
    for index, timed in enumerate(request.prompts):
        check_prompt(f"prompts.{index}.text", timed.text, studio.text_encoder)
    check_prompt("negative_prompt", request.negative_prompt or "", studio.text_encoder)
    plan = make_plan(
        request,
        opened.voices,
        opened.picture,
        faces=opened.faces,
        masks=opened.masks,
        blocks_to_swap=studio.profile.blocks_to_swap,
        ram_gib=studio.host.ram_gib,
    )
    _write_regions(request, plan, sources, folder=folder, studio=studio, sandbox=sandbox)
    if plan.frames_on_disk and studio.output_dir is None:
        return replace(plan, long=False, warnings=(*plan.warnings, NO_DISK_NOTE))
    return replace(plan, warnings=(*plan.warnings, *prompt_notes(plan)))


@dataclass(frozen=True)
class Tracks:
    """A job's files as the nodes take them. `picture` is a BMP, or an MP4 of source frames.

    `references` are the pictures of a chain's windows, the last of them for all that follow.
    `delivered_sound` is `sound` as AAC, and `glances` what is kept of the references, or of the
    source's frames, to look at the picture beside; both may still be being written when the render
    begins. `put_back` makes of a rendered file one that has the source around its speakers. `notes`
    are sentences for the caller.
    """

    picture: Path
    speech: tuple[Path, ...]
    sound: Path
    masks: Path | None
    delivered_sound: Future[Path]
    references: tuple[Path, ...]
    glances: Future[Path] | None
    put_back: PutBack | None = None
    notes: tuple[str, ...] = ()


def prepare(
    request: RenderRequest,
    plan: Plan,
    sources: Sources,
    sounds: Sequence[Sound | None],
    *,
    folder: Path,
    studio: Studio,
    pool: Executor,
    sandbox: Sandbox,
) -> Tracks:
    """Write what the nodes will load, some of it in the pool."""
    pictures = pool.submit(_frame_pictures, plan, sources, folder, studio, sandbox)
    voices = [
        sound.Voice(person.field, path, heard, offset or 0.0) if path and heard else None
        for person, path, heard, offset in zip(
            request.speakers, sources.voices, sounds, plan.offsets, strict=True
        )
    ]
    given = [voice for voice in voices if voice]
    fields = ", ".join(voice.name for voice in given)
    mix, seconds = folder / "sound.wav", plan.duration
    sandbox.call(fields, sound.save_mix, given, mix, seconds=seconds)
    speech = tuple(folder / f"speech_{number}.wav" for number in range(1, len(voices) + 1))
    for voice, target in zip(voices, speech, strict=True):
        sandbox.call(
            voice.name if voice else fields,
            sound.save_speech,
            voice,
            target,
            seconds=seconds,
            padded_samples=plan.speech_samples,
        )
    notes = tuple(_keep_speech(voices, speech, sandbox)) if request.voice_filter else ()
    masks = folder / MASKS_NAME if has_masks(request, plan) else None  # `decide` wrote it
    framed = pictures.result()  # not while the sound is encoded: ComfyUI waits for it
    delivered_sound = pool.submit(_encode_sound, fields, mix, folder / "sound.m4a", sandbox)
    around = _keep_outside(request, plan, sources, folder=folder, studio=studio)
    glances = None
    if check_of(request, studio) != "off":
        glances = pool.submit(_glance_at, plan, framed, folder / "glances", sandbox)
    return Tracks(framed[0], speech, mix, masks, delivered_sound, framed, glances, around, notes)


def has_masks(request: RenderRequest, plan: Plan) -> bool:
    """Whether the nodes get masks: the model's ignore those of one person, the draft's do not.

    Without masks, a draft looks for one person everywhere: after a cut, too.
    """
    if len(request.speakers) > 1:
        return True
    only = request.speakers[0]
    among_others = len(plan.people) > 1 and plan.regions[0] is not None
    return request.draft and bool(only.box or only.mask_url or among_others)


def _keep_speech(
    voices: Sequence[sound.Voice | None], tracks: Sequence[Path], sandbox: Sandbox
) -> Iterator[str]:
    """Silence what is no speech in the voices' tracks; says what is left of each."""
    for voice, track in zip(voices, tracks, strict=True):
        if voice is not None:
            seconds = sandbox.call(voice.name, voice_filter.keep_speech, track)
            what = f"{seconds:.1f} s of speech" if seconds else "no speech: the mouth will rest"
            yield f"voice_filter: the model hears of {voice.name} {what}"


def check_of(request: RenderRequest, studio: Studio) -> CheckPicture:
    """What is to happen to a picture that is black, flat or noise; a draft is never noise."""
    return request.check_picture or ("fail" if request.draft else studio.profile.check_picture)


def _glance_at(plan: Plan, sources: Sequence[Path], target: Path, sandbox: Sandbox) -> Path:
    field, box = plan.request.picture_field, plan.delivered_box
    sandbox.call(field, looking.save_glances, sources, target, box=box)
    return target


def _encode_sound(fields: str, mix: Path, target: Path, sandbox: Sandbox) -> Path:
    sandbox.call(fields, mux.encode_sound, mix, target)
    return target


def _frame_pictures(
    plan: Plan, sources: Sources, folder: Path, studio: Studio, sandbox: Sandbox
) -> tuple[Path, ...]:
    """One file; of a chain from a video, one for each window."""
    field = plan.request.picture_field
    if plan.source is None:
        target = folder / "picture.bmp"  # it goes no further than ComfyUI: no time to compress
        megapixels = studio.settings.max_image_megapixels
        source, framing = sources.picture, plan.framing
        sandbox.call(field, save_picture, field, source, target, framing, max_megapixels=megapixels)
        return (target,)
    times = tuple(plan.source.times)
    if plan.chained:
        references = folder / "references"
        saved = sandbox.call(
            field,
            source_video.save_pictures,
            field,
            sources.picture,
            references,
            times=times,
            framing=plan.framing,
        )
        return tuple(references / path.name for path in saved)  # wherever it says that they are
    target = folder / "source.mp4"
    sandbox.call(
        field,
        source_video.save_frames,
        field,
        sources.picture,
        target,
        times=times,
        framing=plan.framing,
        fps=plan.source.fps,
        loop=True,
    )
    return (target,)


def _write_regions(
    request: RenderRequest,
    plan: Plan,
    sources: Sources,
    *,
    folder: Path,
    studio: Studio,
    sandbox: Sandbox,
) -> None:
    """Where the speakers are, for the nodes and for what is kept around them."""
    people = zip(request.speakers, sources.masks, plan.regions, strict=True)
    regions = [(f"{person.field}.mask_url", path or region) for person, path, region in people]
    targets = [(save_regions, MASKS_NAME)] if has_masks(request, plan) else []
    targets += [(save_inside, INSIDE_NAME)] if plan.keeps_outside else []
    for save, name in targets:
        sandbox.call(
            ", ".join(field for field, each in regions if isinstance(each, Path)) or "speakers",
            save,
            regions,
            plan.framing,
            folder / name,
            max_megapixels=studio.settings.max_image_megapixels,
        )


def _keep_outside(
    request: RenderRequest, plan: Plan, sources: Sources, *, folder: Path, studio: Studio
) -> PutBack | None:
    """What puts the source back around the speakers, where that is asked for."""
    if not plan.keeps_outside:
        return None
    outside = Outside(
        field=request.picture_field,
        source=sources.picture,
        inside=folder / INSIDE_NAME,  # `decide` wrote it
        framing=plan.framing,
        box=plan.delivered_box,
        rendered_fps=plan.fps,
        fps=request.fps,
    )

    def put(
        rendered: Path, target: Path, shown: range, first: int, check: Callable[[], None]
    ) -> None:
        # A sandbox of its own: what is rendered has a while longer than the job's.
        with studio.sandboxes.open(check) as finishing:
            field = outside.field
            finishing.call(field, put_back, outside, rendered, target, shown=shown, first=first)

    return put
