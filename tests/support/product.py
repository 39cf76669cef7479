"""kas and agentk as an operator runs them: real processes on free ports, their state in one folder, all ended with the block.

with Product(folder) as product:
    agent = product.register("prod", "group/config")
    product.configure(agent, "ci_access: {projects: [{id: group/app}]}")
    product.start_agentk(agent, cluster.kubeconfig)
    kubeconfig = product.kubeconfig(product.job_token("group/app"))
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dulwich import porcelain
from dulwich.repo import Repo

from tests.support.ports import free_ports

PROGRAMS = Path(sys.executable).parent
READY_LIMIT_S = 30
STOP_LIMIT_S = 15
COMMAND_LIMIT_S = 60
AUTHOR = b"Operator <operator@example.com>"


class ProductFailed(AssertionError):
    """kas, agentk or one of their commands did not do what it should; the text ends with what it said."""


@dataclass(frozen=True)
class Agent:
    """A registered agent and the file with its token."""

    id: int
    name: str
    project: str
    token_file: Path

    @property
    def context(self) -> str:
        """Its context in the kubeconfig of a job."""
        return f"{self.project}:{self.name}"


@dataclass
class Process:
    """A program that runs in the background; its output goes to ``log``."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]
    observability: str

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def said(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_ready(self, limit_s: float = READY_LIMIT_S) -> None:
        """Wait until its /readiness answers 200. Raises ProductFailed."""
        self.wait_until(lambda: _answers(f"{self.observability}/readiness"), f"{self.name} is ready", limit_s)

    def wait_until(self, condition: Callable[[], bool], what: str, limit_s: float = READY_LIMIT_S) -> None:
        """Wait until ``condition``, as long as the process runs. Raises ProductFailed."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if self.popen.poll() is not None:
                raise ProductFailed(f"{self.name} ended with {self.popen.returncode}:\n{self.said()[-4000:]}")
            if time.monotonic() > deadline:
                raise ProductFailed(f"not within {limit_s} s: {what}:\n{self.said()[-4000:]}")
            time.sleep(0.05)

    def stop(self, kind: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; killed if it takes longer than 15 s. Returns the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.send_signal(kind)
        try:
            return self.popen.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise ProductFailed(f"{self.name} did not end within {STOP_LIMIT_S} s:\n{self.said()[-4000:]}") from None


@dataclass
class Product:
    """One kas with its agents. ``options`` are laid over the kas.yaml that it starts with (sections deep), ``environment`` is kas's."""

    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.repositories = self.folder / "repositories"
        self.repositories.mkdir()
        self.config_file = self.folder / "kas.yaml"
        self.state = self.folder / "state"
        self._ports = dict(zip(("agent", "observability", "management", "kubernetes"), free_ports(4), strict=True))
        self.kas: Process | None = None
        self.agentks: list[Process] = []

    def __enter__(self) -> Self:
        self.write_config()
        try:
            self.start_kas()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- where things are ---------------------------------------------------------------------------------------------

    @property
    def ca_file(self) -> Path:
        """The CA that kas made for itself."""
        return self.state / "pki" / "ca.crt"

    @property
    def kas_address(self) -> str:
        """What agentk dials."""
        return f"grpcs://localhost:{self._ports['agent']}"

    @property
    def management_url(self) -> str:
        """Where jobs fetch kubeconfigs."""
        return f"https://localhost:{self._ports['management']}"

    @property
    def kubernetes_url(self) -> str:
        """The kubectl door."""
        return f"https://localhost:{self._ports['kubernetes']}"

    # --- processes ----------------------------------------------------------------------------------------------------

    def write_config(self, **changed: Any) -> None:
        """Write kas.yaml anew, with ``changed`` laid over its options. JSON is YAML."""
        document = _merged(self._base_config(), {**self.options, **changed})
        self.config_file.write_text(json.dumps(document, indent=1))

    def start_kas(self, *, wait: bool = True) -> Process:
        """Start kas and wait until it is ready, unless told otherwise."""
        command = [PROGRAMS / "kas", "serve", "--config", self.config_file]
        observability = f"http://127.0.0.1:{self._ports['observability']}"
        self.kas = self._start("kas", command, observability, self.environment)
        if wait:
            self.kas.wait_ready()
        return self.kas

    def start_agentk(
        self,
        agent: Agent,
        kubeconfig: Path,
        *,
        environment: Mapping[str, str] | None = None,
        kas_address: str | None = None,
        ca_file: Path | None = None,
        wait: bool = True,
    ) -> Process:
        """Start an agentk for ``agent`` and wait until it is linked, unless told otherwise."""
        (port,) = free_ports(1)
        name = f"agentk-{len(self.agentks)}"
        command = [
            *(PROGRAMS / "agentk", "--kas-address", kas_address or self.kas_address),
            *("--token-file", agent.token_file, "--ca-cert-file", ca_file or self.ca_file),
            *("--kubeconfig", kubeconfig, "--instance", f"tests/{name}"),
            *("--observability-listen", f"127.0.0.1:{port}"),
        ]
        process = self._start(name, command, f"http://127.0.0.1:{port}", environment or {})
        self.agentks.append(process)
        if wait:
            process.wait_ready()
        return process

    def close(self) -> None:
        """End every process. The first that did not end as it should raises, after all have ended."""
        processes = [*self.agentks, *([self.kas] if self.kas else [])]
        self.agentks, self.kas = [], None
        failures = []
        for process in processes:
            try:
                process.stop()
            except ProductFailed as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    # --- an operator's commands ---------------------------------------------------------------------------------------

    def register(self, name: str, project: str, *more: str) -> Agent:
        """Register an agent as the operator does; its token goes into a file. ``more``: options of `kas agent register`."""
        words = ("agent", "register", name, "--project", project, *more, "--output", "json")
        registered = json.loads(self.command(*words))
        token_file = self.folder / f"{project.replace('/', '_')}_{name}.token"
        token_file.touch(mode=0o600)
        token_file.write_text(registered["token"])
        return Agent(registered["id"], name, project, token_file)

    def job_token(self, project: str, *claims: str) -> Path:
        """A file with a token for a job of ``project``; ``claims`` are more options of `kas job-token issue`."""
        token = self.command("job-token", "issue", "--project", project, *claims).strip()
        file = self.folder / f"job-{time.monotonic_ns()}.token"
        file.touch(mode=0o600)
        file.write_text(token)
        return file

    def kubeconfig(self, token_file: Path) -> Path:
        """The kubeconfig that a job with this token gets."""
        file = token_file.with_suffix(".kubeconfig")
        file.touch(mode=0o600)
        file.write_text(self.command("kubeconfig", "--token-file", str(token_file)))
        return file

    def configure(self, agent: Agent, config: str) -> None:
        """Commit ``config`` as the agent's configuration to the repository of its project."""
        self.commit(agent.project, {f".gitlab/agents/{agent.name}/config.yaml": config})

    def commit(self, project: str, files: Mapping[str, str]) -> None:
        """Commit these files to the repository of ``project``, which is made if there is none."""
        folder = self.repositories / project
        if not (folder / ".git").exists():
            folder.mkdir(parents=True)
            porcelain.init(folder)
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        with Repo(str(folder)) as repository:
            porcelain.add(repository, [str(folder / path) for path in files])
            porcelain.commit(repository, b"configure", author=AUTHOR, committer=AUTHOR)

    def command(self, *words: str, code: int = 0) -> str:
        """Standard output of `kas WORDS --config …`, which must end with ``code``; for a failure, what it said instead."""
        done = subprocess.run(
            [PROGRAMS / "kas", *words, "--config", self.config_file],
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        if done.returncode != code:
            raise ProductFailed(f"kas {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout if code == 0 else done.stderr

    # --- inside -------------------------------------------------------------------------------------------------------

    def _base_config(self) -> dict[str, Any]:
        port = self._ports
        return {
            "state_dir": str(self.state),
            "configuration_repositories": [{"root": str(self.repositories)}],
            "poll_interval_s": 0.2,
            "agent_api": {"listen": f"127.0.0.1:{port['agent']}", "external_url": self.kas_address},
            "observability": {"listen": f"127.0.0.1:{port['observability']}"},
            "management_api": {"listen": f"127.0.0.1:{port['management']}", "external_url": self.management_url},
            "kubernetes_api": {"listen": f"127.0.0.1:{port['kubernetes']}", "external_url": self.kubernetes_url},
            "link": {"listen_grace_s": 0, "drain_timeout_s": 2},
            "logging": {"requests": "all"},
        }

    def _start(self, name: str, command: list[Any], observability: str, more: Mapping[str, str]) -> Process:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**self._environment(), **more},
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C at the tests reaches them only through close()
            )
        return Process(name, log, popen, observability)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KAS_", "AGENTK_", "KUBE", "GRPC_")) and not name.lower().endswith("_proxy")
        }
        return {**kept, "HOME": str(self.folder), "NO_COLOR": "1"}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
