"""The page over HTTP: who comes, by a cookie; their files; and the server itself."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from nicegui import app, ui
from starlette.responses import FileResponse

from talkinghead.media.sandbox import Sandboxes
from talkinghead.page.gate import Gate
from talkinghead.page.person import Person
from talkinghead.page.place import Place
from talkinghead.page.tab import Tab
from talkinghead.settings import Settings

TITLE = "Talking heads"
ASSETS = Path(__file__).parent
# Of a file that is shown: a page that came as one does nothing.
INERT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
GOODBYE_SECONDS = 1  # to those who still have the page open when it ends


class People:
    """Everybody who has come, by the id in their browser's cookie."""

    def __init__(
        self, place: Place, folder: Path, sandboxes: Sandboxes, settings: Settings
    ) -> None:
        self._place, self._folder = place, folder
        self._sandboxes, self._settings = sandboxes, settings
        self._by_id: dict[str, Person] = {}

    def person(self, name: str) -> Person:
        """Who has this id; somebody new has nothing yet."""
        if name not in self._by_id:
            folder = self._folder / f"person-{len(self._by_id)}"
            self._by_id[name] = Person(self._place, folder, self._sandboxes, self._settings)
        return self._by_id[name]

    def file(self, name: str, file: str) -> Path | None:
        """A file of this person's; None if there is none of that name."""
        person = self._by_id.get(name)
        path = person.folder / file if person and file == Path(file).name else None
        return path if path is not None and path.is_file() else None

    async def close(self) -> None:
        """End what is under way."""
        for person in self._by_id.values():
            await person.close()


def serve(
    people: People, listener: socket.socket, token: str | None, ready: Callable[[], None]
) -> None:
    """Answer until Ctrl-C. `ready` is called when it does."""
    logging.getLogger("nicegui").setLevel(logging.ERROR)  # it warns of a busy machine
    whole = FastAPI(openapi_url=None)
    _add_routes(people)
    app.on_startup(ready)
    app.on_shutdown(people.close)
    ui.run_with(
        whole,
        title=TITLE,
        favicon="🗣",
        language="en-US",
        tailwind=False,
        reconnect_timeout=10.0,
        storage_secret=secrets.token_urlsafe(32),
        session_middleware_kwargs={
            "session_cookie": f"talkinghead-{listener.getsockname()[1]}",
            "same_site": "strict",
        },
        show_welcome_message=False,
    )
    whole.add_middleware(Gate, token=token)
    config = uvicorn.Config(
        whole,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _add_routes(people: People) -> None:
    style = (ASSETS / "page.css").read_text("utf-8")
    script = (ASSETS / "page.js").read_text("utf-8")

    @ui.page("/")
    def page() -> None:
        ui.add_css(style)
        ui.add_head_html(f"<script>{script}</script>")
        Tab(people.person(app.storage.browser["id"]))

    @app.get("/mine/{file}", include_in_schema=False)
    def mine(request: Request, file: str) -> FileResponse:
        path = people.file(request.session["id"], file)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, headers=INERT)
