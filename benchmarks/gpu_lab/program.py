"""What is run on the machine, in which order, and how long that is expected to take. Pure.

The seconds are stated, not measured: those of a step and of what is around it are the row of the
H200 in docs/tuning.md, which is derived.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from talkinghead.bench.configurations import PLAIN, Configuration
from talkinghead.bench.measure import FIRST_STEPS
from talkinghead.bench.standard import Standard
from talkinghead.plan.frames import WINDOW_FRAMES
from talkinghead.plan.pace import (
    MASK_SHARE,
    REST_SECONDS,
    SQUARE_SHARE,
    STEP_SECONDS,
    USUAL_PIXELS,
    USUAL_STEPS,
    card_named,
)

BUDGET_SECONDS = 480.0
UNPACK_SECONDS, FLOOR_SECONDS, START_SECONDS = 15.0, 20.0, 12.0
WRITTEN_GB_A_SECOND, READ_GB_A_SECOND = 1.5, 2.0
SHARED_GB = 2.6  # VAE, wav2vec, CLIP, LoRA, the small text encoder
BASE_GB = {"fp8": 16.4, "fp8-distill": 16.4, "fp16": 32.8, "gguf-q4": 9.3}
TALK_GB = {"fp8": 2.4, "fp8-distill": 2.4, "fp16": 4.8, "gguf-q4": 2.6}
PROBE_SECONDS = 20.0  # a worker that is to take SageAttention looks first whether it is right
COMPILE_SECONDS = 90.0

P480, P720 = (480, 832), (720, 1280)
SAGE, CHAIN, COMPILED = {"attention": "sageattn"}, {"long": True}, {"torch_compile": True}


@dataclass(frozen=True)
class Item:
    """One measurement: `first` renders once before, so that nothing that comes once is in it."""

    name: str
    profile: str
    standard: Standard
    configuration: Configuration = field(default_factory=lambda: Configuration(PLAIN))
    first: bool = False

    @property
    def place(self) -> str:
        """Where its videos go: those of one place are compared with its plain one."""
        s = self.standard
        return f"{self.profile}-{s.width}x{s.height}-{s.windows}-{s.speakers}"


def _item(
    name: str,
    size: tuple[int, int] = P480,
    *,
    profile: str = "fp8",
    windows: int = 1,
    speakers: int = 1,
    first: bool = False,
    configuration: Configuration | None = None,
) -> Item:
    standard = Standard(*size, windows, speakers)
    return Item(name, profile, standard, configuration or Configuration(PLAIN), first)


# The most valuable first: what does not fit into the time is left out, and said.
ITEMS = (
    _item("480p, sdpa", first=True),
    _item("480p, sageattn", configuration=Configuration("sageattn", SAGE)),
    _item("480p, a chain of 2", windows=2, configuration=Configuration("chain", fields=CHAIN)),
    _item("480p, fp8-distill", profile="fp8-distill"),
    _item("720p, sdpa", P720),
    _item("480p, two speakers", speakers=2),
    _item("480p, fp16", profile="fp16"),
    _item("480p, 40 blocks swapped", configuration=Configuration("swap", {"blocks_to_swap": 40})),
    _item("480p, GGUF Q4", profile="gguf-q4"),
    _item("480p, 2 windows in one prompt", windows=2),
    _item("480p, 20 blocks swapped", configuration=Configuration("some", {"blocks_to_swap": 20})),
    _item("720p, sageattn", P720, configuration=Configuration("sageattn", SAGE)),
    _item("480p, compiled", first=True, configuration=Configuration("compiled", COMPILED)),
)


@dataclass(frozen=True)
class Expected:
    """When an item is expected to end, in seconds of the whole; and whether it then still fits."""

    item: Item
    seconds: float
    ends: float

    @property
    def fits(self) -> bool:
        """Whether it ends within the time."""
        return self.ends <= BUDGET_SECONDS


def expected_seconds(item: Item, made: Sequence[str]) -> float:
    """Of an item, if the files of the profiles `made` are there."""
    card = card_named("H200")
    assert card is not None
    standard, size = item.standard, BASE_GB[item.profile] + TALK_GB[item.profile]
    pixels = standard.width * standard.height / USUAL_PIXELS
    step = STEP_SECONDS * ((1 - SQUARE_SHARE) * pixels + SQUARE_SHARE * pixels**2) / card.speed
    step *= 1 + MASK_SHARE * (standard.speakers + 1 if standard.speakers > 1 else 0)
    rest = REST_SECONDS * pixels / card.speed
    steps = USUAL_STEPS + (FIRST_STEPS if item.first else 0)
    rests = 2 if item.first else 1
    seconds = START_SECONDS + size / READ_GB_A_SECOND
    seconds += standard.windows * (steps * step + rests * rest)
    if "attention" in item.configuration.settings:
        seconds += PROBE_SECONDS
    if "torch_compile" in item.configuration.settings:
        seconds += COMPILE_SECONDS
    return seconds + (0 if item.profile in made else size / WRITTEN_GB_A_SECOND)


def schedule(items: Sequence[Item] = ITEMS) -> Iterator[Expected]:
    """All items in their order: one that would end too late is left out, and the next one tried."""
    now, made = UNPACK_SECONDS + FLOOR_SECONDS + SHARED_GB / WRITTEN_GB_A_SECOND, list[str]()
    for item in items:
        seconds = expected_seconds(item, made)
        planned = Expected(item, seconds, now + seconds)
        if planned.fits:
            now += seconds
            made.append(item.profile)
        yield planned


def told(items: Sequence[Item] = ITEMS) -> str:
    """The order, with its seconds, as a Markdown table."""
    rows = [
        f"{WINDOW_FRAMES} frames a window, {USUAL_STEPS} steps. Seconds are stated, not measured: "
        f"the H200's row of docs/tuning.md, {START_SECONDS:g} s to start ComfyUI, files written "
        f"at {WRITTEN_GB_A_SECOND:g} and read at {READ_GB_A_SECOND:g} GB/s. First "
        f"{UNPACK_SECONDS + FLOOR_SECONDS:g} s of unpacking, and the floor.",
        "",
        "| | profile | seconds | ends at | |",
        "|---|---|---|---|---|",
    ]
    for each in schedule(items):
        when = f"{each.ends:.0f} s" if each.fits else ""
        late = "" if each.fits else f"left out: it would end at {each.ends:.0f} s"
        name, profile = each.item.name, each.item.profile
        rows.append(f"| {name} | {profile} | {each.seconds:.0f} | {when} | {late} |")
    return "\n".join([*rows, "", f"The time is {BUDGET_SECONDS:g} s."])
