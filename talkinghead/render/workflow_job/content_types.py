"""What a file's name says of its content: as it comes for a workflow job, and as it is made."""

from __future__ import annotations

from pathlib import PurePosixPath

CONTENT_TYPES = {
    **{".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"},
    **{".heic": "image/heic", ".heif": "image/heif", ".avif": "image/avif"},
    **{".gif": "image/gif", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff"},
    **{".wav": "audio/wav", ".mp3": "audio/mpeg", ".flac": "audio/flac", ".ogg": "audio/ogg"},
    **{".opus": "audio/ogg", ".m4a": "audio/mp4", ".aac": "audio/aac"},
    **{
        ".mp4": "video/mp4",
        ".m4v": "video/x-m4v",
        ".mov": "video/quicktime",
        ".webm": "video/webm",
    },
    **{".mkv": "video/x-matroska", ".avi": "video/x-msvideo"},
}


def content_type(name: str) -> str:
    """The MIME type of a file of this name; application/octet-stream if we know none."""
    return CONTENT_TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def kind_of(name: str) -> str:
    """image, audio or video; application for a file of any other name."""
    return content_type(name).partition("/")[0]
