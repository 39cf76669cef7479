"""kas credential: only what `kas --help` says of it. kas/__main__.py runs it before any other command is loaded."""

from __future__ import annotations

import typer

from kas.credential import plugin

AS_IT_IS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def credential(context: typer.Context) -> int:
    """For kubectl: print the job's token, and renew it with a fresh ID token."""
    return plugin.main(context.args)
