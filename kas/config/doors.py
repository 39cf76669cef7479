"""The doors: where kas listens, what stands in certificates and kubeconfigs, and what a client may cost."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, Strict, model_validator

from kas.addresses import ExternalUrl, GrpcsUrl, HttpsUrl, Listen, ListenAddress
from kas.config.base import Bytes, Count, FilePath, Seconds, Section, option


class Tls(Section):
    """Certificate files of a door. They are read again on SIGHUP."""

    certificate_file: FilePath = Field(description="The certificate and its chain, PEM, the door's own first.")
    key_file: FilePath = Field(
        description="Its private key, PEM, without a passphrase; not readable by every user of the machine."
    )
    ca_file: FilePath | None = option(
        None,
        "Certificates that clients of this door must trust, PEM; they stand in kubeconfigs and in agents' manifests. Without it "
        "clients trust what their own machine trusts: right for a public CA.",
        example="/etc/kas/tls/ca.crt",
    )


_TLS = option(
    None,
    "Certificate of this door. Without it kas uses its own CA, made at the first start in `state_dir`/pki, and renews it.",
    example="{certificate_file: /etc/kas/tls/tls.crt, key_file: /etc/kas/tls/tls.key}",
)


class AgentApi(Section):
    """The door that agentk dials (gRPC over TLS)."""

    listen: Listen = option(
        ListenAddress("127.0.0.1", 8150), "Localhost, until you decide who may reach it.", restart=True
    )
    external_url: GrpcsUrl = option(
        ExternalUrl("grpcs", "localhost", 8150),
        "What agentk dials. It stands in the instructions of `kas agent register` and in the certificate.",
    )
    tls: Tls | None = _TLS
    max_links: Count = option(
        10_000,
        "Links of agents at once; each costs up to 96 KiB while idle. Beyond it new ones are refused.",
        restart=True,
    )


class Observability(Section):
    """The door for probes and Prometheus: /liveness, /readiness, /metrics."""

    listen: Listen = option(ListenAddress("127.0.0.1", 8151), "Localhost: metrics name your agents.", restart=True)
    tls: Tls | None = option(
        None,
        "Certificate of this door. Without it the door speaks plain HTTP, which probes and Prometheus expect on localhost.",
        example="{certificate_file: /etc/kas/tls/tls.crt, key_file: /etc/kas/tls/tls.key}",
    )


class ManagementApi(Section):
    """The door where jobs fetch their kubeconfig (HTTPS)."""

    listen: Listen = option(
        ListenAddress("127.0.0.1", 8153), "Localhost, until you decide who may reach it.", restart=True
    )
    external_url: HttpsUrl = option(
        ExternalUrl("https", "localhost", 8153), "Where jobs ask for a kubeconfig; it stands in the certificate."
    )
    tls: Tls | None = _TLS


class Limits(Section):
    """What a client of the kubectl door may cost. Watches, logs, exec, attach, port-forward and proxy have no time limit."""

    tls_handshake_s: Seconds = option(
        10, "From the connection to the end of its handshake; a slow peer must not hold a place."
    )
    head_s: Seconds = option(
        10, "From the first byte of a request to the end of its headers; ends slow-header attacks."
    )
    keep_alive_idle_s: Seconds = option(
        75, "A connection without a request; longer than the 60 s that common balancers keep theirs."
    )
    body_idle_s: Seconds = option(30, "Between two pieces of a request body.")
    max_body_bytes: Bytes = option(
        8 * 1024 * 1024,
        "A request body, except under `/proxy/` and on upgraded connections. The API server itself takes 3 MiB of JSON.",
    )
    response_head_s: Seconds = option(
        75, "Until the API server begins to answer; its own time limit is 60 s, and its answer says more."
    )
    write_stall_s: Seconds = option(300, "A client that takes no byte of an ordinary answer.")


class KubernetesApi(Section):
    """The door for kubectl and every other client of the Kubernetes API (HTTPS)."""

    listen: Listen = option(
        ListenAddress("127.0.0.1", 8154), "Localhost, until you decide who may reach it.", restart=True
    )
    external_url: HttpsUrl = option(
        ExternalUrl("https", "localhost", 8154), "The server in every kubeconfig; it stands in the certificate."
    )
    tls: Tls | None = _TLS
    max_connections: Count = option(
        4096, "Connections at once; each costs about 25 KiB. Beyond it new ones wait in the kernel."
    )
    max_unauthenticated_connections: Count = option(
        512, "Of these, connections that have not yet shown a valid token: strangers cannot take every place."
    )
    allowed_origins: Annotated[tuple[HttpsUrl, ...], Strict(False)] = option(
        (),
        "Web origins that may call this door from a browser, besides its own. kubectl needs none.",
        example="[https://console.example.com]",
    )
    allow_user_impersonation: bool = option(
        False,
        "Let a client's own Impersonate-* headers (`kubectl --as`) through where the agent acts as itself. Off: they are refused.",
    )
    limits: Limits = option(Limits(), "What a client may cost.")

    @model_validator(mode="after")
    def _caps_in_order(self) -> Self:
        if self.max_unauthenticated_connections > self.max_connections:
            raise ValueError("max_unauthenticated_connections cannot be more than max_connections")
        return self
