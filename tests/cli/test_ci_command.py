"""The `ci` command on real local repositories, with a pytest that only notes what it was asked.

It is started as a process where that matters; elsewhere it is called in its place.
"""

import re
import shutil
import signal
import sys
from types import SimpleNamespace

import pytest
from ci_repositories import NOWHERE, SECRET, ZEROS, Remote, Service, Stub, alone, git, session, write

from pytest_infergate.cli import ci, git_base, main
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.report import results_json

pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX only"),
]


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    alone(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as monkeypatch:
        alone(monkeypatch, folder)
        return Remote.typical(folder)


@pytest.fixture
def remote(tmp_path, template):
    return Remote(tmp_path, template)


@pytest.fixture
def service(tmp_path, monkeypatch):
    return Service(tmp_path / "service", monkeypatch)


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A pytest that is started."""
    (tmp_path / "stub").mkdir()
    return Stub(tmp_path / "stub", monkeypatch)


@pytest.fixture
def stub(process, monkeypatch):
    """A pytest that is called."""
    monkeypatch.setattr(ci, "launched", process.launched)
    return process


@pytest.fixture
def run(monkeypatch, capfd):
    """Run the command in a folder: exit code, output, errors."""

    def run(folder, *arguments):
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit) as done:
            main.main(["ci", *arguments])
        out, err = capfd.readouterr()
        assert SECRET not in out + err
        return done.value.code, out, err

    return run


@pytest.fixture
def world(remote, stub, run, tmp_path):
    """A remote, a pytest, a way to run the command, and one to check something out."""

    def clone(reference, depth=None):
        return remote.checkout(tmp_path / f"clone-{len(list(tmp_path.glob('clone-*')))}", reference, depth)

    return SimpleNamespace(remote=remote, stub=stub, run=run, clone=clone)


def commit(repository, revision):
    return git(repository, "rev-parse", revision)


def said(out):
    """What people read; hashes are left out."""
    lines = [line for line in out.splitlines() if line.startswith("infergate: ")]
    return [re.sub(r"\b[0-9a-f]{7,40}\b", "<hash>", line) for line in lines]


def refusal(run, folder, *arguments):
    """What the command answers to what it cannot do."""
    code, _, err = run(folder, *arguments)
    assert code == 4, err
    message = err[err.index("Error: ") :].strip()
    message = re.sub(
        r"\(git: (?:[^()]|\([^()]*\))*\)", "(git: ...)", message.replace(str(folder), "<folder>")
    )
    return re.sub(r"\b[0-9a-f]{40}\b", "<hash>", message)


@pytest.fixture
def shallow(request, remote, service, tmp_path):
    """The merge of a pull request, checked out as deep as asked."""

    def shallow(depth):
        service.pull_request(remote.pull_request(1))
        return remote.checkout(tmp_path / f"clone-{depth}", "refs/pull/1/merge", depth)

    return shallow


# The base of an event


@pytest.mark.parametrize("depth", [None, 1, 2])
def test_a_pull_request_compares_with_its_base(remote, shallow, stub, run, depth):
    clone = shallow(depth)
    code, out, _ = run(clone, "--", "tests")
    assert code == 0
    assert commit(clone, stub.against) == commit(remote.work, "main")
    assert stub.against == "origin/main" or depth is not None
    assert "pytest ran" in out
    assert f"(merge base {commit(remote.work, 'main')[:7]})" in out


@pytest.mark.parametrize("depth", [None, 1])
def test_what_others_pushed_to_the_base_meanwhile_is_not_blamed_on_the_change(world, service, depth):
    git(world.remote.work, "checkout", "--quiet", "main")
    tip = world.remote.commit("others", **{"others.py": "1"})
    world.remote.push("main")
    git(world.remote.work, "checkout", "--quiet", "feature")
    event = world.remote.pull_request(1)
    event["pull_request"]["base"]["sha"] = commit(
        world.remote.work, "main~1"
    )  # as it was when the event was made
    git(world.remote.work, "checkout", "--quiet", "main")
    world.remote.commit("others again", **{"others.py": "2"})
    world.remote.push("main")
    service.pull_request(event)
    clone = world.clone("refs/pull/1/merge", depth)
    assert world.run(clone)[0] == 0
    assert git(clone, "merge-base", world.stub.against, "HEAD") == tip


def test_a_shallow_clone_is_deepened_until_the_sides_meet(remote, service, stub, run, tmp_path):
    git(remote.work, "checkout", "--quiet", "main")
    remote.many(120, "long")
    remote.push("long")
    git(remote.work, "checkout", "--quiet", "--detach", "long")
    service.event("push", {"before": ZEROS, "repository": {"default_branch": "main"}}, GITHUB_REF_NAME="long")
    clone = remote.checkout(tmp_path / "clone", "refs/heads/long", 1)
    code, out, _ = run(clone)
    assert code == 0
    assert git(clone, "merge-base", stub.against, "HEAD") == commit(remote.work, "main")
    assert [re.findall(r"\d+", line) for line in said(out)[:-1]] == [["50"], ["200"]]


def test_trailers_of_a_long_pull_request_are_fetched_with_it(remote, service, run, stub, tmp_path):
    git(remote.work, "checkout", "--quiet", "feature")
    remote.many(60, "long")
    service.pull_request(remote.pull_request(2))
    clone = remote.checkout(tmp_path / "clone", "refs/pull/2/merge", 1)
    assert run(clone)[0] == 0
    assert len(git(clone, "rev-list", "origin/main..HEAD").splitlines()) == 1 + 60 + 2


@pytest.mark.parametrize("depth", [None, 1])
def test_a_base_that_was_rewritten_leaves_what_the_event_named(world, service, depth):
    event = world.remote.pull_request(1)
    clone = world.clone("refs/pull/1/merge", depth)
    git(world.remote.work, "checkout", "--quiet", "--orphan", "rewritten")
    world.remote.commit("another history", **{"model.py": "new"})
    world.remote.push("+rewritten:refs/heads/main")
    service.pull_request(event)
    assert world.run(clone)[0] == 0
    assert world.stub.against == event["pull_request"]["base"]["sha"]
    assert git(clone, "merge-base", world.stub.against, "HEAD") == world.stub.against


def test_a_base_that_is_gone_is_an_error_and_not_a_weaker_gate(world, service, snapshot):
    for depth in (None, 1):
        event = world.remote.pull_request(1)
        event["pull_request"]["base"] = {"ref": "gone", "sha": NOWHERE}
        service.pull_request(event)
        clone = world.clone("refs/pull/1/merge", depth)
        assert refusal(world.run, clone) == snapshot(name=f"depth {depth}")
        code, out, _ = world.run(clone)
        assert code == 4
        assert world.stub.asked is None
        assert "::error title=infergate::" in out
        assert service.outputs == {"verdict": "error", "failed": "", "decided": "", "cases": ""}
        assert service.summary.read_text().startswith("### ❌ ")


def test_a_fork_is_checked_out_from_the_base_repository(remote, service, stub, run, tmp_path):
    fork = tmp_path / "fork"
    git(tmp_path, "clone", "--quiet", remote.url, str(fork))
    git(fork, "checkout", "--quiet", "-b", "patch", "origin/main")
    write(fork, {"model.py": "slower"})
    git(fork, "commit", "--quiet", "--all", "--message", "patch")
    git(remote.work, "fetch", "--quiet", str(fork), "patch:patch")
    git(remote.work, "checkout", "--quiet", "patch")
    service.pull_request(remote.pull_request(3))
    clone = remote.checkout(tmp_path / "clone", "refs/pull/3/merge", 1)
    assert run(clone)[0] == 0
    assert git(clone, "merge-base", stub.against, "HEAD") == commit(remote.work, "main")


def test_events_that_say_too_little_are_errors(world, service, snapshot):
    main = world.clone("refs/heads/main")
    messages, unreadable = {}, set()
    service.event("pull_request")
    for text in ("", "{", "[]", '{"pull_request": 5}', "[" * 100_000):
        service.event_path.write_text(text)
        unreadable.add(refusal(world.run, main))
    (messages["a pull request without a base"],) = unreadable
    service.pull_request(world.remote.pull_request(1))
    messages["the base itself is checked out"] = refusal(world.run, main)
    service.event("pull_request_target", world.remote.pull_request(1))
    messages["pull_request_target"] = refusal(world.run, main)
    push(service, NOWHERE, "main", forced=True)
    messages["a forced push of the default branch lost what was before"] = refusal(world.run, main)
    assert world.stub.asked is None
    assert messages == snapshot


def push(service, before, branch, **payload):
    payload = {"before": before, "repository": {"default_branch": "main"}, **payload}
    service.event("push", payload, GITHUB_REF=f"refs/heads/{branch}", GITHUB_REF_NAME=branch)


@pytest.mark.parametrize("depth", [None, 1])
def test_a_push_compares_with_what_was_there_before(world, service, depth):
    before = commit(world.remote.work, "feature~1")
    push(service, before, "feature")
    clone = world.clone("refs/heads/feature", depth)
    assert world.run(clone)[0] == 0
    assert world.stub.against == before


def test_a_new_branch_compares_with_where_it_left_the_default_one(remote, service, stub, run, tmp_path):
    push(service, ZEROS, "feature")
    clone = remote.checkout(tmp_path / "clone", "refs/heads/feature")
    assert run(clone)[0] == 0
    assert stub.against == "origin/main"


def test_a_forced_push_that_lost_what_was_before(remote, service, stub, run, tmp_path):
    push(service, NOWHERE, "feature", forced=True)
    clone = remote.checkout(tmp_path / "clone", "refs/heads/feature", 1)
    assert run(clone)[0] == 0
    assert git(clone, "merge-base", stub.against, "HEAD") == commit(remote.work, "main")


def test_what_names_nothing_to_compare_with_uses_what_is_on_record(world, service, snapshot):
    """The first push of a default branch, one that takes commits away, and events without a base."""
    clone = world.clone("refs/heads/main")
    outputs = {}

    def ran(name):
        code, out, _ = world.run(clone, "--", "tests")
        assert (code, world.stub.against) == (0, None), name
        outputs[name] = said(out)

    push(service, ZEROS, "main")
    ran("first push")
    push(service, commit(world.remote.work, "feature"), "main")
    ran("push that takes commits away")
    for event in ("schedule", "workflow_dispatch", "release"):
        service.event(event)
        ran(event)
    assert outputs == snapshot


def test_a_merge_queue_compares_with_its_base(remote, service, stub, run, tmp_path):
    base = commit(remote.work, "main")
    service.event("merge_group", {"merge_group": {"base_sha": base}})
    assert run(remote.checkout(tmp_path / "clone", "refs/heads/feature", 1))[0] == 0
    assert stub.against == base


# Outside of CI


@pytest.mark.parametrize("arguments", [[], ["--against=auto"]])
def test_a_branch_compares_with_where_it_left_the_default_one(remote, stub, run, arguments):
    git(remote.work, "checkout", "--quiet", "main")
    remote.commit("others", **{"others.py": "1"})
    remote.push("main")
    git(remote.work, "checkout", "--quiet", "feature")
    code, out, _ = run(remote.work, *arguments)
    assert (code, stub.against) == (0, "origin/main")
    assert f"(merge base {commit(remote.work, 'feature~2')[:7]})" in out
    assert len(said(out)) == 1
    assert "::" not in out


def test_the_default_branch_is_the_one_of_the_remote(remote, stub, run):
    git(remote.work, "push", "--quiet", "origin", "main:trunk")
    git(remote.work, "remote", "set-head", "origin", "trunk")
    run(remote.work)
    assert stub.against == "origin/trunk"


def test_without_a_remote_the_local_branch_is_the_base(remote, stub, run):
    git(remote.work, "remote", "remove", "origin")
    run(remote.work)
    assert stub.against == "main"
    git(remote.work, "branch", "--quiet", "--move", "main", "other")
    assert said(run(remote.work)[1]) == said(run(remote.work, "--against=")[1])
    assert stub.against is None


def test_on_the_default_branch_what_is_not_committed_or_pushed_is_compared(remote, stub, run):
    git(remote.work, "checkout", "--quiet", "main")
    _, out, _ = run(remote.work)
    assert stub.against is None
    assert "stored baseline" in out
    (remote.work / "results.json").touch()  # which runs write
    run(remote.work)
    assert stub.against is None
    (remote.work / "new.py").touch()
    run(remote.work / "tests")
    assert stub.against == "HEAD"
    (remote.work / "new.py").unlink()
    (remote.work / "model.py").write_text("changed")
    run(remote.work)
    assert stub.against == "HEAD"
    remote.commit("unpushed")
    run(remote.work)
    assert stub.against == "origin/main"


def test_outside_of_ci_nothing_is_fetched(remote, stub, run):
    git(remote.work, "remote", "set-url", "origin", "https://localhost:1/gone.git")
    assert run(remote.work)[0] == 0
    assert stub.against == "origin/main"


def test_without_a_repository_the_record_is_used(tmp_path, stub, run):
    git(tmp_path, "init", "--quiet", "empty")
    (tmp_path / "bare").mkdir()
    for folder in ("empty", "bare"):
        code, out, _ = run(tmp_path / folder)
        assert (code, stub.against, len(said(out))) == (0, None, 1)


def gitlab(monkeypatch, **variables):
    for name, value in {"GITLAB_CI": "true", "CI_JOB_URL": "https://lab.example/job/1", **variables}.items():
        monkeypatch.setenv(name, value)


def test_a_merge_request_compares_with_its_base(world, monkeypatch):
    base = commit(world.remote.work, "main")
    gitlab(
        monkeypatch, CI_PIPELINE_SOURCE="merge_request_event", CI_MERGE_REQUEST_DIFF_BASE_SHA=base,
        CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main", CI_MERGE_REQUEST_TARGET_BRANCH_SHA="",
    )  # fmt: skip
    for depth in (None, 1):
        code, out, _ = world.run(world.clone("refs/heads/feature", depth))
        assert (code, world.stub.against) == (0, base)
        assert "::" not in out


def test_a_merge_request_without_its_hash_has_its_branch(remote, stub, run, tmp_path, monkeypatch):
    gitlab(monkeypatch, CI_PIPELINE_SOURCE="merge_request_event", CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main")
    assert run(remote.checkout(tmp_path / "clone", "refs/heads/feature"))[0] == 0
    assert stub.against == "origin/main"


def test_a_branch_pipeline_compares_with_what_was_there_before(remote, stub, run, tmp_path, monkeypatch):
    before = commit(remote.work, "feature~1")
    gitlab(
        monkeypatch, CI_PIPELINE_SOURCE="push", CI_COMMIT_BRANCH="feature", CI_COMMIT_BEFORE_SHA=before,
        CI_DEFAULT_BRANCH="main",
    )  # fmt: skip
    assert run(remote.checkout(tmp_path / "clone", "refs/heads/feature"))[0] == 0
    assert stub.against == before


def test_a_scheduled_pipeline_uses_what_is_on_record(remote, stub, run, tmp_path, monkeypatch):
    gitlab(monkeypatch, CI_PIPELINE_SOURCE="schedule", CI_COMMIT_BRANCH="main")
    assert run(remote.checkout(tmp_path / "clone", "refs/heads/main"))[0] == 0
    assert stub.against is None


# What the user names


def test_a_revision_is_fetched_where_it_is_missing(world):
    complete = world.clone("refs/heads/feature")
    for asked, expected in (
        ("main", "main"),
        ("v1", "main~1"),
        ("origin/main", "main"),
        ("HEAD~1", "feature~1"),
    ):
        base = commit(world.remote.work, expected)
        for clone in (complete, world.clone("refs/heads/feature", 1)):
            assert world.run(clone, f"--against={asked}")[0] == 0
            assert git(clone, "merge-base", world.stub.against, "HEAD") == base, asked


def test_a_hash_is_fetched_where_it_is_missing(remote, stub, run, tmp_path):
    before = commit(remote.work, "main~1")
    clone = remote.checkout(tmp_path / "clone", "refs/heads/feature", 1)
    assert run(clone, f"--against={before}")[0] == 0
    assert stub.against == before


def test_a_revision_that_does_not_exist(world, snapshot):
    clone = world.clone("refs/heads/feature")
    revisions = ("nothing", "--upload-pack=touch pwned", "a..b", "$(touch pwned)", NOWHERE, "latest-tag")
    git(clone, "tag", "--delete", "v1")
    git(world.remote.path, "tag", "--delete", "v1")
    messages = {asked: refusal(world.run, clone, f"--against={asked}") for asked in revisions}
    assert messages == snapshot
    assert world.stub.asked is None
    assert not (clone / "pwned").exists()


def test_the_last_release(world):
    def compared():
        for depth in (None, 1):
            clone = world.clone("refs/heads/main", depth)
            assert world.run(clone, "--against=latest-tag")[0] == 0
            assert world.stub.against == "v1"
            assert git(clone, "merge-base", "v1", "HEAD") == commit(world.remote.work, "main~1")

    compared()
    # The release of what is checked out is not one before it.
    git(world.remote.work, "tag", "v2", "main")
    world.remote.push("refs/tags/v2")
    compared()


def test_recording_compares_with_nothing_but_the_record(remote, service, stub, run, shallow):
    code, _, _ = run(
        shallow(None), "--save", "--devices=cpu", "--baseline=records", "--", "tests", "-k", "a b"
    )
    assert code == 0
    assert stub.asked == [
        "--infer-devices=cpu", "--infer-baseline=records", "--infer-json=results.json", "--infer-save", "tests", "-k", "a b",
    ]  # fmt: skip


def test_every_option_reaches_pytest(remote, stub, run):
    run(
        remote.work,
        "--devices=cpu,cuda",
        "--report=r.html",
        "--json=r.json",
        "--markdown=r.md",
        "--against=v1",
        "--counters-only",
    )
    assert stub.asked == [
        "--infer-devices=cpu,cuda", "--infer-report=r.html", "--infer-json=r.json", "--infer-markdown=r.md",
        "--infer-against=v1", "--infer-counters-only",
    ]  # fmt: skip


def test_empty_options_are_not_given(remote, stub, run):
    run(remote.work, "--devices=", "--report=", "--against=", "--baseline=", "--arguments=")
    assert sorted(stub.asked) == ["--infer-against=origin/main", "--infer-json=results.json"]


def test_arguments_in_one_text_are_split_and_not_run(remote, stub, run):
    text = """tests -k "a or b" '$HOME' `touch pwned` $(touch pwned) ; touch pwned"""
    run(remote.work, "--against=none", f"--arguments={text}", "--", "-x")
    assert stub.asked[1:5] == ["tests", "-k", "a or b", "$HOME"]
    assert stub.asked[-1] == "-x"
    assert not (remote.work / "pwned").exists()


def test_bad_arguments(remote, stub, run, snapshot):
    asked = (["--arguments=a 'b"], ["--", "--infer-json=x"], ["--", "--infer-against", "main"], ["--strict"])
    messages = {" ".join(arguments): refusal(run, remote.work, *arguments) for arguments in asked}
    assert messages == snapshot
    assert stub.asked is None


# Without git


def test_without_a_clone_or_a_commit_or_git_nothing_is_compared(tmp_path, stub, run, monkeypatch, snapshot):
    (tmp_path / "bare").mkdir()
    git(tmp_path, "init", "--quiet", "empty")
    messages = {
        "no clone": refusal(run, tmp_path / "bare", "--against=main"),
        "no commit": refusal(run, tmp_path / "empty", "--against=main"),
    }
    assert run(tmp_path / "bare")[0] == 0
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    gitlab(monkeypatch, CI_PIPELINE_SOURCE="merge_request_event", CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main")
    messages["no git"] = refusal(run, tmp_path / "bare")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")  # which shows the state of each case
    assert run(tmp_path / "bare", "--against=none")[0] == 0
    assert messages == snapshot


def test_nobody_is_asked_for_a_password(tmp_path, stub, run, monkeypatch):
    remote = Remote(tmp_path)
    remote.commit("first")
    git(remote.work, "remote", "set-url", "origin", "https://token:hunter2@localhost:1/a.git")
    code, _, err = run(remote.work, "--against=main2")
    assert code == 4
    assert "hunter2" not in err


# What pytest says, and what it leaves


def failing():
    return session("test_slow")


def test_a_pass(remote, service, process, run):
    code, out, _ = run(remote.work, "--against=none")
    assert code == 0
    assert service.outputs == {"verdict": "passed", "failed": "0", "decided": "1", "cases": "1"}
    page = service.summary.read_text()
    assert page.startswith("### ✅ passed")
    assert "(<https://git.example/owner/name/actions/runs/77#artifacts>)" in page
    assert "pytest ran" in out
    assert "::" not in out


def test_a_regression_is_red_with_an_annotation_at_the_line(remote, service, stub, run):
    stub.leaves(failing())
    code, out, _ = run(remote.work, "--against=none", "--", "tests")
    assert code == 1
    assert service.outputs == {"verdict": "failed", "failed": "1", "decided": "2", "cases": "2"}
    assert service.summary.read_text().startswith("### ❌ FAILED")
    (line,) = [line for line in out.splitlines() if line.startswith("::")]
    assert line.startswith(
        "::error file=tests/test_it.py,line=5,title=regressed%3A tests/test_it.py%3A%3Atest_slow[cpu]::"
    )


def test_a_green_run_is_one_that_proves_it(world, service, snapshot):
    words = {}
    for name, left, ends in (
        ("passed, and another test failed", (session(), 1), (1, "failed")),
        ("passed, and was interrupted", (session(), 2), (2, "failed")),
        ("passed, and collected nothing", (session(), 5), (5, "failed")),
        ("the gate failed, and pytest did not", (failing(), 0), (1, "failed")),
        ("left nothing", (None, 0), (1, "error")),
        ("was called wrongly", (None, 4), (4, "error")),
        ("left half a file", ("{", 0), (1, "error")),
        ("left another file", ("{}", 1), (1, "error")),
    ):
        for file in (service.summary, service.output, world.remote.work / "results.json"):
            file.unlink(missing_ok=True)
        world.stub.leaves(*left)
        code, out, _ = world.run(world.remote.work, "--against=none")
        assert (code, service.outputs["verdict"]) == ends, name
        assert "::error title=infergate::" in out
        assert service.summary.read_text().startswith("### ❌ ")
        words[name] = said(out)[-1]
    assert words == snapshot


def test_results_of_an_earlier_run_prove_nothing(remote, service, stub, run):
    (remote.work / "results.json").write_text(results_json.render_results(session()))
    stub.leaves(None, 0)
    assert run(remote.work, "--against=none")[0] == 1
    assert service.outputs["verdict"] == "error"
    assert (remote.work / "results.json").exists()


def test_a_run_without_inference_tests_says_so(remote, service, stub, run):
    stub.leaves(session(passing=(), headline="passed: no inference case ran"))
    code, out, _ = run(remote.work, "--against=none")
    assert code == 0
    assert service.outputs == {"verdict": "none", "failed": "0", "decided": "0", "cases": "0"}
    assert out.count("::warning title=infergate::") == 1
    assert service.summary.read_text().startswith("### ⚠️ ")


def test_a_run_that_was_killed(remote, service, process, run, monkeypatch):
    process.leaves(None, 0)
    monkeypatch.setenv("STUB_SIGNAL", str(int(signal.SIGKILL)))
    assert run(remote.work, "--against=none")[0] == 128 + signal.SIGKILL
    assert service.outputs["verdict"] == "error"


def test_a_file_that_cannot_be_written_or_is_full_is_a_warning(remote, service, stub, run, snapshot):
    stub.leaves(failing())
    warnings = {}
    for name, path in (("GITHUB_STEP_SUMMARY", service.summary), ("GITHUB_OUTPUT", service.output)):
        service.set(**{name: remote.work})
        code, out, _ = run(remote.work, "--against=none")
        assert code == 1
        assert "::error file=" in out
        (warnings[name],) = re.findall(r"::warning title=infergate::(.*)", out)
        service.set(**{name: path})
    service.summary.write_text("x" * (2**20 - 100))
    (warnings["full"],) = re.findall(
        r"::warning title=infergate::(.*)", run(remote.work, "--against=none")[1]
    )
    assert service.summary.stat().st_size < 2**20
    assert warnings == snapshot


def test_a_summary_of_others_stays(remote, service, stub, run):
    service.summary.write_text("# Mine\n\n")
    run(remote.work, "--against=none")
    assert service.summary.read_text().startswith("# Mine\n\n### ✅ passed")


def test_the_environment_is_written_nowhere(remote, service, stub, run):
    stub.leaves(failing())
    run(remote.work, "--against=none")
    assert SECRET not in service.summary.read_text() + service.output.read_text()
    assert SECRET not in (remote.work / "results.json").read_text()


def test_locally_people_read_words_and_no_commands(remote, stub, run):
    stub.leaves(failing())
    code, out, _ = run(remote.work, "--against=none")
    assert code == 1
    assert "::" not in out
    stub.leaves(None, 0)
    (remote.work / "results.json").unlink()
    _, out, _ = run(remote.work, "--against=none")
    assert len(said(out)) == 2  # what it compares with, and what went wrong
    assert "::" not in out


# Where a test stands in the repository


def test_places_are_those_of_the_repository(remote):
    write(remote.work, {"sub/tests/test_it.py": ""})
    for rootdir, here, arguments in (
        (".", ".", []),
        (".", "sub", []),
        ("sub", "sub", []),
        ("sub", ".", ["sub/tests"]),
        ("sub", ".", ["sub/tests/test_it.py::test_slow"]),
    ):
        module = "tests/test_it.py" if rootdir == "sub" else "sub/tests/test_it.py"
        found = ci.source_lines(session("test_slow", module=module, line=9), remote.work / here, arguments)
        assert found[f"{module}::test_slow[cpu]"] == ("sub/tests/test_it.py", 9), (rootdir, here, arguments)


def test_a_place_outside_of_the_repository_is_none(remote, tmp_path):
    (tmp_path / "outside.py").write_text("")
    (remote.work / "link.py").symlink_to(tmp_path / "outside.py")
    for module in ("gone.py", "../outside.py", "/etc/hostname", "link.py"):
        assert ci.source_lines(session("test_slow", module=module), remote.work) == {}, module


def test_a_clone_has_a_remote_of_any_name(remote):
    git(remote.work, "remote", "rename", "origin", "upstream")
    found = git_base.named_base("upstream/main", remote.work, print)
    assert found.commit == commit(remote.work, "main")
    with pytest.raises(ConfigurationError, match="nothing"):
        git_base.named_base("nothing", remote.work, print)
