"""Streamed downloads: files of any size, in a few megabytes of memory, under an address that cannot be guessed."""

import secrets
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from soupviz.files import cache_folder

DAY = 24 * 3600.0
PATH = "/soupviz/download/{token}/{name}"


def folder() -> Path:
    """A new folder under an unguessable name, whose files can be downloaded for a day."""
    drop_old(cache_folder("downloads"))
    place = cache_folder("downloads") / secrets.token_urlsafe(24)
    place.mkdir()
    return place


def drop_old(place: Path) -> None:
    """Remove what has lain in a folder for more than a day: it passed through the browser and is not needed again."""
    for path in place.iterdir():
        if time.time() - path.stat().st_mtime > DAY:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def address(file: Path) -> str:
    """Where the browser gets a file of such a folder."""
    return PATH.format(token=file.parent.name, name=quote(file.name))


async def _serve(request: Request) -> Response:
    root = cache_folder("downloads").resolve()
    try:
        file = (root / request.path_params["token"] / request.path_params["name"]).resolve()
        is_there = file.parent.parent == root and file.is_file()
    except (OSError, ValueError):  # a name that no file has
        is_there = False
    if not is_there:
        return PlainTextResponse("No such download; export the soup again.", status_code=404)
    # Compressing weights costs seconds a gigabyte and saves nothing.
    return FileResponse(file, filename=file.name, headers={"Content-Encoding": "identity"})


def routes() -> list[Any]:
    return [Route(PATH, _serve)]
