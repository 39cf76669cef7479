"""Git servers: git's own, over https, with a repository to push to; and one that answers as a test says."""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dulwich import porcelain

TOKEN = "glpat-secret-secret"
AUTHOR = b"kas tests <tests@example.com>"


@contextmanager
def git_server(root: Path, forge_authority: Any, name: str = "localhost") -> Iterator[str]:
    """The URL below which git itself serves the repositories in ``root`` over https to who knows TOKEN."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        do_POST = do_GET  # noqa: N815 - the name that the server calls

        def _serve(self) -> None:
            expected = "Basic " + base64.b64encode(f"kas:{TOKEN}".encode()).decode()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            environment = {
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "PATH": "/usr/bin:/bin",
                "REMOTE_USER": "kas",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_CONFIG_COUNT": "2",
                "GIT_CONFIG_KEY_1": "uploadpack.allowFilter",
                "GIT_CONFIG_VALUE_1": "true",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, capture_output=True, env=environment, check=False
            )
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            status = 200
            fields = []
            for line in head.decode().splitlines():
                name, _, value = line.partition(": ")
                if name == "Status":
                    status = int(value.split()[0])
                else:
                    fields.append((name, value))
            self.send_response(status)
            for name, value in fields:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = forge_authority.server_context(name).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Origin:
    """A repository that is served, with one working copy to commit the file at ``path`` in."""

    def __init__(self, root: Path, path: str) -> None:
        self._path = path
        self.folder = root / "infra/agents.git"
        self.folder.mkdir(parents=True)
        porcelain.init(self.folder, bare=False)

    def commit(self, text: bytes | None, others: Mapping[str, bytes] | None = None) -> None:
        """``text`` as the file, None without it; ``others`` beside it, by their path."""
        for name, content in (others or {}).items():
            (self.folder / name).write_bytes(content)
            porcelain.add(self.folder, [str(self.folder / name)])
        file = self.folder / self._path
        file.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            porcelain.remove(self.folder, [str(file)])
        else:
            file.write_bytes(text)
            porcelain.add(self.folder, [str(file)])
        porcelain.commit(self.folder, b"c", author=AUTHOR, committer=AUTHOR)


Answer = Callable[["Hostile", str], None]


class Hostile(BaseHTTPRequestHandler):
    """Answers as the test says."""

    protocol_version = "HTTP/1.1"
    answer: Answer

    def do_GET(self) -> None:
        self.answer(self.path)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(self.path)

    def say(self, kind: str, *chunks: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self.chunk(chunk)
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def hostile(answer: Answer) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Hostile,), {"answer": answer}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/x.git"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


COMMIT = "1234567890123456789012345678901234567890"


def line(text: bytes) -> bytes:
    return b"%04x%s" % (len(text) + 4, text)


def refs(handler: Hostile) -> None:
    first = line(b"# service=git-upload-pack\n") + b"0000"
    first += line(f"{COMMIT} HEAD\0side-band-64k ofs-delta shallow allow-reachable-sha1-in-want\n".encode()) + b"0000"
    handler.say("advertisement", first)
