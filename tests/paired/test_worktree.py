"""The base in a worktree, with real repositories."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired.worktree import (
    LFS_POINTER,
    Revision,
    accepted_trailers,
    exists,
    overlay,
    resolve,
    worktree,
)

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
not_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may do anything")

POINTER = LFS_POINTER.decode() + "v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No configuration but git's own, and no repository above the tests'."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "gitconfig"
    config.write_text('[protocol "file"]\n\tallow = always\n[maintenance]\n\tauto = false\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")


class Repository:
    def __init__(self, top):
        self.top = top
        for folder in ("objects", "refs"):  # as git init makes it, in less time
            (top / ".git" / folder).mkdir(parents=True)
        (top / ".git" / "HEAD").write_text("ref: refs/heads/main\n")

    def git(self, *arguments):
        done = subprocess.run(["git", *arguments], cwd=self.top, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip("\n")

    def write(self, **files):
        for name, text in files.items():
            path = self.top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, message="more", **files):
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def head(self):
        return self.git("rev-parse", "HEAD")

    def state(self):
        """Everything about the user's tree and index that may not change."""
        files = {
            path.relative_to(self.top): path.readlink() if path.is_symlink() else path.read_bytes()
            for path in sorted(self.top.rglob("*"))
            if (path.is_symlink() or path.is_file()) and ".git" not in path.parts
        }
        index = self.git("ls-files", "--stage", "--debug")
        return files, index, self.git("status", "--porcelain=v2", "--branch"), self.git("stash", "list")

    def worktrees(self):
        return self.git("worktree", "list", "--porcelain").count("worktree ")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "user" / "repository")


@pytest.fixture
def holder(tmp_path):
    folder = tmp_path / "holder"
    folder.mkdir()
    return folder


def fails(asked, folder):
    with pytest.raises(ConfigurationError) as caught:
        resolve(asked, folder)
    message = str(caught.value)
    assert message.startswith("--infer-against: ")
    return message


def text(folder, name):
    return (folder / name).read_text()


# Which revision


def test_an_ancestor_is_its_own_merge_base(repository):
    repository.commit(a="1")
    first = repository.head()
    repository.git("tag", "v1")
    repository.git("tag", "--annotate", "--message", "first", "noted")
    repository.commit(a="2")
    for asked in ("HEAD~1", "v1", "noted", "main~1", first[:8]):
        assert resolve(asked, repository.top) == Revision(asked, first, repository.top)


def test_the_top_is_found_from_below(repository):
    repository.commit(**{"deep/er/a": "1"})
    first = Revision("HEAD", repository.head(), repository.top)
    assert resolve("HEAD", repository.top / "deep" / "er") == first


def test_branches_that_diverged_meet_at_their_merge_base(repository):
    repository.commit(a="1")
    fork = repository.head()
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit(b="feature")
    repository.git("checkout", "--quiet", "main")
    repository.commit(a="main goes on")
    repository.git("checkout", "--quiet", "feature")
    assert resolve("main", repository.top).commit == fork


def test_auto_is_the_upstream(repository):
    repository.commit(a="1")
    fork = repository.head()
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.git("branch", "--quiet", "--set-upstream-to=main")
    repository.commit(a="2")
    assert resolve("auto", repository.top) == Revision("auto", fork, repository.top)


def test_auto_without_an_upstream(repository):
    repository.commit(a="1")
    message = fails("auto", repository.top)
    assert "auto needs an upstream" in message
    assert "git branch --set-upstream-to" in message
    repository.git("checkout", "--quiet", "--detach")
    assert "auto needs an upstream" in fails("auto", repository.top)


def test_an_unknown_revision(repository):
    repository.commit(a="1")
    for asked in ("nowhere", "", "-x", "--all", "HEAD~7", "HEAD:a", "größe"):
        message = fails(asked, repository.top)
        assert f"there is no revision {asked!r} here" in message
        assert "git branch --all" in message


def test_no_repository(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    assert f"{outside} is not inside a git repository" in fails("main", outside)


def test_a_repository_of_somebody_else(repository, monkeypatch):
    """As in a container, where root runs the tests of what another user has checked out."""
    repository.commit(a="1")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    words = f"{repository.top} belongs to another user, .*git config --global --add safe.directory"
    with pytest.raises(ConfigurationError, match=words):
        resolve("HEAD", repository.top)


def test_a_repository_without_a_commit(repository):
    assert "the repository has no commit yet" in fails("HEAD", repository.top)


def test_a_shallow_clone_says_how_to_fetch(repository, tmp_path):
    repository.commit(a="1")
    repository.commit(a="2")
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth=1", repository.top.as_uri(), str(clone))
    message = fails("HEAD~1", clone)
    assert "there is no revision 'HEAD~1' here" in message
    assert "git fetch --unshallow" in message
    assert "fetch-depth: 0" in message


def test_branches_of_a_shallow_clone_whose_fork_is_not_here(repository, tmp_path):
    repository.commit(a="1")
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.commit(b="1")
    repository.git("checkout", "--quiet", "main")
    repository.commit(a="2")
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth=1", "--no-single-branch", repository.top.as_uri(), str(clone))
    message = fails("origin/feature", clone)
    assert "no common commit" in message
    assert "git fetch --unshallow" in message


def test_unrelated_histories(repository):
    repository.commit(a="1")
    repository.git("checkout", "--quiet", "--orphan", "island")
    repository.commit(b="1")
    message = fails("main", repository.top)
    assert "'main' and HEAD have no common commit here" in message
    assert "shallow" not in message


def test_git_is_not_installed(repository, monkeypatch, tmp_path):
    repository.commit(a="1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="git cannot be run"):
        resolve("HEAD", repository.top)


@pytest.mark.parametrize(
    "names", [("GIT_DIR",), ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")]
)
def test_variables_of_a_hook_do_not_mislead(repository, tmp_path, holder, monkeypatch, names):
    other = Repository(tmp_path / "other")
    other.commit(a="other's")
    repository.commit(a="mine")
    commit = repository.head()
    values = {
        "GIT_DIR": other.top / ".git",
        "GIT_WORK_TREE": other.top,
        "GIT_INDEX_FILE": other.top / ".git" / "index",
        "GIT_PREFIX": "deep/",
    }
    for name in names:
        monkeypatch.setenv(name, str(values[name]))
    found = resolve("HEAD", repository.top)
    assert found == Revision("HEAD", commit, repository.top)
    with worktree(found, holder) as folder:
        assert text(folder, "a") == "mine"
    for name in names:
        monkeypatch.delenv(name)
    assert other.worktrees() == 1


# The checkout


def test_the_content_is_that_of_the_base(repository, holder):
    repository.commit(**{"a": "1", "pkg/b": "1", "gone": "1"})
    repository.git("rm", "--quiet", "gone")
    repository.commit(**{"a": "2", "pkg/b": "2", "new": "2"})
    with worktree(resolve("HEAD~1", repository.top), holder) as folder:
        assert folder.parent == holder
        assert (text(folder, "a"), text(folder, "pkg/b"), text(folder, "gone")) == ("1", "1", "1")
        assert not (folder / "new").exists()
    assert text(repository.top, "a") == "2"


def dirty(repository):
    repository.commit(**{"a": "1", "b": "1", "c": "1", ".gitignore": "ignored\n"})
    repository.commit(a="2")
    repository.write(a="edited", b="staged", untracked="u", ignored="i")
    repository.git("add", "b")
    repository.write(b="edited after it was staged")
    repository.write(added="new")
    repository.git("add", "--intent-to-add", "added")
    repository.git("rm", "--quiet", "--cached", "c")


def test_what_the_user_did_not_commit_stays_exactly_as_it_was(repository, holder):
    dirty(repository)
    before = repository.state()
    index = (repository.top / ".git" / "index").read_bytes()
    with worktree(resolve("HEAD~1", repository.top), holder) as folder:
        assert text(folder, "a") == "1"
        assert text(folder, "b") == "1"
        assert not (folder / "untracked").exists()
        (folder / "a").write_text("written by the base's tests")
    assert (repository.top / ".git" / "index").read_bytes() == index
    assert repository.state() == before
    assert repository.git("symbolic-ref", "HEAD") == "refs/heads/main"


def test_nothing_is_left(repository, holder):
    repository.commit(a="1")
    branches = repository.git("for-each-ref")
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert repository.worktrees() == 2
        (folder / "more").mkdir()
        (folder / "more" / "file").write_text("of a test")
    assert list(holder.iterdir()) == []
    assert repository.worktrees() == 1
    assert repository.git("for-each-ref") == branches


class Accident(BaseException):
    pass


def test_nothing_is_left_after_an_error(repository, holder):
    repository.commit(a="1")
    found = resolve("HEAD", repository.top)
    for error in (ValueError, KeyboardInterrupt, Accident):
        with pytest.raises(error), worktree(found, holder):
            raise error
        assert list(holder.iterdir()) == [], error
        assert repository.worktrees() == 1, error


def test_the_path_is_as_long_as_the_repositorys(repository, tmp_path):
    repository.commit(a="1")
    holder = tmp_path / "h"
    holder.mkdir()
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert len(str(folder)) == len(str(repository.top))


def test_a_repository_with_a_short_path_has_a_base_all_the_same(repository, tmp_path):
    repository.commit(a="1")
    holder = tmp_path / "a" / ("folder" * 10)
    holder.mkdir(parents=True)
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert folder == holder / "base"
        assert text(folder, "a") == "1"


def test_a_repository_with_a_long_path(tmp_path, holder):
    repository = Repository(tmp_path / ("a" * 120) / ("b" * 120))
    repository.commit(a="1")
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert len(folder.name) == 100


def test_a_name_with_blanks_and_letters_beyond_ascii(tmp_path, holder):
    repository = Repository(tmp_path / "größe of things")
    repository.commit(**{"naïve file": "1"})
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert text(folder, "naïve file") == "1"


def test_a_worktree_of_the_user_can_be_compared_too(repository, tmp_path, holder):
    repository.commit(a="1")
    second = tmp_path / "second"
    repository.git("worktree", "add", "--quiet", "-b", "feature", str(second))
    (second / "a").write_text("2")
    found = resolve("main", second)
    assert found.top == second
    with worktree(found, holder) as folder:
        assert text(folder, "a") == "1"
    assert repository.worktrees() == 2


def test_a_worktree_of_the_user_whose_folder_is_away_for_now_stays_known(repository, tmp_path, holder):
    repository.commit(a="1")
    drive = tmp_path / "drive"
    repository.git("worktree", "add", "--quiet", "-b", "feature", str(drive))
    drive.rename(tmp_path / "unmounted")
    with worktree(resolve("main", repository.top), holder):
        pass
    (tmp_path / "unmounted").rename(drive)
    assert repository.worktrees() == 2
    assert text(drive, "a") == "1"


@posix
def test_hooks_are_not_run(repository, tmp_path, holder):
    repository.commit(a="1")
    ran = tmp_path / "ran"
    hook = repository.top / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    repository.git("checkout", "--quiet", "-b", "other")
    assert ran.exists()  # it would
    ran.unlink()
    with worktree(resolve("HEAD", repository.top), holder):
        assert not ran.exists()


def test_the_users_settings_do_not_matter(repository, holder):
    repository.commit(a="1", large=POINTER)
    repository.commit("more\n\nInfergate-Accept: *x* why", a="2", large="the real file")
    for setting in ("color.ui=always", "submodule.recurse=true", "core.autocrlf=true", "status.short=true"):
        repository.git("config", *setting.split("="))
        found = resolve("HEAD~1", repository.top)
        with (
            pytest.raises(ConfigurationError, match="large of the base is a git-lfs pointer"),
            worktree(found, holder),
        ):
            pass
        assert accepted_trailers(found) == {"*x*": "why"}, setting


def test_a_worktree_that_cannot_be_made(repository, holder):
    repository.commit(a="1")
    commit, blob = repository.head(), repository.git("rev-parse", "HEAD:a")
    (repository.top / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with (
        pytest.raises(ConfigurationError, match="'mine' could not be checked out into a worktree"),
        worktree(Revision("mine", commit, repository.top), holder),
    ):
        pass
    assert list(holder.iterdir()) == []
    assert repository.worktrees() == 1


# Submodules


@pytest.fixture
def library(tmp_path):
    library = Repository(tmp_path / "library")
    library.commit(code="library 1")
    return library


def test_a_submodule_is_filled_in_at_the_commit_of_the_base(repository, library, holder):
    repository.commit(a="1")
    repository.git("submodule", "--quiet", "add", str(library.top), "libs/it")
    repository.commit("add it")
    library.commit(code="library 2")
    repository.git("-C", "libs/it", "pull", "--quiet")
    repository.commit("newer library")
    (repository.top / "libs" / "it" / "code").write_text("edited")
    before = repository.state()
    with worktree(resolve("HEAD~1", repository.top), holder) as folder:
        assert text(folder, "libs/it/code") == "library 1"
    assert text(repository.top, "libs/it/code") == "edited"
    assert repository.state() == before


def test_a_submodule_within_a_submodule(repository, library, tmp_path, holder):
    middle = Repository(tmp_path / "middle")
    middle.git("submodule", "--quiet", "add", str(library.top), "inner")
    middle.commit(code="middle 1")
    repository.git("submodule", "--quiet", "add", str(middle.top), "outer")
    repository.git("submodule", "--quiet", "update", "--init", "--recursive")
    repository.commit("add it")
    inner = repository.top / "outer" / "inner"
    assert text(inner, "code") == "library 1"
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert text(folder, "outer/code") == "middle 1"
        assert text(folder, "outer/inner/code") == "library 1"
    assert list(holder.iterdir()) == []


def test_files_that_a_submodule_keeps_out_of_archives_are_there_too(repository, library, holder):
    library.commit(
        **{
            ".gitattributes": "tested export-ignore\ndated export-subst\n",
            "tested": "1",
            "dated": "$Format:%H$",
        }
    )
    repository.git("submodule", "--quiet", "add", str(library.top), "it")
    repository.commit("add it")
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert text(folder, "it/dated") == "$Format:%H$"
        assert text(folder, "it/tested") == "1"


def test_a_submodule_whose_commit_is_not_here(repository, library, holder):
    repository.git("submodule", "--quiet", "add", str(library.top), "it")
    repository.commit("add it")
    lost = "1234567890" * 4
    repository.git("update-index", "--cacheinfo", f"160000,{lost},it")
    repository.git("commit", "--quiet", "--message", "a commit that nobody pushed")
    with (
        pytest.raises(
            ConfigurationError, match="submodule it has no commit 123456789012 of the base"
        ) as caught,
        worktree(resolve("HEAD", repository.top), holder),
    ):
        pass
    assert "git -C it fetch origin 123456789012" in str(caught.value)
    assert list(holder.iterdir()) == []
    assert repository.worktrees() == 1


def test_a_submodule_that_is_not_checked_out_stays_empty(repository, library, tmp_path, holder):
    repository.git("submodule", "--quiet", "add", str(library.top), "it")
    repository.commit("add it", a="1")
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", str(repository.top), str(clone))
    with worktree(resolve("HEAD", clone), holder) as folder:
        assert text(folder, "a") == "1"
        assert list((folder / "it").iterdir()) == []


# Large files


def test_a_large_file_that_only_the_candidate_has(repository, holder):
    repository.commit(**{"data/model.bin": POINTER, "a": "1"})
    commit = resolve("HEAD", repository.top).commit
    repository.write(**{"data/model.bin": "weights"})
    with (
        pytest.raises(ConfigurationError) as caught,
        worktree(resolve("HEAD", repository.top), holder),
    ):
        pass
    message = str(caught.value)
    assert "data/model.bin of the base is a git-lfs pointer whose file is not here:" in message
    assert f"git lfs fetch origin {commit[:12]}" in message
    assert "list it under overlay" in message
    assert list(holder.iterdir()) == []
    assert repository.worktrees() == 1


def test_how_many_large_files_are_missing(repository, holder):
    repository.commit(**dict.fromkeys(("one", "two", "thrée"), POINTER))
    repository.write(one="1", two="2", thrée="3")
    with (
        pytest.raises(ConfigurationError, match="is not here, and so are 2 more"),
        worktree(resolve("HEAD", repository.top), holder),
    ):
        pass


def test_a_pointer_on_both_sides_is_no_large_file_lost(repository, holder):
    repository.commit(**{"model.bin": POINTER})
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert text(folder, "model.bin") == POINTER


def test_a_file_that_mentions_pointers_is_none(repository, holder):
    repository.commit(notes="# see\n" + POINTER)
    repository.write(notes="edited")
    with worktree(resolve("HEAD", repository.top), holder) as folder:
        assert text(folder, "notes").startswith("# see")


# The candidate's tests over it


@pytest.fixture
def trees(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        (folder / "tests" / "data").mkdir(parents=True)
        (folder / "tests" / "test_a.py").write_text(folder.name)
        (folder / "tests" / "data" / "shared").write_text(folder.name)
        (folder / "tests" / "data" / f"only {folder.name}").write_text(folder.name)
    return source, target


def laid(trees, *files):
    overlay(*trees, map(Path, files))
    return trees[1]


def test_a_file_is_laid_over(trees):
    target = laid(trees, "tests/test_a.py")
    assert text(target, "tests/test_a.py") == "source"
    assert text(target, "tests/data/shared") == "target"


def test_a_folder_is_laid_over_and_what_it_lacks_stays(trees):
    target = laid(trees, "tests/data")
    assert text(target, "tests/data/shared") == "source"
    assert text(target, "tests/data/only source") == "source"
    assert text(target, "tests/data/only target") == "target"
    assert text(target, "tests/test_a.py") == "target"


def test_a_file_in_a_folder_that_the_base_lacks(trees):
    (trees[0] / "new" / "deep").mkdir(parents=True)
    (trees[0] / "new" / "deep" / "test_b.py").write_text("source")
    assert text(laid(trees, "new/deep/test_b.py"), "new/deep/test_b.py") == "source"


def test_what_the_candidate_lacks_is_left(trees):
    (trees[0] / "tests" / "test_a.py").unlink()
    assert text(laid(trees, "tests/test_a.py", "nowhere"), "tests/test_a.py") == "target"


def test_nothing_to_lay(trees):
    assert text(laid(trees), "tests/test_a.py") == "target"


def test_a_path_that_leaves_the_repository(trees):
    (trees[0].parent / "outside").write_text("secret")
    inside = trees[0] / "tests" / "test_a.py"  # absolute paths are refused, wherever they lead
    for path in ("../outside", "tests/../../outside", "/outside", "..", inside):
        with pytest.raises(ConfigurationError, match=r"overlay: .* leaves the repository"):
            laid(trees, path)
    assert text(trees[1], "tests/test_a.py") == "target"


@posix
@not_root
@pytest.mark.parametrize("path", ["tests/data/shared", "tests/data"])
def test_a_file_that_cannot_be_read(trees, path):
    (trees[0] / "tests" / "data" / "shared").chmod(0)
    with pytest.raises(
        ConfigurationError, match=f"cannot lay {path} over the base: .*look at its permissions"
    ):
        laid(trees, path)


def test_a_folder_where_the_base_has_a_file(trees):
    (trees[0] / "clash").mkdir()
    (trees[0] / "clash" / "inside").write_text("source")
    (trees[1] / "clash").write_text("target")
    overlay(*trees, [Path("clash")])
    assert (trees[1] / "clash" / "inside").read_text() == "source"


def test_a_file_where_the_base_has_a_folder_is_not_hidden_within_it(trees):
    (trees[0] / "clash").write_text("source")
    (trees[1] / "clash").mkdir()
    try:
        laid(trees, "clash")
    except ConfigurationError as error:
        assert "cannot lay clash" in str(error)  # noqa: PT017 - either way is fine
    assert not (trees[1] / "clash" / "clash").exists()


@posix
def test_a_file_that_is_a_link_out_of_the_repository_on_both_sides(trees, tmp_path):
    (tmp_path / "weights").write_text("weights")
    for tree in trees:
        (tree / "link").symlink_to(tmp_path / "weights")
    assert text(laid(trees, "link"), "link") == "weights"


@posix
def test_nothing_is_written_through_a_link_of_the_base(trees, tmp_path):
    (tmp_path / "weights").write_text("the user's")
    (trees[0] / "link").write_text("source")
    (trees[1] / "link").symlink_to(tmp_path / "weights")
    target = laid(trees, "link")
    assert (tmp_path / "weights").read_text() == "the user's"
    assert text(target, "link") == "source"


@posix
def test_nothing_is_written_through_a_linked_folder_of_the_base(trees, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shared").write_text("the user's")
    (trees[0] / "linked").mkdir()
    (trees[0] / "linked" / "shared").write_text("source")
    (trees[1] / "linked").symlink_to(tmp_path / "data")
    try:
        laid(trees, "linked")
    except ConfigurationError as error:
        assert "cannot lay linked" in str(error)  # noqa: PT017 - either way is fine
    assert (tmp_path / "data" / "shared").read_text() == "the user's"


# What the base has


def test_exists(repository):
    repository.commit(**{"pkg/a": "1"})
    repository.commit(new="2")
    found = resolve("HEAD~1", repository.top)
    assert exists(found, Path("pkg/a"))
    assert exists(found, Path("pkg"))
    assert not exists(found, Path("new"))
    assert not exists(found, Path("pkg/b"))


# Accepted by a commit


ACCEPTED = {
    "one": (
        [
            "Use float32\n\nIt is exact.\n\nInfergate-Accept: tests/test_a.py::test_x[cpu] exact results\nSigned-off-by: T"
        ],
        {"tests/test_a.py::test_x[cpu]": "exact results"},
    ),
    "several": (
        [
            "one\n\nInfergate-Accept: *a* because\nInfergate-Accept: *b*  of   that",
            "nothing here",
            "two\n\nInfergate-Accept: *c* so",
        ],
        {"*a*": "because", "*b*": "of   that", "*c*": "so"},
    ),
    "the latest reason": (
        ["first\n\nInfergate-Accept: *a* first", "second\n\nInfergate-Accept: *a* second"],
        {"*a*": "second"},
    ),
    "nothing": (["more", "Infergate-Accept: in the subject", "body\n\nInfergate-Accept:"], {}),
    "no commit since": ([], {}),
    "no reason": (["more\n\nInfergate-Accept: *embed*"], {"*embed*": ""}),
    "two lines": (
        ["more\n\nInfergate-Accept: *größe* nötig 日本 🚀\n  and on"],
        {"*größe*": "nötig 日本 🚀 and on"},
    ),
    "a separator": (["more\n\nInfergate-Accept: *a* one\u2028*b* two"], {"*a*": "one\u2028*b* two"}),
}
"""Messages of commits since the base, and what they accept."""


def test_commits_accept(repository):
    repository.commit("base\n\nInfergate-Accept: *a* earlier, which counts no more", a="0")
    for name, (messages, expected) in ACCEPTED.items():
        repository.git("checkout", "--quiet", "--detach", "main")
        for message in messages:
            repository.git("commit", "--quiet", "--allow-empty", "--message", message)
        assert accepted_trailers(resolve(f"HEAD~{len(messages)}", repository.top)) == expected, name


def test_a_revision_that_descends_from_head_would_compare_head_with_itself(repository):
    repository.commit("first")
    first = repository.head()
    repository.commit("second")
    repository.git("tag", "later")
    repository.git("checkout", "--quiet", "--detach", first)
    with pytest.raises(ConfigurationError, match=f"check out later, and use --infer-against={first[:12]}"):
        resolve("later", repository.top)
    assert resolve(first, repository.top).commit == first  # identical code on purpose
    (repository.top / "__pycache__").mkdir()
    (repository.top / "__pycache__" / "model.pyc").touch()
    with pytest.raises(ConfigurationError, match="descends from HEAD"):
        resolve("later", repository.top)
    (repository.top / "new.py").touch()
    assert resolve("later", repository.top).commit == first  # the change is compared with HEAD
