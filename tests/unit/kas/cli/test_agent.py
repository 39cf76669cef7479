from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.git_repository import GitRepository
from tests.support.kas_command import Kas

TOKEN = re.compile(r"kasagent-[A-Za-z0-9_-]{43}")


def register(kas: Kas, name: str = "prod", project: str = "shop/infra") -> str:
    outcome = kas("agent", "register", name, "--project", project, "-o", "json")
    assert outcome.code == 0
    token: str = outcome.json["token"]
    return token


def test_register_prints_the_token_once_with_instructions_that_hold_no_token(kas: Kas, folder: Path):
    outcome = kas("agent", "register", "prod", "--project", "shop/infra")
    assert outcome.code == 0
    assert len(TOKEN.findall(outcome.out)) == 1
    assert "helm install agentk deploy/charts/agentk --namespace agentk --create-namespace" in outcome.out
    assert "--set-string kasAddress=grpcs://kas.example.com:8150 --set-file token=agentk-token" in outcome.out
    assert f"--set-file caCert={folder}/state/pki/ca.crt" in outcome.out
    assert "kas agent manifest prod --project shop/infra --token-file agentk-token | kubectl apply -f -" in outcome.out
    assert (folder / "state/pki/ca.crt").exists()
    assert outcome.err == ""


def test_register_for_programs(kas: Kas):
    outcome = kas("agent", "register", "prod", "--project", "shop/infra", "--output", "json")
    record = outcome.json
    assert TOKEN.fullmatch(record["token"])
    assert (record["id"], record["project"], record["name"]) == (1, "shop/infra", "prod")
    assert (record["context"], record["kas_address"]) == ("shop/infra:prod", "grpcs://kas.example.com:8150")


def test_register_can_write_the_token_to_a_file_instead(kas: Kas, folder: Path):
    outcome = kas("agent", "register", "prod", "--project", "shop/infra", "--token-file", "my token")
    assert not TOKEN.search(outcome.out)
    assert "--set-file token='my token'" in outcome.out
    assert TOKEN.fullmatch((folder / "my token").read_text().strip())
    assert (folder / "my token").stat().st_mode & 0o777 == 0o600


def test_nothing_is_registered_when_the_token_file_exists(kas: Kas, folder: Path):
    (folder / "token").write_text("precious")
    outcome = kas("agent", "register", "prod", "--project", "shop/infra", "--token-file", "token")
    assert outcome.code == 1
    assert "File exists" in outcome.err
    assert kas("agent", "list", "-o", "json").json == []


def test_an_address_that_only_this_machine_can_dial_is_pointed_out(kas: Kas, folder: Path):
    (folder / "kas.yaml").write_text("state_dir: state")
    outcome = kas("agent", "register", "prod", "--project", "shop/infra")
    assert outcome.code == 0
    assert "agent_api.external_url is grpcs://localhost:8150: no other machine can dial that" in outcome.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("agent", "register", "Prod", "--project", "shop/infra"), 2, "'Prod' is not an agent name"),
        (("agent", "register", "prod", "--project", "shop"), 2, "'shop' is not a project: GROUP/PROJECT was expected"),
        (("agent", "register", "first", "--project", "shop/infra"), 1, "shop/infra has an agent first already"),
        (("agent", "show", "nobody"), 1, "there is no agent nobody: see `kas agent list`"),
        (("agent", "delete", "nobody", "--project", "shop/infra"), 1, "there is no agent nobody in shop/infra"),
        (("agent", "manifest", "nobody"), 1, "there is no agent nobody"),
        (("agent", "show", "twice"), 1, "choose one with --project (shop/infra, shop/web)"),
        (("agent", "manifest", "first", "--role", "namespace-deployer"), 2, "needs at least one --deploy-namespace"),
        (("agent", "manifest", "first", "--token-file", "nowhere"), 2, "--token-file: nowhere cannot be read"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(kas: Kas, words: tuple[str, ...], code: int, said: str):
    register(kas, "first")
    register(kas, "twice")
    register(kas, "twice", "shop/web")
    outcome = kas(*words)
    assert outcome.code == code
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert said in line


def test_list_and_show(kas: Kas):
    assert "There are no agents: kas agent register" in kas("agent", "list").out
    token = register(kas)
    register(kas, "dev", "shop/web")
    rows = kas("agent", "list", "-o", "json").json
    assert [(row["context"], row["active_tokens"], row["last_used_at"]) for row in rows] == [
        ("shop/infra:prod", 1, None),
        ("shop/web:dev", 1, None),
    ]
    assert [row["name"] for row in kas("agent", "list", "--project", "shop/web", "-o", "json").json] == ["dev"]
    assert len(kas("agent", "list").out.splitlines()) == 3
    shown = kas("agent", "show", "prod", "-o", "json").json
    assert shown["kubernetes_api"] == "https://localhost:8154/agents/1"
    assert shown["tokens"][0]["begins_with"] == token[:17]
    text = kas("agent", "show", "prod").out
    assert "shop/infra:prod" in text
    assert token not in text


def test_delete(kas: Kas):
    register(kas)
    assert "Deleted shop/infra:prod (agent id 1)" in kas("agent", "delete", "prod").out
    assert kas("agent", "list", "-o", "json").json == []
    assert kas("agent", "delete", "prod").code == 1


def test_the_manifest_holds_the_token_and_the_ca(kas: Kas, folder: Path):
    kas("agent", "register", "prod", "--project", "shop/infra", "--token-file", "token")
    outcome = kas(
        "agent",
        "manifest",
        "prod",
        "--token-file",
        "token",
        "--namespace",
        "tools",
        "--image",
        "registry.example.com/agentk:1",
    )
    assert outcome.code == 0
    documents = {document["kind"]: document for document in yaml.safe_load_all(outcome.out)}
    assert documents["Secret"]["stringData"]["token"] == (folder / "token").read_text().strip()
    assert documents["ConfigMap"]["data"]["ca.crt"] == (folder / "state/pki/ca.crt").read_text()
    (container,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/agentk:1"
    assert {"name": "AGENTK_KAS_ADDRESS", "value": "grpcs://kas.example.com:8150"} in container["env"]
    assert documents["Deployment"]["metadata"]["namespace"] == "tools"


def test_the_address_in_a_manifest_can_be_another(kas: Kas):
    register(kas)
    outcome = kas("agent", "manifest", "prod", "--kas-address", "grpcs://kas.internal:8150")
    assert "value: grpcs://kas.internal:8150" in outcome.out


def test_instructions_name_the_configuration_that_was_used(kas: Kas, folder: Path):
    (folder / "kas.yaml").rename(folder / "my kas.yaml")
    outcome = kas("agent", "register", "prod", "--project", "shop/infra", "--config", "my kas.yaml")
    assert "--token-file agentk-token --config 'my kas.yaml' | kubectl apply" in outcome.out


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "no repository is configured for the project"),
        ({}, "no such file at "),
        ({"config.yaml": "ci_access: {projects: [{id: shop/web}]}"}, "1 entry at "),
        ({"config.yaml": "flux: {}"}, "; flux: accepted, does nothing here"),
        (
            {"config.yaml": "ci_access: {project: []}"},
            "not in force: .gitlab/agents/prod/config.yaml:1:13: ci_access.project",
        ),
    ],
    ids=["no repository", "no file", "good", "a part without effect", "bad"],
)
def test_show_reads_the_configuration_file(kas: Kas, folder: Path, files: dict[str, str] | None, said: str):
    register(kas)
    if files is not None:
        with GitRepository(folder / "git/shop/infra") as repository:
            found = {f".gitlab/agents/prod/{name}": text.encode() for name, text in files.items()}
            repository.commit({"README": b"x", **found})
        with (folder / "kas.yaml").open("a") as file:
            file.write("configuration_repositories: [{root: git}]\n")
    assert said in kas("agent", "show", "prod", "-o", "json").json["configuration"]


GITLAB = """\
issuers:
  - {name: gitlab, type: gitlab, url: 'https://gitlab.example.com'}
"""


def test_an_agent_belongs_to_the_issuer_that_was_named_and_keeps_gitlabs_own_id(kas: Kas, folder: Path):
    with (folder / "kas.yaml").open("a") as file:
        file.write(GITLAB)
    named = ("--project", "shop/infra", "--issuer", "gitlab")
    outcome = kas("agent", "register", "prod", *named, "--forge-id", "42", "-o", "json")
    assert outcome.code == 0, outcome.err
    register(kas)  # the same project and name of kas's own: another agent
    said = [(one["id"], one["issuer"], one["forge_id"]) for one in kas("agent", "list", "-o", "json").json]
    assert said == [(1, "gitlab", "42"), (2, "kas", None)]
    shown = kas("agent", "show", "prod", *named, "-o", "json").json
    assert (shown["id"], shown["issuer"], shown["forge_id"]) == (1, "gitlab", "42")
    undecided = kas("agent", "show", "prod", "--project", "shop/infra")
    assert undecided.code == 1
    assert "--issuer" in undecided.err
    assert kas("agent", "delete", "prod", *named).code == 0
    assert [one["id"] for one in kas("agent", "list", "-o", "json").json] == [2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--issuer", "github"), "--issuer: kas.yaml has no issuer 'github', only kas, gitlab"),
        (("--issuer", "gitlab", "--forge-id", "4x"), "--forge-id: the number of the agent in GitLab was expected"),
        (("--issuer", "gitlab", "--forge-id", "٤٢"), "--forge-id: the number of the agent in GitLab was expected"),
        (("--issuer", "gitlab", "--forge-id", "9" * 20), "--forge-id: the number of the agent in GitLab was expected"),
    ],
)
def test_an_issuer_or_id_that_cannot_be_registers_nothing(kas: Kas, folder: Path, words: tuple[str, ...], said: str):
    with (folder / "kas.yaml").open("a") as file:
        file.write(GITLAB)
    outcome = kas("agent", "register", "prod", "--project", "shop/infra", *words)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())
    assert kas("agent", "list", "-o", "json").json == []
