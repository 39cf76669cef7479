"""Two nginx: one plays the API server, the other is the reference, a reverse proxy in front of it. One worker each."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.support.ports import free_ports

POD = "/api/v1/namespaces/bench/pods/web-0"
LIST = "/api/v1/pods"
WATCH = "/api/v1/namespaces/bench/endpoints?watch=1"
SERVICE = "/api/v1/namespaces/bench/services/files/proxy"
DOWNLOAD = f"{SERVICE}/download"
UPLOAD = f"{SERVICE}/upload"
POD_BYTES = 1_900
LIST_BYTES = 250_000
BULK_BYTES = 256 * 2**20
READY_S = 10
FILES = min(32768, resource.getrlimit(resource.RLIMIT_NOFILE)[1])

_CONF = """
worker_processes 1; daemon off; {user} pid {folder}/{name}.pid; error_log {folder}/{name}.log warn; worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; sendfile on; tcp_nodelay on; default_type application/json;
  client_max_body_size 2g; proxy_request_buffering off; proxy_buffering off; proxy_read_timeout 600s;
  client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy; fastcgi_temp_path {folder}/{name}.f;
  uwsgi_temp_path {folder}/{name}.u; scgi_temp_path {folder}/{name}.s;
  ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_session_cache shared:S:10m; ssl_protocols TLSv1.2 TLSv1.3;
  proxy_http_version 1.1; proxy_set_header Connection "";
  {body}
}}
"""

_API_SERVER = """
  upstream odd {{ server 127.0.0.1:{odd}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{tls} ssl reuseport backlog=4096; root {www};
    location /api/v1/namespaces/bench/endpoints {{ proxy_pass http://odd; }}
    location {upload} {{ proxy_pass http://odd; }}
  }}
"""

_PROXY = """
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{tls} ssl reuseport backlog=4096;
    location / {{
      proxy_pass https://api; proxy_ssl_trusted_certificate {ca}; proxy_ssl_verify on; proxy_ssl_name localhost;
      proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }}
  }}
"""


class Nginx:
    """One nginx with TLS on a free port of localhost, for the time of a ``with`` block."""

    def __init__(self, name: str, folder: Path, certificate: tuple[Path, Path], body: str, **names: object) -> None:
        (self.port,) = free_ports(1)
        self._folder = folder
        self._name = name
        self._conf = folder / f"{name}.conf"
        self._conf.write_text(
            _CONF.format(
                user="user root;" if os.getuid() == 0 else "",
                folder=folder,
                name=name,
                files=FILES,
                connections=FILES // 2,
                certificate=certificate[0],
                key=certificate[1],
                body=body.format(tls=self.port, **names),
            )
        )
        self._popen: subprocess.Popen[bytes] | None = None

    @classmethod
    def api_server(cls, folder: Path, certificate: tuple[Path, Path], odd_port: int) -> Self:
        """The upstream: a pod, a list and a big file from disk; watches and uploads at ``odd_port``."""
        www = folder / "www"
        write_answers(www)
        return cls("api-server", folder, certificate, _API_SERVER, www=www, odd=odd_port, upload=UPLOAD)

    @classmethod
    def reverse_proxy(cls, folder: Path, certificate: tuple[Path, Path], upstream: int, ca: Path) -> Self:
        """The reference: TLS in front, TLS to the same upstream, connections kept."""
        return cls("proxy", folder, certificate, _PROXY, upstream=upstream, ca=ca)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://localhost:{self.port}"

    @property
    def worker_pid(self) -> int:
        """The process that does the work."""
        assert self._popen is not None
        children = Path(f"/proc/{self._popen.pid}/task/{self._popen.pid}/children").read_text().split()
        return int(children[0])

    def __enter__(self) -> Self:
        output = (self._folder / f"{self._name}.out").open("ab")
        with output:
            self._popen = subprocess.Popen(
                ["nginx", "-c", self._conf, "-p", self._folder, "-e", self._folder / f"{self._name}.log"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_S
        while not (self._folder / f"{self._name}.pid").exists():
            if self._popen.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                said = (self._folder / f"{self._name}.out").read_text(errors="replace")
                raise RuntimeError(f"nginx ({self._name}) does not start: {said}")
            time.sleep(0.02)
        time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen is not None and self._popen.poll() is None:
            self._popen.terminate()
            self._popen.wait(READY_S)


def write_answers(www: Path) -> None:
    """What the API server answers, as files at their paths."""
    pod = _padded(_pod("web-0"), POD_BYTES)
    (www / POD.strip("/")).parent.mkdir(parents=True)
    (www / POD.strip("/")).write_bytes(pod)
    items = [json.loads(_padded(_pod(f"web-{number}"), POD_BYTES)) for number in range(LIST_BYTES // POD_BYTES)]
    pods: dict[str, object] = {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "4711"},
        "items": items,
    }
    (www / LIST.strip("/")).write_bytes(_padded(pods, LIST_BYTES))
    (www / DOWNLOAD.strip("/")).parent.mkdir(parents=True)
    with (www / DOWNLOAD.strip("/")).open("wb") as file:
        for _ in range(BULK_BYTES // 2**20):
            file.write(os.urandom(2**20))  # so that a lost, repeated or swapped piece changes the checksum


def _pod(name: str) -> dict[str, object]:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6", "controller": True}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "bench", "labels": {"app": "web"}, "ownerReferences": [owner]},
        "spec": {
            "containers": [{"name": "web", "image": "registry.example.com/web:1", "ports": [{"containerPort": 80}]}]
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "startTime": "2026-01-01T00:00:00Z"},
    }


def _padded(document: dict[str, object], size: int) -> bytes:
    """``document`` as JSON of exactly ``size`` bytes; what lacks goes into an annotation, as managed fields would."""
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    metadata["annotations"] = {"managed": ""}
    metadata["annotations"]["managed"] = "f:" * size
    metadata["annotations"]["managed"] = ("f:" * size)[: 3 * size - len(json.dumps(document))]
    return json.dumps(document).encode()
