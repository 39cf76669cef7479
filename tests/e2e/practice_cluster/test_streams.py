"""logs, exec, attach, cp and port-forward of stock kubectls, directly against the practice cluster."""

from __future__ import annotations

import hashlib
import os
import pty
import random
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kubectls import Kubectl

Run = Callable[..., str]
SOME_MEGABYTES = random.Random(1).randbytes(5_000_000)


def test_logs_end_and_follow(run: Run, kubectl: Kubectl, namespace: str, pod: str):
    assert "Hello: serving on port 8080" in run("logs", pod)
    with kubectl.running("-n", namespace, "logs", "-f", "--tail=1", pod) as follow:
        assert follow.stdout is not None
        _, first, second = (follow.stdout.readline() for _ in range(3))
    assert int(second.rpartition(b" ")[2]) == int(first.rpartition(b" ")[2]) + 1


def test_logs_of_a_pod_that_has_ended(run: Run):
    run("run", "once", "--image=any", "--restart=Never", "--command", "--", "sh", "-c", "echo said; exit 2")
    run("wait", "--for=jsonpath={.status.phase}=Failed", "pod/once", "--timeout=10s")
    assert run("logs", "once", "-f") == "said\n"
    assert run("get", "pod", "once", "-o", "jsonpath={..exitCode}") == "2"


def test_exec_separates_output_and_passes_exit_codes(kubectl: Kubectl, namespace: str, pod: str):
    done = kubectl.result("-n", namespace, "exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert done.returncode == 3
    assert done.stdout == b"out\n"
    assert b"err\n" in done.stderr
    assert kubectl.result("-n", namespace, "exec", pod, "--", "true").returncode == 0
    assert kubectl.result("-n", namespace, "exec", pod, "--", "no-such-program").returncode == 1


def test_exec_carries_megabytes_both_ways(kubectl: Kubectl, namespace: str, pod: str):
    digest = kubectl.result("-n", namespace, "exec", "-i", pod, "--", "sha256sum", input=SOME_MEGABYTES)
    assert digest.stdout.split()[0].decode() == hashlib.sha256(SOME_MEGABYTES).hexdigest()
    echo = kubectl.result("-n", namespace, "exec", "-i", pod, "--", "cat", input=SOME_MEGABYTES)
    assert echo.stdout == SOME_MEGABYTES


def test_exec_with_a_terminal_knows_its_size(kubectl: Kubectl, namespace: str, pod: str):
    master, slave = pty.openpty()
    subprocess.run(["stty", "rows", "33", "columns", "101"], stdin=slave, check=True)
    command = [kubectl.program, "-n", namespace, "exec", "-it", pod, "--", "sh", "-c", "read line; stty size; tty"]
    environment = {"KUBECONFIG": str(kubectl.kubeconfig), "HOME": str(kubectl.home), "PATH": os.environ["PATH"]}
    try:
        with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
            os.write(master, b"go\n")
            assert process.wait(20) == 0
        output = os.read(master, 4096)
    finally:
        os.close(master)
        os.close(slave)
    assert b"33 101" in output
    assert b"/dev/" in output


def test_attach_shows_what_is_printed_from_now_on(kubectl: Kubectl, namespace: str, pod: str):
    with kubectl.running("-n", namespace, "attach", pod) as attached:
        assert attached.stdout is not None
        assert re.match(rb"Hello number \d+", attached.stdout.readline())


def test_a_program_that_is_run_and_attached_gets_its_input(run: Run):
    words = ("run", "cat", "-i", "--rm", "--quiet", "--image=any", "--restart=Never", "--command", "--")
    assert "hello\nend" in run(*words, "sh", "-c", "cat; echo end", input="hello\n")


@pytest.mark.skipif(shutil.which("tar") is None, reason="kubectl cp needs tar in the container, which is this machine")
def test_cp_both_ways(run: Run, pod: str, tmp_path: Path):
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(SOME_MEGABYTES)
    run("cp", str(there), f"{pod}:copy")
    run("cp", f"{pod}:copy", str(back))
    assert back.read_bytes() == SOME_MEGABYTES


def test_port_forward_to_a_pod_and_a_service(kubectl: Kubectl, namespace: str, pod: str):
    for target, port in ((f"pod/{pod}", "8080"), ("service/hello", "80")):
        with kubectl.running("-n", namespace, "port-forward", target, f":{port}") as forward:
            assert forward.stdout is not None
            local = re.search(rb"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert local is not None
            for _ in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{local[1].decode()}/", timeout=10) as answer:
                    assert answer.read().startswith(b"Hello from hello-")


def test_port_forward_to_a_port_where_nobody_listens_says_so(kubectl: Kubectl, namespace: str, pod: str):
    with kubectl.running("-n", namespace, "port-forward", pod, ":1") as forward:
        assert forward.stdout is not None
        assert forward.stderr is not None
        local = re.search(rb"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert local is not None
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{local[1].decode()}/", timeout=10)
        assert b"error forwarding port 1" in forward.stderr.readline()
