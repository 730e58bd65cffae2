"""A service around the models of the examples: embeddings, and chat as OpenAI-compatible servers have it.

Start it with ``uvicorn --factory infergate_examples.service:service`` in the folder of the examples.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from transformers import TextIteratorStreamer

from infergate_examples.chat import ANSWER, VOCABULARY, load_chat_model
from infergate_examples.embedder import load_embedder


class Words:
    """A tokenizer of numbered words, as the chat model has learnt no language."""

    def encode(self, text: str) -> torch.Tensor:
        """Return token ids (1, words)."""
        return torch.tensor([[1 + sum(map(ord, word)) % (VOCABULARY - 1) for word in text.split()]])

    def decode(self, ids: Any, **_: Any) -> str:
        """Return the words of token ids."""
        return "".join(f"word{int(index)} " for index in ids)


def service(
    embedder: Callable[..., torch.Tensor] | None = None, chat: Any = None, answer: int = ANSWER
) -> FastAPI:
    """Return the application; models that are not given are loaded."""
    app, words = FastAPI(), Words()
    embedder, chat = embedder or load_embedder(), chat or load_chat_model()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/embed")
    def embed(body: dict[str, Any]) -> dict[str, Any]:
        with torch.inference_mode():
            return {"embeddings": embedder(*map(torch.tensor, body["inputs"])).tolist()}

    @app.post("/v1/chat/completions")
    def completions(body: dict[str, Any]) -> Any:
        ids = words.encode(body["messages"][-1]["content"])
        count = min(answer, body.get("max_tokens", answer))
        usage = {"prompt_tokens": ids.shape[1], "completion_tokens": count}
        limits = {"inputs": ids, "min_new_tokens": count, "max_new_tokens": count}
        if not body.get("stream"):
            text = words.decode(chat.generate(**limits)[0, ids.shape[1] :])
            return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}
        return StreamingResponse(events(limits, usage), media_type="text/event-stream")

    def events(limits: dict[str, Any], usage: dict[str, int]) -> Iterator[str]:
        streamer = TextIteratorStreamer(words, skip_prompt=True)
        thread = threading.Thread(target=chat.generate, kwargs={**limits, "streamer": streamer})
        thread.start()
        for text in streamer:
            yield f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"
        thread.join()
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"

    return app
