"""The paired gate as users see it: real worker processes, real git, a device whose time is exact."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import xml.etree.ElementTree as ET
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from inner_results import verdicts

from pytest_infergate.cli import main
from pytest_infergate.paired import compare_run
from pytest_infergate.paired.run_folder import FOLDER_PREFIX, FOLDER_VARIABLE, run_folder
from pytest_infergate.storage.paired_data import read_paired_data

pytestmark = pytest.mark.slow

ONE_LAUNCH = "--infer-max-total=0.001"
"""The first launch spends it: cases without an end of their own are capped after that."""
CONFTEST = """
    import pytest

    from pytest_infergate.testing import FakeDevice, FakeKind

    DEVICE = FakeDevice("fake")


    def pytest_infergate_devices(config):
        return [FakeKind(DEVICE)]


    @pytest.fixture
    def spend():
        return DEVICE.spend
"""
MODEL = """
    SECONDS = 0.010


    def call(spend):
        spend(SECONDS)
"""
TEST = """
    import mymodel
    import pytest


    @pytest.mark.inference
    def test_model(infer, spend):
        infer(mymodel.call, spend)
"""


class Repository:
    """A project in git, the last commit of which is the base unless another is given."""

    def __init__(self, path):
        self.path = path
        self.write("conftest.py", CONFTEST)
        self.write("pytest.ini", "[pytest]\npythonpath = src\n")
        self.write("src/mymodel.py", MODEL)
        self.write("tests/test_it.py", TEST)

    def write(self, name, text):
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())

    def takes(self, seconds):
        """Let the model take so long."""
        self.write("src/mymodel.py", MODEL.replace("0.010", str(seconds)))

    def git(self, *arguments):
        """What git says."""
        who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=True).stdout

    def commit(self, message="a commit"):
        """Commit everything."""
        if not (self.path / ".git").exists():
            self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def state(self):
        """What a run must leave as it was."""
        index = self.git("diff", "--cached")
        files = {
            path.relative_to(self.path): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not {".git", "__pycache__", ".pytest_cache"} & set(path.parts)
        }
        return index, files, self.git("worktree", "list"), self.git("branch", "--all")

    def start(self, *arguments, environment=None):
        """Start pytest in a process of its own."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "pytest_infergate.plugin.hooks",
            "--infer-devices=fake",
        ]
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.path,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            # A suite that runs in the background of a shell ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def belonging(folder):
    """Processes that belong to runs whose folders lie in this one, by id."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            if any(one.startswith(f"{FOLDER_VARIABLE}={folder}/".encode()) for one in variables):
                found.append(int(process.name))
    return found


def left_behind(folder):
    """Folders of paired runs."""
    return sorted(path.name for path in Path(folder).glob(f"{FOLDER_PREFIX}*"))


def soon(done, seconds=20):
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Paired:
    """A repository in the folder of `pytester`, and the paired gate in this process."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.repository = Repository(pytester.path)

    def run(self, *arguments):
        """Run the gate against the last commit unless another is given."""
        against = () if any("--infer-against" in one for one in arguments) else ("--infer-against=HEAD",)
        return self.pytester.runpytest_inprocess(
            "-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake", *against, *arguments
        )

    def refused(self, *arguments):
        """Run, insist on exit code 4, and return what was said."""
        result = self.run(*arguments)
        said = result.stderr.str() + result.stdout.str()
        assert result.ret == pytest.ExitCode.USAGE_ERROR, said
        assert "Traceback" not in said
        return said


@pytest.fixture
def paired(pytester, inner_runs):
    made = Paired(pytester)
    yield made
    assert left_behind(tempfile.gettempdir()) == []
    assert belonging(tempfile.gettempdir()) == []
    if (pytester.path / ".git").exists():
        assert len(made.repository.git("worktree", "list").splitlines()) == 1


# One run of many cases

BASE_SECONDS = {
    "equal": 0.010,
    "slower": 0.010,
    "faster": 0.010,
    "slightly": 0.010,
    "wide": 0.010,
    "warned": 0.010,
    "unjudged": 0.010,
    "pattern": 0.010,
    "exact": 0.010,
    "long": 1.0,
}
SECONDS = {
    **BASE_SECONDS,
    "slower": 0.0105,
    "faster": 0.008,
    "slightly": 0.0101,
    "wide": 0.0105,
    "warned": 0.0105,
    "unjudged": 0.0105,
    "pattern": 0.0105,
    "exact": 0.0105,
}
MARKERS = {
    "wide": "tolerance='10%'",
    "warned": "gate='warn'",
    "unjudged": "gate=False",
    "exact": "batch_sizes=[1, 8]",
    "long": "max_time='2s'",
}
MANY_BASE = f"""
import os
import time
import warnings

SECONDS = {BASE_SECONDS}
RIGHT = False
NAMES = ["old"]


def call(spend, name):
    spend(SECONDS[name])


def dies_on_the_base():
    os.system("sleep 300 &")  # children live on
    os._exit(3)


def dies_on_the_candidate():
    pass


class Weak:
    def __init__(self):
        self.calls = 0

    def __call__(self, spend, *, weak_on_the_base):
        spend(0.010)
        self.calls += 1
        if weak_on_the_base and self.calls > 20:
            raise RuntimeError("too weak")
"""
MANY = (
    MANY_BASE.replace(str(BASE_SECONDS), str(SECONDS))
    .replace("RIGHT = False", "RIGHT = True")
    .replace('["old"]', '["old", "new"]')
    .replace(
        "    pass\n",
        "    warnings.simplefilter('ignore')\n    os.fork() or time.sleep(300)\n    os._exit(4)\n",
    )
    .replace('    os.system("sleep 300 &")  # children live on\n    os._exit(3)\n', "    pass\n")
    .replace("if weak_on_the_base and", "if not weak_on_the_base and")
    + "\n\ndef added(spend):\n    spend(0.010)\n"
)
TIMES = "import mymodel\nimport pytest\n" + "".join(
    f"""

@pytest.mark.inference({MARKERS.get(name, "")})
def test_{name}(infer, spend):
    infer(mymodel.call, spend, "{name}")
"""
    for name in BASE_SECONDS
)
ENDS = """
    import mymodel
    import pytest

    pytestmark = pytest.mark.inference


    def equal(infer, spend):
        return infer(mymodel.call, spend, "equal")


    def test_fails_early_on_the_base(infer, spend):
        assert mymodel.RIGHT, "wrong early"
        equal(infer, spend)


    def test_fails_late_on_the_base(infer, spend):
        equal(infer, spend)
        assert mymodel.RIGHT, "wrong late"


    def test_fails_on_the_candidate(infer, spend):
        equal(infer, spend)
        assert not mymodel.RIGHT, "wrong now"


    def test_weak_on_the_base(infer, spend):
        infer(mymodel.Weak(), spend, weak_on_the_base=True)


    def test_weak_on_the_candidate(infer, spend):
        infer(mymodel.Weak(), spend, weak_on_the_base=False)


    def test_twice(infer, spend):
        equal(infer, spend)
        equal(infer, spend)


    def test_never(infer):
        pass


    def test_loud(infer, spend):
        def model():
            print("loud " * 4000)
            spend(0.010)

        infer(model)


    def test_skips(infer, spend):
        pytest.skip("not today")


    @pytest.mark.skip(reason="never")
    def test_skipped(infer, spend):
        equal(infer, spend)
"""
SHARED = """
    import os

    import mymodel
    import pytest


    @pytest.fixture(scope="module")
    def built():
        with open(os.environ["BUILT"], "a") as file:
            print(os.getpid(), file=file)
        return mymodel.call


    @pytest.mark.inference
    @pytest.mark.parametrize("which", ["one", "two"])
    def test_shared(infer, spend, built, which):
        infer(built, spend, "equal")


    def test_ordinary():
        assert "PYTEST_INFERGATE_PAIRED" not in os.environ
        with open(os.environ["ORDINARY"], "a") as file:
            print(mymodel.RIGHT, file=file)
"""
IMPORTS = """
    import pytest
    from mymodel import added


    @pytest.mark.inference
    def test_added(infer, spend):
        infer(added, spend)
"""
NAMED = """
    import mymodel
    import pytest


    @pytest.mark.inference
    @pytest.mark.parametrize("name", mymodel.NAMES)
    def test_named(infer, spend, name):
        infer(mymodel.call, spend, "equal")


    @pytest.mark.inference
    def test_dies_on_the_base(infer, spend):
        def model():
            mymodel.dies_on_the_base()
            spend(0.010)

        infer(model)
"""
RANDOMLY = f"""
    import os


    def pytest_runtest_call():
        assert "{FOLDER_VARIABLE}" not in os.environ, "seeds differ from process to process"
"""
ALIKE = """
    import mymodel
    import pytest


    @pytest.mark.inference
    @pytest.mark.parametrize("number", range(9))
    def test_model(infer, spend, number):
        infer(mymodel.call, spend, "equal")
"""
DIES = """
    import mymodel
    import pytest


    @pytest.mark.inference
    def test_dies_on_the_candidate(infer, spend):
        def model():
            mymodel.dies_on_the_candidate()
            spend(0.010)

        infer(model)


    @pytest.mark.inference
    def test_lives(infer, spend):
        infer(mymodel.call, spend, "equal")
"""


LAST_WORDS = re.compile(r"(?<=exit code [34]): \S+")
"""What a process printed last, which it may take along."""


class Run(NamedTuple):
    """A run that is over."""

    ret: int
    text: str
    folder: Path
    repository: Repository
    before: object
    after: object

    @property
    def testcases(self):
        """Elements of the JUnit file by name."""
        found = ET.parse(self.folder / "junit.xml").iter("testcase")
        return {case.get("name"): case for case in found}

    def failure(self, name):
        """Message of a failed test, or nothing."""
        failure = self.testcases[name].find("failure")
        return None if failure is None else failure.text

    def properties(self, name):
        """Properties of a test in the JUnit file."""
        case = self.testcases[name]
        return {
            entry.get("name").removeprefix("infergate."): entry.get("value")
            for entry in case.iter("property")
        }

    def row(self, name):
        """Cells of the line of the table."""
        lines = [line for line in self.text.splitlines() if re.search(rf"::{re.escape(name)}  ", line)]
        assert len(lines) == 1, lines
        return re.split(r" {2,}", lines[0].strip())[1:]

    @property
    def gate(self):
        """Of the file of results."""
        return json.loads((self.folder / "results.json").read_text())["gate"]

    def user_specified(self, name):
        """Everything that the file of results says of a case's verdict, as text."""
        return next(
            json.dumps(entry) for entry in self.gate["verdicts"] if entry["nodeid"].endswith(f"::{name}")
        )


def carried_out(folder, *options, base, changes, message="a change", link=False):
    """Run the gate in a new repository, in a process of its own, with all its reports."""
    repository = Repository(folder / "repository")
    for name, text in base.items():
        repository.write(name, text)
    repository.commit()
    repository.git("tag", "start")
    repository.write("README", "changed")
    repository.commit(message)
    for name, text in changes.items():
        repository.write(name, text)
    repository.write("README", "changed again")
    repository.git("add", "README")
    (folder / "tmp").mkdir()
    before = repository.state()
    if link:
        (folder / "link").symlink_to(repository.path)
        options += (str(folder / "link" / "tests"),)
    process = repository.start(
        "--infer-against=start",
        *options,
        f"--junitxml={folder / 'junit.xml'}",
        f"--infer-json={folder / 'results.json'}",
        f"--infer-report={folder / 'report.html'}",
        f"--infer-paired-data={folder / 'turns.json'}",
        environment={
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(folder / "tmp"),
            "BUILT": str(folder / "built"),
            "ORDINARY": str(folder / "ordinary"),
        },
    )
    text, _ = process.communicate(timeout=180)
    (folder / "text").write_text(text)
    return Run(process.returncode, text, folder, repository, before, repository.state())


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Of a strict project without a cache, beside plugins that workers must not have."""
    reruns = ("-ppytest_rerunfailures", "--reruns=1") if find_spec("pytest_rerunfailures") else ()
    return carried_out(
        tmp_path_factory.mktemp("many"),
        *("-v", "-rs", "-pno:cacheprovider", "--strict-config", "-Werror", "-prandomly", *reruns),
        base={
            "src/mymodel.py": MANY_BASE,
            "tests/__init__.py": "",
            "tests/test_it.py": TIMES,
            "tests/test_ends.py": ENDS,
            "tests/test_shared.py": SHARED,
            "randomly.py": RANDOMLY,
        },
        changes={"src/mymodel.py": MANY, "tests/test_dies.py": DIES},
        message="accept\n\nInfergate-Accept: tests/test_it.py::test_exact[fake-b8] slower for a reason\n"
        "Infergate-Accept: *::test_pat* worth it",
    )


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """The base lacks cases, a function, or a process that lives. The repository is reached through a link."""
    return carried_out(
        tmp_path_factory.mktemp("lacking"),
        "-v",
        link=True,
        base={
            "src/mymodel.py": MANY_BASE,
            "tests/test_it.py": ALIKE,
        },
        changes={"src/mymodel.py": MANY, "tests/test_imports.py": IMPORTS, "tests/test_named.py": NAMED},
    )


def test_each_case_has_its_verdict_and_only_what_fails_is_red(many):
    assert many.ret == 1
    decided = verdicts(many.folder / "results.json")
    assert {name.removesuffix("[fake]"): one.verdict for name, one in decided.items()} == {
        "equal": "equivalent",
        "exact[fake-b1]": "regressed",
        "exact[fake-b8]": "regressed",
        "slower": "regressed",
        "faster": "improved",
        "slightly": "slower-within-tolerance",
        "wide": "slower-within-tolerance",
        "warned": "regressed",
        "unjudged": "regressed",
        "pattern": "regressed",
        "long": "inconclusive",
        "lives": "equivalent",
        "loud": "equivalent",
        "shared[fake-one]": "equivalent",
        "shared[fake-two]": "equivalent",
        "fails_early_on_the_base": "no-baseline",
        "fails_late_on_the_base": "no-baseline",
        "weak_on_the_base": "no-baseline",
        "weak_on_the_candidate": "not-measured",
        "fails_on_the_candidate": "not-measured",
        "dies_on_the_candidate": "not-measured",
        "twice": "not-measured",
        "never": "not-measured",
    }
    failing = {name for name, one in decided.items() if one.failed}
    assert failing == {
        *("exact[fake-b1]", "slower", "weak_on_the_candidate", "fails_on_the_candidate"),
        *("dies_on_the_candidate", "twice", "never"),
    }
    assert {name for name, case in many.testcases.items() if case.find("failure") is not None} == {
        f"test_{name}" if "[" in name else f"test_{name}[fake]" for name in failing
    }
    codes = {name: set(one.codes) for name, one in decided.items()}
    assert "accepted" in codes["exact[fake-b8]"] & codes["pattern"]
    assert "accepted" not in codes["exact[fake-b1]"] | codes["slower"]
    assert "time-limit" in codes["long"]
    assert "base-failed" in codes["fails_early_on_the_base"] & codes["fails_late_on_the_base"]
    assert "base-failed" in codes["weak_on_the_base"]
    assert "process-lost" in codes["dies_on_the_candidate"]


def test_the_terminal_says_what_was_decided_and_why(many, snapshot):
    """One golden text of the table, the failures and the reasons."""
    assert many.row("test_equal[fake]")[4:] == ["3", "equivalent"]
    assert many.row("test_slower[fake]")[4:] == ["5", "regressed"]
    assert "PASSED" in next(line for line in many.text.splitlines() if "::test_equal[fake] " in line)
    assert "RERUN" not in many.text
    assert "never reported" not in many.text
    assert "pytest_infergate/" not in many.text
    assert ".py:" not in many.failure("test_slower[fake]")
    confirming = r"infergate: 3 launches, \d+ of \d+ cases decided, \d being confirmed as slower, about"
    assert re.search(confirming, many.text)
    for reason in ("not today", "never"):
        assert re.search(rf"^SKIPPED .*{reason}$", many.text, re.MULTILINE)
    assert "assert not mymodel.RIGHT" in many.failure("test_fails_on_the_candidate[fake]")
    assert "RuntimeError: too weak" in many.failure("test_weak_on_the_candidate[fake]")
    _, _, summary = many.text.rpartition("= infergate =")
    summary = summary.partition("\nwrote ")[0].partition("\n")[2]
    first = r"\(merge base \w+\), call by call: \d+ launches in total, .*"
    summary, found = re.subn(
        first, "(merge base COMMIT), call by call: N launches in total, S s", summary, count=1
    )
    assert found
    assert LAST_WORDS.sub("", summary) == snapshot(name="summary")
    assert many.failure("test_slower[fake]") == snapshot(name="slower")
    assert LAST_WORDS.sub("", many.failure("test_dies_on_the_candidate[fake]")) == snapshot(name="dies")


def test_a_fixture_of_a_module_is_built_once_a_process_and_ordinary_tests_run_once(many):
    built = (many.folder / "built").read_text().split()
    assert len(built) == len(set(built)) >= 6
    assert (many.folder / "ordinary").read_text() == "True\n"  # in the user's tree
    assert many.failure("test_ordinary") is None


def test_reports_are_written_by_the_run_and_turns_are_decided_again_as_they_were(many, capsys):
    results = json.loads((many.folder / "results.json").read_text())
    assert results["against"]["revision"] == "start"
    assert results["gate"]["passed"] is False
    assert len(results["against"]["accepted"]) == 2
    page = (many.folder / "report.html").read_text()
    assert "slower for a reason" in page
    assert "test_slower" in page
    suite = next(ET.parse(many.folder / "junit.xml").iter("testsuite"))
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("7", "0", "2")
    assert len(many.testcases) == int(suite.get("tests"))
    assert many.properties("test_warned[fake]")["verdict"] == "regressed"
    assert many.properties("test_warned[fake]")["failed"] == "false"
    for file in ("results.json", "report.html", "turns.json"):
        assert f"wrote {many.folder / file}" in many.text
    with pytest.raises(SystemExit) as ended:
        main.main(["replay", str(many.folder / "turns.json")])
    assert ended.value.code == 1
    replayed = capsys.readouterr().out
    for name in ("equal", "slower", "faster", "slightly", "wide", "pattern"):
        row = next(line for line in replayed.splitlines() if f"_{name}[fake]  " in line)
        assert re.split(r" {2,}", row.strip())[1:] == many.row(f"test_{name}[fake]")


def test_a_case_that_the_base_lacks_passes_and_keeps_no_other_from_its_verdict(lacking):
    assert lacking.ret == 0
    decided = verdicts(lacking.folder / "results.json")
    assert {name.removesuffix("[fake]"): one.verdict for name, one in decided.items()} == {
        **{f"model[fake-{number}]": "equivalent" for number in range(9)},
        "named[fake-old]": "equivalent",
        "named[fake-new]": "no-baseline",
        "added": "no-baseline",
        "dies_on_the_base": "no-baseline",
    }
    assert "new-case" in decided["named[fake-new]"].codes
    assert "base-collection" in decided["added"].codes
    assert "base-lost" in decided["dies_on_the_base"].codes
    for name in ("test_named[fake-new]", "test_added[fake]", "test_dies_on_the_base[fake]"):
        assert lacking.properties(name)["p50_ms"] == "10"
    for name in ("test_model[fake-1]", "test_named[fake-old]"):
        assert lacking.row(name)[4:] == ["3", "equivalent"]
    assert "about 5 launches" in lacking.text
    assert re.search(r"^gate passed: 10 of 13 cases decided", lacking.text, re.MULTILINE)


@pytest.mark.parametrize("name", ["many", "lacking"])
def test_a_run_leaves_nothing_behind(request, name):
    run = request.getfixturevalue(name)
    assert run.after == run.before
    assert left_behind(run.folder / "tmp") == []
    assert belonging(run.folder / "tmp") == []


# Runs of their own


DEEP = (
    TEST.replace("(infer, spend)", "(infer, spend, extra)")
    + """

    @pytest.mark.inference
    @pytest.mark.parametrize("number", mymodel.NUMBERS)
    def test_new(infer, spend, number):
        infer(mymodel.call, spend)


    @pytest.mark.inference
    def test_skips(infer, spend):
        pytest.skip("not today")


    @pytest.mark.inference
    def test_fails(infer, spend):
        infer(mymodel.call, spend)
        assert not mymodel.NUMBERS
"""
)


def test_what_is_selected_is_compared_and_a_spent_total_caps_it(paired, tmp_path, monkeypatch):
    """Selected by node id, keyword and marker, through a link, from a folder below with a conftest."""
    write = paired.repository.write
    write("tests/__init__.py", "")
    write("tests/deep/__init__.py", "")
    write("tests/deep/conftest.py", "import pytest\n\n\n@pytest.fixture\ndef extra():\n    return 1\n")
    write("tests/deep/test_deep.py", DEEP)
    write("tests/deep/test_other.py", TEST + "\n\n    def test_plain():\n        pass\n")
    write("src/mymodel.py", MODEL + "\n\n    NUMBERS = []\n")
    paired.repository.commit()
    write("src/mymodel.py", MODEL.replace("0.010", "0.0105") + "\n\n    NUMBERS = [1]\n")
    link = tmp_path / "link"
    link.symlink_to(paired.repository.path)
    monkeypatch.chdir(paired.repository.path / "tests" / "deep")
    result = paired.run(
        ONE_LAUNCH, "--infer-json=r.json", "-minference", "-kdeep or it", "--deselect=tests/deep/test_other.py",
        *(f"{link}/tests/{name}" for name in ("deep/test_deep.py", "deep/test_other.py", "test_it.py::test_model")),
    )  # fmt: skip
    result.assert_outcomes(passed=3, failed=1, skipped=1, deselected=2)
    entries = json.loads(Path("r.json").read_text())["gate"]["verdicts"]
    assert {entry["nodeid"]: entry["verdict"] for entry in entries} == {
        "tests/deep/test_deep.py::test_model[fake]": "inconclusive",
        "tests/deep/test_deep.py::test_new[fake-1]": "no-baseline",
        "tests/deep/test_deep.py::test_fails[fake]": "not-measured",
        "tests/test_it.py::test_model[fake]": "inconclusive",
    }
    capped = {name for name, one in verdicts(Path("r.json")).items() if "time-limit" in one.codes}
    assert capped == {"model"}  # of both files
    result.stdout.fnmatch_lines(["infergate: 1 launch, 5 of 5 cases decided"])
    assert not list(paired.repository.path.rglob("r.json"))[1:]


ODD = """
    import json
    import os
    import sys
    import uuid
    from pathlib import Path

    import mymodel
    import pytest

    DATA = Path(__file__).parent / "data.json"
    SIZE = os.environ.get("SIZE_OF_PRINT", "0")


    @pytest.mark.inference
    @pytest.mark.parametrize("path", [DATA], ids=str)
    def test_path(infer, spend, path, record_property):
        print("x" * int(SIZE))
        infer(mymodel.call, spend)
        record_property("path", path)


    @pytest.mark.inference
    @pytest.mark.parametrize("name", [uuid.uuid4()], ids=str)
    def test_fickle(infer, spend, name):
        infer(mymodel.call, spend)
"""
HOOK = """

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item):
        report = yield
        report.item = item
        return report
"""
FROM_ENVIRONMENT = """
    import os
    from pathlib import Path

    SECONDS = float((Path(os.environ["APP_HOME"]) / "seconds").read_text())


    def call(spend):
        spend(SECONDS)
"""


def turns_of(path):
    """Times of both sides in the first launch, by the name of the case."""
    launches = {}
    for case in json.loads(Path(path).read_text())["cases"]:
        for first in case.get("screen", [])[:1]:
            launches[case["nodeid"].partition("::")[2]] = first["base"], first["candidate"]
    return launches


def test_a_project_as_teams_have_them(paired, monkeypatch):
    """In a folder of the repository, found by a variable; a test has moved, others are new, or odd."""
    shutil.rmtree(paired.repository.path / "src")
    for name, text in {
        "service/conftest.py": CONFTEST + HOOK,
        "service/pytest.ini": "[pytest]\npythonpath = src\n",
        "service/pyproject.toml": "[tool.infergate]\noverlay = ['src/weights']\nsetup = 'cat src/weights'\n",
        "service/src/mymodel.py": FROM_ENVIRONMENT,
        "service/seconds": "0.010",
        "service/old/test_moved.py": TEST,
        "service/data.json": "",
        ".gitignore": "weights\n",
    }.items():
        paired.repository.write(name, text)
    (paired.repository.path / "conftest.py").unlink()
    (paired.repository.path / "tests/test_it.py").unlink()
    paired.repository.commit()
    service = paired.repository.path / "service"
    (service / "new").mkdir()
    (service / "old" / "test_moved.py").rename(service / "new" / "test_moved.py")
    paired.repository.write("service/src/weights", "")
    paired.repository.write("service/seconds", "0.020")
    paired.repository.write("service/test_plain.py", "def test_plain():\n    pass\n")
    paired.repository.write("service/test_odd.py", ODD)
    monkeypatch.setenv("APP_HOME", str(service))
    monkeypatch.setenv("SIZE_OF_PRINT", "2_000_000")
    monkeypatch.chdir(service)
    result = paired.run(
        ONE_LAUNCH,
        "--infer-paired-data=turns.json",
        "--junitxml=j.xml",
        "test_plain.py",
        "new",
        "test_odd.py",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*another process of the same code collects no test of this id*"])
    blocks = turns_of("turns.json")
    for name in ("test_model[fake]", f"test_path[fake-{service / 'data.json'}]"):
        base, candidate = blocks[name]
        assert (set(base), set(candidate)) == ({0.01}, {0.02})
    assert f'name="path" value="{service / "data.json"}"' in Path("j.xml").read_text()


def test_a_list_shows_the_cases_and_starts_nothing(paired):
    paired.repository.commit()
    result = paired.run("--infer-list")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["tests/test_it.py::test_model?fake?"])
    result.stdout.no_fnmatch_line("*launch,*")


# What is refused


def test_a_revision_that_is_not_there_is_refused_before_anything_runs(paired):
    paired.repository.commit()
    assert "there is no revision 'nowhere' here" in paired.refused("--infer-against=nowhere")


def test_a_model_in_the_test_file_is_the_same_on_both_sides(paired):
    paired.repository.write(
        "tests/test_it.py",
        TEST.replace("mymodel.call, spend", "spend, 0.010").replace("import mymodel\n", ""),
    )
    paired.repository.commit()
    before = paired.repository.state()
    assert "both sides ran the same code" in paired.refused(ONE_LAUNCH)
    assert paired.repository.state() == before


def test_a_file_that_cannot_be_collected_ends_the_run_before_any_launch(paired, monkeypatch):
    monkeypatch.setattr(compare_run, "run_paired", None)
    paired.repository.write("tests/test_broken.py", "import nothing_of_this_name\n")
    paired.repository.commit()
    result = paired.run(ONE_LAUNCH)
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*Interrupted: 1 error during collection*"])


# Another interpreter


def test_an_interpreter_needs_no_revision(paired):
    result = paired.run(f"--infer-against-python={sys.executable}", ONE_LAUNCH)
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(
        [f"compared with {sys.executable}, call by call: 1 launch*", "*inconclusive*"]
    )


RUNTIMES = """

    class Runtime:
        modes = ()

        def __init__(self, name, factor, output=None):
            self.name, self.factor, self.output = name, factor, output

        def absence_reason(self):
            return "absent is not installed" if self.name == "absent" else None

        def unsupported(self, device, dtype):
            return None

        def wrapped(self, function, mode):
            def call(spend):
                function(lambda seconds: spend(seconds * self.factor))
                return self.output

            return call


    def pytest_infergate_runtimes(config):
        return [Runtime("half", 0.5), Runtime("wrong", 1.0, output=1), Runtime("absent", 1.0)]
"""


@pytest.mark.torch
def test_runtimes_of_the_same_code_are_compared_without_git(paired):
    paired.repository.write("conftest.py", CONFTEST + RUNTIMES)
    runtimes = ("--infer-runtimes=eager,half,wrong,absent", "--infer-against-runtime=eager")
    result = paired.run(*runtimes, ONE_LAUNCH, "-rs", "--infer-paired-data=times.json")
    assert result.ret == 1, result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "mismatch: the outputs differ from those of eager: the output: None in eager, int 1 in wrong",
            "compared with eager, call by call: 1 launch*",
            "*test_model[[]fake-wrong[]]*mismatch",
            "*test_model[[]fake-half[]]*inconclusive",
            "SKIPPED*absent is not installed",
        ]
    )
    times = {
        case.case.runtime: case.screen[0]
        for case in read_paired_data(paired.pytester.path / "times.json").cases
    }
    assert {runtime: (set(launch.base), set(launch.candidate)) for runtime, launch in times.items()} == {
        "half": ({0.010}, {0.005}),
        "wrong": ({0.010}, {0.010}),
    }
    refused = paired.refused("--infer-runtimes=half", "--infer-against-runtime=absent")
    assert "--infer-against-runtime: absent is not installed" in refused


# Runs that end early


class Early(NamedTuple):
    """A run that was brought past its first launch."""

    repository: Repository
    process: subprocess.Popen
    temporary: Path


@pytest.fixture
def early(tmp_path):
    repository = Repository(tmp_path / "repository")
    repository.commit()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = repository.start(
        "--infer-against=HEAD",
        environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(temporary)},
    )
    try:
        for line in process.stdout:
            if "1 launch," in line:
                break
        assert soon(lambda: len(belonging(temporary)) >= 2)
        yield Early(repository, process, temporary)
    finally:
        process.kill()
        process.communicate()
        for one in belonging(temporary):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="asks /proc which processes live"
)


@needs_proc
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.nightly),
        pytest.param(signal.SIGHUP, marks=pytest.mark.nightly),
    ],
)
def test_an_interrupt_ends_everything(early, number):
    early.process.send_signal(number)
    rest, _ = early.process.communicate(timeout=30)
    assert early.process.returncode == pytest.ExitCode.INTERRUPTED, rest
    assert "KeyboardInterrupt" in rest
    assert re.search(r"::test_model\S+ .*inconclusive", rest), rest
    assert "the run was interrupted after" in rest
    assert belonging(early.temporary) == []
    assert left_behind(early.temporary) == []
    assert len(early.repository.git("worktree", "list").splitlines()) == 1


@needs_proc
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of the dead")
def test_a_killed_run_takes_its_workers_along_and_the_next_run_clears_up(early, monkeypatch):
    early.process.kill()
    early.process.wait()
    assert soon(lambda: not belonging(early.temporary))
    assert len(left_behind(early.temporary)) == 1
    assert len(early.repository.git("worktree", "list").splitlines()) == 2
    monkeypatch.setattr("tempfile.tempdir", str(early.temporary))
    with run_folder():  # with which a run begins
        pass
    assert left_behind(early.temporary) == []
    assert len(early.repository.git("worktree", "list").splitlines()) == 1


# Counters only


def test_counters_without_times_take_one_launch(paired):
    paired.repository.commit()
    paired.repository.write("src/mymodel.py", MODEL.replace("spend(SECONDS)", "spend(50 * SECONDS)"))
    result = paired.run("--infer-counters-only", "--infer-strict", "--infer-json=r.json")
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["compared with HEAD * by exact counters: 1 launch in total*"])
    data = json.loads((paired.repository.path / "r.json").read_text())
    assert (data["against"]["launches"], data["against"]["counters_only"]) == (1, True)
    assert "latency" not in data["cases"][0]["measurement"]
    assert "reference_work" not in data["cases"][0]["measurement"]

    paired.repository.write("src/mymodel.py", f"{MODEL}        for _ in range(3000):\n            pass\n")
    result = paired.run("--infer-counters-only", "--infer-json=r.json")
    result.assert_outcomes(failed=1)
    decided = verdicts(paired.repository.path / "r.json")["model"]
    assert (decided.verdict, decided.failed) == ("regressed", True)
    assert "Infergate-Accept: test_model[fake]" in result.stdout.str()


AROUND = f"""
import os
import pytest

@pytest.fixture(scope="module", autouse=True)
def resource():
    yield
    if os.path.exists("fails") and "{FOLDER_VARIABLE}" not in os.environ:
        raise OSError("cannot be closed")

def test_before():
    pass
"""


def test_a_replayed_case_ends_the_fixtures_that_an_ordinary_test_left_to_it(paired):
    paired.repository.write("tests/test_it.py", AROUND + textwrap.dedent(TEST))
    paired.repository.write("tests/test_later.py", "def test_after(): pass\n")
    paired.repository.commit()
    paired.run("--infer-counters-only").assert_outcomes(passed=3)
    paired.repository.write("fails", "")
    result = paired.run("--infer-counters-only")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*OSError: cannot be closed*"])


# Instruments that fail


def test_an_instrument_that_fails_in_the_workers_is_a_note_of_the_case(paired):
    broken = """

    def fails():
        raise RuntimeError("no kernel")


    DEVICE.reference_work = fails
    """
    paired.repository.write("conftest.py", CONFTEST.rstrip() + broken)
    paired.repository.commit()
    result = paired.run(ONE_LAUNCH, "--infer-json=results.json")
    assert result.ret == 0, result.stdout.str()
    decided = verdicts(paired.repository.path / "results.json")["model"]
    assert decided.verdict == "inconclusive"
    assert "instrument-failed" in decided.codes
    result.stdout.fnmatch_lines(["*the reference work of fake failed: RuntimeError: no kernel*"])


# Variations of what is tested above, or with fakes


@pytest.mark.nightly
def test_equal_code_passes_even_a_strict_run_and_leaves_no_trace(paired):
    """Of a strict project, too: warnings are errors there, and so is an option that no plugin knows."""
    paired.repository.commit()
    before = paired.repository.state()
    result = paired.run("--infer-strict", "--strict-config", "-Werror", "-pno:cacheprovider")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=1)
    commit = paired.repository.git("rev-parse", "HEAD")[:7]
    result.stdout.fnmatch_lines(
        [
            f"infergate: 1 case against HEAD (merge base {commit}), about 5 launches, *",
            "infergate: 5 launches, 1 of 1 case decided",
            "tests/test_it.py::test_model?fake?  *equivalent",
            "gate passed: 1 of 1 case decided",
        ]
    )
    assert paired.repository.state() == before


@pytest.mark.nightly
def test_strict_fails_a_case_that_the_base_lacks_and_nothing_reruns_a_verdict(paired):
    pytest.importorskip("pytest_rerunfailures")
    names = "tests/test_it.py"
    parametrised = TEST.replace(
        "    @pytest.mark.inf", "    @pytest.mark.parametrize('n', mymodel.N)\n    @pytest.mark.inf"
    )
    paired.repository.write(names, parametrised.replace("(infer, spend)", "(infer, spend, n)"))
    paired.repository.write("src/mymodel.py", MODEL + "\n    N = []\n")
    paired.repository.commit()
    paired.repository.write("src/mymodel.py", MODEL + "\n    N = [1]\n")
    result = paired.run("--infer-strict", "-p", "pytest_rerunfailures", "--reruns=2", "-v")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*RERUN*")
    result.stdout.fnmatch_lines(["*no-baseline*", "*run without --infer-strict*", "*1 case no-baseline"])


@pytest.mark.nightly
def test_the_first_failure_ends_the_run_with_x(paired):
    paired.repository.write("tests/test_a.py", TEST + "        assert False\n")
    paired.repository.write("tests/test_b.py", TEST)
    paired.repository.commit()
    result = paired.run("-x", ONE_LAUNCH)
    result.assert_outcomes(failed=1)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


WEIGHTS = """
    from pathlib import Path

    SECONDS = float((Path(__file__).parent / "weights").read_text())


    def call(spend):
        spend(SECONDS)
"""


def with_weights(paired, table):
    """A project whose weights git ignores."""
    paired.repository.write("src/mymodel.py", WEIGHTS)
    paired.repository.write(".gitignore", "weights\n")
    paired.repository.write("src/weights", "0.010")
    paired.repository.write("pyproject.toml", "[tool.infergate]\n" + table)
    paired.repository.commit()


@pytest.mark.nightly
def test_a_weight_file_that_git_ignores_is_missing_on_the_base(paired):
    with_weights(paired, "")
    result = paired.run(ONE_LAUNCH)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*no-baseline*", "*cannot be collected on the base*weights*overlay*"])


@pytest.mark.nightly
@pytest.mark.parametrize(
    "table",
    ["overlay = ['src/weights']\n", "setup = 'echo 0.010 > src/weights'\n"],
    ids=["overlay", "setup"],
)
def test_overlay_and_setup_make_the_base_ready(paired, table):
    with_weights(paired, table)
    result = paired.run(ONE_LAUNCH, "--infer-paired-data=turns.json")
    assert result.ret == 0
    case = json.loads((paired.repository.path / "turns.json").read_text())["cases"][0]
    assert set(case["screen"][0]["base"]) == {0.01}


@pytest.mark.nightly
def test_seeds_of_pytest_randomly_make_no_difference(paired):
    """It draws one in each process, for what the test body draws."""
    paired.repository.write(
        "randomly.py",
        """
        import random
        import uuid


        def pytest_runtest_call():
            random.seed(uuid.uuid4().int)
        """,
    )
    paired.repository.write(
        "tests/test_it.py",
        """
        import random

        import mymodel
        import pytest
        import torch


        @pytest.mark.inference
        def test_model(infer, spend):
            drawn = torch.tensor(random.random())
            infer(lambda: (mymodel.call(spend), drawn))
        """,
    )
    paired.repository.write("pytest.ini", "[pytest]\npythonpath = src .\n")
    paired.repository.commit()
    process = paired.repository.start(
        "--infer-against=HEAD", ONE_LAUNCH, "-prandomly", environment={"PYTHONPATH": "."}
    )
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said


@pytest.mark.nightly
def test_a_base_whose_import_ends_the_process_leaves_the_candidate_alone(paired):
    paired.repository.write("src/mymodel.py", "raise SystemExit('no licence')\n")
    paired.repository.commit()
    paired.repository.takes(0.010)
    result = paired.run(ONE_LAUNCH)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*no-baseline*", "*the process of the base ended with exit code 1*"])


@pytest.mark.nightly
def test_an_install_that_hides_the_repository_is_named(paired, monkeypatch, tmp_path):
    elsewhere = tmp_path / "site-packages"
    elsewhere.mkdir()
    (elsewhere / "mymodel.py").write_text(textwrap.dedent(MODEL))
    paired.repository.write("src/mymodel/__init__.py", MODEL)
    (paired.repository.path / "src/mymodel.py").unlink()
    paired.repository.write("pytest.ini", "[pytest]\n")
    paired.repository.commit()
    monkeypatch.syspath_prepend(elsewhere)
    said = paired.refused(ONE_LAUNCH)
    assert f"both sides loaded mymodel from {elsewhere / 'mymodel.py'}" in said
    assert "pip install --editable ." in said
