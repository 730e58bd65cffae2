"""A deployed service as a runtime: ``pytest --infer-runtimes=server`` keeps the budgets of the tests."""

import atexit
import json
import os

import httpx
import pytest
import torch
from pytest_infergate import TokenCounts

CLIENT = httpx.Client(base_url=os.environ.get("SERVICE_URL", "http://127.0.0.1:8000"), timeout=30)
atexit.register(CLIENT.close)


def embed(*inputs):
    answer = CLIENT.post("/embed", json={"inputs": [tensor.tolist() for tensor in inputs]})
    return torch.tensor(answer.raise_for_status().json()["embeddings"])


def completions(text, **options):
    body = {"messages": [{"role": "user", "content": text}], **options}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    with CLIENT.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in filter(lambda line: line.startswith("data: "), answer.raise_for_status().iter_lines()):
            if line == "data: [DONE]":
                return
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise RuntimeError(event["error"])
            yield from (choice["delta"].get("content") or "" for choice in event["choices"])
            if usage := event.get("usage"):
                yield TokenCounts(usage["prompt_tokens"], usage["completion_tokens"])
    raise RuntimeError("the stream ended before [DONE]")


class Server:
    name, modes = "server", ()

    def absence_reason(self):
        try:
            CLIENT.get("/health", timeout=2).raise_for_status()
        except httpx.HTTPError as error:
            return f"no service at {CLIENT.base_url}: {error}. Hint: start it, or set SERVICE_URL"

    def remote(self, target, mode):
        return embed if isinstance(target, torch.nn.Module) else target


@pytest.fixture
def chat():
    return completions


def pytest_infergate_runtimes(config):
    return [Server()]
