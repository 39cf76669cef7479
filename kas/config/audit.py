"""The audit log."""

from __future__ import annotations

from typing import Literal

from kas.config.base import Bytes, Count, FilePath, Seconds, Section, option


class Audit(Section):
    """One record for every request, allowed or denied, and for every administrative act: JSON lines that nobody can change unseen."""

    enabled: bool = option(True, "Off: nothing is recorded.", restart=True)
    folder: FilePath | None = option(
        None, "Where the files go. Without it `state_dir`/audit.", restart=True, example="/var/log/kas/audit"
    )
    key_file: FilePath | None = option(
        None,
        "The key of the chain, not inside `folder`: whoever can read it can forge records. Without it `state_dir`/audit.key, made at the "
        "first start; keep a copy elsewhere.",
        restart=True,
        example="/etc/kas/audit.key",
    )
    stdout: bool = option(
        False,
        "Copy each record to standard output, for a log collector; kas logs to standard error.",
        restart=True,
    )
    max_file_bytes: Bytes = option(
        64 * 1024 * 1024, "Begin a new file at this size; a record is about 500 bytes.", restart=True
    )
    max_file_age_s: Seconds = option(24 * 3600, "Or when the file is so old: a day.", restart=True)
    max_files: Count = option(90, "Keep so many files; the removal of older ones is recorded.", restart=True)
    fsync: bool = option(
        True, "Bring records onto the disk each second; off: whenever the machine does so.", restart=True
    )
    on_loss: Literal["count", "refuse"] = option(
        "count",
        "When records cannot be written (disk full, writer too slow): `count` the lost ones and record their number later, or `refuse` "
        "every new request with 503 until they can.",
        restart=True,
    )
    max_waiting: Count = option(
        20_000, "Records that may wait for the writer: a few seconds of a busy kas, 20 MiB.", restart=True
    )
    head_records: Count = option(
        1000, "Sign the head of the chain into the database after so many records, and each minute.", restart=True
    )
