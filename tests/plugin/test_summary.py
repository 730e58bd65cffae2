"""What results say for readers elsewhere: the line of each test, and the summary as Markdown."""

import json

import pytest


def lines(project):
    found = json.loads((project.path / "r.json").read_text())["cases"]
    return {case["nodeid"]: case.get("line") for case in found}


def test_results_name_the_line_of_each_test(project):
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

        def test_fails(infer, model):
            assert not infer(model).output
        """,
        shared="""
        class Shared:
            def test_inherited(self, infer, model):
                infer(model)
        """,
    )
    project.measure("--infer-json=r.json").assert_outcomes(passed=3, failed=1)
    assert lines(project) == {
        "test_it.py::test_marked[fake]": 4,
        "test_it.py::test_bare[fake]": 8,
        "test_it.py::TestHere::test_inherited[fake]": None,  # its body is in another file
        "test_it.py::test_fails[fake]": 14,
    }


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
    assert page.startswith("### ⚠️ nothing was decided\\: 1 case, 1 without a baseline\n\n")
    assert "| `test_it.py::test_model[fake]` | no-baseline | 10.0 ms |" in page


def test_an_output_may_be_the_standard_output(project, capfd):
    project.test()
    result = project.measure("--infer-markdown=-", "--infer-json=/dev/stderr")
    out, err = capfd.readouterr()
    assert "### " in out
    assert '"schema_version": 2' in err
    assert result.ret == 0
    assert not (project.path / "-").exists()
