"""Sets the scene as an operator would: kas, an agent, its configuration in a git repository, agentk."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

import yaml
from dulwich import porcelain
from dulwich.repo import Repo

from kas.demo.narrator import Narrator
from kas.demo.processes import DemoFailed, Processes, answers, environment

CONFIG_PROJECT = "platform/clusters"  # where the agent and its configuration live
JOBS_PROJECT = "shop/web"  # let in by ci_access
STRANGERS_PROJECT = "somebody/else"  # not let in
AGENT = "demo"
CONTEXT = f"{CONFIG_PROJECT}:{AGENT}"
TOKEN_LIFE = "8h"  # noqa: S105
_AUTHOR = b"kas demo <demo@example.com>"
_PROGRAM = (sys.executable, "-m")


class Ports(NamedTuple):
    """Free ones on localhost."""

    agent: int
    observability: int
    management: int
    kubernetes: int
    agentk: int


class Stage:
    """Everything but the cluster. ``folder`` holds all that the demo writes."""

    def __init__(self, folder: Path, processes: Processes, narrator: Narrator) -> None:
        self.folder = folder
        self._processes = processes
        self._narrator = narrator
        self._ports = _free_ports()
        self.config_file = folder / "kas.yaml"
        self.ca_file = folder / "state" / "pki" / "ca.crt"
        self.agent_id = 0

    @property
    def management_url(self) -> str:
        """Where jobs fetch their kubeconfig."""
        return f"https://localhost:{self._ports.management}"

    def start_kas(self) -> None:
        """Write kas.yaml, start kas, and wait until it is ready."""
        ports = self._ports
        document = {
            "state_dir": str(self.folder / "state"),
            "configuration_repositories": [{"root": str(self.folder / "repositories")}],
            "poll_interval_s": 0.5,
            "agent_api": {
                "listen": f"127.0.0.1:{ports.agent}",
                "external_url": f"grpcs://localhost:{ports.agent}",
            },
            "observability": {"listen": f"127.0.0.1:{ports.observability}"},
            "management_api": {"listen": f"127.0.0.1:{ports.management}", "external_url": self.management_url},
            "kubernetes_api": {
                "listen": f"127.0.0.1:{ports.kubernetes}",
                "external_url": f"https://localhost:{ports.kubernetes}",
            },
            "link": {"listen_grace_s": 0, "drain_timeout_s": 2},
        }
        (self.folder / "repositories").mkdir()
        self.config_file.write_text(yaml.safe_dump(document, sort_keys=False))
        self._narrator.command("kas serve --config kas.yaml")
        self._processes.start("kas", (*_PROGRAM, "kas", "serve", "--config", self.config_file))
        ready = f"http://127.0.0.1:{ports.observability}/readiness"
        self._processes.wait("kas", lambda: answers(ready))
        self._narrator.passed("kas is ready: TLS from a CA of its own, agents and tokens in SQLite")

    def register_agent(self) -> Path:
        """Register the agent; the file with its token."""
        self._narrator.command(f"kas agent register {AGENT} --project {CONFIG_PROJECT}")
        said = self.kas("agent", "register", AGENT, "--project", CONFIG_PROJECT, "--output", "json")
        registered = json.loads(said)
        self.agent_id = registered["id"]
        self._narrator.passed(f"agent {self.agent_id} is registered; its token is shown once")
        return self._secret("agent.token", registered["token"])

    def commit_configuration(self, namespace: str) -> None:
        """Commit the agent's configuration to a git repository, through the library that kas itself reads it with."""
        path = f".gitlab/agents/{AGENT}/config.yaml"
        text = yaml.safe_dump(
            {"ci_access": {"projects": [{"id": JOBS_PROJECT, "default_namespace": namespace}]}}, sort_keys=False
        )
        repository = self.folder / "repositories" / CONFIG_PROJECT
        (repository / path).parent.mkdir(parents=True)
        (repository / path).write_text(text)
        porcelain.init(repository)
        with Repo(str(repository)) as opened:
            porcelain.add(opened, [str(repository / path)])
            porcelain.commit(opened, message=b"let the shop in", author=_AUTHOR, committer=_AUTHOR)
        self._narrator.command(f"git commit -m 'let the shop in' {path}")
        self._narrator.output(text)
        self._narrator.passed(f"jobs of {JOBS_PROJECT} may use this agent, in namespace {namespace}; nobody else may")

    def start_agentk(self, token_file: Path, kubeconfig: Path) -> None:
        """Start agentk and wait until it is linked and reaches its API server."""
        port = self._ports.agentk
        command = (
            *(*_PROGRAM, "agentk", "--kas-address", f"grpcs://localhost:{self._ports.agent}"),
            *("--token-file", token_file, "--ca-cert-file", self.ca_file, "--kubeconfig", kubeconfig),
            *("--instance", "demo/agentk-0", "--observability-listen", f"127.0.0.1:{port}"),
        )
        self._narrator.command(
            "agentk --kas-address grpcs://localhost:8150 --token-file agent.token --ca-cert-file ca.crt"
        )
        self._processes.start("agentk", command)
        self._processes.wait("agentk", lambda: answers(f"http://127.0.0.1:{port}/readiness"))
        self._narrator.passed("agentk has dialled out and is linked; the cluster opened no port")

    def job_token(self, project: str, name: str) -> Path:
        """A file with a token for a job of ``project``, as a CI without ID tokens would be given it."""
        self._narrator.command(f"kas job-token issue --project {project} --ttl {TOKEN_LIFE} > {name}.token")
        token = self.kas("job-token", "issue", "--project", project, "--ttl", TOKEN_LIFE).strip()
        return self._secret(f"{name}.token", token)

    def job_kubeconfig(self, token_file: Path) -> Path:
        """What the job fetches with it: one HTTPS request, nothing of ours."""
        url = f"{self.management_url}/kas/v1/kubeconfig"
        self._narrator.command(f'curl --cacert ca.crt -H "Authorization: Bearer $TOKEN" {url} > kubeconfig')
        request = urllib.request.Request(  # noqa: S310 - https, of this demo
            url, headers={"Authorization": f"Bearer {token_file.read_text()}"}
        )
        trust = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:  # noqa: S310
            text = answer.read().decode()
        return self._secret(token_file.with_suffix(".kubeconfig").name, text)

    def forged_kubeconfig(self, kubeconfig: Path, stranger: Path) -> Path:
        """The kubeconfig of a job that is let in, with the token of one that is not."""
        document = yaml.safe_load(kubeconfig.read_text())
        for user in document["users"]:
            user["user"]["token"] = f"ci:{self.agent_id}:{stranger.read_text()}"
        return self._secret("stranger.kubeconfig", yaml.safe_dump(document))

    def kas(self, *words: str) -> str:
        """Standard output of a command of kas. Raises DemoFailed."""
        done = subprocess.run(
            [*_PROGRAM, "kas", *words, "--config", str(self.config_file)],
            capture_output=True,
            text=True,
            env=environment(self.folder),
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise DemoFailed(f"kas {' '.join(words[:2])} failed: {done.stderr}")
        return done.stdout

    def _secret(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file


def _free_ports() -> Ports:
    sockets = [socket.socket() for _ in Ports._fields]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return Ports(*(one.getsockname()[1] for one in sockets))
    finally:
        for one in sockets:
            one.close()
