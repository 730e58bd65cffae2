"""The `comment` command against a local server that speaks GitHub's API; and a whole pull request."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from ci_github import served
from ci_repositories import SECRET, Remote, Service, alone, git, session, write

from pytest_infergate.cli import github_comment, main
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.report import github, results

CONFTEST = """
    from pathlib import Path

    import pytest

    from pytest_infergate.testing import FakeDevice, FakeKind

    DEVICE = FakeDevice("fake")


    def pytest_infergate_devices(config):
        return [FakeKind(DEVICE)]


    @pytest.fixture
    def model():
        return lambda: DEVICE.spend(float(Path("seconds").read_text()))
"""


@pytest.fixture
def hub():
    with served() as hub:
        yield hub


@pytest.fixture(autouse=True)
def variables(monkeypatch, tmp_path, request):
    alone(monkeypatch, tmp_path)
    monkeypatch.setenv("GITHUB_TOKEN", SECRET)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if "hub" in request.fixturenames:
        monkeypatch.setenv("GITHUB_API_URL", request.getfixturevalue("hub").address)


@pytest.fixture
def results_file(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(results.render_results(session()))
    return path


@pytest.fixture
def comment(capsys, results_file):
    """Run the command: exit code, output, errors."""

    def comment(run_id, *files, options=()):
        arguments = [
            "comment",
            *map(str, files or [results_file]),
            "--repo=owner/name",
            f"--run-id={run_id}",
            *options,
        ]
        with pytest.raises(SystemExit) as done:
            main.main(arguments)
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        assert len((out + err).splitlines()) == 1
        return done.value.code, out, err

    return comment


def test_a_run_is_told_in_a_comment(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    assert comment(50) == (0, "commented on #7\n", "")
    (body,) = hub.bodies()
    assert body.startswith("<!-- infergate -->\n<!-- run 50.1 -->\n\n### ✅ passed")
    assert "(<https://git.example/runs/50>)" in body


def test_a_later_run_renews_it(hub, comment, results_file):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    comment(50)
    first = hub.comments[0]["id"]
    hub.pull(7, "b" * 40)
    hub.run(51, "b" * 40, conclusion="failure")
    results_file.write_text(results.render_results(session("test_slow")))
    assert comment(51) == (0, "renewed the comment on #7\n", "")
    assert [found["id"] for found in hub.comments] == [first]
    assert "### ❌ FAILED" in hub.comments[0]["body"]


def test_a_second_attempt_renews_it(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    comment(50)
    hub.run(50, "a" * 40, run_attempt=2)
    assert comment(50)[1] == "renewed the comment on #7\n"
    assert "<!-- run 50.2 -->" in hub.bodies()[0]


def test_the_same_run_twice_renews_it(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    comment(50)
    assert comment(50)[1] == "renewed the comment on #7\n"
    assert len(hub.comments) == 1


def test_a_fork_is_found_by_its_branch(hub, comment):
    hub.pull(7, "a" * 40, branch="fix/a b&c#", owner="stranger")
    hub.pull(8, "a" * 40, branch="fix/a b&c#", owner="another")
    hub.run(50, "a" * 40, branch="fix/a b&c#", owner="stranger")
    assert comment(50)[1] == "commented on #7\n"


def test_the_number_comes_from_the_api_where_one_head_has_two(hub, comment):
    hub.pull(7, "a" * 40)
    hub.pull(8, "a" * 40)
    hub.run(50, "a" * 40, pull_requests=[{"number": 7}])
    assert comment(50)[1] == "commented on #7\n"
    hub.run(51, "a" * 40)
    assert comment(51)[1] == (
        "#7, #8 have the same head, and the run does not say which of them it is of: nothing to comment\n"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"event": "push"}, "run 50 was started by push, not by a pull request: nothing to comment"),
        ({"conclusion": "cancelled"}, "run 50 was cancelled: nothing to comment"),
        ({"conclusion": "skipped"}, "run 50 was skipped: nothing to comment"),
        ({"head_repository": None}, "the repository or branch of the run is gone: nothing to comment"),
        ({"head_branch": None}, "the repository or branch of the run is gone: nothing to comment"),
        ({"head_branch": "other"}, "there is no open pull request of other: nothing to comment"),
        ({"head_sha": "b" * 40}, "the pull request has moved on from bbbbbbb: nothing to comment"),
    ],
)
def test_runs_that_say_nothing_of_a_pull_request(hub, comment, fields, words):
    hub.pull(7, "a" * 40)
    hub.run(50, fields.pop("head_sha", "a" * 40), **fields)
    assert comment(50) == (0, f"{words}\n", "")
    assert hub.comments == []


def test_a_marker_that_somebody_else_wrote_is_not_ours(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    theirs = "<!-- infergate -->\n<!-- run 999.1 -->\nall is well"
    hub.comment(theirs, "stranger")
    assert comment(50)[1] == "commented on #7\n"
    assert hub.bodies("stranger") == [theirs]
    assert len(hub.bodies()) == 1


def test_other_comments_of_the_bot_stay(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    hub.comment("coverage: 90 %")
    comment(50)
    comment(50)
    assert hub.bodies()[0] == "coverage: 90 %"
    assert len(hub.bodies()) == 2


def test_another_author_may_be_named(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    theirs = hub.comment("<!-- infergate -->\n<!-- run 1.1 -->", "my-app[bot]")
    assert comment(50, options=["--author=my-app[bot]"])[1] == "renewed the comment on #7\n"
    assert hub.comments[0]["id"] == theirs
    assert "run 50.1" in hub.comments[0]["body"]


def test_the_comment_is_found_behind_many(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    for number in range(230):
        hub.comment(f"comment {number}", "people")
    comment(50)
    assert comment(50)[1] == "renewed the comment on #7\n"
    assert len(hub.bodies()) == 1


# Two runs at a time


def test_an_older_run_leaves_the_comment_of_a_newer(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    newer = "<!-- infergate -->\n<!-- run 51.1 -->\n\nnewer"
    hub.comment(newer)
    assert comment(50) == (0, "a newer run has commented on #7: left alone\n", "")
    assert hub.bodies() == [newer]


@pytest.mark.parametrize(("other", "left"), [(49, 50), (51, 51)])
def test_of_two_that_comment_at_once_the_newer_one_stays(hub, comment, other, left):
    """Neither saw a comment when it looked."""
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)

    def at_once(method, path):
        if method == "POST":
            hub.before = lambda method, path: None
            hub.comment(f"<!-- infergate -->\n<!-- run {other}.1 -->\n\nthe other")

    hub.before = at_once
    assert comment(50)[0] == 0
    (body,) = hub.bodies()
    assert github.order_of(body) == (left, 1)


def test_doubles_of_an_earlier_race_are_tidied_up(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    first = hub.comment("<!-- infergate -->\n<!-- run 40.1 -->")
    hub.comment("<!-- infergate -->\n<!-- run 41.1 -->")
    comment(50)
    assert [found["id"] for found in hub.comments] == [first]


# Tokens


def test_without_a_token(hub, comment, monkeypatch):
    monkeypatch.delenv("GITHUB_TOKEN")
    code, out, err = comment(50)
    assert (code, out) == (4, "")
    assert "there is no token: set GITHUB_TOKEN" in err
    assert "`pull-requests: write`" in err
    assert hub.asked == []


def test_a_token_that_is_not_known(hub, comment, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "other")
    code, _, err = comment(50)
    assert code == 4
    assert "Error: the API does not know the token (Bad credentials): set GITHUB_TOKEN" in err


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("status", [403, 404])
def test_a_token_that_may_only_read(hub, comment, method, status):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    if method == "PATCH":
        comment(50)
    hub.refuse[method] = status
    code, out, err = comment(50)
    assert (code, out) == (4, "")
    assert (
        "Error: the token may not write this (Resource not accessible by integration): give the job permissions"
        in err
    )


def test_a_token_that_may_not_even_read(hub, comment):
    hub.refuse["GET"] = 403
    code, _, err = comment(50)
    assert code == 4
    assert "the token may not read this" in err
    assert "`actions: read`" in err


def test_a_redirect_gets_no_token(hub, comment):
    hub.moved_to = "http://127.0.0.1:9"
    code, _, err = comment(50)
    assert code == 4
    assert "the API has moved, and a redirect is not followed with a token" in err
    assert hub.asked == ["GET /actions/runs/50"]


def test_a_service_that_fails(hub, comment):
    hub.refuse["GET"] = 502
    code, _, err = comment(50)
    assert code == 4
    assert "Error: the API answered 502 (Resource not accessible by integration); try again" in err


def test_a_service_that_cannot_be_reached(comment, monkeypatch):
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    code, _, err = comment(50)
    assert code == 4
    assert "Error: the API cannot be reached: " in err


def test_an_answer_that_is_none(hub, comment):
    hub.runs[50] = {"id": "x\n::error::x"}
    code, _, err = comment(50)
    assert code == 4
    assert "the API answered /actions/runs/50 with what cannot be read" in err


@pytest.mark.parametrize(
    ("address", "repo", "message"),
    [
        ("file:///etc", "owner/name", "GITHUB_API_URL: 'file:///etc' is no address of the web"),
        (None, "owner", "--repo: 'owner' is not such as owner/name"),
        (None, "owner/name/../x", "--repo: 'owner/name/../x' is not such as owner/name"),
    ],
)
def test_bad_arguments(address, repo, message):
    variables = {"GITHUB_TOKEN": SECRET, **({} if address is None else {"GITHUB_API_URL": address})}
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        github_comment.api_of(repo, variables)


# Hostile artifacts


@pytest.fixture
def open_pull(hub):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40, conclusion="failure")
    return hub


def unusable(hub, comment, *files, expected=4):
    """The comment that a run without usable results gets, and what the log says."""
    code, out, err = comment(50, *files)
    assert (code, err) == (expected, "")
    (body,) = hub.bodies()
    assert body == (
        "<!-- infergate -->\n<!-- run 50.1 -->\n\n"
        "### ❌ No result: the run ended with failure, and left no results that can be used\n\n"
        "Nothing was decided. [Look at the run.](<https://git.example/runs/50>)\n"
    )
    return out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the file is empty"),
        ("{", "the JSON ends too early"),
        ("[" * 200_000, "results.json: "),
        ('{"schema_version": 1}', "missing required field"),
        ('{"schema_version": 1, "x\\n::error::pwned": 1}', "results.json: "),
        ('{"schema_version": 1, "sessions": []}', "there is none"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not UTF-8"),
    ],
    ids=range(7),
)
def test_what_is_no_results_file(open_pull, comment, results_file, content, words):
    results_file.write_bytes(content if isinstance(content, bytes) else content.encode())
    out = unusable(open_pull, comment)
    assert out.startswith("commented on #7; ")
    assert words in out
    assert "\n::" not in out


def test_an_old_pass_does_not_stay_beside_a_run_without_results(hub, comment, tmp_path):
    hub.pull(7, "a" * 40)
    hub.run(49, "a" * 40)
    comment(49)
    assert "✅" in hub.bodies()[0]
    hub.run(50, "a" * 40, conclusion="failure")
    out = unusable(hub, comment, tmp_path / "gone.json", expected=0)
    assert out == "renewed the comment on #7; gone.json: there is no such file in the artifact\n"


def test_results_that_are_huge(open_pull, comment, results_file, monkeypatch):
    monkeypatch.setattr(github_comment, "LARGEST_ARTIFACT", 100)
    assert "larger than 0 MB, which no honest run writes" in unusable(open_pull, comment)


def test_parts_that_are_huge_together(open_pull, comment, results_file, monkeypatch, tmp_path):
    other = tmp_path / "other.json"
    shutil.copy(results_file, other)
    monkeypatch.setattr(github_comment, "LARGEST_ARTIFACT", results_file.stat().st_size + 10)
    assert "other.json: larger than" in unusable(open_pull, comment, results_file, other)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
def test_a_link_is_not_followed(open_pull, comment, results_file, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(results_file)
    assert "link.json: there is no such file in the artifact" in unusable(open_pull, comment, link)


def test_a_folder_is_no_file(open_pull, comment, tmp_path):
    assert "there is no such file" in unusable(open_pull, comment, tmp_path)


def test_names_that_are_scripts_are_text(hub, comment, results_file):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    evil = "<script>alert(1)</script>@octocat [x](https://evil.example) | `\n<!-- infergate -->"
    results_file.write_text(results.render_results(session(evil, headline=f"passed: {evil}")))
    assert comment(50)[0] == 0
    (body,) = hub.bodies()
    assert "### ❌ passed\\: \\<script\\>alert\\(1\\)" in body
    assert "<script>" not in re.sub(r"`[^\n]*`|```.*?```", "", body, flags=re.DOTALL)
    assert body.count("\n<!--") == 1


def test_a_run_that_failed_is_no_pass_whatever_its_results_say(open_pull, comment):
    comment(50)
    (body,) = open_pull.bodies()
    assert "### ❌ The run ended with failure, whatever its results say\n\npassed\\: " in body


def test_results_of_several_machines_are_one_comment(hub, comment, results_file, tmp_path):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    other = tmp_path / "other.json"
    other.write_text(results.render_results(session(passing=("test_other",))))
    assert comment(50, results_file, other)[0] == 0
    (body,) = hub.bodies()
    assert "test_fine" in body
    assert "test_other" in body


def test_the_command_needs_neither_torch_nor_pytest(hub, results_file):
    """What the report workflow installs is enough."""
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    gone = ("torch", "numpy", "scipy", "pytest", "_pytest", "pluggy", "jinja2", "tabulate", "filelock")
    code = f"import sys; sys.modules.update(dict.fromkeys({gone})); from pytest_infergate.cli import main; main()"
    arguments = ["comment", str(results_file), "--repo=owner/name", "--run-id=50"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "commented on #7\n", "")


# A whole pull request


@pytest.mark.skipif(shutil.which("git") is None or sys.platform == "win32", reason="needs git and POSIX")
def test_a_whole_pull_request(hub, tmp_path, monkeypatch, capfd):
    """Opened with a regression: red, a comment, an annotation at the line. Fixed: green, the same comment."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_infergate.plugin.hooks")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    service = Service(tmp_path / "service", monkeypatch)
    service.set(GITHUB_API_URL=hub.address)
    remote = Remote(tmp_path)
    test = textwrap.dedent(
        """
        import pytest


        def test_plain():
            pass


        @pytest.mark.inference(tolerance="300%")  # which one session can decide
        def test_model(infer, model):
            infer(model)
        """
    )
    line = next(number for number, text in enumerate(test.splitlines(), 1) if text.startswith("@pytest"))
    write(
        remote.work, {"conftest.py": textwrap.dedent(CONFTEST), "tests/test_it.py": test, "seconds": "0.010"}
    )
    record = [sys.executable, "-m", "pytest", "--quiet", "--infer-devices=fake", "--infer-save"]
    subprocess.run(record, cwd=remote.work, check=True)
    remote.commit("a model and its baseline", **{".gitignore": "__pycache__/\n.pytest_cache/\n"})
    remote.push()
    git(remote.work, "checkout", "--quiet", "-b", "feature")
    capfd.readouterr()

    def pushed(seconds, run_id):
        """Push to the pull request; the service measures, and then publishes."""
        head = remote.commit(f"takes {seconds} s", seconds=str(seconds))
        service.pull_request(remote.pull_request(7))
        service.summary.unlink(missing_ok=True)
        service.output.unlink(missing_ok=True)
        clone = remote.checkout(tmp_path / f"clone-{run_id}", "refs/pull/7/merge", 1)
        monkeypatch.chdir(clone)
        with pytest.raises(SystemExit) as done:
            main.main(["ci", "--devices=fake", "--against=none", "--report=report.html"])
        out = capfd.readouterr().out
        hub.pull(7, head)
        hub.run(run_id, head, conclusion="failure" if done.value.code else "success")
        with pytest.raises(SystemExit) as published:
            main.main(["comment", "results.json", "--repo=owner/name", f"--run-id={run_id}"])
        assert published.value.code == 0
        assert (clone / "report.html").exists()
        return done.value.code, out, service.summary.read_text(), service.outputs["verdict"]

    code, out, page, verdict = pushed(0.100, 50)
    assert (code, verdict) == (1, "failed")
    (annotation,) = [words for words in out.splitlines() if words.startswith("::error")]
    assert annotation.startswith(
        f"::error file=tests/test_it.py,line={line},title=regressed%3A tests/test_it.py%3A%3Atest_model[fake]::"
    )
    assert page.startswith("### ❌ FAILED\\: 1 of 1 case decided, 1 regressed")
    ((comment_id, body),) = [(found["id"], found["body"]) for found in hub.comments]
    assert "### ❌ FAILED\\: 1 of 1 case decided, 1 regressed" in body
    assert "| `tests/test_it.py::test_model[fake]` | ❌ regressed | 10.0 ms | 100 ms |" in body

    code, out, page, verdict = pushed(0.010, 51)
    assert (code, verdict) == (0, "passed")
    assert "::error" not in out
    assert page.startswith("### ✅ passed")
    ((same, body),) = [(found["id"], found["body"]) for found in hub.comments]
    assert same == comment_id
    assert "<!-- run 51.1 -->\n\n### ✅ passed" in body
    assert os.environ["GITHUB_TOKEN"] not in body
