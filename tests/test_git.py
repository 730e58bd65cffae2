"""The git command with real repositories, and its failures."""

import shutil
import subprocess

import pytest

from pytest_infergate import git
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.git import repository_top, run_git, without_credentials

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "repository").mkdir()
    assert run_git(tmp_path / "repository", "init", "--quiet").succeeded
    return tmp_path / "repository"


def test_output_comes_without_newlines_at_its_ends(repository):
    found = run_git(repository, "rev-parse", "--is-inside-work-tree")
    assert found == git.GitResult("true", None)
    assert (found.succeeded, found.reason, found.distrusts_owner) == (True, "", False)


def test_a_failure_is_the_last_line_of_the_errors(repository):
    found = run_git(repository, "rev-parse", "nothing")
    assert not found.succeeded
    assert "\n" not in found.failure
    assert found.reason == f" (git: {found.failure})"


def test_a_silent_failure_has_no_reason(repository):
    found = run_git(repository, "rev-parse", "--verify", "--quiet", "HEAD")
    assert (found.succeeded, found.failure, found.reason) == (False, "", "")


def test_git_speaks_english_and_asks_for_nothing(repository, monkeypatch):
    seen = {}

    def run(command, *, env, stdin, **_):
        seen.update(env, stdin=stdin)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setattr(subprocess, "run", run)
    run_git(repository, "status", GIT_INDEX_FILE="/other")
    assert (seen["LC_ALL"], seen["GIT_TERMINAL_PROMPT"], seen["stdin"]) == ("C", "0", subprocess.DEVNULL)
    assert seen["GIT_INDEX_FILE"] == "/other"


def test_variables_of_a_hook_do_not_lead_elsewhere(repository, tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path))
    assert repository_top(repository) == repository.resolve()


def test_a_repository_of_another_user_is_recognised(repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert run_git(repository, "rev-parse", "--show-toplevel").distrusts_owner


def test_without_git_there_is_a_hint(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"git cannot be run: .*Hint: install git"):
        run_git(repository, "status")
    assert repository_top(repository) is None


def test_the_top_is_found_from_below_and_not_from_outside(repository, tmp_path):
    (repository / "deep").mkdir()
    assert repository_top(repository / "deep") == repository.resolve()
    assert repository_top(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "fatal: unable to access 'https://user:secret@example.org/a.git/'",
            "fatal: unable to access 'https://example.org/a.git/'",
        ),
        ("https://token@one https://two x@y", "https://one https://two x@y"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("", ""),
    ],
)
def test_credentials_are_removed(text, shown):
    assert without_credentials(text) == shown


def test_a_failure_has_no_credentials(repository):
    found = run_git(repository, "fetch", "https://user:secret@127.0.0.1:9/a.git")
    assert not found.succeeded
    assert "secret" not in found.failure


def test_the_reason_is_a_line_of_git_and_not_of_a_filter(tmp_path):
    git = lambda *arguments: run_git(tmp_path, *arguments)  # noqa: E731
    git("init", "--quiet")
    git("config", "filter.fetch.smudge", "sh -c 'echo no network >&2; exit 1'")
    git("config", "filter.fetch.clean", "cat")
    git("config", "filter.fetch.required", "true")
    (tmp_path / ".gitattributes").write_text("*.bin filter=fetch\n")
    (tmp_path / "a.bin").write_text("1")
    git("add", "--all")
    (tmp_path / "a.bin").unlink()
    done = git("checkout", "--", "a.bin")
    assert done.failure == "fatal: a.bin: smudge filter fetch failed"
