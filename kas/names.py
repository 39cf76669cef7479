"""The names that people give: agents and projects. One place says what is a name."""

from __future__ import annotations

import re

MAX_AGENT_NAME_CHARACTERS = 63  # a DNS label: agent names become names of Kubernetes objects
MAX_PROJECT_CHARACTERS = 1024
_AGENT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PROJECT_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check_agent_name(name: str) -> str:
    """The name itself. Raises ValueError with what was expected."""
    if len(name) > MAX_AGENT_NAME_CHARACTERS or not _AGENT_NAME.fullmatch(name):
        raise ValueError(
            f"{_shown(name)} is not an agent name: at most {MAX_AGENT_NAME_CHARACTERS} lower-case letters, digits and '-', "
            "beginning and ending with a letter or digit"
        )
    return name


def check_project(path: str) -> str:
    """The path itself, ``group/project`` or deeper. Raises ValueError with what was expected.

    Never a path that leaves a folder: no empty part, none that begins with '.' and none that ends like a repository's folder.
    """
    parts = path.split("/")
    if len(path) > MAX_PROJECT_CHARACTERS or len(parts) < 2 or not all(_PROJECT_PART.fullmatch(part) for part in parts):
        raise ValueError(
            f"{_shown(path)} is not a project: GROUP/PROJECT was expected, of letters, digits, '_', '-' and '.', "
            "no part beginning with '.' or '-'"
        )
    if any(part.lower().endswith((".git", ".atom", ".lock")) or part.endswith(".") for part in parts):
        raise ValueError(f"{_shown(path)} is not a project: no part may end with '.', '.git', '.atom' or '.lock'")
    return path


def _shown(text: str) -> str:
    cut = text if len(text) <= 80 else text[:79] + "…"
    return f"{cut!r}" if cut.isprintable() else ascii(cut)
