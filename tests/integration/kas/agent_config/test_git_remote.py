"""Configurations in git repositories elsewhere, by git's own server and a real sshd."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dulwich import porcelain

from kas.agent_config.repositories import RepositoryProblem
from kas.agent_config.repositories.git_remote import GitRemote
from tests.fakes.certificates import Authority
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.git_servers import TOKEN, Origin, git_server
from tests.unit.kas.agent_config.test_watcher import GOOD, OTHER, PATH


@pytest.fixture
def served(tmp_path):
    authority = Authority(tmp_path, "git CA")
    origin = Origin(tmp_path / "root", PATH)
    origin.commit(GOOD)
    with git_server(tmp_path / "root", authority) as url:
        yield origin, f"{url}/infra/agents.git", authority.ca, tmp_path / "cache"


def remote(served: Any, **options: Any) -> GitRemote:
    _, url, ca, cache = served
    return GitRemote(url, cache, **{"token": TOKEN, "ca_file": ca, **options})


def test_git_over_https_is_read_at_its_newest_commit_and_cached(served):
    origin = served[0]
    repository = remote(served)
    first = repository.head()
    assert repository.read(first, PATH, 10_000) == GOOD
    origin.commit(OTHER)
    second = repository.head()
    assert second != first
    assert repository.read(second, PATH, 10_000) == OTHER
    assert remote(served, token="wrong").read(first, PATH, 10_000) == GOOD  # from the cache
    origin.commit(None)
    assert repository.read(repository.head(), PATH, 10_000) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 320 KiB; ``mount -o remount,size=`` makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320k", "disk", folder], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here (that needs root)")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.covers("G-05")
def test_a_full_disk_is_told_as_such_and_over_once_there_is_room(served, small_disk):
    origin, url, ca, _ = served
    repository = GitRemote(url, small_disk / "cache", token=TOKEN, ca_file=ca)
    first = repository.head()
    assert repository.read(first, PATH, 10_000) == GOOD
    origin.commit(OTHER, {"picture": os.urandom(1 << 20)})
    second = repository.head()
    for _ in range(2):
        with pytest.raises(RepositoryProblem, match=r"its cache .* cannot be written: No space left on device"):
            repository.read(second, PATH, 10_000)
    assert repository.read(first, PATH, 10_000) == GOOD
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    assert repository.read(second, PATH, 10_000) == OTHER


def test_no_secret_is_kept_in_the_cache(served):
    repository = remote(served)
    repository.read(repository.head(), PATH, 10_000)
    for file in served[3].rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()
    assert served[3].stat().st_mode & 0o077 == 0 or next(served[3].iterdir()).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token": "not-this-one"}, "its token is refused"),
        ({"token": None}, "its token is refused"),
        ({"ca_file": None}, "CERTIFICATE_VERIFY_FAILED"),
        ({"ref": "missing"}, "refs/heads/missing has no commit"),
    ],
)
def test_what_is_wrong_with_it_is_said_without_secrets(served, options, said):
    with pytest.raises(RepositoryProblem) as caught:
        remote(served, **options).head()
    assert said in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "not-this-one" not in str(caught.value)


def test_a_machine_that_does_not_answer_is_told(served):
    with pytest.raises(RepositoryProblem, match="Connection refused"):
        GitRemote("https://localhost:1/x.git", served[3]).head()


def test_large_files_stay_where_they_are(served):
    origin = served[0]
    (origin.folder / "film.bin").write_bytes(os.urandom(5 << 20))
    porcelain.add(origin.folder, [str(origin.folder / "film.bin")])
    origin.commit(OTHER)
    repository = remote(served)
    assert repository.read(repository.head(), PATH, 10_000) == OTHER
    assert sum(file.stat().st_size for file in served[3].rglob("*.pack")) < 100_000
    origin.commit(os.urandom(3 << 20))
    with pytest.raises(RepositoryProblem, match="config.yaml did not come with the commit: it is larger than 2 MB"):
        repository.read(repository.head(), PATH, 10_000)


def test_a_damaged_cache_is_made_anew(served):
    repository = remote(served)
    head = repository.head()
    assert repository.read(head, PATH, 10_000) == GOOD
    (pack,) = served[3].rglob("*.pack")
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[:100] + bytes(100))
    assert repository.read(head, PATH, 10_000) == GOOD
    (folder,) = (one for one in served[3].iterdir() if one.is_dir())
    shutil.rmtree(folder / "refs")
    (folder / "HEAD").unlink()
    assert repository.read(head, PATH, 10_000) == GOOD


def test_two_that_share_a_cache_fetch_one_after_the_other(served):
    origin = served[0]
    for n in range(3):
        origin.commit(b"ci_access: {projects: [{id: web/app%d}]}\n" % n)
    head = remote(served).head()
    found: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: found.append(remote(served).read(head, PATH, 10_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"ci_access: {projects: [{id: web/app2}]}\n"] * 4
    assert len(list(served[3].rglob("*.pack"))) == 1


@pytest.mark.parametrize("login", ["", "joe:p%3Aass@"])
async def test_git_goes_through_the_proxy_of_the_environment(served, tmp_path, monkeypatch, login):
    authority = Authority(tmp_path, "other CA")
    with git_server(tmp_path / "root", authority, "git.test") as url:
        port = int(url.rpartition(":")[2])
        async with ConnectProxy({"git.test": ("127.0.0.1", port)}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", f"//{login}"))
            repository = GitRemote(
                f"https://git.test:{port}/infra/agents.git", tmp_path / "c", token=TOKEN, ca_file=authority.ca
            )
            head = await asyncio.to_thread(repository.head)
            assert await asyncio.to_thread(repository.read, head, PATH, 10_000) == GOOD
            assert set(proxy.asked) == {f"git.test:{port}"}
            assert set(proxy.shown) == {"Basic am9lOnA6YXNz" if login else ""}
            proxy.status = 407
            with pytest.raises(RepositoryProblem) as caught:
                await asyncio.to_thread(repository.head)
            assert "407" in str(caught.value)
            assert "ass" not in str(caught.value)


@pytest.fixture
def ssh_origin(tmp_path: Path) -> Iterator[tuple[Origin, str, Path, Path]]:
    """A real sshd that serves a repository to one key."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or shutil.which("ssh") is None or shutil.which("git") is None:
        pytest.skip("needs sshd, ssh and git")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it wants to lock its unprivileged part in
    origin = Origin(tmp_path / "root", PATH)
    origin.commit(GOOD)
    for name in ("host", "key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = tmp_path / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/key.pub\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\n"
    )
    known = tmp_path / "known hosts"  # with a blank
    known.write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    with subprocess.Popen([program, "-D", "-e", "-f", str(settings)], stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        while line := server.stderr.readline():
            if b"listening" in line:
                break
        listening = threading.Thread(target=server.stderr.read)  # or it would stop when the pipe is full
        listening.start()
        yield origin, f"ssh://{getpass.getuser()}@127.0.0.1:{port}{origin.folder}", tmp_path, known
        server.terminate()
        listening.join()


def over_ssh(ssh_origin: tuple[Origin, str, Path, Path], key: str = "key", known: Path | None = None) -> GitRemote:
    _, url, folder, hosts = ssh_origin
    return GitRemote(url, folder / "cache", key_file=folder / key, known_hosts_file=known or hosts)


def test_git_over_ssh_is_read_at_its_newest_commit(ssh_origin):
    repository = over_ssh(ssh_origin)
    assert repository.read(repository.head(), PATH, 10_000) == GOOD
    ssh_origin[0].commit(OTHER)
    assert repository.read(repository.head(), PATH, 10_000) == OTHER


@pytest.mark.filterwarnings("ignore:unclosed Protocol:ResourceWarning")  # dulwich leaves what hung up unclosed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_ssh_complains_of_is_said(ssh_origin, tmp_path):
    with pytest.raises(RepositoryProblem, match="Permission denied"):
        over_ssh(ssh_origin, key="other").head()
    stranger = tmp_path / "nobody"
    stranger.write_text("")
    with pytest.raises(RepositoryProblem, match="Host key verification failed"):
        over_ssh(ssh_origin, known=stranger).head()
