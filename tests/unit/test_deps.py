"""What each program must not load, and why. Tried in a fresh process, so that no other test has loaded it before."""

from __future__ import annotations

import subprocess
import sys

import pytest

AGENT = "agentk.app"
SERVER = "kas.app"
DOCTORS = ("agentk.doctor.checks", "kas.doctor.table")  # they run where the programs do
COMMAND_LINES = ("kas.cli", "agentk.cli")
PLUGIN = "kas.credential.plugin"

NOT_IN_AGENTK = {
    "kas": "agents cannot be upgraded any day: they share nothing with the server but kastunnel",
    "sqlalchemy": "the agent has no database",
    "alembic": "the agent has no database",
    "aiosqlite": "the agent has no database",
    "sqlite3": "the agent has no database",
    "dulwich": "the agent reads no repository",
    "pydantic": "the agent has no configuration file; it would double the start-up time",
    "cryptography": "the agent makes no certificates",
    "pytest": "test code in the program",
}
NOT_IN_KAS = {
    "agentk": "the server must not depend on what runs in clusters",
    "kubernetes_asyncio": "the server never holds a cluster credential, so it needs no client for one",
    "kas.demo": "the practice cluster runs programs; it has no place in a server",
    "setuptools": "a build tool",
    "pytest": "test code in the program",
}
NOT_FOR_HELP = {
    "grpc": "`--help` and mistakes of usage answer at once",
    "kubernetes_asyncio": "`--help` and mistakes of usage answer at once",
}
NOT_IN_THE_PLUGIN = dict.fromkeys(
    (
        "kas.cli",
        "typer",
        "pydantic",
        "yaml",
        "asyncio",
        "aiohttp",
        "sqlalchemy",
        "ssl",
        "http.client",
        "urllib.request",
    ),
    "kubectl waits for it at every call",
)
CASES = [
    *((AGENT, module) for module in NOT_IN_AGENTK),
    *((SERVER, module) for module in NOT_IN_KAS),
    *((DOCTORS[0], module) for module in NOT_IN_AGENTK),
    *((DOCTORS[1], module) for module in NOT_IN_KAS),
    *((PLUGIN, module) for module in NOT_IN_THE_PLUGIN),
    *((program, module) for program in COMMAND_LINES for module in NOT_FOR_HELP),
]
REASONS = {
    AGENT: NOT_IN_AGENTK,
    SERVER: NOT_IN_KAS,
    **dict(zip(DOCTORS, (NOT_IN_AGENTK, NOT_IN_KAS), strict=True)),
    PLUGIN: NOT_IN_THE_PLUGIN,
    **dict.fromkeys(COMMAND_LINES, NOT_FOR_HELP),
}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Program → the modules that importing it loads, with their packages."""
    return {program: _loaded_by(program) for program in REASONS}


@pytest.mark.parametrize(("program", "module"), CASES)
def test_a_program_does_not_load_what_it_must_not(loaded: dict[str, set[str]], program: str, module: str) -> None:
    assert module not in loaded[program], f"{program} loads {module}: {REASONS[program][module]}"


def _loaded_by(program: str) -> set[str]:
    code = f"import {program}, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
