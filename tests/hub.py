"""A hub of models on loopback, of which the library's own file system asks what it asks of the real one."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from elsewhere import Answering


class Hub:
    """The revisions of one repository, group/model, each with its files.

    asked: (method, path, range) of each request for a file's content, and `refuses`: whether all are refused.
    """

    def __init__(self) -> None:
        self.revisions: dict[str, dict[str, bytes]] = {"main": {}}
        self.asked: list[tuple[str, str, str]] = []
        self.refuses = False
        self.address = ""

    def contents(self) -> list[str]:
        """What was read, by revision and name, once each."""
        return sorted({path for method, path, _ in self.asked if method == "GET"})


def _entry(name: str, content: bytes) -> dict[str, Any]:
    large = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
    return {"type": "file", "oid": sha1(content).hexdigest(), "size": len(content), "path": name, "lfs": large}


def _commit(revision: str) -> str:
    return sha1(revision.encode()).hexdigest()


@contextmanager
def hub_on_loopback() -> Iterator[Hub]:
    hub = Hub()

    class Handler(Answering):
        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            path = unquote(self.path)
            if hub.refuses or "/paths-info/" not in path:
                return self._end(403 if hub.refuses else 404)
            files = hub.revisions.get(path.partition("/paths-info/")[2], {})
            asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            found = [_entry(name, files[name]) for name in asked if name in files]
            folders = [name for name in asked if name not in files and any(f.startswith(f"{name}/") for f in files)]
            return self._json([*found, *({"type": "directory", "oid": "d", "size": 0, "path": one} for one in folders)])

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(self.path.partition("?")[0])
            if hub.refuses:
                return self._end(403, with_body=with_body)
            if path.startswith("/api/models/group/model/tree/"):
                revision, _, below = path.removeprefix("/api/models/group/model/tree/").partition("/")
                files = hub.revisions.get(revision, {})
                return self._json([_entry(name, held) for name, held in files.items() if name.startswith(below)])
            if path.startswith("/group/model/resolve/"):
                return self._content(*path.removeprefix("/group/model/resolve/").partition("/")[::2], with_body)
            found = re.fullmatch(r"/api/models/group/model(?:/revision/(.+))?", path)
            if found and (found[1] or "main") in hub.revisions:
                return self._json(
                    {"id": "group/model", "sha": _commit(found[1] or "main"), "private": False, "siblings": []}
                )
            code = "RevisionNotFound" if found else "RepoNotFound"
            return self._end(404, headers={"X-Error-Code": code}, with_body=with_body)

        def _content(self, revision: str, name: str, with_body: bool) -> None:
            asked = self.headers.get("Range", "")
            hub.asked.append((self.command, f"{revision}/{name}", asked))
            content = hub.revisions.get(revision, {}).get(name)
            if content is None:
                return self._end(404, headers={"X-Error-Code": "EntryNotFound"}, with_body=with_body)
            headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": _commit(revision)}
            if found := re.match(r"bytes=(\d+)-(\d*)", asked):
                start, stop = int(found[1]), int(found[2] or len(content) - 1) + 1
                part = content[start:stop]
                headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
                return self._end(206, part, headers, with_body=with_body)
            return self._end(200, content, headers, with_body=with_body)

        def _json(self, value: Any) -> None:
            self._end(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _end(
            self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, with_body: bool = True
        ) -> None:
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
