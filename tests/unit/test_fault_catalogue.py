"""The fault catalogue is complete and well formed, and its report says what is missing."""

from __future__ import annotations

import pytest

from tests.fault_catalogue import RINGS, Catalogue, Coverage, Row, load


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


def test_the_groups_that_are_due_exist() -> None:
    catalogue = load()
    assert catalogue.due <= set(catalogue.groups)


def row(row_id: str) -> Row:
    return Row(row_id, row_id[0], "unit", "stimulus", "expected")


def test_only_rows_that_are_due_can_be_missing() -> None:
    catalogue = Catalogue((row("I-01"), row("I-02"), row("X-01")), {"I": "", "X": ""}, frozenset("I"))
    coverage = Coverage.of(catalogue, [("I-01", "test_a")])
    assert [missing.id for missing in coverage.missing] == ["I-02"]


def test_a_mark_that_names_no_row_is_found() -> None:
    catalogue = Catalogue((row("I-01"),), {"I": ""}, frozenset())
    coverage = Coverage.of(catalogue, [("I-1", "test_a"), ("I-01", "test_b")])
    assert coverage.unknown == {"I-1": frozenset({"test_a"})}


def test_the_report_counts_rows_and_tests() -> None:
    catalogue = Catalogue((row("I-01"), row("I-02")), {"I": "Impersonation"}, frozenset("I"))
    report = Coverage.of(catalogue, [("I-01", "test_a"), ("I-01", "test_b")]).report()
    assert "I    1 of   2  Impersonation  due now" in report
    assert "I-01: 2" in report
