"""Configuration over git: from git's own server over https, from a real sshd, and from servers that mean harm."""

from __future__ import annotations

import asyncio
import base64
import getpass
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dulwich import porcelain
from hypothesis import given
from hypothesis import strategies as st

from kas.agent_config.repositories import RepositoryProblem, git_questions
from kas.agent_config.repositories.bounded_packs import UnfitPack, check_pack, delta_result
from kas.agent_config.repositories.git_remote import GitRemote
from tests.fakes.certificates import Authority
from tests.fakes.connect_proxy import ConnectProxy
from tests.unit.kas.agent_config.test_watcher import GOOD, OTHER, PATH

TOKEN = "glpat-secret-secret"
AUTHOR = b"kas tests <tests@example.com>"


@contextmanager
def git_server(root: Path, forge_authority: Any, name: str = "localhost") -> Iterator[str]:
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
    """A repository that is served, with one working copy to commit in."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "infra/agents.git"
        self.folder.mkdir(parents=True)
        porcelain.init(self.folder, bare=False)

    def commit(self, text: bytes | None) -> None:
        file = self.folder / PATH
        file.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            porcelain.remove(self.folder, [str(file)])
        else:
            file.write_bytes(text)
            porcelain.add(self.folder, [str(file)])
        porcelain.commit(self.folder, b"c", author=AUTHOR, committer=AUTHOR)


@pytest.fixture
def served(tmp_path):
    authority = Authority(tmp_path, "git CA")
    origin = Origin(tmp_path / "root")
    origin.commit(GOOD)
    with git_server(tmp_path / "root", authority) as url:
        yield origin, f"{url}/infra/agents.git", authority.ca, tmp_path / "cache"


def remote(served: Any, **options: Any) -> GitRemote:
    _, url, ca, cache = served
    return GitRemote(url, cache, **{"token": TOKEN, "ca_file": ca, **options})


def test_git_over_https_is_read_at_its_newest_commit_and_cached(served):
    origin = served[0]
    repository = remote(served)
    first = repository.head()
    assert repository.read(first, PATH, 10_000) == GOOD
    origin.commit(OTHER)
    second = repository.head()
    assert second != first
    assert repository.read(second, PATH, 10_000) == OTHER
    assert remote(served, token="wrong").read(first, PATH, 10_000) == GOOD  # from the cache
    origin.commit(None)
    assert repository.read(repository.head(), PATH, 10_000) is None


def test_no_secret_is_kept_in_the_cache(served):
    repository = remote(served)
    repository.read(repository.head(), PATH, 10_000)
    for file in served[3].rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()
    assert served[3].stat().st_mode & 0o077 == 0 or next(served[3].iterdir()).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token": "not-this-one"}, "its token is refused"),
        ({"token": None}, "its token is refused"),
        ({"ca_file": None}, "CERTIFICATE_VERIFY_FAILED"),
        ({"ref": "missing"}, "refs/heads/missing has no commit"),
    ],
)
def test_what_is_wrong_with_it_is_said_without_secrets(served, options, said):
    with pytest.raises(RepositoryProblem) as caught:
        remote(served, **options).head()
    assert said in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "not-this-one" not in str(caught.value)


def test_a_machine_that_does_not_answer_is_told(served):
    with pytest.raises(RepositoryProblem, match="Connection refused"):
        GitRemote("https://localhost:1/x.git", served[3]).head()


def test_large_files_stay_where_they_are(served):
    origin = served[0]
    (origin.folder / "film.bin").write_bytes(os.urandom(5 << 20))
    porcelain.add(origin.folder, [str(origin.folder / "film.bin")])
    origin.commit(OTHER)
    repository = remote(served)
    assert repository.read(repository.head(), PATH, 10_000) == OTHER
    assert sum(file.stat().st_size for file in served[3].rglob("*.pack")) < 100_000
    origin.commit(os.urandom(3 << 20))
    with pytest.raises(RepositoryProblem, match="config.yaml did not come with the commit: it is larger than 2 MB"):
        repository.read(repository.head(), PATH, 10_000)


def test_a_damaged_cache_is_made_anew(served):
    repository = remote(served)
    head = repository.head()
    assert repository.read(head, PATH, 10_000) == GOOD
    (pack,) = served[3].rglob("*.pack")
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[:100] + bytes(100))
    assert repository.read(head, PATH, 10_000) == GOOD
    (folder,) = (one for one in served[3].iterdir() if one.is_dir())
    shutil.rmtree(folder / "refs")
    (folder / "HEAD").unlink()
    assert repository.read(head, PATH, 10_000) == GOOD


def test_two_that_share_a_cache_fetch_one_after_the_other(served):
    origin = served[0]
    for n in range(3):
        origin.commit(b"ci_access: {projects: [{id: web/app%d}]}\n" % n)
    head = remote(served).head()
    found: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: found.append(remote(served).read(head, PATH, 10_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"ci_access: {projects: [{id: web/app2}]}\n"] * 4
    assert len(list(served[3].rglob("*.pack"))) == 1


@pytest.mark.parametrize("login", ["", "joe:p%3Aass@"])
async def test_git_goes_through_the_proxy_of_the_environment(served, tmp_path, monkeypatch, login):
    authority = Authority(tmp_path, "other CA")
    with git_server(tmp_path / "root", authority, "git.test") as url:
        port = int(url.rpartition(":")[2])
        async with ConnectProxy({"git.test": ("127.0.0.1", port)}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", f"//{login}"))
            repository = GitRemote(
                f"https://git.test:{port}/infra/agents.git", tmp_path / "c", token=TOKEN, ca_file=authority.ca
            )
            head = await asyncio.to_thread(repository.head)
            assert await asyncio.to_thread(repository.read, head, PATH, 10_000) == GOOD
            assert set(proxy.asked) == {f"git.test:{port}"}
            assert set(proxy.shown) == {"Basic am9lOnA6YXNz" if login else ""}
            proxy.status = 407
            with pytest.raises(RepositoryProblem) as caught:
                await asyncio.to_thread(repository.head)
            assert "407" in str(caught.value)
            assert "ass" not in str(caught.value)


@pytest.fixture
def ssh_origin(tmp_path: Path) -> Iterator[tuple[Origin, str, Path, Path]]:
    """A real sshd that serves a repository to one key."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or shutil.which("ssh") is None or shutil.which("git") is None:
        pytest.skip("needs sshd, ssh and git")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it wants to lock its unprivileged part in
    origin = Origin(tmp_path / "root")
    origin.commit(GOOD)
    for name in ("host", "key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = tmp_path / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/key.pub\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\n"
    )
    known = tmp_path / "known hosts"  # with a blank
    known.write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    with subprocess.Popen([program, "-D", "-e", "-f", str(settings)], stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        while line := server.stderr.readline():
            if b"listening" in line:
                break
        listening = threading.Thread(target=server.stderr.read)  # or it would stop when the pipe is full
        listening.start()
        yield origin, f"ssh://{getpass.getuser()}@127.0.0.1:{port}{origin.folder}", tmp_path, known
        server.terminate()
        listening.join()


def over_ssh(ssh_origin: tuple[Origin, str, Path, Path], key: str = "key", known: Path | None = None) -> GitRemote:
    _, url, folder, hosts = ssh_origin
    return GitRemote(url, folder / "cache", key_file=folder / key, known_hosts_file=known or hosts)


def test_git_over_ssh_is_read_at_its_newest_commit(ssh_origin):
    repository = over_ssh(ssh_origin)
    assert repository.read(repository.head(), PATH, 10_000) == GOOD
    ssh_origin[0].commit(OTHER)
    assert repository.read(repository.head(), PATH, 10_000) == OTHER


@pytest.mark.filterwarnings("ignore:unclosed Protocol:ResourceWarning")  # dulwich leaves what hung up unclosed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_ssh_complains_of_is_said(ssh_origin, tmp_path):
    with pytest.raises(RepositoryProblem, match="Permission denied"):
        over_ssh(ssh_origin, key="other").head()
    stranger = tmp_path / "nobody"
    stranger.write_text("")
    with pytest.raises(RepositoryProblem, match="Host key verification failed"):
        over_ssh(ssh_origin, known=stranger).head()


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


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_says_a_byte_now_and_then_is_left_at_the_deadline(tmp_path, monkeypatch, part):
    monkeypatch.setattr(git_questions, "DEADLINE_S", 0.3)
    over = threading.Event()

    def answer(handler: Hostile, _: str) -> None:
        if part == "body":
            handler.send_response(200)
            handler.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
        while not over.wait(0.02):
            if part == "body":
                handler.chunk(line(b"# service=git-upload-pack\n"))
            else:
                handler.wfile.write(b"X")

    with hostile(answer) as url:
        began = time.monotonic()
        with pytest.raises(RepositoryProblem, match="no whole answer within"):
            GitRemote(url, tmp_path).head()
        assert time.monotonic() - began < 10  # of which nine are for the machine: without a deadline it never ends
        over.set()


def test_closing_ends_a_question_at_once(tmp_path):
    asked, over = threading.Event(), threading.Event()

    def answer(handler: Hostile, _: str) -> None:
        asked.set()
        over.wait(30)

    with hostile(answer) as url:
        repository = GitRemote(url, tmp_path)

        def close() -> None:
            asked.wait(30)
            repository.close()

        closing = threading.Thread(target=close)
        closing.start()
        with pytest.raises(RepositoryProblem, match="given up"):
            repository.head()
        closing.join()
        with pytest.raises(RepositoryProblem, match="given up"):
            repository.head()
        over.set()


def test_a_server_that_never_ends_is_left_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(git_questions, "MAX_BYTES", 100_000)

    def answer(handler: Hostile, _: str) -> None:
        many = line(b"# service=git-upload-pack\n") + b"0000"
        for n in range(5000):
            many += line(f"{COMMIT} refs/heads/{n}\n".encode())
        handler.say("advertisement", many)

    with hostile(answer) as url, pytest.raises(RepositoryProblem, match="more than 100000 bytes"):
        GitRemote(url, tmp_path).head()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_sends_us_elsewhere_is_not_followed(tmp_path):
    asked: list[str] = []

    def dumb(handler: Hostile, path: str) -> None:
        asked.append(path)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        body = f"{COMMIT}\trefs/heads/main\n".encode()
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def away(handler: Hostile, path: str) -> None:
        asked.append(path)
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere/info/refs?service=git-upload-pack")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    for answer in (dumb, away):
        with hostile(answer) as url:
            repository = GitRemote(url, tmp_path)
            with pytest.raises(RepositoryProblem):
                repository.head()
            with pytest.raises(RepositoryProblem):
                repository.read(COMMIT, PATH, 10_000)
    assert {path.partition("?")[0] for path in asked} <= {"/x.git/info/refs"}


def packed(*entries: bytes, count: int | None = None) -> bytes:
    from hashlib import sha1

    content = struct.pack(">4sLL", b"PACK", 2, len(entries) if count is None else count) + b"".join(entries)
    return content + sha1(content).digest()


def entry(kind: int, size: int, content: bytes, between: bytes = b"") -> bytes:
    first, size = size & 15 | kind << 4, size >> 4
    head = b""
    while size:
        head += bytes([first | 0x80])
        first, size = size & 127, size >> 7
    return head + bytes([first]) + between + zlib.compress(content, 9)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def delta(base: int, result: int, *commands: bytes) -> bytes:
    return varint(base) + varint(result) + b"".join(commands)


COPY_64K = b"\x80"  # from offset 0, 0x10000 bytes
BASE = bytes(0x10000)


COPIES = delta(len(BASE), 2000 << 16, *[COPY_64K] * 2000)
UNSAID = delta(len(BASE), 5, *[COPY_64K] * 2000)
PLAIN = entry(3, len(BASE), BASE)
BACK = bytes([len(PLAIN)])  # one byte is enough

BOMBS: dict[str, Callable[[], bytes]] = {
    "an object of more than": lambda: packed(entry(3, 65 << 20, bytes(65 << 20))),
    "not as large as its header says": lambda: packed(entry(3, 10, bytes(1 << 20))),
    "bytes together": lambda: packed(*[entry(3, 60 << 20, bytes(60 << 20))] * 20),
    "it holds an object of more": lambda: packed(PLAIN, entry(6, len(COPIES), COPIES, BACK)),
    "another size than it says": lambda: packed(PLAIN, entry(6, len(UNSAID), UNSAID, BACK)),
    "unknown type": lambda: packed(entry(5, 0, b"")),
    "more than 1000000 objects": lambda: packed(count=1_000_001),
    "cut or damaged": lambda: packed(count=3),
    "this is not a pack": lambda: b"KCAP" + bytes(30),
    "it is empty": lambda: b"",
}


@pytest.mark.parametrize("said", BOMBS)
def test_a_pack_that_would_fill_memory_is_never_unpacked(tmp_path, said):
    pack = BOMBS[said]()

    def answer(handler: Hostile, path: str) -> None:
        if "info/refs" in path:
            refs(handler)
            return
        bands = (line(b"\x01" + pack[at : at + 60_000]) for at in range(0, len(pack), 60_000))
        handler.say("result", line(f"shallow {COMMIT}\n".encode()) + b"0000" + line(b"NAK\n"), *bands, b"0000")

    with hostile(answer) as url, pytest.raises(RepositoryProblem) as caught:
        GitRemote(url, tmp_path).read(COMMIT, PATH, 10_000)
    assert "what it sends is refused: " in str(caught.value)
    assert said in str(caught.value)
    assert not list(tmp_path.rglob("*.pack"))


def test_a_pack_of_large_objects_is_walked_to_its_end(tmp_path):
    large = entry(3, 60 << 20, bytes(60 << 20))
    file = tmp_path / "pack"
    file.write_bytes(packed(*[large] * 3))
    with file.open("rb") as opened:
        check_pack(opened)


def test_packs_of_git_itself_are_fit(tmp_path):
    """With deltas of both kinds, as git makes them."""
    origin = Origin(tmp_path)
    for n in range(30):
        origin.commit(b"".join(b"line %d\n" % (m * (1 + (m == n))) for m in range(2000)))
    git = ["git", "-c", "safe.directory=*", "-C", str(origin.folder)]
    names = subprocess.run([*git, "rev-list", "--objects", "--all"], check=True, capture_output=True).stdout
    for options in (["--delta-base-offset"], []):
        made = subprocess.run(
            [*git, "pack-objects", "--stdout", *options],
            input=names,
            check=True,
            capture_output=True,
        ).stdout
        file = tmp_path / "pack"
        file.write_bytes(made)
        with file.open("rb") as opened:
            check_pack(opened)


@given(st.binary(max_size=200))
def test_no_delta_and_no_pack_does_anything_but_be_fit_or_unfit(text):
    try:
        delta_result(text)
    except (UnfitPack, IndexError):
        pass


@given(st.data())
def test_a_changed_pack_is_fit_or_unfit(tmp_path_factory, data):
    pack = bytearray(packed(entry(3, len(BASE), BASE), entry(6, 8, delta(len(BASE), 0x10000, COPY_64K), b"\x60")))
    for _ in range(data.draw(st.integers(1, 4))):
        pack[data.draw(st.integers(8, len(pack) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "changed"
    file.write_bytes(pack)
    with file.open("rb") as opened:
        try:
            check_pack(opened)
        except UnfitPack:
            pass
