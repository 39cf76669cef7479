"""The fault catalogue is complete and well formed, and its report says what is missing."""

from __future__ import annotations

import pytest

from tests.fault_catalogue import RINGS, Catalogue, Coverage, Row, excuses, load


def test_every_row_has_an_id_of_its_own_and_a_known_group_and_ring() -> None:
    catalogue = load()
    assert len({row.id for row in catalogue.rows}) == len(catalogue.rows)
    for row in catalogue.rows:
        assert row.group in catalogue.groups
        assert row.ring in RINGS
        assert row.stimulus
        assert row.expected


@pytest.mark.parametrize(
    ("group", "rows"),
    [
        ("A", 16),
        ("Z", 12),
        ("I", 14),
        ("S", 22),
        ("U", 16),
        ("T", 25),
        ("P", 12),
        ("C", 7),
        ("G", 6),
        ("D", 8),
        ("X", 6),
        ("B", 32),
    ],
)
def test_no_row_is_lost(group: str, rows: int) -> None:
    assert sum(row.group == group for row in load().rows) == rows


def row(row_id: str) -> Row:
    return Row(row_id, row_id[0], "unit", "stimulus", "expected")


CATALOGUE = Catalogue((row("I-01"), row("I-02")), {"I": "Impersonation"})


@pytest.mark.parametrize(
    ("marks", "excused", "said"),
    [
        ([("I-01", "test_a")], {"I-02": "why"}, []),
        ([("I-01", "test_a")], {}, ["I-02 has neither"]),
        ([("I-01", "test_a"), ("I-02", "test_b")], {"I-02": "why"}, ["I-02 has a test"]),
        ([("I-01", "test_a"), ("I-2", "test_b")], {"I-02": "why"}, ["unknown row I-2, named by test_b"]),
        ([("I-01", "test_a")], {"I-02": "why", "I-03": "why"}, ["unknown row I-03 in the document"]),
    ],
)
def test_what_is_not_in_order_is_said(marks: list[tuple[str, str]], excused: dict[str, str], said: list[str]) -> None:
    problems = Coverage.of(CATALOGUE, marks, excused).problems
    assert len(problems) == len(said)
    assert all(problem.startswith(begin) for problem, begin in zip(problems, said, strict=True))


def test_the_report_counts_rows_tests_and_reasons() -> None:
    report = Coverage.of(CATALOGUE, [("I-01", "test_a"), ("I-01", "test_b")], {"I-02": "why"}).report()
    assert "I    1 of   2  Impersonation" in report
    assert "I-01: 2" in report
    assert "I-02: not yet: why" in report


def test_the_document_gives_a_reason_for_known_rows_only() -> None:
    found = excuses()
    assert found
    assert found.keys() <= {row.id for row in load().rows}
