"""RunPod's door. ComfyUI is started first: it boots while the worker's other parts are imported."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Start ComfyUI, and take jobs until RunPod ends the worker."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an exit, unlike a kill, ends ComfyUI
    # After it: a container's first process does not hear a signal that it does not handle.
    from pydantic import ValidationError  # noqa: PLC0415

    from talkinghead.comfy.server import ComfyServer  # noqa: PLC0415
    from talkinghead.settings import Settings, wrong_settings  # noqa: PLC0415

    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(f"the worker cannot start: {wrong_settings(error)}")
    server = None if settings.comfyui_url else ComfyServer.from_settings(settings)
    if server is not None:
        server.start()
    # These take seconds: the SDK, the decoders, the stores.
    from talkinghead.comfy.studio import Studio  # noqa: PLC0415
    from talkinghead.errors import JobError  # noqa: PLC0415
    from talkinghead.logs import start_logging  # noqa: PLC0415
    from talkinghead.worker import serve  # noqa: PLC0415

    start_logging(settings.log_format)
    try:
        studio = Studio(settings, server=server)
    except JobError as error:  # its models cannot be fetched, or its settings exclude each other
        if server is not None:
            server.stop(for_good=True)
        sys.exit(f"the worker cannot start: {error}")
    with studio:
        serve(studio)


if __name__ == "__main__":
    main()
