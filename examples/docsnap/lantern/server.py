"""Serves the site on the loopback address, with the habits of real sites."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from docsnap.lantern.pages import SECTIONS, build_pages

ROBOTS = b"User-agent: *\nDisallow: /operations/internal-notes\n"
SLOW_PAGES = frozenset({"/operations/capacity"})
REDIRECTS = {"/start/setup": "/start/install"}
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Pace:
    """How long pages take, in seconds."""

    page: float = 0.2
    slow_page: float = 1.5


class LanternSite:
    """The running site; `urls` are its five books."""

    def __init__(self, port: int = 0, pace: Pace | None = None) -> None:
        """Bind the port (0 for any free one).

        Raises:
            OSError: the port is taken.
        """
        handler = type("Handler", (_Handler,), {"pages": build_pages(), "pace": pace or Pace()})
        self._server = _Server((HOST, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="lantern", daemon=True)

    @property
    def authority(self) -> str:
        """The host:port of the site."""
        return f"{HOST}:{self._server.server_port}"

    @property
    def port(self) -> int:
        """The port that was bound."""
        return self._server.server_port

    @property
    def urls(self) -> list[str]:
        """The first page of each book."""
        return [f"http://{self.authority}/{section}/" for section in SECTIONS]

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


@contextmanager
def lantern_site(port: int = 0, pace: Pace | None = None) -> Iterator[LanternSite]:
    """The site for the length of a `with` block."""
    site = LanternSite(port, pace)
    site.start()
    try:
        yield site
    finally:
        site.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a crawler that hangs up in the middle of a page is an everyday event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    pages: ClassVar[dict[str, bytes]] = {}
    pace: ClassVar[Pace] = Pace()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/robots.txt":
            self._answer(200, "text/plain; charset=utf-8", ROBOTS)
            return
        time.sleep(self.pace.slow_page if path in SLOW_PAGES else self.pace.page)
        if path in REDIRECTS:
            self._answer(301, "text/plain", b"moved\n", location=REDIRECTS[path])
        elif path in self.pages:
            self._answer(200, "text/html; charset=utf-8", self.pages[path])
        else:
            self._answer(404, "text/plain", b"no such page\n")

    def _answer(self, status: int, content_type: str, body: bytes, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write no access log: the terminal belongs to the progress bars."""
