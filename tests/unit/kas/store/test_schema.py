from __future__ import annotations

from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from kas.store.schema import metadata


def test_the_tables_can_be_written_for_postgresql():
    for table in metadata.sorted_tables:
        ddl = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert "AUTOINCREMENT" not in ddl
        for index in table.indexes:
            str(CreateIndex(index).compile(dialect=postgresql.dialect()))
    assert "BIGSERIAL" in str(CreateTable(metadata.tables["agents"]).compile(dialect=postgresql.dialect()))


def test_no_table_has_a_column_for_a_secret():
    columns = {column.name for table in metadata.sorted_tables for column in table.columns}
    assert not columns & {"token", "secret", "password", "key"}
