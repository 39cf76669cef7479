"""What the job does with stock kubectl, step by step; and what a job that is not let in is told."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from kas.demo.narrator import Narrator
from kas.demo.processes import environment
from kas.demo.stage import CONTEXT

APP = "deployment/hello"
STEP_S = 90.0  # the longest that one step may take; a real cluster may have to pull the image
LOG_LINES = 3  # to see of a log that never ends


class Job:
    """One CI job: a kubeconfig, and a kubectl that it runs."""

    def __init__(self, kubectl: Path, kubeconfig: Path, home: Path, narrator: Narrator) -> None:
        self._kubectl = kubectl
        self._environment = {**environment(home), "KUBECONFIG": str(kubeconfig)}
        self._narrator = narrator

    def deploy(self, folder: Path, shown: str) -> None:
        """The main job: choose the context, apply, wait, look around."""
        self.step("config", "use-context", CONTEXT)
        self.step("apply", "-k", str(folder), shown=f"kubectl apply -k {shown}")
        self.step("rollout", "status", APP, "--timeout=80s")
        self.step("get", "deployments,services,pods")
        self.follow_logs()
        self.step("exec", APP, "--", "sh", "-c", "echo hello from inside; exit 0", expects="hello from inside")
        self.forward_port()

    def is_denied(self) -> None:
        """A job of a project that ci_access does not name."""
        said = self._run("get", "pods")
        self._narrator.command("kubectl get pods")
        self._narrator.output(said.stderr)
        if said.returncode and "may not use this agent" in said.stderr:
            self._narrator.passed("denied, and told why")
        else:
            self._narrator.failed("this job should have been denied")

    def step(self, *words: str, shown: str = "", expects: str = "") -> None:
        """One command that must succeed."""
        self._narrator.command(shown or f"kubectl {shlex.join(words)}")
        done = self._run(*words)
        self._narrator.output(done.stdout + done.stderr)
        if done.returncode or expects not in done.stdout:
            self._narrator.failed(f"kubectl {words[0]} ended with exit code {done.returncode}")
        else:
            self._narrator.passed()

    def follow_logs(self) -> None:
        """A few lines of a log that goes on, then Ctrl-C."""
        self._narrator.command(f"kubectl logs -f {APP}")
        with self._started("logs", "-f", APP, "--tail=1") as process:
            lines = self._lines(process, LOG_LINES)
            process.terminate()
        self._narrator.output("\n".join([*lines, "^C"]))
        if len(lines) == LOG_LINES:
            self._narrator.passed("lines arrive as they are written")
        else:
            self._narrator.failed("the log could not be followed")

    def forward_port(self) -> None:
        """A request to the pod through the tunnel."""
        self._narrator.command(f"kubectl port-forward {APP} :8080 & curl http://127.0.0.1:PORT/")
        with self._started("port-forward", APP, ":8080") as process:
            answer = ""
            for line in self._lines(process, 1):
                if match := re.search(r"127\.0\.0\.1:(\d+)", line):
                    answer = _get(f"http://127.0.0.1:{match[1]}/")
            process.terminate()
        self._narrator.output(answer)
        if answer:
            self._narrator.passed("the pod has answered")
        else:
            self._narrator.failed("the pod was not reached")

    def clean_up(self, folder: Path) -> None:
        """Delete what was applied; without a word, since it is not part of the story."""
        self._run("delete", "-k", str(folder), "--ignore-not-found", "--wait=false")

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._kubectl), *words]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, env=self._environment, timeout=STEP_S, check=False
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no end after {STEP_S:g} s\n")

    def _started(self, *words: str) -> subprocess.Popen[str]:
        command: Sequence[str] = [str(self._kubectl), *words]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment
        )

    @staticmethod
    def _lines(process: subprocess.Popen[str], count: int) -> list[str]:
        lines: list[str] = []
        if process.stdout is not None:
            while len(lines) < count and (line := process.stdout.readline()):
                lines.append(line.rstrip("\n"))
        return lines


def _get(url: str) -> str:
    for _ in range(20):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the forwarded port on localhost
                return str(answer.read().decode(errors="replace"))
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    return ""
