"""The threat model in a real browser: a hostile page beside the dashboard, and hostile names on its pages."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from browsing import Server, goto, in_browser, is_healthy, start, wait_until_idle
from test_threats_names import file, fresh_server  # noqa: F401 - fixtures

pytestmark = in_browser

HOSTILE = """<!doctype html><title>hostile</title><body><script>
const there = "DASHBOARD", told = {};
const wait = (name, begin) => new Promise(done => {
  setTimeout(() => { told[name] = told[name] ?? "nothing"; done(); }, 4000);
  begin(word => { told[name] = word; done(); });
});
(async () => {
  await Promise.all([
    wait("websocket", say => {
      const one = new WebSocket(there.replace("http", "ws") + "/_stcore/stream", ["streamlit"]);
      one.onopen = () => say("opened"); one.onerror = () => say("refused"); }),
    wait("read", say => fetch(there + "/_stcore/health", {credentials: "include"}).then(a => say("read " + a.status),
      () => say("refused"))),
    wait("upload", say => fetch(there + "/_stcore/upload_file/a/b",
      {method: "PUT", body: "x", credentials: "include"}).then(() => say("sent"), () => say("refused"))),
    wait("picture", say => {
      const one = new Image(); one.onload = () => say("shown"); one.onerror = () => say("refused");
      one.src = there + "/favicon.png"; }),
    wait("script", say => { const one = document.createElement("script"); one.onload = () => say("ran");
      one.onerror = () => say("refused"); one.src = there + "/_stcore/host-config"; document.head.append(one); }),
  ]);
  const frame = document.createElement("iframe"); frame.src = there + "/?kitchen=demo"; document.body.append(frame);
  const opened = window.open(there + "/_stcore/health");
  await new Promise(done => setTimeout(done, 1500));
  try { told.frame = frame.contentDocument ? "empty" : "closed to us"; } catch (e) { told.frame = "closed to us"; }
  try { told.tab = opened && opened.document ? "open to us" : "closed to us"; } catch (e) { told.tab = "closed to us"; }
  window.told = told;
})();
</script>"""


@pytest.fixture
def hostile(server: Server) -> Iterator[str]:
    """A page on another port of this computer, as any other program may serve it."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(HOSTILE.replace("DASHBOARD", server.address).encode())

        def log_message(self, *_told: Any) -> None:
            pass

    served = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def test_a_page_beside_the_dashboard_reads_shows_and_starts_nothing_of_it(
    server: Server, page: Any, hostile: str
) -> None:
    goto(page, server.address, "Ingredients")  # whoever looks has cookies of the dashboard
    page.goto(hostile)
    page.wait_for_function("() => window.told", timeout=30_000)
    told = page.evaluate("() => window.told")
    assert {told.pop(name) for name in ("websocket", "read", "upload", "picture", "script")} == {"refused"}
    assert told["tab"] == "closed to us"
    [frame] = [one for one in page.frames if one != page.main_frame]
    assert "Ingredients" not in frame.content()


@pytest.fixture
def served_hostile(cache_with_demo: Path, file: Path) -> Iterator[Server]:  # noqa: F811
    """A dashboard on a kitchen whose every name is hostile."""
    server, process = start(file.parent, cache_with_demo)
    try:
        assert is_healthy(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def test_no_name_is_markup_or_fetches_anything_in_the_browser(served_hostile: Server, page: Any) -> None:
    foreign: list[str] = []
    page.on(
        "request",
        lambda one: None if one.url.startswith((served_hostile.address, "data:", "blob:")) else foreign.append(one.url),
    )
    kitchen = str(served_hostile.folder / "kitchen.yaml")
    for name in ("ingredients", "preflight", "compare", "diversity", "history", "export", "layers", "kitchens"):
        goto(page, served_hostile.url(name, kitchen), name.capitalize())
        wait_until_idle(page)
        assert page.get_by_text("I trust it").count() == 0, "the kitchen is open"
        found = page.locator("img[src*=MARK], a[href*=MARK], a[href*='mark.invalid'], script:text('MARK')")
        assert found.evaluate_all("all => all.map(one => one.parentElement.outerHTML)") == [], name
        assert page.locator(".stMain .katex").count() == 0, name
        assert page.evaluate("() => typeof MARK") == "undefined"
        assert foreign == [], name
    assert foreign == []
