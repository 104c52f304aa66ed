"""Inputs of nodes that name files, and what names of files may be."""

import re

from talkinghead.workflow.node_classes import (
    LOAD_IMAGE,
    LOAD_LATENT,
    LOAD_MASK,
    LOAD_VHS_VIDEO,
    UPLOAD_VHS_AUDIO,
    VIDEO_LOADERS,
)

MODEL_SUFFIXES = (".safetensors", ".gguf", ".pt", ".pth", ".ckpt", ".bin")
# An absolute path, a step upwards, or a URL.
ELSEWHERE = re.compile(r"^[/\\~]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)|://")
# Node class -> its input that names a file or folder to load.
FILE_INPUTS = {
    "LoadAudio": "audio",
    LOAD_IMAGE: "image",
    LOAD_MASK: "image",
    LOAD_LATENT: "latent",
    "LoadVideo": "file",
    "VHS_LoadAudio": "audio_file",
    UPLOAD_VHS_AUDIO: "audio",
    "VHS_LoadImagePath": "image",
    "VHS_LoadImages": "directory",
    "VHS_LoadImagesPath": "directory",
    **dict.fromkeys(VIDEO_LOADERS, "video"),
}
# Lists of input files that are not flagged as such; the node itself takes files in subfolders too.
UNFLAGGED_UPLOADS = frozenset(
    (each, FILE_INPUTS[each]) for each in (LOAD_LATENT, LOAD_VHS_VIDEO, UPLOAD_VHS_AUDIO)
)
