"""One cluster: etcd, API server, controllers and scheduler, and where it can be had a node; started in order, stopped in reverse."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
from pathlib import Path
from typing import Any

from tests.kubernetes.testbed.certificates import write_certificates
from tests.kubernetes.testbed.kubeconfig import write_kubeconfig
from tests.kubernetes.testbed.node import Node
from tests.kubernetes.testbed.processes import Processes
from tests.support.ports import free_ports

READY_LIMIT_S = 120  # 5 s on an idle machine


def missing_for_control_plane() -> str | None:
    """Why no API server can run here, or None."""
    return None if shutil.which("etcd") else "there is no etcd here (Debian: etcd-server)"


class Cluster:
    """A cluster whose state is the folder ``state``. Not for use by two tasks at once."""

    def __init__(self, state: Path, programs: Path) -> None:
        self._state = state
        self._programs = programs
        self._processes = Processes(state)
        self._node = Node(state, programs, self._processes)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._state / "admin.conf"

    def up(self, *, node: bool) -> Path:
        """Start everything; returns the administrator's kubeconfig. Raises StartFailed, with nothing left running."""
        self._state.mkdir(parents=True, exist_ok=True)
        write_certificates(self._state / "pki")
        api, etcd, etcd_peer, kubelet = free_ports(4)
        try:
            self._start_etcd(etcd, etcd_peer)
            self._start_api_server(api, etcd)
            self._start_controllers()
            if node:
                self._node.up(api, kubelet)
            namespace = "/api/v1/namespaces/default/serviceaccounts/default"
            self._processes.wait("controllers", lambda: self._get(api, namespace) is not None, READY_LIMIT_S)
            if node:
                self._processes.wait(
                    "kubelet", lambda: _is_ready(self._get(api, "/api/v1/nodes/localhost")), READY_LIMIT_S
                )
        except BaseException:
            self.down(keep_logs=True)
            raise
        return self.kubeconfig

    def down(self, *, keep_logs: bool = False) -> None:
        """Stop what runs, in whatever state it is, and remove the folder. Nothing there: nothing done."""
        self._node.down()
        for name in ("scheduler", "controllers", "apiserver", "etcd"):
            self._processes.stop(name)
        if not keep_logs:
            shutil.rmtree(self._state, ignore_errors=True)

    def _start_etcd(self, client: int, peer: int) -> None:
        client_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        self._processes.start(
            "etcd",
            [
                *("etcd", "--data-dir", self._state / "etcd", "--unsafe-no-fsync"),
                *("--listen-client-urls", client_url, "--advertise-client-urls", client_url),
                *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
                *("--initial-cluster", f"default={peer_url}"),
            ],
        )

    def _start_api_server(self, port: int, etcd: int) -> None:
        pki = self._state / "pki"
        options = {
            "etcd-servers": f"http://127.0.0.1:{etcd}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": port,
            "endpoint-reconciler-type": "none",
            "service-cluster-ip-range": "10.96.0.0/16",
            "tls-cert-file": pki / "apiserver.crt",
            "tls-private-key-file": pki / "apiserver.key",
            "client-ca-file": pki / "ca.crt",
            "authorization-mode": "Node,RBAC",
            "allow-privileged": "true",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": pki / "sa.key",
            "service-account-signing-key-file": pki / "sa.key",
            "kubelet-client-certificate": pki / "admin.crt",
            "kubelet-client-key": pki / "admin.key",
            "kubelet-certificate-authority": pki / "ca.crt",
            # The node is called localhost, so its name leads to the kubelet without a line in /etc/hosts.
            "kubelet-preferred-address-types": "Hostname",
        }
        self._start("apiserver", "kube-apiserver", options)
        write_kubeconfig(self.kubeconfig, pki, "admin", port)
        self._processes.wait("apiserver", lambda: self._get(port, "/readyz") is not None, READY_LIMIT_S)

    def _start_controllers(self) -> None:
        pki = self._state / "pki"
        # secure-port 0: nobody asks for their metrics, and a second cluster could not have the same port.
        common = {"kubeconfig": self.kubeconfig, "leader-elect": "false", "secure-port": 0}
        tokens = {"service-account-private-key-file": pki / "sa.key", "root-ca-file": pki / "ca.crt"}
        credentials = {"use-service-account-credentials": "true"}
        self._start("controllers", "kube-controller-manager", {**common, **tokens, **credentials})
        self._start("scheduler", "kube-scheduler", common)

    def _start(self, name: str, program: str, options: dict[str, Any]) -> None:
        words = [f"--{option}={value}" for option, value in options.items()]
        self._processes.start(name, [self._programs / program, *words])

    def _get(self, port: int, path: str) -> bytes | None:
        """The body of a 200, as the administrator; None for anything else."""
        pki = self._state / "pki"
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            return body if response.status == 200 else None
        except OSError:
            return None
        finally:
            connection.close()


def _is_ready(node: bytes | None) -> bool:
    if node is None:
        return False
    conditions = json.loads(node).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
