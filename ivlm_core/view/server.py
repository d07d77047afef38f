"""viser's web server as this package runs it: quiet, on the port that was asked for, and for its own page only.

viser takes the next free port where one is busy, offers to share the page through a server on the internet, and talks
to any page that a browser has open. None of that is wanted: what the page shows comes from a camera.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ivlm_core.errors import ConfigError, shown

if TYPE_CHECKING:
    import viser

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def start_server(host: str, port: int, title: str) -> viser.ViserServer:
    """A running server without content.

    Parameters
    ----------
    host : the address to listen at. port : 1…65535, or 0 for any that is free. title : over the page's panel.

    Raises
    ------
    ConfigError : `--host` or `--port` cannot be used.
    """
    import viser

    if not 0 <= port <= 65535:
        raise ConfigError("--port", f"is {port}", "give 1…65535, or 0 for any that is free")
    _check_free(host, port)

    class Server(viser.ViserServer):
        """Without the way out: any page could ask for it, whether its button is shown or not."""

        def request_share_url(self, verbose: bool = True) -> str | None:
            return None

    # The same function twice is one filter.
    logging.getLogger("websockets.server").addFilter(_worth_telling)
    with quiet(), _same_origin_only(host):
        server = Server(host=host, port=port, label=title, verbose=False)
    if port and server.get_port() != port:
        with quiet():
            server.stop()
        raise ConfigError("--port", f"{port} is in use", "give another one, or 0 for any that is free")
    return server


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """viser prints to the terminal when it starts and stops; what a command prints is its own."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def allowed(origin: str | None, host_header: str | None, host: str) -> bool:
    """Whether a request may be served.

    Parameters
    ----------
    origin : the page that asks, as browsers tell it; None where no page does.
    host_header : whom it believes to talk to. host : the address that is listened at.
    """
    try:
        asked = urlsplit(f"//{host_header or ''}")
        # A name that leads to this computer but is none of its own is how foreign pages get past the browser's rules.
        if host in LOOPBACK and asked.hostname not in LOOPBACK:
            return False
        return origin is None or urlsplit(origin).netloc == asked.netloc
    except ValueError:
        return False


def _worth_telling(record: logging.LogRecord) -> bool:
    """False for a visitor who left before asking for anything, as browsers do with connections that they open in
    advance; `websockets` logs a traceback for each, and viser hides those only once a page was served."""
    return record.getMessage() != "opening handshake failed"


@contextlib.contextmanager
def _same_origin_only(host: str) -> Iterator[None]:
    """While it lasts, servers that `websockets` starts answer only pages that they served themselves."""
    import websockets.asyncio.server as module
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    serve: Any = module.serve

    def guarded(*arguments: Any, process_request: Callable[..., Any], **options: Any) -> Any:
        def process(connection: Any, request: Any) -> Any:
            if not allowed(request.headers.get("Origin"), request.headers.get("Host"), host):
                return Response(HTTPStatus.FORBIDDEN, "Forbidden", Headers(), b"This page belongs to another site.\n")
            return process_request(connection, request)

        return serve(*arguments, process_request=functools.wraps(process_request)(process), **options)

    module.serve = guarded  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        module.serve = serve  # type: ignore[misc]


def _check_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError("--host", f"{shown(host)} is no address: {error}", "give 127.0.0.1, or 0.0.0.0") from error
    with socket.socket(family, kind, protocol) as probe:
        # As the server itself does, so that a port that was just given back counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError as error:
            raise ConfigError("--port", f"{port} may not be used", "give one above 1023") from error
        except OSError as error:
            if error.errno == 99:  # EADDRNOTAVAIL
                raise ConfigError("--host", f"{shown(host)} is not of this computer", "give 127.0.0.1") from error
            raise ConfigError("--port", f"{port} is in use", "give another one, or 0 for any that is free") from error
