"""Who the dashboard answers: this computer alone, or named hosts once people sign in; and who started what."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from kitchens import run_command, small_kitchen
from streamlit import user_info
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.testing.v1 import AppTest
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value, generate_xsrf_token_string
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME, XSRF_COOKIE_NAME
from test_history import RECIPE
from test_links import opened
from test_pages import as_read, fresh_server, trusted, wait  # noqa: F401 - fresh_server is a fixture
from test_showing import ROOT, a_port, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import soupviz as sv
from soupviz.cli import serving, showing
from soupviz.kitchen import Kitchen
from soupviz.store.database import Store
from soupviz.store.recording import recorded, starter, system_user
from soupviz.ui import people, work
from soupviz.ui.jobs import Jobs

SHARED = f'redirect_uri = "https://soups.example.org/oauth2callback"\ncookie_secret = "{"s" * 40}"\n'
PROVIDER = 'client_id = "a"\nclient_secret = "b"\nserver_metadata_url = "https://login.example.org/.well-known/x"\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is started: a folder, and a home, without secrets; Authlib is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(serving.ALLOW_HOSTS, raising=False)
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda _name: True)
    return tmp_path


def secrets(place: Path, text: str) -> None:
    (place / ".streamlit").mkdir(exist_ok=True)
    (place / ".streamlit" / "secrets.toml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no "),
        ("[other]\n", "lacks redirect_uri and cookie_secret"),
        ("[auth]\n" + SHARED, "no provider under"),
        ("[auth]\n" + SHARED.replace("s" * 40, "short") + PROVIDER, "fewer than 32 letters"),
        ("[auth\n", "cannot be read"),
    ],
)
def test_hosts_are_refused_while_people_cannot_sign_in(place, capsys, text, told):
    if text is not None:
        secrets(place, text)
    status, out, err = run_command(capsys, "dashboard", place, "--allow-hosts", "soups.example.org")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err and "docs/how-to/serve.md" in err


def test_without_authlib_people_cannot_sign_in(place, capsys, monkeypatch):
    secrets(place, "[auth]\n" + SHARED + PROVIDER)
    there = {"streamlit": True}
    monkeypatch.setattr(serving.importlib.util, "find_spec", there.get)
    status, _, err = run_command(capsys, "dashboard", place, "--allow-hosts", "soups.example.org")
    assert status == 2 and "streamlit[auth]" in err


@pytest.mark.parametrize("provider", [PROVIDER, "[auth.lab]\n" + PROVIDER])
def test_where_people_sign_in_the_named_hosts_are_answered_too(place, capsys, monkeypatch, provider):
    secrets(place, "[auth]\n" + SHARED + provider)
    found = []
    monkeypatch.setattr(showing, "_run", lambda command, _started: found.append(command) or 0)
    hosts = "soups.example.org,lab.example.org"
    assert run_command(capsys, "dashboard", place, "--headless", "--allow-hosts", hosts)[0] == 0
    [command] = found
    wanted = {
        "--server.address=127.0.0.1",
        "--server.allowedHosts=soups.example.org",
        "--server.allowedHosts=localhost",
    }
    assert wanted <= set(command)
    assert serving.allowed_hosts() == ["soups.example.org", "lab.example.org"]
    assert run_command(capsys, "dashboard", place, "--headless")[0] == 0
    assert serving.allowed_hosts() == []  # what was there before counts no longer


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5", "::"])
def test_another_address_than_this_computers_is_refused_without_hosts(place, capsys, address):
    secrets(place, "[auth]\n" + SHARED + PROVIDER)
    status, _, err = run_command(capsys, "dashboard", place, "--address", address)
    assert (status, err.count("\n")) == (2, 1)
    assert "--allow-hosts" in err


@pytest.mark.parametrize("name", ["https://soups.example.org", "soups.example.org:443", "a..b", "*"])
def test_what_is_no_name_of_a_host_is_refused(place, capsys, name):
    status, _, err = run_command(capsys, "dashboard", place, "--allow-hosts", name)
    assert status == 2 and "no host name" in err


@pytest.mark.parametrize(("address", "is_here"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("", False)])
def test_loopback_is_told_from_other_addresses(address, is_here):
    assert serving.is_loopback(address) is is_here


def test_streamlit_started_by_hand_on_another_address_is_held_to_the_same(tmp_path):
    environment = os.environ | {"SOUPVIZ_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    flags = [f"--server.port={a_port()}", "--server.address=0.0.0.0", "--server.headless=true"]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), *flags]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "answers other computers only where people sign in" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_named_host_is_answered_and_another_is_not(tmp_path, monkeypatch):
    """Authlib is stood in for by an empty module of that name, a provider by the cookie that Streamlit sets then."""
    (tmp_path / "authlib.py").write_text('__version__ = "1.6.0"\n', encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    secrets(tmp_path, "[auth]\n" + SHARED + PROVIDER)
    port = a_port()
    with running(
        tmp_path, ".", "--port", port, "--headless", "--json", "--allow-hosts", "soups.example.org"
    ) as process:
        assert process.stdout.readline()

        def asked(host: str) -> int:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert [asked(host) for host in ("soups.example.org", "localhost", "elsewhere.example")] == [200, 200, 400]
        # A websocket, over which all of a page goes: of its own pages alone, and whole for who has signed in alone.
        here = "https://soups.example.org"
        assert refused_socket(port, "soups.example.org", "https://elsewhere.example") == 403
        assert refused_socket(port, "elsewhere.example", "https://elsewhere.example") == 400
        assert "Sign in" in page_over_socket(port, here, None)
        assert "Sign in" in page_over_socket(port, here, signed("t" * 40, here))
        assert "Sign in" in page_over_socket(port, here, signed("s" * 40, "https://elsewhere.example"))
        shown = page_over_socket(port, here, signed("s" * 40, here))
        assert "Sign in" not in shown and "Kitchens" in shown


def signed(secret: str, origin: str) -> str:
    """The cookie that Streamlit sets once a provider has told who somebody is."""
    told = {**ANNA, "origin": origin, "provider": "default"}
    return create_signed_value(secret, USER_COOKIE_NAME, json.dumps(told)).decode()


def browser(port: int, host: str, origin: str, cookie: str | None = None) -> Any:
    token = generate_xsrf_token_string()
    cookies = {XSRF_COOKIE_NAME: token} | ({} if cookie is None else {USER_COOKIE_NAME: cookie})
    return connect(
        f"ws://{host}/_stcore/stream",
        sock=socket.create_connection(("127.0.0.1", port)),
        origin=origin,
        subprotocols=["streamlit", token],
        additional_headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())},
        max_size=None,
    )


def refused_socket(port: int, host: str, origin: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        browser(port, host, origin)
    return refused.value.response.status_code


def page_over_socket(port: int, origin: str, cookie: str | None) -> str:
    """What a browser is sent of the first page."""
    with browser(port, "soups.example.org", origin, cookie) as there:
        there.send(BackMsg(rerun_script=ClientState()).SerializeToString())
        told = []
        while True:
            message = ForwardMsg()
            message.ParseFromString(there.recv(timeout=30))
            if message.WhichOneof("type") == "script_finished":
                return "\n".join(told)
            told.append(str(message))


ANNA = {"is_logged_in": True, "email": "anna@lab.example", "name": "Anna"}


def signed_in_as(monkeypatch: pytest.MonkeyPatch, user: dict[str, Any]) -> None:
    """Pages are opened by somebody of whom a provider told this."""
    monkeypatch.setenv(serving.ALLOW_HOSTS, "soups.example.org")
    monkeypatch.setattr(user_info, "_get_user_info", lambda: dict(user))


def test_who_has_signed_in_sees_the_pages_and_what_is_cooked_there_has_their_address(
    fresh_server,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    signed_in_as(monkeypatch, ANNA)
    file = trusted(small_kitchen(tmp_path / "small", num_ingredients=2, num_examples=30))
    at = opened("soup", file, recipe="uniform")
    assert "Sign in" not in [button.label for button in at.button]
    assert at.title and not at.exception
    press(at, "Cook")
    wait(lambda: not work.jobs().active())
    assert {run.person for run in Kitchen.load(file).store.runs()} == {ANNA["email"]}


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"is_logged_in": True, "email": "a@b.c", "name": "A", "sub": "1"}, "a@b.c"),
        ({"is_logged_in": True, "name": "A", "sub": "1"}, "A"),
        ({"is_logged_in": True, "sub": "1"}, "1"),
        ({"is_logged_in": False, "email": "a@b.c"}, None),
        ({"email": "a@b.c"}, None),
    ],
)
def test_people_are_called_by_what_their_provider_tells(monkeypatch, told, name):
    signed_in_as(monkeypatch, told)
    monkeypatch.setattr(people, "get_script_run_ctx", lambda **_options: object())
    assert people.is_signed_in() is (name is not None)
    assert people.person() == (name or system_user())


def test_nothing_is_shown_before_people_have_signed_in(tmp_path, monkeypatch):
    monkeypatch.setenv(serving.ALLOW_HOSTS, "soups.example.org")
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = str(trusted(small_kitchen(tmp_path / "small")))
    at.run()
    assert [button.label for button in at.button] == ["Sign in"]
    assert not at.selectbox and not at.dataframe and not at.exception


# Who started what


def test_a_run_has_the_name_of_who_started_it(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_ingredients=2, num_examples=30))
    sv.uniform(kitchen)
    assert [run.person for run in kitchen.store.runs()] == [system_user()]
    token = starter.set("anna")
    try:
        with recorded(kitchen.store, "k", "average", RECIPE):
            pass
    finally:
        starter.reset(token)
    assert kitchen.store.runs()[-1].person == "anna"


def test_a_job_has_the_name_of_who_asked_and_its_runs_have_it_too(tmp_path):
    people = iter(["anna", "ben"])
    jobs = Jobs(lambda: next(people))
    store = Store(tmp_path / "store.sqlite")

    def work(key):
        def do(_job):
            with recorded(store, key, "average", RECIPE):
                pass

        return do

    asked = [jobs.submit(key, key, work(key)) for key in "ab"]
    while any(job.is_active for job in asked):
        pass
    assert [job.person for job in asked] == ["anna", "ben"]
    assert [run.person for run in store.runs()] == ["anna", "ben"]


def test_a_run_of_somebody_else_is_deleted_only_once_it_was_asked_about(tmp_path):
    file = trusted(small_kitchen(tmp_path / "small", num_ingredients=3, num_examples=40))
    kitchen = Kitchen.load(file)
    token = starter.set("anna")
    sv.uniform(kitchen)
    starter.reset(token)
    at = opened("history", file, runs="1")
    assert at.dataframe[0].value["by"].tolist() == ["anna"]
    press(at, "Delete")
    assert "started by anna" in at.warning[0].value
    assert kitchen.store.num_runs() == 1
    press(at, "Keep it")
    assert kitchen.store.num_runs() == 1 and not at.warning
    press(at, "Delete")
    press(at, "Delete it")
    assert kitchen.store.num_runs() == 0
    press(at, "Undo")
    assert [run.person for run in kitchen.store.runs()] == ["anna"]


def kitchen_of_several(folder):
    """With two runs of anna's, one of whoever runs the tests, which is pinned, and one of whom nobody knows."""
    kitchen = Kitchen.load(trusted(small_kitchen(folder / "small", num_ingredients=3, num_examples=40)))
    for number, person in enumerate(["anna", "anna", system_user(), ""]):
        kitchen.store.begin_run(f"{number}" * 64, "average", RECIPE, person)
        kitchen.store.end_run(f"{number}" * 64, "failed")
    kitchen.store.pin_run("2" * 64, True)
    return kitchen


def test_a_store_with_runs_of_others_is_forgotten_on_the_page_only_by_who_was_told_whose_they_are(tmp_path):
    kitchen = kitchen_of_several(tmp_path)
    opened("ingredients", kitchen.file)
    at = opened("kitchens", kitchen.file)
    told = [as_read(one.value) for one in at.warning]
    assert any("4 runs would go, of them 2 started by anna, 1 pinned" in one for one in told)
    [forget] = [one for one in at.button if one.label == "Forget them"]
    assert forget.disabled
    [agree] = [one for one in at.checkbox if one.label == "They may go"]
    agree.check().run()
    kitchen.store.begin_run("9" * 64, "average", RECIPE, "ben")
    at.run()
    assert next(one for one in at.button if one.label == "Forget them").disabled  # it was agreed to less
    next(one for one in at.checkbox if one.label == "They may go").check().run()
    press(at, "Forget them")
    assert kitchen.store.num_runs() == 0
    assert not at.warning


def test_a_store_with_runs_of_others_is_cleared_by_the_command_only_with_a_yes(tmp_path, capsys, monkeypatch):
    kitchen = kitchen_of_several(tmp_path)
    whose = r"4 runs would go, of them 2 started by anna, 1 pinned\..*--yes"
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    status, _, said = run_command(capsys, "cache", kitchen.file, "--clear")
    assert status and re.search(whose, " ".join(said.split()))
    assert kitchen.store.num_runs() == 4

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert run_command(capsys, "cache", kitchen.file, "--clear")[0]
    assert kitchen.store.num_runs() == 4
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    run_command(capsys, "cache", kitchen.file, "--clear")
    assert kitchen.store.num_runs() == 0
    kitchen = kitchen_of_several(tmp_path / "again")
    run_command(capsys, "cache", kitchen.file, "--clear", "--yes")
    assert kitchen.store.num_runs() == 0


def press(at: AppTest, label: str) -> None:
    next(button for button in at.button if button.label == label).click()
    at.run()
