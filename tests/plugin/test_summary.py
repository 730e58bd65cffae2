"""What results say for readers elsewhere: the line of each test, and the summary as Markdown."""

import json

import pytest


def lines(project):
    found = json.loads((project.path / "r.json").read_text())["cases"]
    return {case["nodeid"]: case.get("line") for case in found}


@pytest.mark.parametrize("workers", [[], ["-p", "xdist.plugin", "-n1"]], ids=["alone", "xdist"])
def test_results_name_the_line_of_each_test(project, workers):
    project.pytester.makepyfile(
        test_it="""
        import pytest
        from shared import Shared

        @pytest.mark.inference
        def test_marked(infer, model):
            infer(model)

        def test_bare(infer, model):
            infer(model)

        class TestHere(Shared):
            pass
        """,
        shared="""
        class Shared:
            def test_inherited(self, infer, model):
                infer(model)
        """,
    )
    assert project.measure("--infer-json=r.json", *workers).ret == 0
    assert lines(project) == {
        "test_it.py::test_marked[fake]": 4,
        "test_it.py::test_bare[fake]": 8,
        "test_it.py::TestHere::test_inherited[fake]": None,  # its body stands in another file
    }


def test_a_test_that_failed_by_itself_has_its_line(project):
    project.test(body="assert not infer(model).output")
    project.measure("--infer-json=r.json")
    assert lines(project) == {"test_it.py::test_model[fake]": 3}


@pytest.mark.parametrize("asked", ["command", "ini"])
def test_a_summary_is_written(project, asked):
    project.test()
    if asked == "ini":
        project.pytester.makeini("[pytest]\ninfer_markdown = summary.md\ninfer_devices = fake\n")
    result = project.run(
        *(["--infer-devices=fake", "--infer-markdown=summary.md"] if asked == "command" else [])
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["wrote *summary.md"])
    page = (project.path / "summary.md").read_text()
    assert page.startswith("### ⚠️ passed\\: 0 of 1 case decided, 1 no\\-baseline\n\n")
    assert "| `test_it.py::test_model[fake]` | no-baseline | 10.0 ms |" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--infer-markdown=no/such.md"],
            "--infer-markdown: there is no folder */no; give a file in a folder*",
        ),
        (
            ["--infer-markdown=x", "--infer-json=x"],
            "--infer-markdown: */x is the file of --infer-json already",
        ),
        (
            ["--infer-markdown=test_it.py"],
            "--infer-markdown: *test_it.py is a Python file; give another name",
        ),
    ],
)
def test_a_summary_that_could_not_be_written_is_refused(project, options, message):
    project.test()
    result = project.measure(*options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
