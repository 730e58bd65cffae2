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
from pytest_infergate.report import github, results_json

COMMENTED, RENEWED = "commented on #7\n", "updated the comment on #7\n"
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
    path.write_text(results_json.render_results(session()))
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
    assert comment(50) == (0, COMMENTED, "")
    (body,) = hub.bodies()
    assert body.startswith("<!-- infergate -->\n<!-- run 50.1 -->\n\n### ✅ ")
    assert "(<https://git.example/runs/50>)" in body


def test_a_later_run_renews_it(hub, comment, results_file):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    comment(50)
    first = hub.comments[0]["id"]
    hub.pull(7, "b" * 40)
    hub.run(51, "b" * 40, conclusion="failure")
    results_file.write_text(results_json.render_results(session("test_slow")))
    assert comment(51) == (0, RENEWED, "")
    assert [found["id"] for found in hub.comments] == [first]
    assert "### ❌ " in hub.comments[0]["body"]


def test_a_second_attempt_renews_it(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    comment(50)
    hub.run(50, "a" * 40, run_attempt=2)
    assert comment(50)[1] == RENEWED
    assert "<!-- run 50.2 -->" in hub.bodies()[0]


def test_the_same_run_twice_renews_it(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    comment(50)
    assert comment(50)[1] == RENEWED
    assert len(hub.comments) == 1


def test_a_fork_is_found_by_its_branch(hub, comment):
    hub.pull(7, "a" * 40, branch="fix/a b&c#", owner="stranger")
    hub.pull(8, "a" * 40, branch="fix/a b&c#", owner="another")
    hub.run(50, "a" * 40, branch="fix/a b&c#", owner="stranger")
    assert comment(50)[1] == COMMENTED


def test_the_number_comes_from_the_api_where_one_head_has_two(hub, comment):
    hub.pull(7, "a" * 40)
    hub.pull(8, "a" * 40)
    hub.run(50, "a" * 40, pull_requests=[{"number": 7}])
    assert comment(50)[1] == COMMENTED
    hub.run(51, "a" * 40)
    assert comment(51)[1].startswith("#7, #8 ")
    assert len(hub.comments) == 1


def test_runs_that_say_nothing_of_a_pull_request(hub, comment, snapshot):
    hub.pull(7, "a" * 40)
    said = {}
    for fields in (
        {"event": "push"},
        {"conclusion": "cancelled"},
        {"conclusion": "skipped"},
        {"head_repository": None},
        {"head_branch": None},
        {"head_branch": "other"},
        {"head_sha": "b" * 40},
    ):
        hub.run(50, **{"sha": "a" * 40, **fields})
        code, out, err = comment(50)
        assert (code, err) == (0, ""), fields
        ((name, value),) = fields.items()
        said[f"{name}: {value}"] = out.strip()
    assert hub.comments == []
    assert said == snapshot


def test_a_marker_that_somebody_else_wrote_is_not_ours(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    theirs = "<!-- infergate -->\n<!-- run 999.1 -->\nall is well"
    hub.comment(theirs, "stranger")
    assert comment(50)[1] == COMMENTED
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
    assert comment(50, options=["--author=my-app[bot]"])[1] == RENEWED
    assert hub.comments[0]["id"] == theirs
    assert "run 50.1" in hub.comments[0]["body"]


def test_the_comment_is_found_behind_many(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    for number in range(230):
        hub.comment(f"comment {number}", "people")
    comment(50)
    assert comment(50)[1] == RENEWED
    assert len(hub.bodies()) == 1


# Two runs at a time


def test_an_older_run_leaves_the_comment_of_a_newer(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    newer = "<!-- infergate -->\n<!-- run 51.1 -->\n\nnewer"
    hub.comment(newer)
    code, out, _ = comment(50)
    assert (code, out in {COMMENTED, RENEWED}) == (0, False)
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


# What the API refuses


def test_what_the_api_refuses(hub, comment, monkeypatch, snapshot):
    """A redirect gets no token; without one nothing is asked."""
    said = {}

    def refused(name):
        code, out, err = comment(50)
        assert (code, out) == (4, ""), name
        said[name] = err.strip()

    monkeypatch.delenv("GITHUB_TOKEN")
    refused("no token")
    assert hub.asked == []
    monkeypatch.setenv("GITHUB_TOKEN", "other")
    refused("an unknown token")
    monkeypatch.setenv("GITHUB_TOKEN", SECRET)
    hub.asked.clear()
    hub.moved_to = "http://127.0.0.1:9"
    refused("a redirect")
    assert hub.asked == ["GET /actions/runs/50"]
    hub.moved_to = None
    for status in (403, 502):
        hub.refuse["GET"] = status
        refused(f"GET: {status}")
    hub.refuse.clear()
    hub.runs[50] = {"id": "x\n::error::x"}
    refused("an answer that cannot be read")
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    code, out, unreachable = comment(50)
    assert (code, out) == (4, "")
    assert unreachable.startswith("Error: ")
    assert said == snapshot


def test_a_token_that_may_only_read(hub, comment):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    errors = set()
    for method in ("POST", "PATCH"):
        for status in (403, 404):
            hub.refuse[method] = status
            code, out, err = comment(50)
            assert (code, out) == (4, ""), (method, status)
            errors.add(err)
        hub.refuse.clear()
        comment(50)
    (error,) = errors
    assert "`pull-requests: write`" in error


def test_bad_arguments(snapshot):
    messages = {}
    for address, repo in (("file:///etc", "owner/name"), (None, "owner"), (None, "owner/name/../x")):
        variables = {"GITHUB_TOKEN": SECRET, **({} if address is None else {"GITHUB_API_URL": address})}
        with pytest.raises(ConfigurationError) as error:
            github_comment.api_of(repo, variables)
        messages[address or repo] = str(error.value)
    assert messages == snapshot


# Hostile artifacts


@pytest.fixture
def open_pull(hub):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40, conclusion="failure")
    return hub


def unusable(hub, comment, *files, expected=4):
    """What the log says of a run without usable results; its comment is that of such a run."""
    code, out, err = comment(50, *files)
    assert (code, err) == (expected, "")
    (body,) = hub.bodies()
    assert body.startswith("<!-- infergate -->\n<!-- run 50.1 -->\n\n### ❌ ")
    assert "](<https://git.example/runs/50>)" in body
    assert len(body) < 500
    assert "\n::" not in out
    return out


def test_what_is_no_results_file(open_pull, comment, results_file, tmp_path, snapshot):
    said = []
    for content in (
        "",
        "{",
        "[" * 200_000,
        '{"schema_version": 1}',
        '{"schema_version": 1, "x\\n::error::pwned": 1}',
        '{"schema_version": 1, "sessions": []}',
        "\ud800".encode("utf-8", "surrogatepass"),
    ):
        results_file.write_bytes(content if isinstance(content, bytes) else content.encode())
        said.append(unusable(open_pull, comment).partition("; ")[2])
    said.append(unusable(open_pull, comment, tmp_path).partition("; ")[2])
    said.append(unusable(open_pull, comment, tmp_path / "gone.json", expected=0).partition("; ")[2])
    assert "".join(said).replace(tmp_path.name, "<folder>") == snapshot


def test_an_old_pass_does_not_stay_beside_a_run_without_results(hub, comment, tmp_path):
    hub.pull(7, "a" * 40)
    hub.run(49, "a" * 40)
    comment(49)
    assert "✅" in hub.bodies()[0]
    hub.run(50, "a" * 40, conclusion="failure")
    unusable(hub, comment, tmp_path / "gone.json", expected=0)


def test_results_that_are_huge(open_pull, comment, results_file, monkeypatch):
    monkeypatch.setattr(github_comment, "MAX_ARTIFACT", 100)
    assert "results.json: results must have at most" in unusable(open_pull, comment)


def test_parts_that_are_huge_together(open_pull, comment, results_file, monkeypatch, tmp_path):
    other = tmp_path / "other.json"
    shutil.copy(results_file, other)
    monkeypatch.setattr(github_comment, "MAX_ARTIFACT", results_file.stat().st_size + 10)
    assert "other.json: results must have at most" in unusable(open_pull, comment, results_file, other)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
def test_a_link_is_not_followed(open_pull, comment, results_file, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(results_file)
    gone = unusable(open_pull, comment, tmp_path / "gone.json", expected=0).partition("; ")[2]
    assert unusable(open_pull, comment, link).partition("; ")[2] == gone.replace("gone.json", "link.json")


def test_names_that_are_scripts_are_text(hub, comment, results_file):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    evil = "<script>alert(1)</script>@octocat [x](https://evil.example) | `\n<!-- infergate -->"
    results_file.write_text(results_json.render_results(session(evil, headline=f"passed: {evil}")))
    assert comment(50)[0] == 0
    (body,) = hub.bodies()
    assert "\\<script\\>alert\\(1\\)" in body
    assert "<script>" not in re.sub(r"`[^\n]*`|```.*?```", "", body, flags=re.DOTALL)
    assert body.count("\n<!--") == 1


def test_a_run_that_failed_is_no_pass_whatever_its_results_say(open_pull, comment):
    comment(50)
    (body,) = open_pull.bodies()
    assert "### ❌ " in body
    assert "\n\npassed\\: " in body


def test_results_of_several_machines_are_one_comment(hub, comment, results_file, tmp_path):
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    other = tmp_path / "other.json"
    other.write_text(results_json.render_results(session(passing=("test_other",))))
    assert comment(50, results_file, other)[0] == 0
    (body,) = hub.bodies()
    assert "test_fine" in body
    assert "test_other" in body


def test_the_command_needs_neither_torch_nor_pytest(hub, results_file):
    """What the report workflow installs is enough."""
    hub.pull(7, "a" * 40)
    hub.run(50, "a" * 40)
    gone = ("torch", "numpy", "scipy", "pytest", "_pytest", "pluggy", "jinja2", "tabulate", "filelock")
    code = f"import sys; sys.modules.update(dict.fromkeys({gone})); from pytest_infergate.cli.main import main; main()"
    arguments = ["comment", str(results_file), "--repo=owner/name", "--run-id=50"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, COMMENTED, "")


# A whole pull request


@pytest.mark.skipif(shutil.which("git") is None or sys.platform == "win32", reason="needs git and POSIX")
@pytest.mark.slow
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
    assert page.startswith("### ❌ ")
    ((comment_id, body),) = [(found["id"], found["body"]) for found in hub.comments]
    assert "\n### ❌ " in body
    assert "| `tests/test_it.py::test_model[fake]` | ❌ regressed | 10.0 ms | 100 ms |" in body

    code, out, page, verdict = pushed(0.010, 51)
    assert (code, verdict) == (0, "passed")
    assert "::error" not in out
    assert page.startswith("### ✅ ")
    ((same, body),) = [(found["id"], found["body"]) for found in hub.comments]
    assert same == comment_id
    assert "<!-- run 51.1 -->\n\n### ✅ " in body
    assert os.environ["GITHUB_TOKEN"] not in body
