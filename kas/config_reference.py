"""Writes docs/configuration.md and examples/kas.yaml from the models, so that neither can say anything else than the code."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from kas.config import Config, ConfigurationRepository, GitlabIssuer, OidcIssuer, Section, Tls
from kas.config.fair_use import Weight

_WIDTH = 110
_INTRODUCTION = """# Configuration of kas

<!-- Written by `python -m kas.config --markdown` from kas/config/. Change it there. -->

kas reads one file, `kas.yaml`, named by `--config` or the environment variable `KAS_CONFIG`. Unknown keys are refused with file,
line, column and a suggestion. Every option has a default, so an empty file is a working configuration; `examples/kas.yaml` is the
defaults written out.

- Times are numbers of seconds (`_s`), sizes are numbers of bytes (`_bytes`).
- Relative paths are relative to the folder of `kas.yaml`.
- Secrets are named by file, never written into this file, and a secret file that every user may read is refused.
- The file is plain YAML without anchors and aliases.
- On SIGHUP kas reads the file and the certificates again. A broken file keeps the old one in force. Options marked *restart* keep
  their value until kas is started again.
"""


def markdown() -> str:
    """The text of docs/configuration.md."""
    parts = [_INTRODUCTION, _table("", Config), *_sections("", Config)]
    parts.append(_heading("configuration_repositories[]", ConfigurationRepository))
    parts.append(_heading("fair_use.weights[]", Weight))
    parts.append(_heading("issuers[] of type gitlab", GitlabIssuer))
    parts.append(_heading("issuers[] of other types", OidcIssuer))
    parts.append(_heading("tls", Tls))
    return "\n".join(parts)


def example() -> str:
    """The text of examples/kas.yaml."""
    head = (
        "# The defaults of kas, written out: an empty file means the same. Times are seconds, sizes are bytes.\n"
        "# docs/configuration.md is the same with more about each. Written by `python -m kas.config --example`.\n"
    )
    return head + "\n" + "\n".join(_yaml_lines(Config(), 0)) + "\n"


def _sections(path: str, model: type[Section]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if inner := _section(field.annotation):
            yield _heading(f"{path}{name}", inner)
            yield from _sections(f"{path}{name}.", inner)


def _heading(path: str, model: type[Section]) -> str:
    return f"## `{path}`\n\n{(model.__doc__ or '').strip()}\n\n{_table(f'{path}.', model)}"


def _table(path: str, model: type[Section]) -> str:
    lines = ["| option | kind | default | change needs | what and why |", "|---|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if _section(field.annotation):
            continue
        change = "restart" if _extra(field, "restart") else "SIGHUP"
        default = "required" if field.is_required() else _default_text(field)
        text = field.description or ""
        if shown := _extra(field, "example"):
            text += f" Example: `{shown}`"
        lines.append(
            f"| `{path}{name}` | {_kind(name, field)} | {default} | {change} | {text.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines) + "\n"


def _section(annotation: Any) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _extra(field: FieldInfo, key: str) -> Any:
    return field.json_schema_extra.get(key) if isinstance(field.json_schema_extra, dict) else None


def _kind(name: str, field: FieldInfo) -> str:
    kind = field.annotation
    arguments = [one for one in get_args(kind) if one is not type(None)]
    if len(arguments) == 1 and get_origin(arguments[0]) is Literal:
        arguments = list(get_args(arguments[0]))
    if all(isinstance(one, str) for one in arguments) and arguments:
        return " or ".join(f"`{one}`" for one in arguments)
    if name.endswith("_per_s"):
        return "per second"
    if name.endswith("_s"):
        return "seconds"
    if name.endswith("_bytes"):
        return "bytes"
    if get_origin(kind) is tuple:
        return "list"
    if arguments:
        kind = arguments[0]
        while get_args(kind):
            kind = get_args(kind)[0]
    names = {
        "bool": "true or false",
        "int": "number",
        "float": "number",
        "str": "text",
        "Path": "path",
        "Tls": "two files",
    }
    names |= {"ListenAddress": "host:port", "ExternalUrl": "URL"}
    return names[getattr(kind, "__name__", "")]


def _default_text(field: FieldInfo) -> str:
    return "–" if field.default is None else f"`{_scalar(field.default)}`"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if value in ((), {}):
        return "[]" if value == () else "{}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (bool, int, float)):
        value = str(value)
    return yaml.safe_dump(value, width=1000).removesuffix("...\n").strip()


def _yaml_lines(section: Section, indent: int) -> Iterator[str]:
    margin = " " * indent
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from ("", *_comment((type(value).__doc__ or "").strip(), margin), f"{margin}{name}:")
            yield from _yaml_lines(value, indent + 2)
            continue
        yield from _comment(_described(field), margin)
        if value is None or value == ():
            yield f"{margin}# {name}: {_extra(field, 'example')}"
        else:
            yield f"{margin}{name}: {_scalar(value)}"


def _described(field: FieldInfo) -> str:
    return (field.description or "") + (" (restart)" if _extra(field, "restart") else "")


def _comment(text: str, margin: str) -> list[str]:
    return textwrap.wrap(
        text.replace("`", ""), _WIDTH - len(margin), initial_indent=f"{margin}# ", subsequent_indent=f"{margin}# "
    )


def main() -> None:
    """Print one of the two texts."""
    parser = argparse.ArgumentParser(
        prog="python -m kas.config", description="Writes the configuration reference from the models."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--markdown", action="store_true", help="docs/configuration.md")
    what.add_argument("--example", action="store_true", help="examples/kas.yaml")
    sys.stdout.write(markdown() if parser.parse_args().markdown else example())
