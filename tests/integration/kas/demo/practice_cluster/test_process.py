"""The practice cluster as a process of its own, and what is left when it dies, one way or another."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from .test_pods import is_alive

COMMAND = [sys.executable, "-m", "kas.demo.practice_cluster", "--directory"]
LIMIT_S = 10


def wait_until(test: Callable[[], bool]) -> None:
    """Fails after ``LIMIT_S``."""
    end = time.monotonic() + LIMIT_S
    while not test():
        assert time.monotonic() < end
        time.sleep(0.01)


def call(kubeconfig: Path, path: str, item: object = None) -> bytes:
    """The body of the answer to a GET, or a POST of ``item``."""
    document = json.loads(kubeconfig.read_text())
    token = document["users"][0]["user"]["token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = document["clusters"][0]["cluster"]["server"] + path
    data = None if item is None else json.dumps(item).encode()
    context = ssl.create_default_context(cafile=str(kubeconfig.with_name("ca.crt")))
    request = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(request, context=context, timeout=LIMIT_S) as answer:
        return answer.read()  # type: ignore[no-any-return]


def start_pod(kubeconfig: Path) -> int:
    """The id of a process of a pod, which ignores all it can ignore."""
    command = ["sh", "-c", "trap '' TERM INT HUP; echo $$$$; while :; do sleep 1000; done"]
    spec = {"containers": [{"name": "main", "image": "any", "command": command}]}
    pods = "/api/v1/namespaces/default/pods"
    call(kubeconfig, pods, {"metadata": {"name": "a"}, "spec": spec})
    printed: list[bytes] = []

    def has_printed() -> bool:
        try:
            printed[:] = [call(kubeconfig, f"{pods}/a/log")]
        except urllib.error.HTTPError:
            return False  # waiting to start
        return bool(printed[0])

    wait_until(has_printed)
    return int(printed[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(tmp_path: Path, number: signal.Signals):
    with subprocess.Popen([*COMMAND, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        kubeconfig = Path(process.stdout.readline().strip())
        pid = start_pod(kubeconfig)
        process.send_signal(number)
        assert process.wait(LIMIT_S) == (-9 if number == signal.SIGKILL else 0)
    wait_until(lambda: not is_alive(pid))


def test_it_dies_with_its_parent(tmp_path: Path):
    script = f"import subprocess, time\nsubprocess.Popen({[*COMMAND, str(tmp_path)]!r})\ntime.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = start_pod(Path(parent.stdout.readline().strip()))
        parent.kill()
        parent.wait(LIMIT_S)
        wait_until(lambda: not is_alive(pid))
        assert parent.stdout.read() == ""  # whoever had it open is gone


def test_a_port_in_use_and_a_folder_that_cannot_be_written_are_said_in_a_line(tmp_path: Path):
    with subprocess.Popen([*COMMAND, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        kubeconfig = Path(process.stdout.readline().strip())
        port = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"].rpartition(":")[2]
        second = [*COMMAND, str(tmp_path / "other"), "--port", port]
        done = subprocess.run(second, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        process.terminate()
    assert done.returncode == 1
    assert done.stderr.startswith("practice cluster: cannot start: ")
    assert len(done.stderr.splitlines()) == 1
    done = subprocess.run([*COMMAND, "/dev/null/x"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
