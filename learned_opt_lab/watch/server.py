"""A live page on this machine alone: two paths, GET only, and no other name than the loopback's.

A page of another site may send requests here from the user's own browser, under a name of its own
that leads to this machine. Its requests carry that name in `Host`, and are answered like all else
that is not asked for: 404.
"""

import http.server
import threading
import time
from http import HTTPStatus

from learned_opt_lab.drawing.text import plain
from learned_opt_lab.watch import page
from learned_opt_lab.watch.reading import Reader, Watched

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost", "[::1]")
"""Of the loopback, as a browser may write it."""
PATHS = ("/", "/data.json")
FRESH_SECONDS = 1.0
"""For which runs are not read again, however many pages are open."""
TIMEOUT_SECONDS = 20.0
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The library of charts makes functions of its own, hence 'unsafe-eval'."""


class Server(http.server.ThreadingHTTPServer):
    """Serves the page of some runs until it is shut down."""

    daemon_threads = True

    def __init__(self, reader: Reader, port: int = 0):
        """Binds to the loopback.

        Args:
          reader: of the runs.
          port: to listen at; 0 is one that is free.

        Raises:
          ValueError: another program listens there, or the port is not within 0..65535.
        """
        self._reader, self._guard = reader, threading.Lock()
        self._read_at, self._runs = -float("inf"), list[Watched]()
        self._values: bytes | None = None
        try:
            super().__init__((ADDRESS, port), Handler)
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} cannot be listened at: {error}") from error
        self.hosts = {f"{name}:{self.server_port}" for name in NAMES}

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def body(self, path: str) -> tuple[str, bytes]:
        """Content type and content of one of `PATHS`."""
        with self._guard:
            if time.monotonic() - self._read_at > FRESH_SECONDS:
                self._look()
            if path == "/":
                text = page.render(self._runs, refresh_seconds=page.REFRESH_SECONDS)
                return "text/html; charset=utf-8", text.encode()
            if self._values is None:
                self._values = page.encode(page.live_values(self._runs))
            return "application/json", self._values

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a browser that leaves before its answer is no error, and the terminal is the
        user's.
        """

    def _look(self) -> None:
        """Reads the runs; what was made of them stays where none of their files has changed."""
        before, self._runs = self._runs, self._reader.read()
        self._read_at = time.monotonic()
        pairs = zip(before, self._runs, strict=False)
        if not before or any(x is not y for a, b in pairs for x, y in zip(a, b, strict=True)):
            self._values = None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    timeout = TIMEOUT_SECONDS

    def do_GET(self) -> None:
        """The page, or what changes in it."""
        hosts = self.headers.get_all("Host") or []
        # What was sent: `self.path` has slashes that follow each other as one.
        is_known = self.requestline.split()[1] in PATHS
        if not is_known or len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            kind, body = self.server.body(self.path)
        except Exception as error:  # a bug; the next look may find other files
            status, kind = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8"
            body = plain(f"the page cannot be made: {type(error).__name__}: {error}", 500).encode()
        else:
            status = HTTPStatus.OK
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Whatever is wrong with a request, it is not found; nothing of it is sent back."""
        del code, message, explain
        self.close_connection = True
        self.send_response(HTTPStatus.NOT_FOUND)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is the user's."""

    def version_string(self) -> str:
        """Of no interest to anyone."""
        return "learned-opt"
