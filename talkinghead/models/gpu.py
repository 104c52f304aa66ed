"""What the host has, and which models and loader settings suit it. Choosing is pure."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from comfy_client import ComfyClient, ComfyError
from talkinghead.errors import SettingsExcluded
from talkinghead.memory import GIB, ram_gib
from talkinghead.models.exclusions import FP8_CAPABILITY, Choice, refusals
from talkinghead.models.manifest import Manifest, ModelProfile, load_manifest
from talkinghead.models.probes import Finding, probe
from talkinghead.models.speedups import NO_SPEEDUPS, Speedups, wants_fp8
from talkinghead.settings import Settings

Attention = Literal["sdpa", "sageattn", "sageattn_compiled"]

MODEL_BLOCKS = 40  # transformer blocks of the 14B model: each holds a fortieth of the weights
SWAP_STEP = 5
AMPERE = 8.0  # compute capability of the first cards with bf16
# Beside the weights: one window of 81 frames in the sampler and in the VAE, between 480p and 720p.
# An estimate, not measured; a render that needs more runs out of memory, and is tried with less.
WORKING_GIB = 8.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")
QUERY_SECONDS = 15.0  # nvidia-smi on a host without its persistence daemon takes a few seconds
PYTHON_SECONDS = 60.0  # for one that starts on a busy machine, from a cold disk


@dataclass(frozen=True)
class Gpu:
    """One GPU; `capability` is CUDA's compute capability, None where nobody told."""

    name: str
    vram_gib: float
    capability: float | None


@dataclass(frozen=True)
class Host:
    """What renders: `ram_gib` is what the container may use, `sage` whether SageAttention runs.

    `has_sage` is whether it is there at all, None where nobody can tell; `fp8` whether the card
    multiplies in fp8; both by the probes, of which `found` says what they found. It is not known
    while the server at COMFYUI_URL does not answer.
    """

    gpu: Gpu | None
    ram_gib: float
    sage: bool = False
    is_known: bool = True
    has_sage: bool | None = None
    fp8: bool = False
    found: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tuning:
    """What suits a host: a profile, and widgets of the loaders, the block swap and the sampler.

    `bf16` is whether the card computes in it; without, the VAE takes fp32.
    """

    profile: str
    attention: Attention
    blocks_to_swap: int
    force_offload: bool
    bf16: bool = True
    speedups: Speedups = NO_SPEEDUPS

    def apply(self, profile: ModelProfile) -> ModelProfile:
        """The profile with these settings in its slots; the profile itself stays as it is."""
        profile = self.speedups.apply(profile)
        slots = dict(profile.slots)
        slots["Wan model"] = {**(slots.get("Wan model") or {}), "attention_mode": self.attention}
        slots["Sampler"] = {"force_offload": self.force_offload}
        if not self.bf16:
            slots["VAE"] = {**(slots.get("VAE") or {}), "precision": "fp32"}
        changes = {"slots": slots, "blocks_to_swap": self.blocks_to_swap}
        return profile.model_copy(update=changes)

    def __str__(self) -> str:
        swap = f"{self.blocks_to_swap} of {MODEL_BLOCKS} blocks swapped"
        kept = "off the GPU between jobs" if self.force_offload else "kept on the GPU"
        more = f", {self.speedups}" if str(self.speedups) else ""
        return f"profile {self.profile}, {self.attention}, {swap}, weights {kept}{more}"


def choose(
    host: Host,
    manifest: Manifest,
    *,
    profile: str = "auto",
    attention: Attention | Literal["auto"] = "auto",
    force_offload: bool | None = None,
    blocks_to_swap: int | None = None,
    speedups: Speedups = NO_SPEEDUPS,
) -> Tuning:
    """The largest profile that the host has room for, and what it needs to run there.

    What is given by hand is taken as it is.

    Raises:
        ModelsMissing: there is no profile of that name.
        SettingsExcluded: what is given by hand, the nodes refuse.
    """
    name = _largest_that_fits(host, manifest) if profile == "auto" else profile
    chosen = manifest.profile(name)
    if attention == "auto":
        attention = "sageattn" if host.sage else "sdpa"
    _check_choice(host, name, chosen, attention, speedups)
    if speedups.fp8_matmul is None and wants_fp8(chosen):
        speedups = replace(speedups, fp8_matmul=host.fp8)
    if force_offload is None:
        force_offload = not _holds_two_copies(host, chosen)
    if blocks_to_swap is None:
        blocks_to_swap = _blocks_to_swap(host, chosen)
    return Tuning(
        profile=name,
        attention=attention,
        blocks_to_swap=blocks_to_swap,
        force_offload=force_offload,
        bf16=_computes_bf16(host.gpu),
        speedups=speedups,
    )


def _check_choice(
    host: Host, name: str, profile: ModelProfile, attention: Attention, speedups: Speedups
) -> None:
    """Raise SettingsExcluded for what the nodes would refuse."""
    choice = Choice(
        base=str((profile.slots.get("Wan model") or {}).get("model", "")),
        has_lora=profile.slots.get("Speed LoRA") is not None,
        attention=attention,
        fp8_matmul=bool(speedups.fp8_matmul),
        torch_compile=speedups.torch_compile,
        capability=host.gpu.capability if host.gpu else None,
        has_sage=host.has_sage,
    )
    if found := list(refusals(choice)):
        raise SettingsExcluded(f"{'; '.join(found)} (the profile is {name})")


def _computes_bf16(gpu: Gpu | None) -> bool:
    return gpu is None or gpu.capability is None or gpu.capability >= AMPERE


def _largest_that_fits(host: Host, manifest: Manifest) -> str:
    """The last profile of the manifest whose needs are met, else the first."""
    by_size = sorted(
        (each.needs.gpu, each.needs.host, name)
        for name, each in manifest.profiles.items()
        if each.needs and not each.only_by_name
    )
    vram = host.gpu.vram_gib if host.gpu else 0
    fit = [name for gpu, ram, name in by_size if gpu <= vram and ram <= host.ram_gib]
    return fit[-1] if fit else by_size[0][2]


def _blocks_to_swap(host: Host, profile: ModelProfile) -> int:
    """As many blocks of the base model as make room for a window, in steps of five."""
    if host.gpu is None or profile.needs is None:
        return 0
    over = profile.needs.base + profile.needs.beside + WORKING_GIB - host.gpu.vram_gib
    blocks = max(0.0, over) / (profile.needs.base / MODEL_BLOCKS)
    return min(MODEL_BLOCKS, math.ceil(blocks / SWAP_STEP) * SWAP_STEP)


def _holds_two_copies(host: Host, profile: ModelProfile) -> bool:
    """The sampler copies the weights anew for each job, before it lets go of those it kept."""
    if host.gpu is None or profile.needs is None:
        return False
    weights = profile.needs.base + profile.needs.beside
    return 2 * weights + WORKING_GIB <= host.gpu.vram_gib


# ---- Asking the host


def tuning_for(settings: Settings, manifest: Manifest, host: Host) -> Tuning:
    """What suits the host, or what the settings say.

    Raises:
        ModelsMissing: MODEL_PROFILE names no profile.
        SettingsExcluded: two settings exclude each other.
    """
    return choose(
        host,
        manifest,
        profile=settings.model_profile,
        attention=settings.attention,
        force_offload=settings.force_offload,
        blocks_to_swap=settings.blocks_to_swap,
        speedups=Speedups.of(settings),
    )


def active_profile(settings: Settings, host: Host) -> ModelProfile:
    """The profile that renders on the host, with the settings that suit it.

    Raises:
        ModelsMissing: MODEL_PROFILE names no profile, or the manifest is not valid.
        SettingsExcluded: two settings exclude each other.
    """
    manifest = load_manifest()
    tuning = tuning_for(settings, manifest, host)
    return tuning.apply(manifest.profile(tuning.profile))


def read_host(settings: Settings) -> Host:
    """The GPU and memory that ComfyUI has, here or at the server of COMFYUI_URL.

    PyTorch is not loaded into this process: it would take a share of the GPU for as long as it
    lives.
    """
    if settings.comfyui_url:
        return _host_of_server(settings.comfyui_url)
    gpu = None if settings.on_cpu else read_gpu()
    if gpu is None:
        return Host(None, ram_gib(), has_sage=False)
    found: dict[str, Finding | None] = {}
    ask = functools.partial(
        probe,
        python=str(settings.comfyui_python or sys.executable),
        card=gpu.name,
        kept=settings.kept_dir / "probes",
    )
    if settings.attention != "sdpa":
        found["SageAttention"] = ask("attention")
    able = gpu.capability is None or gpu.capability >= FP8_CAPABILITY
    if able and settings.fp8_matmul is None and _is_for_fp8(settings.model_profile):
        found["fp8 arithmetic"] = ask("fp8")
    sage, fp8 = found.get("SageAttention"), found.get("fp8 arithmetic")
    return Host(
        gpu,
        ram_gib(),
        sage=sage is not None and sage.is_good,
        has_sage=sage.is_there if sage else None,
        fp8=fp8 is not None and fp8.is_good,
        found=tuple(f"{name} {each or 'gives no answer'}" for name, each in found.items()),
    )


def _is_for_fp8(profile: str) -> bool:
    known = load_manifest().profiles
    return profile in known and wants_fp8(known[profile])


@functools.cache
def read_gpu() -> Gpu | None:
    """The first GPU, as nvidia-smi tells; None if it finds none, or does not answer.

    Asked once: a container's card does not change.
    """
    fields = "--query-gpu=name,memory.total,compute_cap"
    said = _said(["nvidia-smi", fields, "--format=csv,noheader,nounits"], QUERY_SECONDS)
    return parse_gpu(said)


def parse_gpu(said: str) -> Gpu | None:
    """The GPU in the first line of nvidia-smi's CSV (name, MiB, compute capability), if any."""
    with contextlib.suppress(ValueError):
        name, mebibytes, capability = said.splitlines()[0].split(", ") if said else ("", "", "")
        known = capability.replace(".", "", 1).isdigit()
        return Gpu(name, float(mebibytes) / 1024, float(capability) if known else None)
    return None


@functools.cache
def read_driver() -> str:
    """The version of NVIDIA's driver, as nvidia-smi tells; empty if it does not answer."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return _said(command, QUERY_SECONDS).partition("\n")[0].strip()


def version_beside_comfyui(package: str, python: Path | None) -> str:
    """The version of a package in ComfyUI's Python; empty if it cannot be told.

    `python` is run to tell it; None is the one that runs here.
    """
    if python is None:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
        return ""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return _said([str(python), "-c", code], PYTHON_SECONDS)


def _said(command: list[str], seconds: float, fallback: str = "") -> str:
    """What a command prints; `fallback` if it fails, is not there or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except (OSError, subprocess.SubprocessError):
        return fallback
    return done.stdout.strip()


def _host_of_server(url: str) -> Host:
    """What a ComfyUI that somebody else runs tells; without an answer, no GPU."""
    try:
        stats = ComfyClient(url).system_stats()
    except ComfyError:
        return Host(None, math.inf, is_known=False)
    devices = [each for each in stats.get("devices", []) if each.get("type") == "cuda"]
    ram = stats.get("system", {}).get("ram_total", math.inf) / GIB  # its host's
    if urlsplit(url).hostname in LOOPBACK:  # most likely in our container, whose limit holds
        ram = min(ram, ram_gib())
    return Host(_gpu_of_server(devices[0]) if devices else None, ram)


def _gpu_of_server(device: Mapping[str, object]) -> Gpu:
    name = str(device.get("name", "GPU"))
    return Gpu(name, float(str(device.get("vram_total", 0))) / GIB, None)
