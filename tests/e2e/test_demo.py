"""The demo as a newcomer runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.kubectls import kubectl_program

KAS = Path(sys.executable).parent / "kas"
pytestmark = [pytest.mark.slow]


def environment(tmp_path: Path, kubectl: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAS_", "AGENTK_", "KUBE"))}
    return {**kept, "TMPDIR": str(tmp_path), "KUBECTL": kubectl, "NO_COLOR": "1"}


def nothing_is_left(tmp_path: Path) -> bool:
    """No file, and no process that works on one."""
    if list(tmp_path.glob("kas-demo-*")):
        return False
    found = subprocess.run(["pgrep", "-f", f"{tmp_path}/kas-demo-"], capture_output=True, text=True, check=False)
    return not found.stdout


@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_every_step_passes_and_nothing_is_left(minor: str, tmp_path: Path) -> None:
    env = environment(tmp_path, str(kubectl_program(minor)))
    done = subprocess.run([KAS, "demo", "--once"], env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 15 steps passed" in done.stdout
    assert "may not use this agent" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert nothing_is_left(tmp_path)


def test_without_kubectl_the_python_client_plays_what_it_can(tmp_path: Path) -> None:
    env = environment(tmp_path, "")
    done = subprocess.run([KAS, "demo", "--once"], env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped: config use-context, apply -k, logs -f, exec and port-forward: they need kubectl" in done.stdout
    assert nothing_is_left(tmp_path)


@contextmanager
def playing(folder: Path, kubectl: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, which stays up; killed if the test does not end it."""
    # What is started in the background by a script ignores Ctrl-C, and so would whatever it starts.
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        demo = subprocess.Popen([KAS, "demo"], env=environment(folder, kubectl), stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, was)
    with demo:
        try:
            yield demo
        finally:
            demo.kill()


def test_it_stays_up_until_it_is_told_to_end_and_leaves_nothing(tmp_path: Path) -> None:
    kubectl = str(kubectl_program("1.33"))
    with playing(tmp_path, kubectl) as demo:
        assert demo.stdout is not None
        exported = next(line for line in demo.stdout if "export KUBECONFIG=" in line).split("=", 1)[1].strip()
        by_hand = subprocess.run(
            [kubectl, "--kubeconfig", exported, "get", "pods"],
            env=environment(tmp_path, kubectl),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert by_hand.stdout.count("Running") == 2, by_hand.stderr
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(30) == 0
    assert nothing_is_left(tmp_path)


def test_a_killed_demo_takes_its_programs_with_it(tmp_path: Path) -> None:
    kubectl = str(kubectl_program("1.33"))
    with playing(tmp_path, kubectl) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if "is linked" in line)
        demo.kill()
    deadline = time.monotonic() + 15
    while subprocess.run(["pgrep", "-f", f"{tmp_path}/kas-demo-"], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "a program of a killed demo is still there"
        time.sleep(0.1)
