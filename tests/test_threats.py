"""The threat model of docs/explanation/threats.md, attacked: pages of other origins, other accounts, links."""

import ast
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Server, is_healthy, start
from kitchens import small_kitchen
from streamlit.testing.v1 import AppTest
from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string
from streamlit.web.server.starlette.starlette_server_config import XSRF_COOKIE_NAME
from test_pages import ROOT, as_read, fresh_server  # noqa: F401 - fresh_server is a fixture
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from soupviz.cli import serving
from soupviz.ui import callers, download, work

PAGE = ROOT / "docs" / "explanation" / "threats.md"
OTHERS = [
    "https://elsewhere.example", "http://localhost:9", "http://127.0.0.1:9", "http://0.0.0.0:9", "https://localhost",
    "null", "file://", "", "http://localhost.elsewhere.example",
]  # fmt: skip
"""Origins of pages that are open in the same browser; another port of this computer is somebody else."""

PLACES = ["/", "/_stcore/health", "/_stcore/host-config", "/_stcore/metrics", "/media/x", "/soupviz/download/a/b"]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard that several tests ask, with a file in its cache that nobody may have."""
    folder = tmp_path_factory.mktemp("threats")
    for name in ("started-with", "cache"):
        (folder / name).mkdir()
    (folder / "cache" / "secret.txt").write_text("secret", encoding="utf-8")
    server, process = start(folder / "started-with", folder / "cache")
    try:
        assert is_healthy(server, process), server.log.read_text(encoding="utf-8")
        yield server
    finally:
        process.terminate()
        process.wait(20)


def asked(server: Server, place: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Any:
    """Status, headers and content of an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.address + place, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def refused(server: Server, origin: str | None, host: str | None = None) -> int:
    """The status with which a websocket is refused; 101: it was opened."""
    token, port = generate_xsrf_token_string(), int(server.address.rpartition(":")[2])
    try:
        with connect(
            f"ws://{host or f'127.0.0.1:{port}'}/_stcore/stream",
            sock=socket.create_connection(("127.0.0.1", port)),
            origin=origin,  # type: ignore[arg-type]
            subprotocols=["streamlit", token],  # type: ignore[list-item]
            additional_headers={"Cookie": f"{XSRF_COOKIE_NAME}={token}"},
        ):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


# Another origin in the same browser


@pytest.mark.parametrize("origin", OTHERS)
def test_a_page_of_another_origin_is_told_and_may_do_nothing(dashboard: Server, origin: str) -> None:
    for place in PLACES:
        status, headers, _ = asked(dashboard, place, Origin=origin)
        assert status == 403 and "Access-Control-Allow-Origin" not in headers
    for method in ("PUT", "DELETE", "OPTIONS", "POST"):
        assert asked(dashboard, "/_stcore/upload_file/a/b", method, b"x", Origin=origin)[0] == 403
    assert refused(dashboard, origin) == 403


def test_the_dashboards_own_page_and_programs_without_one_are_answered(dashboard: Server) -> None:
    for origin in ({}, {"Origin": dashboard.address}):
        assert asked(dashboard, "/_stcore/health", **origin)[0] == 200
    assert refused(dashboard, dashboard.address) == refused(dashboard, None) == 101


@pytest.mark.parametrize(
    ("site", "mode", "into", "is_answered"),
    [
        ("none", "navigate", "document", True),  # an address that was typed
        ("same-origin", "cors", "empty", True),
        ("cross-site", "navigate", "document", True),  # a link that was followed
        ("same-site", "navigate", "document", True),
        ("cross-site", "navigate", "iframe", False),
        ("same-site", "navigate", "iframe", False),  # of another port of this computer
        ("cross-site", "no-cors", "image", False),
        ("cross-site", "no-cors", "script", False),
        ("same-site", "cors", "empty", False),
        ("cross-site", "navigate", "embed", False),
    ],
)
def test_what_another_page_asks_for_itself_is_refused_and_a_link_on_it_may_be_followed(
    site: str, mode: str, into: str, is_answered: bool
) -> None:
    headers = {"host": "localhost:1", "sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": into}
    assert callers.is_own_page(headers, is_safe=True) is is_answered
    assert callers.is_own_page(headers, is_safe=False) is (site in ("none", "same-origin"))


def test_a_named_hosts_pages_are_its_own_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serving.ALLOW_HOSTS, "soups.example.org")
    for origin, is_own in {
        "https://soups.example.org": True, "http://soups.example.org": False, "https://soups.example.org:8": False,
        "https://x.soups.example.org": False,
    }.items():  # fmt: skip
        assert callers.is_own_page({"host": "127.0.0.1:8501", "origin": origin}, is_safe=False) is is_own


def test_no_page_shows_the_dashboard_in_a_frame_and_none_of_its_own_loads_from_elsewhere(dashboard: Server) -> None:
    for place in ("/", "/_stcore/health", "/soupviz/download/a/b"):
        headers = asked(dashboard, place)[1]
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'self'" in policy and "img-src 'self' data: blob:" in policy
        assert headers["X-Frame-Options"] == "SAMEORIGIN" and headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == headers["Referrer-Policy"] == "same-origin"
    assert b'"allowedOrigins":[]' in asked(dashboard, "/_stcore/host-config")[2]


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "127.0.0.1.elsewhere.example", "localhost.elsewhere.example", "[::1]", "10.0.0.1"]
)
def test_a_name_that_leads_here_and_is_not_the_dashboards_is_not_answered(dashboard: Server, host: str) -> None:
    """DNS rebinding: the page's own name is made to lead to this computer, so that its origin is its host."""
    for place in PLACES:
        assert asked(dashboard, place, Host=host)[0] == 400
    assert refused(dashboard, f"http://{host}", host) == 400


# Uploads and downloads


def test_an_upload_needs_the_pages_token_and_a_session_and_has_a_largest_size(dashboard: Server) -> None:
    token = generate_xsrf_token_string()
    place, with_cookie = "/_stcore/upload_file/a/b", {"Cookie": f"{XSRF_COOKIE_NAME}={token}"}
    for method in ("PUT", "DELETE"):
        assert asked(dashboard, place, method, b"x")[0] == 403
        assert asked(dashboard, place, method, b"x", **with_cookie)[0] == 403
        assert asked(dashboard, place, method, b"x", X_Xsrftoken="another", **with_cookie)[0] == 403
    assert asked(dashboard, place, "PUT", b"x", X_Xsrftoken=token, **with_cookie)[0] == 400  # no such session
    config = (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8")
    assert "maxUploadSize = " in config and "maxMessageSize" not in config


@pytest.mark.parametrize(
    "place",
    [
        "a/b", "../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt/x", "a/..%2f..%2fsecret.txt", "a%00/b", "a/b%00c",
        "/etc/passwd", "%2Fetc/passwd", "a/%2Fetc%2Fpasswd", "a%5C..%5C..%5Csecret.txt/x", f"a/{'x' * 300}", "./.",
        "%2e/secret.txt", "%ff/%ff",
    ],
)  # fmt: skip
def test_a_download_is_a_file_that_was_prepared_and_no_other(dashboard: Server, place: str) -> None:
    status, headers, content = asked(dashboard, f"/soupviz/download/{place}")
    assert status in (400, 404) or b"<title>Streamlit</title>" in content  # the app's own page
    assert "attachment" not in headers.get("Content-Disposition", "")
    assert b"secret" != content and b"root:" not in content
    assert "Traceback" not in dashboard.log.read_text(encoding="utf-8")


def test_a_link_in_a_folder_of_downloads_leads_nowhere_else(dashboard: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = dashboard.folder.parent / "cache"
    monkeypatch.setenv("SOUPVIZ_CACHE", str(cache))
    folder = download.folder()
    (folder / "soup #1?.pt").write_bytes(b"weights")
    (folder / "link.pt").symlink_to(cache / "secret.txt")
    assert asked(dashboard, download.address(folder / "soup #1?.pt"))[2] == b"weights"
    assert asked(dashboard, download.address(folder / "link.pt"))[0] == 404
    assert len(folder.name) >= 32 and folder.name != download.folder().name


# Another account of the same computer


def test_a_connection_of_ones_own_is_known_and_one_of_another_account_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, row = "  sl  local_address ...\n", "   0: {} {} {} 0:0 00:0 0 {} 0 1 1\n"
    near, far = "0100007F:2135", "0100007F:A000"
    client, server = ("127.0.0.1", 0xA000), ("127.0.0.1", 0x2135)
    monkeypatch.setattr(callers.sys, "byteorder", "little")
    ipv4, ipv6 = tmp_path / "tcp", tmp_path / "tcp6"
    monkeypatch.setattr(callers, "TABLES", (ipv4, ipv6))
    monkeypatch.setattr(callers.os, "getuid", lambda: 1000)
    own_end = row.format(near, far, "01", 1000)

    def is_refused(*rows: str, of_ipv6: str = "") -> bool:
        ipv4.write_text(head + "".join(rows), encoding="ascii")
        ipv6.write_text(head + of_ipv6, encoding="ascii")
        return callers.is_of_another_account(client, server)

    assert not is_refused(own_end, row.format(far, near, "01", 1000))
    assert not is_refused(own_end, row.format(far, near, "01", 0))  # the system's own
    assert is_refused(own_end, row.format(far, near, "01", 1001))
    assert is_refused(own_end, row.format(far, near, "06", 0))  # closed by now: whose it was is not told
    assert is_refused(own_end)
    mapped = row.format(callers.MAPPED + far, callers.MAPPED + near, "01", 1001)
    assert is_refused(own_end, of_ipv6=mapped)
    assert not is_refused()  # nothing is listed, not even our own end
    assert not callers.is_of_another_account(("10.0.0.1", 1), server)
    assert not callers.is_of_another_account(None, server)


def test_another_account_of_the_computer_is_not_answered(dashboard: Server) -> None:
    """Only root may become another account, and only Linux tells: elsewhere its reading is all that is tested."""
    can_become = os.name == "posix" and os.getuid() == 0 and callers.TABLES[0].is_file()
    source = (
        "import encodings.idna, os, socket\n"
        f"if {can_become}:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"there = socket.create_connection(('127.0.0.1', {dashboard.address.rpartition(':')[2]}))\n"
        "there.sendall(b'GET /_stcore/health HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n"
        "told = there.recv(9999).decode()\n"
        "print(told, there.recv(9999).decode() if 'another' not in told else '')"
    )
    told = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert told.stdout.startswith("HTTP/1.1 403" if can_become else "HTTP/1.1 200"), told.stderr
    assert ("of another account" in told.stdout) is can_become


# Links


def page_at(name: str, **query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page(f"pages/{name}.py")
    for key, value in query.items():
        at.query_params[key] = value
    return at.run()


def test_a_link_opens_no_code_before_somebody_said_yes(fresh_server: None, tmp_path: Path) -> None:  # noqa: F811
    file = small_kitchen(tmp_path / "small", num_examples=20)
    for name in ("ingredients", "soup", "export"):
        at = page_at(name, kitchen=str(file), recipe="greedy", soup="abc")
        assert [button.label for button in at.button] == ["I trust it: open"]
        assert not work.jobs().active() and work.opened_kitchen(file) is None


def test_a_link_does_not_tell_whether_a_file_elsewhere_is_there(
    fresh_server: None,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    small_kitchen(outside / "there", num_examples=20)
    told = []
    for name in ("there", "away!"):
        at = page_at("ingredients", kitchen=str(outside / name))
        told.append([as_read(one.value).replace(name, "NAME") for one in at.error])
        assert "lies outside the folders" in told[-1][0]
    assert re.sub(r"dashboard .*", "", told[0][0]) == re.sub(r"dashboard .*", "", told[1][0])
    for page, query in (("shift", {"table": str(outside / "there" / "kitchen.yaml"), "source": "a table of scores"}),):
        assert not page_at(page, **query).exception


def test_a_link_to_what_is_no_path_says_so_and_the_places_lead_away_from_it(fresh_server: None) -> None:  # noqa: F811
    at = page_at("ingredients", kitchen="no\0path")
    assert "is no path" in at.error[0].value and not at.exception
    links = [str(one.proto) for one in at.get("page_link")]
    assert links and "kitchen=" not in "".join(links)


# The page itself


def test_every_line_of_the_threat_model_names_tests_that_exist() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    lines = [line for line in lines if not line.startswith("| what")]
    assert len(lines) > 30
    written: dict[str, set[str]] = {}
    for line in lines:
        cell = line.rstrip(" |").rpartition(" | ")[2]
        named = re.findall(r"`(test_\w+)\.(test_\w+)`", cell)
        assert named, f"no test is named: {line}"
        for module, test in named:
            if module not in written:
                source = (ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8")
                tree = ast.walk(ast.parse(source))
                written[module] = {node.name for node in tree if isinstance(node, ast.FunctionDef)}
            assert test in written[module], f"{module} has no {test}"
