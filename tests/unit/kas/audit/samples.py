"""A request as the door tells of it."""

from __future__ import annotations

from kas.access.caller import Caller, Environment
from kas.access.grants import AgentRef, Grant
from kas.audit.record import RequestRecord
from kastunnel.http.classify import request_info
from kastunnel.link.frames import Impersonate

CALLER = Caller(
    issuer="gitlab",
    project="shop/web",
    project_id="17",
    ref="main",
    ref_type="branch",
    environment=Environment("prod"),
    pipeline_id="11",
    job_id="12",
    username="ana",
)
GRANT = Grant(
    CALLER,
    AgentRef(7, "infra/agents", "prod"),
    Impersonate("ci:deployer", ("ci",)),
    "",
    "ci_access.projects[0], line 3",
)


def request(**changed) -> RequestRecord:
    info = request_info(b"GET", b"/api/v1/namespaces/shop/pods/web-0/exec?command=secret")
    record = RequestRecord(
        "request", 1_800_000_000.25, "r1", "10.0.0.1:5", b"GET", b"/api/v1/namespaces/shop/pods/web-0/exec", b"kubectl/v1.33", 7,
        CALLER, GRANT, "", "", info, 101, "answered", "", "", "", 10, 2000, 1.5,
    )  # fmt: skip
    return record._replace(**changed)
