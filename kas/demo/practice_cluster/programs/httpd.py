"""A web server with the options of busybox' ``httpd`` that the demo uses, and the default program of a container.

    httpd [-f] [-v] [-p PORT] [-h FOLDER]     serves the files of FOLDER
    httpd --hello                             says hello, on the container's first port, and logs a line now and then

A port of a container stands for a free port of this machine, for there may be several replicas: the variable
PRACTICE_CLUSTER_PORTS (``8080=41234,9090=41235``) says which.
"""

from __future__ import annotations

import functools
import http.server
import os
import sys
import threading
from typing import Any

DEFAULT_PORT = 8080
HEARTBEAT_S = 1.0


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves files and logs each request to stderr, if wanted."""

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002 the base class's name
        """One line to stderr."""
        if "-v" in sys.argv:
            super().log_message(format, *values)


class Hello(http.server.BaseHTTPRequestHandler):
    """Says hello to every request."""

    def do_GET(self) -> None:
        """One line with the pod's name."""
        body = f"hello from {os.environ.get('HOSTNAME', 'nobody')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002 the base class's name
        """One line to stdout."""
        print(f"{self.command} {self.path}", flush=True)


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    pairs = [pair.split("=") for pair in os.environ.get("PRACTICE_CLUSTER_PORTS", "").split(",") if "=" in pair]
    if "--hello" in arguments:
        port = int(pairs[0][1]) if pairs else 0
        handler: Any = Hello
    else:
        wanted = _option(arguments, "-p", str(DEFAULT_PORT)).rpartition(":")[2]
        port = int(dict(pairs).get(wanted, wanted))
        handler = functools.partial(Files, directory=_option(arguments, "-h", "."))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    if "--hello" in arguments:
        print("hello: serving", flush=True)
        threading.Thread(target=_log_heartbeats, daemon=True).start()
    elif "-f" not in arguments and os.fork():
        os._exit(0)  # as busybox does: listen, then go on in the background
    server.serve_forever()


def _option(arguments: list[str], name: str, default: str) -> str:
    return arguments[arguments.index(name) + 1] if name in arguments[:-1] else default


def _log_heartbeats() -> None:
    pause = threading.Event()
    number = 0
    while not pause.wait(HEARTBEAT_S):
        number += 1
        print(f"hello {number}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
