"""The server keeps to its port and its own page, and never looks for a way out."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ivlm_core.errors import ConfigError

pytest.importorskip("viser")

from ivlm_core.view.server import allowed, quiet, start_server


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    started = start_server("127.0.0.1", 0, "a title")
    yield started
    with quiet():
        started.stop()


def ask(server: Any, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.get_port(), timeout=10)
    connection.putrequest("GET", "/", skip_host=True)
    for name, value in {"Host": f"127.0.0.1:{server.get_port()}", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def upgrade(server: Any, origin: str) -> int:
    """The status that a browser's page of some origin gets for a web socket."""
    return ask(
        server,
        Origin=origin,
        Upgrade="websocket",
        Connection="Upgrade",
        **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"},
    )[0]


def test_page_is_served_whole(server: Any) -> None:
    status, body = ask(server)
    assert status == 200
    assert b"<!doctype html" in body.lower()


def test_pages_of_other_sites_get_nothing(server: Any) -> None:
    own = f"127.0.0.1:{server.get_port()}"
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
        status, body = ask(server, **headers)
        assert status == 403
        assert b"doctype" not in body.lower()
    assert ask(server, Origin=f"http://{own}")[0] == 200


def test_web_sockets_of_other_sites_are_refused(server: Any) -> None:
    assert upgrade(server, "http://evil.example") == 403
    # Its own page is let in: the protocol is switched.
    with socket.create_connection(("127.0.0.1", server.get_port()), timeout=10) as raw:
        own = f"127.0.0.1:{server.get_port()}"
        raw.sendall(
            f"GET / HTTP/1.1\r\nHost: {own}\r\nOrigin: http://{own}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b"101 Switching Protocols" in raw.recv(200)


@pytest.mark.parametrize(
    ("origin", "asked", "host", "answer"),
    [
        (None, "127.0.0.1:8080", "127.0.0.1", True),
        (None, "localhost:9000", "127.0.0.1", True),  # a forwarded port
        ("http://localhost:9000", "localhost:9000", "127.0.0.1", True),
        ("http://localhost:3000", "localhost:9000", "127.0.0.1", False),
        ("http://rebound.example:8080", "rebound.example:8080", "127.0.0.1", False),
        ("http://robot.local:8080", "robot.local:8080", "0.0.0.0", True),
        ("http://evil.example", "robot.local:8080", "0.0.0.0", False),
        ("http://[::1]:8080", "[::1]:8080", "::1", True),
        (None, None, "127.0.0.1", False),
        ("http://[", "127.0.0.1", "127.0.0.1", False),
    ],
)
def test_who_may_ask(origin: str | None, asked: str | None, host: str, answer: bool) -> None:
    assert allowed(origin, asked, host) is answer


def test_nothing_is_shared_with_the_internet(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import viser

    monkeypatch.setattr(viser._viser, "ViserTunnel", lambda *_: pytest.fail("a tunnel was asked for"))
    assert server.request_share_url() is None


def test_busy_port_names_the_option(server: Any) -> None:
    with pytest.raises(ConfigError, match=rf"--port: {server.get_port()} is in use"):
        start_server("127.0.0.1", server.get_port(), "")


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [("127.0.0.1", 70000, "--port"), ("no such host.", 0, "--host"), ("192.0.2.1", 0, "--host")],
)
def test_addresses_that_cannot_be_used(host: str, port: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        start_server(host, port, "")


def test_starting_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    started = start_server("127.0.0.1", 0, "")
    with quiet():
        started.stop()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"\x16\x03\x01\x02\x00 no HTTP at all\r\n\r\n"])
def test_visitors_who_leave_at_once_are_no_news(
    server: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., Any],
    said: bytes,
) -> None:
    logger = logging.getLogger("websockets.server")
    seen: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        seen.append(record.getMessage())
        return True

    # As before the first page, when viser hides nothing itself. In front of the page's own filter, the test waits for
    # the failure and not for a time.
    mine = [item for item in logger.filters if type(item).__name__ != "NoHttpErrors"]
    monkeypatch.setattr(logger, "filters", [note, *mine])
    with socket.create_connection(("127.0.0.1", server.get_port()), timeout=10) as raw:
        raw.sendall(said)
    wait_until(lambda: "opening handshake failed" in seen)
    # The server's thread answers this once it is done with the failure.
    assert ask(server)[0] == 200
    assert not caplog.records


def test_faults_of_the_server_are_still_told(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("websockets.server").error("connection handler failed")
    assert caplog.messages == ["connection handler failed"]


def test_other_servers_are_left_alone() -> None:
    import websockets.asyncio.server as module

    before = module.serve
    started = start_server("127.0.0.1", 0, "")
    with quiet():
        started.stop()
    assert module.serve is before
