"""Long and upgraded requests with stock kubectl: logs -f, exec, cp, port-forward; over SPDY and over WebSocket."""

from __future__ import annotations

import hashlib
import os
import re
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.kubectls import Kubectl

MIB = 1 << 20
LINES = 20


@pytest.mark.usefixtures("node")
def test_logs_are_followed_line_by_line_to_their_end(kubectl: Kubectl) -> None:
    script = f"for i in $(seq {LINES}); do echo line $i; sleep 0.2; done"
    image = ("--image=localhost/busybox:1", "--image-pull-policy=Never", "--restart=Never")
    kubectl.run("run", "talker", *image, "--command", "--", "sh", "-c", script)
    try:
        kubectl.run("wait", "--for=condition=Ready", "--timeout=55s", "pod/talker")
        with kubectl.running("logs", "--follow", "talker") as logs:
            assert logs.stdout is not None
            came: list[tuple[float, bytes]] = [(time.monotonic(), line) for line in logs.stdout]
            assert logs.wait(10) == 0
    finally:
        kubectl.run("delete", "pod", "talker", "--now")
    assert [line for _, line in came] == [f"line {i}\n".encode() for i in range(1, LINES + 1)]
    assert came[-1][0] - came[0][0] > 1, "the lines came all at once, not as they were written"


@pytest.mark.covers("U-02")
@pytest.mark.parametrize("code", [0, 1, 3, 126, 137])
def test_exec_ends_with_the_commands_exit_code(kubectl: Kubectl, shell_pod: str, code: int) -> None:
    result = kubectl.result("exec", shell_pod, "--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
    assert result.returncode == code
    assert result.stdout == b"out\n"
    assert b"err\n" in result.stderr


def test_exec_takes_a_large_standard_input(kubectl: Kubectl, shell_pod: str) -> None:
    data = os.urandom(24 * MIB)
    said = kubectl.run("exec", "--stdin", shell_pod, "--", "sha256sum", input=data)
    assert said.split()[0] == hashlib.sha256(data).hexdigest()


@pytest.mark.covers("U-05")
def test_exec_with_an_empty_standard_input_ends(kubectl: Kubectl, shell_pod: str) -> None:
    assert kubectl.run("exec", "--stdin", shell_pod, "--", "cat", input=b"") == ""


def test_cp_brings_a_file_there_and_back(kubectl: Kubectl, shell_pod: str, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(16 * MIB))
    kubectl.run("cp", str(there), f"{shell_pod}:/tmp/copied")
    kubectl.run("cp", f"{shell_pod}:/tmp/copied", str(back))
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(there.read_bytes()).digest()


def test_port_forward_reaches_the_pod(kubectl: Kubectl, shell_pod: str) -> None:
    with kubectl.running("port-forward", f"pod/{shell_pod}", ":8080") as forward:
        assert forward.stdout is not None
        first = forward.stdout.readline().decode()
        found = re.search(r"127\.0\.0\.1:(\d+) -> 8080", first)
        assert found, first
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=20) as page:
                assert page.read() == b"it works\n"


def test_attach_shows_what_the_process_says(kubectl: Kubectl) -> None:
    image = ("--image=localhost/busybox:1", "--image-pull-policy=Never", "--restart=Never")
    said = kubectl.run(
        "run", "asked", *image, "--rm", "--stdin", "--quiet", "--", "sh", "-c", "read x; echo got $x", input=b"this\n"
    )
    assert "got this" in said
