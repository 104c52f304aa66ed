"""The command `talkinghead`, also as `python -m talkinghead`."""

import signal

# Until a command says otherwise: Ctrl-C during an import of seconds ends it, without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Call the command that the arguments name."""
    from talkinghead.cli.app import app  # noqa: PLC0415 - not before the line above

    app(prog_name="talkinghead")


if __name__ == "__main__":
    main()
