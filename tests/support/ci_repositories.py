"""Stand-ins for a CI service: a bare remote, clones as a service makes them, its variables and events,
and a pytest that notes what it was asked and leaves the results it was given."""

import copy
import json
import os
import shutil
import subprocess

from pytest_infergate.core.domain.outcome import (
    CaseResult,
    CaseVerdict,
    Comparison,
    GateResult,
    Outcome,
    Session,
    Verdict,
)
from pytest_infergate.core.domain.values import Case, Environment
from pytest_infergate.report import results_json

ZEROS = "0" * 40
NOWHERE = "deadbeef" * 5
SECRET = "ghs_secret_of_this_run"
STUB = """
import json, os, shutil, signal, sys

with open(os.environ["STUB_ASKED"], "w") as file:
    json.dump(sys.argv[1:], file)
options = dict(argument.partition("=")[::2] for argument in sys.argv[1:] if argument.startswith("--infer-"))
if os.environ.get("STUB_RESULTS"):
    shutil.copy(os.environ["STUB_RESULTS"], options["--infer-json"])
if os.environ.get("STUB_SIGNAL"):
    os.kill(os.getpid(), int(os.environ["STUB_SIGNAL"]))
print("pytest ran")
sys.exit(int(os.environ.get("STUB_CODE", "0")))
"""
CI_VARIABLES = ("GITHUB_", "GITLAB_", "CI_", "RUNNER_", "STUB_", "GIT_")


def git(folder, *arguments, given=None):
    """What git says; a failure is the test's."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, input=given
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip("\n")


def alone(monkeypatch, tmp_path):
    """Variables of no service, and no configuration of git but its own."""
    for name in [name for name in os.environ if name.startswith(CI_VARIABLES) or name == "CI"]:
        monkeypatch.delenv(name)
    config = tmp_path / "gitconfig"
    config.write_text("[advice]\n\tdetachedHead = false\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")


def write(folder, files):
    """Write texts below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Remote:
    """A bare repository, and a clone that pushes into it."""

    def __init__(self, folder, like=None):
        """Empty, or a copy of another, from which its clones are copied too while both are the same."""
        self.folder = folder
        self.path = folder / "remote.git"
        self.url = self.path.as_uri()
        self.work = folder / "work"
        self._like = like
        self._event, self._clones = None, {}
        if like is not None:
            shutil.copytree(like.path, self.path)
            shutil.copytree(like.work, self.work)
            self._point(self.work, like)
            return
        git(folder, "init", "--quiet", "--template=", "--bare", "--initial-branch=main", str(self.path))
        git(folder, "init", "--quiet", "--template=", "--initial-branch=main", str(self.work))
        git(self.work, "remote", "add", "origin", self.url)

    @classmethod
    def typical(cls, folder):
        """Two commits on main, a tag on the first, and a branch with two more, checked out; pull request 1 is of it."""
        remote = cls(folder)
        remote.commit("first", **{"tests/test_it.py": "def test_it(): pass\n", "model.py": "one"})
        git(remote.work, "tag", "v1")
        remote.commit("second", **{"model.py": "two"})
        git(remote.work, "checkout", "--quiet", "-b", "feature")
        remote.commit("third", **{"feature.py": "three"})
        remote.commit("fourth", **{"feature.py": "four"})
        remote.push("main", "refs/tags/v1", "feature")
        remote._event = remote.pull_request(1)
        return remote

    def _point(self, folder, other):
        """Let a copy of a clone of another be one of this."""
        config = folder / ".git" / "config"
        config.write_text(config.read_text().replace(other.url, self.url))

    @property
    def _state(self):
        """What changes with any commit, branch or tag."""
        files = [
            *(self.path / "refs").rglob("*"),
            *(self.work / ".git" / "refs").rglob("*"),
            self.path / "packed-refs",
            self.work / ".git" / "HEAD",
        ]
        return {path.relative_to(self.folder): path.read_text() for path in sorted(files) if path.is_file()}

    def commit(self, message="more", **files):
        """Commit on whatever is checked out in the clone."""
        write(self.work, files)
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--allow-empty", "--message", message)
        return git(self.work, "rev-parse", "HEAD")

    def many(self, count, branch):
        """Put so many commits on a branch, and check it out."""
        start = git(self.work, "rev-parse", "HEAD")
        reference = f"refs/heads/{branch}"
        stream = []
        for number in range(count):
            stream += [
                f"commit {reference}",
                "committer Tester <tester@example.org> 1700000000 +0000",
                "data 2",
                "c\n",
            ]
            stream += [f"from {start}"] if number == 0 else []
            stream += [f"M 100644 inline n.txt\ndata {len(str(number))}\n{number}"]
        git(self.work, "fast-import", "--quiet", "--force", given="\n".join(stream) + "\n")
        git(self.work, "checkout", "--quiet", "--force", branch)
        return git(self.work, "rev-parse", "HEAD")

    def push(self, *references):
        """Push, by force where asked with +."""
        git(self.work, "push", "--quiet", "origin", *(references or ("HEAD:refs/heads/main",)))

    def pull_request(self, number, base="main"):
        """What a service makes of the checked out branch: the merge with its base. Returns the event."""
        if self._like is not None and (number, base) == (1, "main") and self._state == self._like._state:
            return copy.deepcopy(self._like._event)
        head = git(self.work, "rev-parse", "HEAD")
        branch = git(self.work, "rev-parse", "--abbrev-ref", "HEAD")
        tip = git(self.path, "rev-parse", f"refs/heads/{base}")
        git(self.work, "checkout", "--quiet", "--detach", tip)
        git(self.work, "merge", "--quiet", "--no-ff", "--message", "merge", head)
        git(self.work, "push", "--quiet", "--force", "origin",
            f"HEAD:refs/pull/{number}/merge", f"{head}:refs/pull/{number}/head")  # fmt: skip
        git(self.work, "checkout", "--quiet", branch)
        return {
            "number": number,
            "pull_request": {"number": number, "base": {"ref": base, "sha": tip}, "head": {"sha": head}},
        }

    def checkout(self, folder, reference, depth=None):
        """A clone as the checkout action makes it: HEAD detached, of a shallow one nothing but the commit."""
        if self._like is None or self._state != self._like._state:
            return self._checked_out(folder, reference, depth)
        prepared = self._like._clones.get((reference, depth))
        if prepared is None:
            prepared = self._like.folder / f"clone-{len(self._like._clones)}"
            self._like._clones[reference, depth] = self._like._checked_out(prepared, reference, depth)
        shutil.copytree(prepared, folder)
        self._point(folder, self._like)
        return folder

    def _checked_out(self, folder, reference, depth):
        folder.mkdir()
        commit = git(self.path, "rev-parse", reference)
        local = reference.replace("refs/", "refs/remotes/", 1)
        git(folder, "init", "--quiet", "--template=", "--initial-branch=unused")
        git(folder, "remote", "add", "origin", self.url)
        if depth is None:
            wanted = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*", f"+{commit}:{local}")
            git(folder, "fetch", "--quiet", "--no-recurse-submodules", "origin", *wanted)
        else:
            git(folder, "fetch", "--quiet", "--no-tags", f"--depth={depth}", "origin", f"+{commit}:{local}")
        git(folder, "checkout", "--quiet", "--force", "--detach", local)
        return folder


class Service:
    """Variables and files that GitHub gives a step."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.summary = folder / "summary.md"
        self.output = folder / "output.txt"
        self.event_path = folder / "event.json"
        self._monkeypatch = monkeypatch
        folder.mkdir()
        self.set(
            GITHUB_ACTIONS="true",
            GITHUB_STEP_SUMMARY=self.summary,
            GITHUB_OUTPUT=self.output,
            GITHUB_EVENT_PATH=self.event_path,
            GITHUB_SERVER_URL="https://git.example",
            GITHUB_REPOSITORY="owner/name",
            GITHUB_RUN_ID="77",
            GITHUB_TOKEN=SECRET,
        )

    def set(self, **variables):
        """Set variables for this process and those it starts."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, str(value))

    def event(self, name, payload=None, **variables):
        """Say what happened."""
        self.event_path.write_text(json.dumps(payload or {}))
        self.set(GITHUB_EVENT_NAME=name, **variables)

    def pull_request(self, payload):
        """Say that a pull request was opened or renewed."""
        base = payload["pull_request"]["base"]["ref"]
        self.event(
            "pull_request", payload, GITHUB_BASE_REF=base, GITHUB_REF=f"refs/pull/{payload['number']}/merge"
        )

    @property
    def outputs(self):
        """Outputs of the step by name."""
        return dict(line.split("=", 1) for line in self.output.read_text().splitlines())


class Stub:
    """Stands in for pytest in processes that are started, or in their place."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self._monkeypatch = monkeypatch
        write(folder, {"modules/pytest.py": STUB})
        monkeypatch.setenv("PYTHONPATH", str(folder / "modules"))
        monkeypatch.setenv("STUB_ASKED", str(folder / "asked.json"))
        self.leaves(session())

    def leaves(self, found, code=None):
        """Let it leave these results, a session or a text or nothing, and end as it would with them."""
        path = self.folder / "prepared.json"
        text = results_json.render_results(found) if isinstance(found, Session) else found
        path.write_text(text or "")
        self._monkeypatch.setenv("STUB_RESULTS", "" if text is None else str(path))
        passed = not isinstance(found, Session) or found.gate.passed
        self._monkeypatch.setenv("STUB_CODE", str((0 if passed else 1) if code is None else code))

    def launched(self, command, folder):
        """What such a process would do, in this one."""
        assert command[1:3] == ["-m", "pytest"]
        (self.folder / "asked.json").write_text(json.dumps(command[3:]))
        options = dict(argument.partition("=")[::2] for argument in command[3:])
        if os.environ["STUB_RESULTS"]:
            shutil.copy(os.environ["STUB_RESULTS"], folder / options["--infer-json"])
        print("pytest ran")  # noqa: T201 - as that process does
        return int(os.environ["STUB_CODE"])

    @property
    def asked(self):
        """What it was called with; ``None`` where it was not."""
        path = self.folder / "asked.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def against(self):
        """The revision it was asked to compare with; ``None`` for none."""
        found = [
            argument.partition("=")[2] for argument in self.asked if argument.startswith("--infer-against=")
        ]
        return found[0] if found else None


def session(*failing, passing=("test_fine",), module="tests/test_it.py", line=5, headline=None):
    """A session with tests that fail and tests that pass."""
    pairs = [(name, Verdict.REGRESSED) for name in failing] + [(name, Verdict.EQUIVALENT) for name in passing]
    cases = [(Case(test=f"{module}::{name}", device="cpu"), verdict) for name, verdict in pairs]
    words = f"{'FAILED' if failing else 'passed'}: {len(cases)} of {len(cases)} cases decided"
    return Session(
        tool_version="0.1.0",
        created="2026-07-01T12:00:00Z",
        environment=Environment(),
        cases=tuple(
            CaseResult(case=case, nodeid=case.name, outcome=Outcome.INVALID, line=line) for case, _ in cases
        ),
        gate=GateResult(
            passed=not failing,
            headline=headline or words,
            reasons=(f"{len(failing)} case regressed",) if failing else (),
            decided=len(cases),
            verdicts=tuple(
                CaseVerdict(
                    case=case,
                    nodeid=case.name,
                    verdict=verdict,
                    failed=verdict is Verdict.REGRESSED,
                    comparisons=(Comparison(metric="operators", verdict=verdict, evidence="exact",
                                            baseline=1.0, candidate=2.0 if verdict is Verdict.REGRESSED else 1.0),),
                )
                for case, verdict in cases
            ),
        ),
    )  # fmt: skip
