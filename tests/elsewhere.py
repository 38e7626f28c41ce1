"""Places elsewhere, on this machine: a web server that can be made to fail, and kitchens whose files lie there."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import yaml


class Web:
    """A web server of files in memory that knows ranges and tags.

    asked: (method, name, range) of each request. cuts: how many answers are still cut in their middle. refused: names
    that nobody may read. pause: seconds before each 64 KB. has_ranges: or it sends whole files only. tells_sizes: or
    how long a file is shows when it ends. moved: names with the addresses that are told instead.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.cuts = 0
        self.refused: set[str] = set()
        self.refuses_all = False
        self.pause = 0.0
        self.has_ranges = True
        self.tells_sizes = True
        self.moved: dict[str, str] = {}
        self.address = ""

    def ranges(self) -> list[int]:
        """Where the ranges begin that were asked for."""
        return [int(found[1]) for _, _, told in self.asked if (found := re.match(r"bytes=(\d+)-", told))]


class Answering(BaseHTTPRequestHandler):
    """Connections stay open, and nothing is printed."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        raise NotImplementedError


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(Answering):
        def _answer(self, *, with_body: bool) -> None:
            name, asked = self.path.lstrip("/"), self.headers.get("Range", "")
            web.asked.append((self.command, name, asked))
            if web.refuses_all or name in web.refused:
                return self._end(HTTPStatus.FORBIDDEN, b"", with_body)
            if name in web.moved:
                return self._end(HTTPStatus.FOUND, b"", with_body, {"Location": web.moved[name]})
            below = [one.removeprefix(name) for one in web.files if one.startswith(name)]
            inside = sorted({first + slash for first, slash, _ in (one.partition("/") for one in below)})
            if name.endswith("/") and inside:
                links = "".join(f'<a href="{one}">{one}</a>' for one in inside)
                return self._end(HTTPStatus.OK, links.encode(), with_body)
            content = web.files.get(name)
            if content is None:
                return self._end(HTTPStatus.NOT_FOUND, b"", with_body)
            if not web.tells_sizes:
                return self._in_chunks(content, with_body)
            found = re.match(r"bytes=(\d+)-(\d*)", asked) if web.has_ranges else None
            start, stop = (int(found[1]), int(found[2] or len(content) - 1) + 1) if found else (0, len(content))
            part = content[start : min(stop, len(content))]
            headers = {"ETag": f'"{hash(content)}"'}
            if found:
                headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
            return self._end(HTTPStatus.PARTIAL_CONTENT if found else HTTPStatus.OK, part, with_body, headers)

        def _in_chunks(self, content: bytes, with_body: bool) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("ETag", f'"{hash(content)}"')
            self.end_headers()
            pieces = [content[place : place + 2**16] for place in range(0, len(content), 2**16)]
            for piece in [*pieces, b""] if with_body else []:
                try:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                except OSError:
                    return

        def _end(self, status: HTTPStatus, body: bytes, with_body: bool, headers: Any = None) -> None:
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": len(body)}.items():
                self.send_header(key, str(value))
            self.end_headers()
            if not with_body:
                return
            if web.cuts and len(body) > 1000:
                web.cuts -= 1
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                self.connection.close()
                return
            for place in range(0, len(body), 2**16):
                time.sleep(web.pause)
                try:
                    self.wfile.write(body[place : place + 2**16])
                except OSError:
                    return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    web.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


def moved(kitchen: Path, root: str, to: Path) -> Path:
    """A kitchen.yaml whose checkpoints and data lie at an address now, and whose code and store are here."""
    system, _ = fsspec.core.url_to_fs(root)
    to.mkdir(exist_ok=True)
    for file in kitchen.parent.iterdir():
        if file.suffix == ".py":
            (to / file.name).write_bytes(file.read_bytes())
        elif file.is_file() and file.suffix != ".yaml":
            system.pipe_file(f"{root}/{file.name}", file.read_bytes())
    document = yaml.safe_load(kitchen.read_text(encoding="utf-8"))
    document["ingredients"] = [f"{root}/{pattern}" for pattern in document["ingredients"]]
    if "base" in document:
        document["base"] = f"{root}/{document['base']}"
    data = document["data"]
    for split in [
        *(data[name] for name in ("held_out", "test", "train") if name in data),
        *data.get("shifts", {}).values(),
    ]:
        split["path"] = f"{root}/{split['path']}"
    file = to / "kitchen.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file
