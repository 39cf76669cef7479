"""The file of an agent: what it may say, and that whatever could let in too much refuses it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.agent_config.entries import EMPTY, AsJob, Entry
from kas.agent_config.schema import MAX_FILE_BYTES, read_agent_config
from kas.located_yaml import MistakesInFile
from kastunnel.link.frames import AsAgent, Impersonate


def read(text: str | bytes, **options):
    return read_agent_config(text.encode() if isinstance(text, str) else text, "config.yaml", **options)


def mistake(text: str | bytes, **options) -> str:
    """The only mistake in the file, without the file's name."""
    with pytest.raises(MistakesInFile) as caught:
        read(text, **options)
    (one,) = caught.value.mistakes
    return str(one).removeprefix("config.yaml:")


def project(*lines: str) -> str:
    """A file whose one entry has ``lines`` (the first is line 4)."""
    return "ci_access:\n  projects:\n    - id: g/p\n" + "".join(f"      {line}\n" for line in lines)


def impersonate(text: str) -> str:
    return project(f"access_as: {{impersonate: {text}}}")


def test_the_whole_of_it():
    config = read("""\
ci_access:
  projects:
    - id: group/project
    - id: group/other
      default_namespace: web
      environments: [production, 'review/*']
      protected_branches_only: true
      access_as:
        ci_job: {}
  groups:
    - id: group/sub
      access_as:
        impersonate:
          username: deployer
          uid: "7"
          groups: [writers, Domain Admins]
          extra:
            - key: example.com/team
              val: [red, blue]
""")
    assert config.projects == {
        "group/project": (Entry("ci_access.projects[0], line 3", "group/project", AsAgent()),),
        "group/other": (
            Entry("ci_access.projects[1], line 4", "group/other", AsJob(), "web", ("production", "review/*"), True),
        ),
    }
    identity = Impersonate("deployer", ("writers", "Domain Admins"), "7", (("example.com/team", ("red", "blue")),))
    assert config.groups == {"group/sub": (Entry("ci_access.groups[0], line 11", "group/sub", identity),)}
    assert config.notices == ()
    assert config.entries == 3


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "ci_access:\n", "ci_access: {projects: , groups: }\n"])
def test_an_empty_file_is_an_empty_configuration(text):
    assert read(text) == EMPTY


def test_parts_of_gitlabs_file_that_are_not_ours_are_accepted_and_named():
    config = read("""\
user_access: {access_as: {agent: {}}, projects: [{id: g/p}]}
gitops: {manifest_projects: [{id: g/p, paths: [{glob: '**/*.yaml'}]}]}
flux: {webhook_receiver_url: 'http://x'}
observability: {logging: {level: debug}}
container_scanning: {cadence: 0 0 * * *, vulnerability_report: {namespaces: [a]}}
remote_development: {enabled: true, dns_zone: example.com}
ci_access:
  projects: [{id: g/p, resource_management: {enabled: true}}]
  groups: [{id: g, annotations: {a: b}}]
""")
    assert [notice.partition(":")[0] for notice in config.notices] == [
        "user_access",
        "gitops",
        "flux",
        "observability",
        "container_scanning",
        "remote_development",
        "ci_access.projects[].resource_management",
        "ci_access.groups[].annotations",
    ]
    assert list(config.projects) == ["g/p"]


def test_several_entries_for_one_project_stay_in_the_order_of_the_file():
    config = read("ci_access: {projects: [{id: g/p, environments: [a]}, {id: g/q}, {id: g/p, environments: [b]}]}")
    assert [entry.environments for entry in config.projects["g/p"]] == [("a",), ("b",)]


@pytest.mark.covers("C-02")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ci_acces: {}\n", "1:1: ci_acces: there is no such key (did you mean 'ci_access'?)"),
        ("ci_access: {project: []}\n", "1:13: ci_access.project: there is no such key (did you mean 'projects'?)"),
        (
            project("environment: [a]"),
            "4:7: ci_access.projects[0].environment: there is no such key (did you mean 'env",
        ),
        (project("access_as: {ci_users: {}}"), "4:19: ci_access.projects[0].access_as.ci_users: there is no such key"),
        ("ci_access: []\n", "1:12: ci_access: a mapping (key: value) was expected, not a list"),
        ("ci_access: {projects: {}}\n", "1:23: ci_access.projects: a list was expected, not a mapping"),
        (
            "ci_access: {projects: [g/p]}\n",
            "1:24: ci_access.projects[0]: a mapping (key: value) was expected, not text",
        ),
        ("ci_access: {projects: [{}]}\n", "1:24: ci_access.projects[0].id: this key is missing"),
        ("ci_access: {projects: [{id: 5}]}\n", "1:29: ci_access.projects[0].id: text was expected, not a number"),
        (project("protected_branches_only: yes"), "4:32: ci_access.projects[0].protected_branches_only: true or false"),
        (project("protected_branches_only:"), "4:31: ci_access.projects[0].protected_branches_only: true or false"),
        (project("protected_branches_only: 1"), "4:32: ci_access.projects[0].protected_branches_only: true or false"),
    ],
)
def test_unknown_keys_and_wrong_types_refuse_the_file(text, expected):
    assert mistake(text).startswith(expected)


@pytest.mark.covers("C-02")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("environments: []", "environments is empty"),
        ("environments:", "a list was expected, not nothing"),
        ("environments: production", "a list was expected, not text"),
        ("environments: ['']", "the name of an environment was expected"),
        ("environments: [5]", "text was expected, not a number (put it in quotes)"),
        ("access_as:", "a mapping (key: value) was expected, not nothing"),
        ("access_as: {}", "exactly one of"),
        ("access_as: {agent: }", "exactly one of"),
        ("access_as: {agent: , ci_job: {}}", "exactly one of"),
        ("access_as: {agent: {}, ci_job: {}}", "exactly one of"),
        ("access_as: {agent: {as: admin}}", "no keys were expected here"),
        ("access_as: agent", "a mapping (key: value) was expected, not text"),
        ("access_as: {impersonate: {}}", "this key is missing"),
    ],
)
def test_an_entry_that_could_let_in_more_than_was_meant_refuses_the_file(line, expected):
    assert expected in mistake(project(line))


@pytest.mark.covers("I-08")
@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ('"a,b"', "must not contain a comma"),
        ('"a\\r\\nImpersonate-User: admin"', "only visible ASCII"),
        ('"a\\tb"', "only visible ASCII"),
        ('"a\\0b"', "only visible ASCII"),
        ('"a\\x7fb"', "only visible ASCII"),
        ('"é"', "only visible ASCII"),
        ('"ｓystem:masters"', "only visible ASCII"),
        ('""', "must not be empty"),
        ('" a"', "no blank was expected at the beginning or end"),
        ('"a "', "no blank was expected at the beginning or end"),
        ("x" * 513, "at most 512 characters"),
        ("5", "text was expected, not a number (put it in quotes)"),
        ("~", "text was expected, not nothing"),
    ],
)
def test_a_group_that_a_header_cannot_carry_refuses_the_file_with_its_line(group, expected):
    said = mistake(impersonate(f"{{username: u, groups: [good, {group}]}}"))
    assert said.startswith("4:61: ci_access.projects[0].access_as.impersonate.groups[1]: ")
    assert expected in said


@pytest.mark.covers("I-08")
def test_more_than_a_thousand_groups_refuse_the_file():
    groups = ", ".join(f"g{n}" for n in range(10_000))
    said = mistake(impersonate(f"{{username: u, groups: [{groups}]}}"))
    assert "groups: at most 1000 entries were expected" in said


@pytest.mark.covers("I-08")
def test_an_identity_that_would_not_fit_into_a_request_refuses_the_file():
    groups = ", ".join(f"{n:0100}x" for n in range(900))
    assert "more than 65536 characters in all" in mistake(impersonate(f"{{username: u, groups: [{groups}]}}"))


@pytest.mark.covers("I-09")
@pytest.mark.parametrize(
    "identity",
    [
        "{username: 'system:masters'}",
        "{username: 'system:admin'}",
        "{username: 'system:serviceaccount:kube-system:default'}",
        "{username: u, groups: ['system:masters']}",
        "{username: u, groups: [a, 'system:nodes']}",
    ],
)
def test_kubernetes_own_names_are_refused_unless_the_operator_allows_them(identity):
    assert "names that begin with 'system:' are refused" in mistake(impersonate(identity))
    assert read(impersonate(identity), allow_system_identities=True).entries == 1


@pytest.mark.covers("I-08")
@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("{username: ''}", "username: this must not be empty"),
        ('{username: "a\\nb"}', "username: only visible ASCII"),
        ("{username: u, uid: ''}", "uid: this must not be empty"),
        ("{username: u, uid: 1000}", "uid: text was expected, not a number (put it in quotes)"),
        ("{username: u, extra: [{key: Team, val: [a]}]}", "extra[0].key: a key in lower case"),
        ("{username: u, extra: [{key: 'a%2fb', val: [a]}]}", "extra[0].key: a key in lower case"),
        ("{username: u, extra: [{key: '', val: [a]}]}", "extra[0].key: this must not be empty"),
        ("{username: u, extra: [{key: a, val: []}]}", "extra[0].val: at least 1 entries"),
        ("{username: u, extra: [{key: a}]}", "extra[0].val: this key is missing"),
        ('{username: u, extra: [{key: a, val: ["x\\ny"]}]}', "extra[0].val[0]: only visible ASCII"),
        ("{username: u, extra: [{key: a, val: [x]}, {key: a, val: [y]}]}", "each key was expected once"),
        ("{user: u, username: u}", "impersonate.user: there is no such key (did you mean 'username'?)"),
    ],
)
def test_other_parts_of_an_identity_are_checked_too(identity, expected):
    assert expected in mistake(impersonate(identity))


@pytest.mark.covers("I-10")
def test_an_extra_key_with_a_slash_is_kept_as_it_is():
    config = read(impersonate("{username: u, extra: [{key: agent.gitlab.com/id, val: ['7']}]}"))
    assert config.projects["g/p"][0].access_as == Impersonate("u", (), "", (("agent.gitlab.com/id", ("7",)),))


@pytest.mark.parametrize("name", ["Web", "-web", "web-", "a.b", "a/b", "x" * 64, "'a b'", "../x"])
def test_a_namespace_that_kubernetes_would_not_take_refuses_the_file(name):
    assert "a namespace was expected" in mistake(project(f"default_namespace: {name}"))


@pytest.mark.parametrize(
    "path", ["p", "/g/p", "g/p/", "g//p", "g/../p", "'g/ p'", "g/p.git", "'*'", "g/*", "'g/\u200bp'"]
)
def test_what_is_not_the_path_of_a_project_refuses_the_file(path):
    assert "is not a project" in mistake(f"ci_access: {{projects: [{{id: {path}}}]}}")


@pytest.mark.parametrize("path", ["/g", "g/", "''", "g//h", "..", "'*'"])
def test_what_is_not_the_path_of_a_group_refuses_the_file(path):
    assert "the path of a group was expected" in mistake(f"ci_access: {{groups: [{{id: {path}}}]}}")


@pytest.mark.covers("C-01")
def test_a_file_that_is_too_large_is_refused():
    text = "#" * (MAX_FILE_BYTES + 1)
    assert mistake(text) == f"1:1: the file is larger than {MAX_FILE_BYTES} bytes"


@pytest.mark.covers("C-01")
def test_a_hundred_thousand_entries_are_refused_even_where_they_would_fit():
    text = "ci_access: {projects: [" + "{id: g/p}," * 100_000 + "]}"
    assert "more than 200000 values" in mistake(text, max_bytes=10_000_000)


def test_a_thousand_entries_are_read():
    config = read("ci_access:\n  projects:\n" + "".join(f"  - id: group/project-{n}\n" for n in range(1000)))
    assert config.entries == 1000


@given(st.text(max_size=80))
def test_no_name_gets_through_that_a_header_could_not_carry(name):
    import json

    try:
        config = read(impersonate(f"{{username: {json.dumps(name)}, groups: [{json.dumps(name)}]}}"))
    except MistakesInFile:
        return
    identity = config.projects["g/p"][0].access_as
    assert identity.user == name
    assert name == name.strip() != ""
    assert all(" " <= character <= "~" for character in name)
    assert "," not in name
    assert not name.startswith("system:")


@pytest.mark.covers("C-02")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("issuer: GitHub", "the name of an issuer was expected"),
        ("issuer:", "issuer has no value"),
        ("project_id: 17", "text was expected, not a number (put it in quotes)"),
        ('project_id: "a b"', "an id was expected"),
        ('group_id: "17"', "there is no such key"),
        ("refs: []", "refs is empty"),
        ("refs: ['']", "a branch was expected"),
        ("refs: main", "a list was expected, not text"),
        ("forks: maybe", "true or false was expected"),
        ("expires: tomorrow", "a date was expected"),
        ("expires: 2027-02-30", "a date was expected"),
        ("expires: 2027-01-01T10:00:00", "the time zone is missing"),
        ("expires: 99999-01-01", "a date was expected"),
        ("expires:", "expires has no value"),
        ("allow: []", "allow is empty"),
        ("allow:", "allow has no value"),
        ("allow: [{}]", "this key is missing"),
        ("allow: [{verbs: [get]}]", "either resources or paths"),
        ("allow: [{verbs: [], resources: [pods]}]", "at least 1 entries were expected"),
        ("allow: [{verbs: [read], resources: [pods]}]", "one of create, delete"),
        ("allow: [{verbs: [get], resources: [Pods]}]", "a resource was expected"),
        ("allow: [{verbs: [get], resources: [pods/log/x]}]", "a resource was expected"),
        ("allow: [{verbs: [get], resources: ['po*']}]", "a resource was expected"),
        ("allow: [{verbs: [get], resources: [pods], namespaces: []}]", "namespaces is empty"),
        ("allow: [{verbs: [get], resources: [pods], namespaces: [A]}]", "a namespace was expected"),
        ("allow: [{verbs: [get], resources: [pods], paths: [/x]}]", "either resources or paths"),
        ("allow: [{verbs: [get], paths: [x]}]", "a path was expected"),
        ("allow: [{verbs: [get], paths: [/x], namespaces: [a]}]", "namespaces belong to resources"),
    ],
)
def test_what_narrows_an_entry_must_say_something(line, expected):
    assert expected in mistake(project(line))


def test_an_instance_entry_must_be_meant():
    assert "write `instance: {}`" in mistake("ci_access: {instance: }")
    assert len(read("ci_access: {instance: {}}").instance) == 1
