"""Manifests of the jobs of a fleet for machines that something else starts."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.fleet.fleet_file import MachineClass, checked_terms
from pytest_infergate.fleet.fleet_jobs import FleetJob

_GIB: Final = 2**30
_DEFAULT_MEMORY: Final = 4 * _GIB
"""Memory of a Kubernetes Job whose class has none: without any, its QoS would not be Guaranteed."""
_RESULTS: Final = "/results"
_KUBERNETES: Final[Mapping[str, tuple[Any, str]]] = {
    "image": (str, "an image that contains the code, the models and infergate"),
    "node_selector": (dict[str, str], "a table of labels of nodes"),
    "tolerations": (list[dict[str, str | int]], "a list of tables"),
    "namespace": (str, "a name"),
    "service_account": (str, "a name"),
    "claim": (str, "the name of a PersistentVolumeClaim for results"),
    "gpu_resource": (str, "a resource, for example 'nvidia.com/gpu'"),
    "workdir": (str, "a folder of the image"),
}
_POD_FIELDS: Final = {
    "node_selector": "nodeSelector",
    "tolerations": "tolerations",
    "service_account": "serviceAccountName",
}
_SKYPILOT: Final[Mapping[str, tuple[Any, str]]] = {
    "resources": (dict[str, Any], "a table of resources of SkyPilot, for example { use_spot = true }"),
    "setup": (str, "shell commands that install the project and infergate"),
    "workdir": (str, "a folder that is copied to the machine"),
    "file_mounts": (dict[str, Any], "a table of file mounts of SkyPilot"),
    "idle_minutes": (int, "minutes without work after which a machine is removed"),
}


def kubernetes_jobs(jobs: Sequence[FleetJob], revision: str) -> list[dict[str, Any]]:
    """Return a Job for each job of a fleet; their results appear in the claim.

    Raises `ConfigurationError` for a class without an image or with unknown terms.
    """
    return [_kubernetes_job(job, revision) for job in jobs]


def _kubernetes_job(job: FleetJob, revision: str) -> dict[str, Any]:
    machine = job.machine
    terms = checked_terms(machine, "kubernetes", _KUBERNETES)
    if "image" not in terms:
        raise ConfigurationError(
            f"class {machine.name}: kubernetes must have an image. "
            "Hint: write for example kubernetes = { image = 'registry.example/models:1' }"
        )
    labels = {
        "app.kubernetes.io/name": "infergate",
        "infergate/class": machine.name,
        "infergate/part": job.part,
    }
    claim = {"claimName": terms.get("claim", "infergate-results")}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [_container(job, terms, revision)],
        "volumes": [{"name": "results", "persistentVolumeClaim": claim}],
    }
    for key, field in _POD_FIELDS.items():
        if key in terms:
            pod[field] = terms[key]
    metadata: dict[str, Any] = {
        "name": _object_name(job),
        "labels": labels,
        "annotations": {"infergate/revision": revision},
    }
    if "namespace" in terms:
        metadata["namespace"] = terms["namespace"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            # A job that fails is measured again by hand, not at once.
            "backoffLimit": 0,
            "activeDeadlineSeconds": math.ceil(machine.time_limit),
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _container(job: FleetJob, terms: Mapping[str, Any], revision: str) -> dict[str, Any]:
    environment = {**job.machine.env, "INFERGATE_REVISION": revision}
    container: dict[str, Any] = {
        "name": "pytest",
        "image": terms["image"],
        "command": _command(job, f"{_RESULTS}/{job.results_name(revision)}", "python"),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": _whole_resources(job.machine, terms.get("gpu_resource", "nvidia.com/gpu")),
        "volumeMounts": [{"name": "results", "mountPath": _RESULTS}],
    }
    if "workdir" in terms:
        container["workingDir"] = terms["workdir"]
    return container


def _whole_resources(machine: MachineClass, gpu: str) -> dict[str, Any]:
    """Return equal requests and limits of whole cores and GPUs: the QoS class Guaranteed.

    A kubelet with the static CPU manager then gives the container cores of its own.
    """
    memory = machine.memory or _DEFAULT_MEMORY
    whole = {"cpu": str(machine.cores or 1), "memory": f"{math.ceil(memory / 2**20)}Mi"}
    if machine.gpu is not None:
        whole[gpu] = str(machine.gpus)
    return {"requests": whole, "limits": dict(whole)}


def skypilot_tasks(jobs: Sequence[FleetJob], revision: str) -> list[dict[str, Any]]:
    """Return a task for each job of a fleet; each leaves its results in the working folder.

    Raises `ConfigurationError` for unknown terms.
    """
    return [_skypilot_task(job, revision) for job in jobs]


def _skypilot_task(job: FleetJob, revision: str) -> dict[str, Any]:
    machine = job.machine
    terms = checked_terms(machine, "skypilot", _SKYPILOT)
    resources: dict[str, Any] = {}
    if machine.gpu is not None:
        resources["accelerators"] = f"{machine.gpu}:{machine.gpus}"
    if machine.cores is not None:
        # More cores would be another class.
        resources["cpus"] = str(machine.cores)
    if machine.memory is not None:
        resources["memory"] = f"{math.ceil(machine.memory / _GIB)}+"
    # A machine that is forgotten costs money.
    resources["autostop"] = {"idle_minutes": terms.get("idle_minutes", 10), "down": True}
    task: dict[str, Any] = {
        "name": _object_name(job),
        "resources": {**resources, **terms.get("resources", {})},
    }
    task["workdir"] = terms.get("workdir", ".")
    task["envs"] = {**machine.env, "INFERGATE_REVISION": revision}
    task |= {key: terms[key] for key in ("file_mounts", "setup") if key in terms}
    limit = f"timeout --signal=INT --kill-after=30 {math.ceil(machine.time_limit)}"
    run = shlex.join(_command(job, job.results_name(revision), "python"))
    task["run"] = f"{limit} {run}\n"
    return task


def _command(job: FleetJob, results: str, python: str) -> list[str]:
    threads = () if job.machine.threads is None else (f"--infer-threads={job.machine.threads}",)
    python = job.machine.python or python
    return [python, "-m", "pytest", *threads, *job.arguments, f"--infer-json={results}"]


def _object_name(job: FleetJob) -> str:
    return f"infergate-{job.machine.name}-{job.part}"


def yaml_text(document: Mapping[str, Any]) -> str:
    """Return a document as YAML. Raises `ConfigurationError` without PyYAML."""
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(
            "fleet render needs PyYAML. Hint: pip install 'pytest-infergate[fleet]'"
        ) from None
    # Aliases for equal parts, such as requests and limits, are hard to read.
    dumper = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    return str(yaml.dump(document, Dumper=dumper, sort_keys=False, width=100))
