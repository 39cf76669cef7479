from __future__ import annotations

import pytest

from kas.cli import output


def test_a_table_is_never_cut_for_a_pipe(capsys: pytest.CaptureFixture[str]):
    output.print_table([{"a": "x" * 300, "b": None}], {"a": "first", "b": "second"}, "nothing")
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["FIRST", "SECOND"]
    assert row.split() == ["x" * 300, "–"]


def test_values_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]):
    output.print_table([{"a": "[bold]x[/] :smile:"}], {"a": "a"}, "nothing")
    assert "[bold]x[/] :smile:" in capsys.readouterr().out


def test_an_empty_list_is_a_sentence(capsys: pytest.CaptureFixture[str]):
    output.print_table([], {"a": "a"}, "There is nothing.")
    assert capsys.readouterr().out == "There is nothing.\n"


def test_a_record_is_a_line_for_each_value(capsys: pytest.CaptureFixture[str]):
    output.print_record({"a": 1, "b": True, "c": None}, {"a": "One", "b": "Second", "c": "C"})
    assert capsys.readouterr().out == "One:    1\nSecond: yes\nC:      –\n"


def test_times_are_utc():
    assert output.iso(1_800_000_000) == "2027-01-15T08:00:00Z"
    assert output.iso(None) is None
