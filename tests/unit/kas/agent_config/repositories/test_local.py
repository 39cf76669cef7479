"""Repositories on disk, read as git would: no checkout, nothing but regular files, nothing larger than allowed."""

from __future__ import annotations

import stat
import zlib
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from dulwich.objects import Blob
from dulwich.pack import write_pack_index, write_pack_objects
from dulwich.repo import Repo

from kas.agent_config.repositories import RepositoryProblem
from kas.agent_config.repositories.bounded_objects import largest_part
from kas.agent_config.repositories.local import LocalRepositories, LocalRepository
from tests.support.git_repository import LINK, SUBMODULE, GitRepository

CONFIG = ".gitlab/agents/demo/config.yaml"


@pytest.fixture
def make_git():
    """Makes repositories and closes them."""
    with ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(GitRepository(path, **options))


@pytest.fixture
def git(make_git, tmp_path) -> GitRepository:
    return make_git(tmp_path / "repo.git")


@pytest.mark.parametrize("bare", [True, False])
def test_a_file_is_read_at_the_newest_commit_of_the_default_branch(make_git, tmp_path, bare):
    git = make_git(tmp_path / "repo", bare=bare)
    git.commit({CONFIG: b"old", "README": b"x"})
    newest = git.commit({CONFIG: b"new", "README": b"x"})
    repository = LocalRepository(git.path)

    assert repository.head() == newest
    assert repository.read(newest, CONFIG, 100) == b"new"
    assert repository.where == str(git.path)


def test_a_new_commit_is_seen_by_the_same_repository_object(git):
    first = git.commit({CONFIG: b"1"})
    repository = LocalRepository(git.path)
    assert repository.head() == first
    second = git.commit({CONFIG: b"2"})
    assert repository.head() == second
    git.pack()
    assert repository.head() == second
    third = git.commit({CONFIG: b"3"})
    assert repository.head() == third
    assert repository.read(third, CONFIG, 100) == b"3"


@pytest.mark.parametrize("ref", ["stable", "refs/heads/stable"])
def test_a_named_branch_is_read_instead(git, ref):
    stable = git.commit({CONFIG: b"stable"}, branch=b"refs/heads/stable")
    git.commit({CONFIG: b"main"})
    repository = LocalRepository(git.path, ref)
    assert repository.head() == stable
    assert repository.read(stable, CONFIG, 100) == b"stable"


def test_head_follows_the_default_branch_when_it_is_renamed(git):
    git.commit({CONFIG: b"main"})
    repository = LocalRepository(git.path)
    repository.head()
    trunk = git.commit({CONFIG: b"trunk"}, branch=b"refs/heads/trunk")
    git.repo.refs.set_symbolic_ref(b"HEAD", b"refs/heads/trunk")
    assert repository.head() == trunk


@pytest.mark.parametrize(
    "files", [{"README": b"x"}, {".gitlab/agents/other/config.yaml": b"x"}, {".gitlab/agents/demo/config.yml": b"x"}]
)
def test_a_file_that_is_not_there_is_none(git, files):
    commit = git.commit(files)
    assert LocalRepository(git.path).read(commit, CONFIG, 100) is None


@pytest.mark.parametrize("files", [{".gitlab": b"x"}, {f"{CONFIG}/x": b"x"}, {".gitlab/agents/demo": b"x"}])
def test_a_file_where_a_folder_was_expected_and_the_reverse_are_none(git, files):
    commit = git.commit(files)
    assert LocalRepository(git.path).read(commit, CONFIG, 100) is None


@pytest.mark.covers("G-02")
@pytest.mark.parametrize(
    "files",
    [
        {".gitlab/agents/Demo/config.yaml": b"x"},
        {".GITLAB/agents/demo/config.yaml": b"x"},
        {".gitlab/agents/demo/CONFIG.yaml": b"x"},
    ],
)
def test_a_path_that_differs_in_case_is_another_path(git, files):
    commit = git.commit(files | {"README": b"x"})
    assert LocalRepository(git.path).read(commit, CONFIG, 100) is None


@pytest.mark.covers("G-02")
@pytest.mark.parametrize("path", [".gitlab", ".gitlab/agents", ".gitlab/agents/demo", CONFIG])
@pytest.mark.parametrize(("mode", "kind"), [(LINK, "symbolic link"), (SUBMODULE, "submodule")])
def test_links_and_submodules_on_the_way_are_refused(git, path, mode, kind):
    commit = git.commit({path: b"/etc/passwd"}, modes={path: mode})
    with pytest.raises(RepositoryProblem, match=f"^{path} is a {kind}: the file itself was expected$"):
        LocalRepository(git.path).read(commit, CONFIG, 100)


def test_an_executable_file_is_a_file(git):
    commit = git.commit({CONFIG: b"x"}, modes={CONFIG: stat.S_IFREG | 0o755})
    assert LocalRepository(git.path).read(commit, CONFIG, 100) == b"x"


@pytest.mark.covers("G-01")
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_too_large_is_refused_before_it_is_read(git, packed):
    commit = git.commit({CONFIG: b"x" * 1_000_000})
    if packed:
        git.pack()
    with pytest.raises(RepositoryProblem, match="the file is larger than 1000 bytes"):
        LocalRepository(git.path).read(commit, CONFIG, 1000)
    assert len(LocalRepository(git.path).read(commit, CONFIG, 1_000_000)) == 1_000_000


@pytest.mark.covers("G-01")
def test_a_loose_object_that_lies_about_its_size_is_refused(git):
    commit = git.commit({CONFIG: b"x" * 500})
    sha = Blob.from_string(b"x" * 500).id.decode()
    path = git.path / "objects" / sha[:2] / sha[2:]
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob 500\0" + b"x" * 50_000_000))
    with pytest.raises(RepositoryProblem):
        LocalRepository(git.path).read(commit, CONFIG, 1000)


@pytest.mark.covers("G-01")
def test_a_delta_is_as_large_as_what_it_makes_and_what_it_is_made_from(git):
    small, large = Blob.from_string(b"x" * 300 + b"end"), Blob.from_string(b"x" * 400_000)
    pack_dir = git.path / "objects" / "pack"
    with (pack_dir / "pack-1.pack").open("wb") as file:
        entries, checksum = write_pack_objects(
            file, [(large, None), (small, None)], deltify=True, object_format=git.repo.object_format
        )
    with (pack_dir / "pack-1.idx").open("wb") as file:
        rows = sorted((sha, offset, crc) for sha, (offset, crc) in entries.items())
        write_pack_index(file, rows, checksum)
    assert largest_part(git.repo.object_store, large.id) == 400_000
    assert largest_part(git.repo.object_store, small.id) in (303, 400_000)


def test_every_object_of_a_packed_repository_has_its_size(git):
    for n in range(30):
        git.commit({CONFIG: b"line\n" * (1000 + n), "README": b"%d" % n})
    shas = list(git.repo.object_store)
    sizes = {sha: len(git.repo.object_store[sha].as_raw_string()) for sha in shas}
    git.pack()
    with Repo(str(git.path)) as packed:
        for sha in shas:
            assert sizes[sha] <= largest_part(packed.object_store, sha) <= max(sizes.values())


@pytest.mark.covers("G-01")
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.rename(path.with_name("gone")), "there is no such folder"),
        (lambda path: (path / "objects").rename(path / "o"), "this is not a git repository"),
        (lambda path: (path / "HEAD").unlink(), "HEAD has no commit"),
        (lambda path: (path / "refs/heads/main").write_text("rubbish\n"), "repo.git"),
        (lambda path: (path / "refs/heads/main").unlink(), "refs/heads/main has no commit"),
        (lambda path: (path / "HEAD").write_text("ref: HEAD\n"), "repo.git"),
    ],
)
def test_a_repository_that_cannot_be_read_says_why(git, damage, said):
    git.commit({CONFIG: b"x"})
    damage(git.path)
    repository = LocalRepository(git.path)
    with pytest.raises(RepositoryProblem, match=said):
        repository.read(repository.head(), CONFIG, 100)


def test_a_repository_without_a_commit_says_so(git):
    with pytest.raises(RepositoryProblem, match="refs/heads/main has no commit"):
        LocalRepository(git.path).head()


@pytest.mark.parametrize("which", ["commit", "tree", "blob"])
@pytest.mark.parametrize("text", [b"", b"rubbish", zlib.compress(b"blob 4\0oops"), zlib.compress(b"tree 3\0abc")])
def test_damaged_objects_are_a_problem_and_never_a_crash(git, which, text):
    commit = git.commit({CONFIG: b"x"})
    sha = {
        "commit": commit.encode(),
        "tree": git.repo[commit.encode()].tree,
        "blob": Blob.from_string(b"x").id,
    }[which].decode()
    path = git.path / "objects" / sha[:2] / sha[2:]
    path.chmod(0o644)
    path.write_bytes(text)
    repository = LocalRepository(git.path)
    try:
        assert repository.read(commit, CONFIG, 100) in (b"oops", None)
    except RepositoryProblem:
        pass


def test_a_missing_object_is_a_problem(git):
    commit = git.commit({CONFIG: b"x"})
    sha = Blob.from_string(b"x").id.decode()
    (git.path / "objects" / sha[:2] / sha[2:]).unlink()
    with pytest.raises(RepositoryProblem, match="damaged or incomplete"):
        LocalRepository(git.path).read(commit, CONFIG, 100)


def test_a_repository_that_comes_back_is_read_again(git):
    commit = git.commit({CONFIG: b"x"})
    repository = LocalRepository(git.path)
    repository.head()
    git.path.rename(git.path.with_name("away"))
    with pytest.raises(RepositoryProblem):
        repository.head()
    git.path.with_name("away").rename(git.path)
    assert repository.head() == commit


def entry(*, project=None, path=None, root=None, ref=None):
    return SimpleNamespace(project=project, path=path, root=root, ref=ref, issuer="kas")


def test_a_project_is_found_by_its_own_entry_or_under_a_root(make_git, tmp_path):
    named = make_git(tmp_path / "named")
    bare = make_git(tmp_path / "root/group/bare.git")
    tree = make_git(tmp_path / "root/group/sub/tree", bare=False)
    found = LocalRepositories([entry(project="group/named", path=named.path, ref="x"), entry(root=tmp_path / "root")])

    assert found.find("group/named").where == f"{named.path} (x)"
    assert found.find("group/bare").where == str(bare.path)
    assert found.find("group/sub/tree").where == str(tree.path)
    assert found.find("group/bare") is found.find("group/bare")


def test_the_first_entry_that_has_the_repository_is_used(make_git, tmp_path):
    second = make_git(tmp_path / "b/group/app.git")
    found = LocalRepositories([entry(root=tmp_path / "a"), entry(root=tmp_path / "b")])
    assert found.find("group/app").where == str(second.path)
    make_git(tmp_path / "a/group/app.git")
    assert LocalRepositories([entry(root=tmp_path / "a"), entry(root=tmp_path / "b")]).find("group/app").where == str(
        tmp_path / "a/group/app.git"
    )


def test_a_repository_that_may_still_come_is_a_problem_until_it_does(make_git, tmp_path):
    found = LocalRepositories([entry(root=tmp_path)])
    with pytest.raises(RepositoryProblem, match="there is no such folder"):
        found.find("group/app").head()
    git = make_git(tmp_path / "group/app", bare=False)
    commit = git.commit({CONFIG: b"x"})
    assert found.find("group/app").head() == commit


def test_a_project_that_no_entry_names_has_no_repository(tmp_path):
    assert LocalRepositories([]).find("group/app") is None
    assert LocalRepositories([entry(project="group/other", path=tmp_path)]).find("group/app") is None


@pytest.mark.covers("G-02")
@pytest.mark.parametrize("project", ["../x", "a/../../x", "/etc", "a//b", "a/.git", "a/b\0c"])
def test_no_project_name_leads_out_of_the_root(tmp_path, project):
    with pytest.raises(ValueError, match="is not a project"):
        LocalRepositories([entry(root=tmp_path / "root")]).find(project)
