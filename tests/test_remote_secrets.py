"""What an address may hold of passwords and signatures: refused where it is named, and told nowhere."""

import logging
from concurrent.futures import Future
from typing import Any

import pytest

from soupviz.addresses import redacted
from soupviz.errors import RemoteError, told
from soupviz.remote.calling import Calls
from soupviz.remote.systems import check, refusal, root_of
from soupviz.scoring.executors.worker import told_of
from soupviz.ui.jobs import Jobs

SIGNED = "https://cdn/x?disposition=inline%3B+filename*%3DUTF-8''m.bin&list=(a)&X-Amz-Signature=hush"


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:abc/hush@bucket/runs",
        "s3://AKIA%3Ahush@bucket/a",
        "s3://AKIA:hush/runs",
        "gs://key:12345/hush@bucket/a",
        "sftp://me:a/b/hush@host/a",
        "s3://bucket/a.pt?X-Amz-Signature=hush",
        "gs://bucket/a.pt?alt=media&token=hush",
        "abfs://c@account.dfs.core.windows.net/a?sig=hush",
        "https://host/a?hush",
        SIGNED,
    ],
)
def test_an_address_with_a_secret_is_refused_in_any_scheme(address: str) -> None:
    with pytest.raises(RemoteError, match="credentials are taken from") as raised:
        check(address)
    assert "hush" not in str(raised.value) and "hush" not in redacted(f"[{address!r}, 1]")


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/epoch=?-step=*.ckpt",
        "s3://bucket/a:b/c@d.pt",
        "s3://arn:aws:s3:eu-west-1:1234:accesspoint/runs/a.pt",
        "https://host:8000/a@b.pt",
        "http://[2001:db8:0:0:0:0:0:1]:8000/a@b.pt",
        "sftp://me@host:22/a",
        "hf://group/model@main/a",
        "github://group:repository@main/a.pt",
        "abfs://container@account.dfs.core.windows.net/a",
    ],
)
def test_an_address_without_a_secret_is_none(address: str) -> None:
    check(address)
    assert redacted(address).partition("?")[0] == address.partition("?")[0]


def test_what_a_server_answers_to_a_signed_redirect_is_told_by_its_status() -> None:
    class OfAServerError(Exception):
        status = 400

    message = str(refusal("https://host/a", OfAServerError(f"400, message='Bad Request', url='{SIGNED}'")))
    assert "400 Bad Request" in message and "cdn" not in message


@pytest.mark.parametrize("scheme", ["file", "zip", "asyncwrapper", "dask", "git", "local", "jlab", "nowhere"])
def test_only_schemes_of_files_elsewhere_are_read(scheme: str) -> None:
    with pytest.raises(RemoteError, match=f"nothing is read from {scheme}://"):
        check(f"{scheme}://etc/passwd")


def test_a_secret_is_dropped_before_a_long_message_is_cut() -> None:
    assert "hush" not in told(OSError("x" * 270 + " s3://AKIA:hush/" + "y" * 90 + "@bucket/a"))
    assert "hush" not in redacted("https://h/x?disposition=inline; filename*=UTF-8''m.bin&Signature=hush")


def test_a_bug_s_log_and_message_tell_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    def work(_job: Any) -> None:
        raise RuntimeError(f"cannot read {SIGNED}")

    with caplog.at_level(logging.ERROR):
        job = Jobs().submit("key", "title", work)
        while job.is_active or not job.ended:
            pass
    assert "RuntimeError" in caplog.text and "hush" not in caplog.text + job.error
    try:
        work(None)
    except RuntimeError as error:
        assert "hush" not in str(told_of(error))


def test_what_comes_just_as_the_wait_for_it_ends_has_come() -> None:
    class Late(Future):  # type: ignore[type-arg]
        def result(self, timeout: float | None = None) -> Any:
            if not self.done():
                self.set_result(7)
                raise TimeoutError
            return super().result(timeout)

    assert Calls()._result(Late()) == 7


@pytest.mark.parametrize(
    ("address", "root"), [("memory://bucket/a", "memory://"), ("github://group:repository@main/a", None)]
)
def test_what_a_listing_tells_has_its_host(address: str, root: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soupviz.remote.systems.opened", lambda _: (None, "/a" if root is None else "/bucket/a"))
    assert root_of(address) == (root or "github://group:repository@main/")
