"""Git servers that stall, never end, or send us elsewhere."""

from __future__ import annotations

import threading
import time

import pytest

from kas.agent_config.repositories import RepositoryProblem, git_questions
from kas.agent_config.repositories.git_remote import GitRemote
from tests.fakes.git_servers import COMMIT, Hostile, hostile, line
from tests.unit.kas.agent_config.test_watcher import PATH


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
