"""`python -m talkinghead` is the command `talkinghead`."""

from talkinghead.cli.app import app

app(prog_name="talkinghead")
