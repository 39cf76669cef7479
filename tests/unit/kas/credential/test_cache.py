"""The file between two runs of kubectl: private, whole, and never believed when it might be somebody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kas.credential.cache import Cache, Kept, folder

KEPT = Kept("kasjob-secret", 2_000, 1_000)


def only_file(place: Path) -> Path:
    (file,) = place.glob(".kas-credential-*")
    return file


def test_what_is_kept_is_read_again_by_the_same_job_alone(tmp_path: Path) -> None:
    Cache(tmp_path, "https://kas", "--token-env", "ID", "id-token-of-a").write(KEPT)
    assert Cache(tmp_path, "https://kas", "--token-env", "ID", "id-token-of-a").read() == KEPT
    assert Cache(tmp_path, "https://kas", "--token-env", "ID", "id-token-of-b").read() is None
    assert Cache(tmp_path, "https://other", "--token-env", "ID", "id-token-of-a").read() is None


def test_the_file_is_private_and_its_name_tells_nothing(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Cache(tmp_path / "new", "id-token").write(KEPT)
    finally:
        os.umask(old)
    file = only_file(tmp_path / "new")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "id-token" not in file.name


def test_writing_leaves_no_other_file_behind(tmp_path: Path) -> None:
    for life_s in (1, 2, 3):
        Cache(tmp_path, "x").write(KEPT._replace(life_s=life_s))
    assert only_file(tmp_path)
    kept = Cache(tmp_path, "x").read()
    assert kept is not None
    assert kept.life_s == 3


def test_what_jobs_of_long_ago_have_left_is_removed(tmp_path: Path) -> None:
    Cache(tmp_path, "old").write(KEPT)
    with Cache(tmp_path, "old").alone():
        pass
    Cache(tmp_path, "recent").write(KEPT)
    (tmp_path / "kubeconfig").touch()
    for file in tmp_path.iterdir():
        os.utime(file, (0, 0))
    Cache(tmp_path, "recent").write(KEPT)
    assert Cache(tmp_path, "old").read() is None
    assert Cache(tmp_path, "recent").read() == KEPT
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_may_read_is_not_believed(tmp_path: Path, mode: int) -> None:
    Cache(tmp_path, "x").write(KEPT)
    only_file(tmp_path).chmod(mode)
    assert Cache(tmp_path, "x").read() is None


def test_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    Cache(tmp_path, "x").write(KEPT)
    file = only_file(tmp_path)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert Cache(tmp_path, "x").read() is None
    file.unlink()
    os.mkfifo(file, 0o600)
    assert Cache(tmp_path, "x").read() is None
    Cache(tmp_path, "x").write(KEPT)
    assert Cache(tmp_path, "x").read() == KEPT


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"[" * 30_000,
        b'{"token": "x"}',
        b'{"token": 1, "expires_at": 1, "life_s": 1}',
        b'{"token": "x", "expires_at": "1", "life_s": 1}',
        b'{"token": "x", "expires_at": true, "life_s": 1}',
        b'{"token": "a\\nb", "expires_at": 1, "life_s": 1}',
    ],
)
def test_anything_else_in_the_file_is_nothing(tmp_path: Path, text: bytes) -> None:
    Cache(tmp_path, "x").write(KEPT)
    only_file(tmp_path).write_bytes(text)
    assert Cache(tmp_path, "x").read() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80))
def test_no_bytes_in_it_are_an_error(tmp_path: Path, data: bytes) -> None:
    Cache(tmp_path, "x").write(KEPT)
    only_file(tmp_path).write_bytes(data)
    assert Cache(tmp_path, "x").read() is None


def test_where_nothing_can_be_written_there_is_no_cache_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "folder", "x")
    cache.write(KEPT)
    with cache.alone():
        assert cache.read() is None


def test_the_place_is_the_runtime_directory_or_beside_the_kubeconfig(tmp_path: Path) -> None:
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path), "KUBECONFIG": "/job/kubeconfig"}
    assert folder(runtime) == tmp_path
    assert folder({**runtime, "XDG_RUNTIME_DIR": "/not/there"}) == Path("/job")
    assert folder({**runtime, "XDG_RUNTIME_DIR": "."}) == Path("/job")
    assert folder({"KUBECONFIG": ":/job/one:/job/two"}) == Path("/job")
    assert folder({}) == Path.home() / ".kube"


@pytest.mark.parametrize(("life_s", "left_s"), [(3600, 300), (1500, 300), (1000, 200), (10, 2)])
def test_it_is_renewed_when_five_minutes_are_left_or_a_fifth(life_s: int, left_s: int) -> None:
    assert Kept("x", 10_000, life_s).renew_at == 10_000 - left_s
