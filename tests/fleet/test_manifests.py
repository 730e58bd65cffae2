"""Manifests for Kubernetes and SkyPilot, checked by the validators of both."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fleet_parts import FakeFleet

from pytest_infergate.cli import main
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.fleet import manifests

yaml = pytest.importorskip("yaml")
EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet.toml"
SKYPILOT = os.environ.get("SKYPILOT_PYTHON", "")
"""An interpreter with skypilot, which has too many dependencies for the environment of the tests."""


@pytest.fixture
def example(tmp_path):
    """The fleet of the examples."""
    (tmp_path / "example").mkdir()
    return FakeFleet(tmp_path / "example", EXAMPLE.read_text())


@pytest.fixture
def fleet(tmp_path):
    return FakeFleet(
        tmp_path,
        """
        time_limit = "90s"
        [parts]
        text = ["tests/test_text.py"]
        voice = ["tests/test_voice.py", "-k", "not stream"]
        [classes.genoa]
        cores = 8
        threads = 4
        memory = "16GiB"
        env = { OMP_WAIT_POLICY = "passive" }
        [classes.genoa.kubernetes]
        image = "registry.example/models:1"
        node_selector = { "node.kubernetes.io/instance-type" = "m7a.2xlarge" }
        namespace = "measure"
        workdir = "/models"
        [classes.genoa.skypilot]
        resources = { infra = "aws", use_spot = true }
        setup = "pip install -e ."
        [classes.l4]
        gpu = "L4"
        parts = ["text"]
        [classes.l4.kubernetes]
        image = "registry.example/models:1-cuda"
        tolerations = [{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }]
        """,
    )


def test_jobs_have_whole_cores_and_gpus_of_their_own(fleet):
    text, _, gpu = manifests.kubernetes_jobs(fleet.jobs("-q"), "1a2b3c4d5e6f")
    pod = text["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert text["metadata"]["name"] == "infergate-genoa-text"
    assert (text["metadata"]["namespace"], pod["nodeSelector"]) == (
        "measure", {"node.kubernetes.io/instance-type": "m7a.2xlarge"},
    )  # fmt: skip
    assert (text["spec"]["backoffLimit"], text["spec"]["activeDeadlineSeconds"]) == (0, 90)
    # Equal requests and limits of whole cores: the QoS class Guaranteed.
    assert container["resources"] == {
        "requests": {"cpu": "8", "memory": "16384Mi"}, "limits": {"cpu": "8", "memory": "16384Mi"},
    }  # fmt: skip
    assert container["command"] == [
        "python", "-m", "pytest", "--infer-threads=4", "tests/test_text.py", "-q",
        "--infer-json=/results/genoa.text.1a2b3c4d5e6f.json",
    ]  # fmt: skip
    (container,) = gpu["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "4096Mi", "nvidia.com/gpu": "1"}
    assert {"name": "INFERGATE_REVISION", "value": "1a2b3c4d5e6f"} in container["env"]


def test_tasks_end_their_machines(fleet):
    _, voice, gpu = manifests.skypilot_tasks(fleet.jobs(), "1a2b3c4d5e6f")
    assert voice["resources"] == {
        "cpus": "8", "memory": "16+", "autostop": {"idle_minutes": 10, "down": True}, "infra": "aws", "use_spot": True,
    }  # fmt: skip
    assert voice["run"] == (
        "timeout --signal=INT --kill-after=30 90 python -m pytest --infer-threads=4 tests/test_voice.py -k "
        "'not stream' --infer-json=genoa.voice.1a2b3c4d5e6f.json\n"
    )
    assert (voice["setup"], voice["workdir"]) == ("pip install -e .", ".")
    assert gpu["resources"]["accelerators"] == "L4:1"


def rendered(fleet, form):
    make = manifests.kubernetes_jobs if form == "kubernetes" else manifests.skypilot_tasks
    return [manifests.yaml_text(document) for document in make(fleet.jobs(), "1a2b3c4d5e6f")]


def test_kubernetes_accepts_the_jobs(fleet, example):
    validator = pytest.importorskip("kubernetes_validate")
    for text in (*rendered(fleet, "kubernetes"), *rendered(example, "kubernetes")):
        validator.validate(yaml.safe_load(text), validator.latest_version(), strict=True)
    broken = yaml.safe_load(rendered(fleet, "kubernetes")[0])
    broken["spec"]["template"]["spec"]["nodeSelectr"] = {}
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, validator.latest_version(), strict=True)


LOADED = """
import sys
import sky

for path in sys.argv[1:]:
    task = sky.Task.from_yaml(path)
    print(task.name, sorted(str(each) for each in task.resources))
"""


@pytest.mark.nightly
@pytest.mark.skipif(not SKYPILOT, reason="SKYPILOT_PYTHON names no interpreter: make test-skypilot")
def test_skypilot_accepts_the_tasks(fleet, example, tmp_path):
    paths = []
    for index, text in enumerate((*rendered(fleet, "skypilot"), *rendered(example, "skypilot"))):
        (tmp_path / f"{index}.yaml").write_text(text)
        paths.append(str(tmp_path / f"{index}.yaml"))
    command = [SKYPILOT, "-c", LOADED]
    done = subprocess.run([*command, *paths], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "infergate-genoa-text", "infergate-genoa-voice", "infergate-l4-text",
        "infergate-one-core-all", "infergate-two-cores-all", "infergate-two-cores-avx2-all",
    ]  # fmt: skip
    assert "[Spot]" in done.stdout
    (tmp_path / "wrong.yaml").write_text("nme: x\n")
    assert (
        subprocess.run([*command, "wrong.yaml"], cwd=tmp_path, capture_output=True, check=False).returncode
        != 0
    )


def test_the_command_prints_or_writes_them(fleet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main.main(["fleet", "render", *arguments])
        return done.value.code, *capsys.readouterr()

    code, out, err = run("fleet.toml", "--kubernetes", "--", "-q")
    assert (code, err) == (0, "")
    assert [document["metadata"]["name"] for document in yaml.safe_load_all(out)] == [
        "infergate-genoa-text", "infergate-genoa-voice", "infergate-l4-text",
    ]  # fmt: skip
    assert "&id" not in out
    code, _, err = run("fleet.toml", "--skypilot", "-o", "tasks")
    assert (code, sorted(path.name for path in (tmp_path / "tasks").iterdir())) == (
        0, ["genoa.text.yaml", "genoa.voice.yaml", "l4.text.yaml"],
    )  # fmt: skip
    code, _, err = run("fleet.toml")
    assert code == 4
    assert "one of --kubernetes and --skypilot is required" in err


@pytest.mark.parametrize(
    ("form", "terms", "text"),
    [
        ("kubernetes", "", "class a: kubernetes must have an image. Hint: write for example kubernetes = { image ="),
        ("kubernetes", "kubernetes = { imge = 'x' }", "class a: kubernetes: key must be one of image, .* Hint: did you mean 'image'"),
        ("kubernetes", "kubernetes = { image = 'x', node_selector = 'y' }", "node_selector must be a table of labels of nodes, got 'y'"),
        ("skypilot", "skypilot = { idle_minutes = 'x' }", "idle_minutes must be minutes without work"),
    ],
)  # fmt: skip
def test_mistakes_in_terms(tmp_path, form, terms, text):
    found = FakeFleet(tmp_path, f"[classes.a]\n{terms}")
    with pytest.raises(ConfigurationError, match=text):
        rendered(found, form)


def test_without_pyyaml(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(
        ConfigurationError, match=r"fleet render needs PyYAML. Hint: pip install 'pytest-infergate\[fleet\]'"
    ):
        manifests.yaml_text({})
