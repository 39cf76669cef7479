"""One line a record, whatever strangers put into a field."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from kastunnel.toolkit import logs
from kastunnel.toolkit.logs import fields


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = io.StringIO()
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.covers("S-20")
def test_json_is_one_object_a_line_with_hostile_fields_escaped_and_cut(stream: io.StringIO) -> None:
    logs.set_up("info", "json", stream)
    hostile = "kubectl\r\n\x1b[31mFAKE\x00 ü" + "x" * 100_000
    logging.getLogger("kas.test").info("request done", extra=fields(user_agent=hostile, status=200))
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    assert (said["message"], said["status"], said["level"]) == ("request done", 200, "info")
    assert "\x1b" not in line
    assert len(line) < 1_500


@pytest.mark.covers("S-20")
def test_console_lines_have_no_control_characters(stream: io.StringIO) -> None:
    logs.set_up("info", "console", stream)
    logging.getLogger("kas.test").info("request done", extra=fields(user_agent="a\x1b[2Jb\nc", path="/a b"))
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert 'path="/a b"' in line


def test_an_error_has_its_traceback(stream: io.StringIO) -> None:
    logs.set_up("info", "json", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("kas.test").exception("failed")
    assert "ValueError: broken" in json.loads(stream.getvalue())["traceback"]


def test_below_the_level_nothing_is_said(stream: io.StringIO) -> None:
    logs.set_up("warning", "json", stream)
    logging.getLogger("kas.test").info("quiet")
    assert not stream.getvalue()
