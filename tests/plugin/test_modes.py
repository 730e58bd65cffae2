"""The mode of a session: which one the options choose, and which hooks it is made of."""

import pytest

from pytest_infergate.plugin.hooks import MODE
from pytest_infergate.plugin.modes import CHOOSE_MODE

REGISTERED = """

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    names = (name for name, _ in session.config.pluginmanager.list_name_plugin())
    print("REGISTERED", *sorted(name.partition("-")[2] for name in names if name.startswith("infergate-")))
"""
ITEMS = {"ItemHooks", "CaseProgress"}
MEASURING = ITEMS | {
    "CaseDurations",
    "GpuSharing",
    "HangingCalls",
    "SeededFixtures",
    "MachineHooks",
    "MeasuredCases",
    "FinishHooks",
}


def registered(project, *options):
    project.change(REGISTERED)
    result = project.run("-s", *options)
    (line,) = (line for line in result.outlines if "REGISTERED" in line)
    return {*line.partition("REGISTERED")[2].split()} - {"collected"}


@pytest.mark.parametrize(
    ("options", "hooks"),
    [
        ((), {"ItemHooks", "SeededFixtures"}),
        (("--infer-devices=fake", "--infer-disable"), {"ItemHooks", "SeededFixtures"}),
        (("--infer-devices=fake",), MEASURING),
        (("--infer-devices=fake", "--infer-list"), ITEMS | {"CaseListing"}),
        (("--infer-devices=fake", "--collect-only"), ITEMS),
        (("--infer-devices=fake", "--setup-only"), ITEMS),
    ],
)
def test_a_mode_registers_only_the_hooks_it_needs(project, options, hooks):
    project.test()
    assert registered(project, *options) == hooks


@pytest.mark.parametrize(
    ("options", "hooks"), [((), set()), (("--infer-devices=fake", "-k", "plain"), {"FinishHooks"})]
)
def test_a_session_without_inference_tests_has_no_hooks_around_items(project, options, hooks):
    if options:
        project.test()
    project.pytester.makepyfile(test_plain="def test_plain(): pass")
    assert registered(project, *options) == hooks


@pytest.mark.parametrize(
    ("options", "mode", "reference"),
    [
        ((), "Inactive", None),
        (("--infer-disable",), "Inactive", None),
        (("--infer-strict",), "Measuring", "StoredReference"),
        (("--infer-against=HEAD",), "Measuring", "PairedReference"),
    ],
)
def test_options_choose_the_mode(project, options, mode, reference):
    config = project.pytester.parseconfigure("-p", "pytest_infergate.plugin.hooks", *options)
    chosen = config.stash[MODE]
    assert type(chosen).__name__ == mode
    assert reference is None or chosen._reference.__name__ == reference


def test_another_plugin_may_choose_the_mode_before_pytest_is_configured(project):
    """As the plugin of a worker process does."""
    config = project.pytester.parseconfig("-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake")
    other = type("Other", (), {"parameters": None})()
    config.stash[CHOOSE_MODE] = lambda _: other
    config._do_configure()
    assert config.stash[MODE] is other


@pytest.mark.parametrize("option", ["devices", "against", "max-time", "tolerance", "json", "baseline"])
def test_an_empty_option_is_a_usage_error_and_not_a_run_without_a_gate(project, option):
    project.test()
    result = project.run(f"--infer-{option}=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *--infer-*"])


OLD_FORMS = {
    "pytest.ini": "[pytest]\ninfer_devices = fake,cpu\ninfer_max_time = 2\ninfer_strict = true\n",
    "tox.ini": "[pytest]\ninfer_devices = fake,cpu\ninfer_max_time = 2\ninfer_strict = true\n",
    "setup.cfg": "[tool:pytest]\ninfer_devices = fake,cpu\ninfer_max_time = 2\ninfer_strict = true\n",
    "pyproject.toml": "[tool.pytest.ini_options]\ninfer_devices = 'fake,cpu'\ninfer_max_time = 2\n"
    "infer_strict = true\n",
}
NATIVE = "infer_devices = ['fake', 'cpu']\ninfer_max_time = 2\ninfer_strict = true\n"
NATIVE_FORMS = {
    "pytest.toml": f"[pytest]\n{NATIVE}",
    ".pytest.toml": f"[pytest]\n{NATIVE}",
    "pyproject.toml": f"[tool.pytest]\n{NATIVE}",
}
pytest_9 = pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 9 reads native TOML")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *OLD_FORMS.items(),
        ("pyproject.toml", f"[tool.pytest.ini_options]\n{NATIVE}"),
        *(
            pytest.param(name, text, marks=pytest_9, id=f"native {name}")
            for name, text in NATIVE_FORMS.items()
        ),
        pytest.param(
            "pytest.toml",
            f"[pytest]\n{NATIVE}".replace("2", "'2s'").replace("['fake', 'cpu']", "'fake,cpu'"),
            marks=pytest_9,
            id="texts in native TOML",
        ),
    ],
)
def test_every_file_of_pytest_configures_a_run(project, name, text):
    (project.path / name).write_text(text)
    project.change("""

def pytest_sessionstart(session):
    from pytest_infergate.plugin.modes import read_settings
    found = read_settings(session.config)
    print("SETTINGS", found.measuring, found.devices, found.ini["max_time"], found.strict)
""")
    result = project.run("-s")
    result.stdout.fnmatch_lines(["SETTINGS True ('fake', 'cpu') 2.0 True"])
    # What -o sets is a text in every case, and has precedence.
    result = project.run("-s", "-o", "infer_devices=cpu", "-o", "infer_strict=false")
    result.stdout.fnmatch_lines(["SETTINGS True ('cpu',) 2.0 False"])


@pytest_9
def test_a_native_value_of_a_wrong_type_ends_the_run_with_its_name(project):
    (project.path / "pytest.toml").write_text("[pytest]\ninfer_tolerance = { p50 = '10%' }\n")
    result = project.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: ini value infer_tolerance: it must be *, got {'p50': '10%'}"])
