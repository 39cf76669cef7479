"""What the documents say is what the program does: their examples are read by it, their names are its own."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from kas.agent_config.schema import read_agent_config
from kas.config import doubts, load_config
from kas.metrics import Metrics

TOP = Path(__file__).parents[2]
DOCS = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
FENCED = re.compile(r"^ *```([^\n]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(path: Path, language: str) -> list[str]:
    return [text for kind, text in FENCED.findall(path.read_text()) if kind.split(" ")[0] == language]


ACCESS = [text for text in blocks(TOP / "docs/access.md", "yaml") if text.startswith("ci_access:")]


@pytest.mark.parametrize("text", ACCESS, ids=[f"example {number}" for number in range(1, len(ACCESS) + 1)])
def test_the_agent_configurations_of_access_md_are_accepted_without_a_notice(text: str) -> None:
    config = read_agent_config(text.encode(), "access.md")
    assert config.entries
    assert not config.notices


def test_there_are_such_examples() -> None:
    assert len(ACCESS) >= 8


def test_the_reasons_of_a_denial_are_those_that_access_md_lists() -> None:
    source = (TOP / "kas/access/rules.py").read_text() + "".join(
        (TOP / f"kas/access/{name}.py").read_text() for name in ("identity", "grants")
    )
    table = (TOP / "docs/access.md").read_text().partition("| reason |")[2]
    listed = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(listed) >= 7
    for reason in listed:
        for piece in re.split(r"…|: (?=the token)", reason):
            assert piece.strip() in source, reason


def test_the_kas_yaml_of_the_readme_is_right_and_doubted_by_nothing(tmp_path: Path) -> None:
    (text,) = re.findall(
        r"cat > kas\.yaml <<'END'\n(.*?)^END$", (TOP / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "kas.yaml").write_text(text)
    (tmp_path / "git").mkdir()
    assert doubts(load_config(tmp_path / "kas.yaml")) == []


OF_FORGES = {"gitlab", "github", "forgejo", "others", "repositories"}


@pytest.mark.parametrize(
    ("document", "kind"),
    [("issuers.md", kind) for kind in sorted(OF_FORGES - {"repositories"})] + [("operating.md", "repositories")],
)
def test_the_parts_of_kas_yaml_in_the_documents_are_right(document: str, kind: str, tmp_path: Path) -> None:
    (text,) = [text for said, text in FENCED.findall((TOP / "docs" / document).read_text()) if said == f"yaml {kind}"]
    file = tmp_path / "kas.yaml"
    part = yaml.safe_load(textwrap.dedent(text))
    # What a part leaves out: issuers that its repositories name.
    named = {one["issuer"] for one in part.get("configuration_repositories", []) if one.get("issuer", "kas") != "kas"}
    for name in sorted(named - {one["name"] for one in part.get("issuers", [])}):
        part.setdefault("issuers", []).append({"name": name, "type": "gitlab", "url": "https://gitlab.example.com"})
    file.write_text(yaml.safe_dump(part))
    config = load_config(file)
    assert config.issuers or config.configuration_repositories


def test_the_agent_configuration_of_the_readme_is_right() -> None:
    (text,) = re.findall(r"config\.yaml <<'END'\n(.*?)^END$", (TOP / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert list(read_agent_config(text.encode(), "README.md").projects) == ["group/app"]


def test_the_values_of_the_chart_in_access_md_exist() -> None:
    (text,) = [text for kind, text in FENCED.findall((TOP / "docs/access.md").read_text()) if "access-values" in kind]
    known = yaml.safe_load((TOP / "deploy/charts/agentk/values.yaml").read_text())
    rbac = yaml.safe_load(text)["rbac"]
    assert set(rbac) <= set(known["rbac"])
    assert set(rbac["impersonate"]) <= set(known["rbac"]["impersonate"])


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_metrics_that_are_named_exist(path: Path) -> None:
    metrics = Metrics(version="1", process=True)
    names = set(re.findall(r"^# TYPE (\S+)", generate_latest(metrics.registry).decode(), re.MULTILINE))
    named = set(re.findall(r"`(kas_[a-z_]+)(?:\{[^`]*)?`", path.read_text()))
    assert named <= names


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCED.sub("", path.read_text())
    for target, anchor in LINK.findall(text):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{target}#{anchor}"
