"""Ten architectures of transformers, with random weights and the sizes of small published models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf

TOKENS, WIDTH = 64, 160
Call = tuple[torch.nn.Module, dict[str, Any]]


def tokens(vocabulary: int, length: int = TOKENS) -> dict[str, Any]:
    """Return two sentences, the second of which is shorter and padded."""
    mask = torch.ones(2, length, dtype=torch.int64)
    mask[1, length // 2 :] = 0
    return {"input_ids": torch.randint(5, vocabulary, (2, length)), "attention_mask": mask}


def image() -> dict[str, Any]:
    return {"pixel_values": torch.randn(1, 3, WIDTH, WIDTH)}


def bert() -> Call:
    config = hf.BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    return hf.BertModel(config), tokens(config.vocab_size)


def distilbert() -> Call:
    config = hf.DistilBertConfig(dim=384, hidden_dim=1536, n_heads=6)
    return hf.DistilBertForSequenceClassification(config), tokens(config.vocab_size)


def vit() -> Call:
    config = hf.ViTConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, image_size=WIDTH, num_labels=1000
    )
    return hf.ViTForImageClassification(config), image()


def resnet() -> Call:
    config = hf.ResNetConfig(
        depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic", num_labels=1000
    )
    return hf.ResNetForImageClassification(config), image()


def convnext() -> Call:
    config = hf.ConvNextConfig(depths=[2, 2, 6, 2], hidden_sizes=[40, 80, 160, 320], num_labels=1000)
    return hf.ConvNextForImageClassification(config), image()


def gpt2() -> Call:
    """Return a model that returns its cache of keys and values beside the logits, as it does by default."""
    config = hf.GPT2Config(n_embd=384, n_layer=6, n_head=6)
    return hf.GPT2LMHeadModel(config), tokens(config.vocab_size)


def t5_encoder() -> Call:
    config = hf.T5Config(d_model=512, num_layers=6)
    return hf.T5EncoderModel(config), tokens(config.vocab_size)


def whisper_encoder() -> Call:
    config = hf.WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
    config.max_source_positions = 400
    return hf.WhisperModel(config).get_encoder(), {"input_features": torch.randn(1, 80, 800)}


def wav2vec2() -> Call:
    config = hf.Wav2Vec2Config(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=6, intermediate_size=1536
    )
    return hf.Wav2Vec2ForCTC(config), {"input_values": torch.randn(1, 16_000)}


def clip_text() -> Call:
    config = hf.CLIPTextConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
    config.num_hidden_layers = 6
    return hf.CLIPTextModel(config), tokens(config.vocab_size)


MODELS: dict[str, Callable[[], Call]] = {
    "BERT": bert,
    "DistilBERT": distilbert,
    "ViT": vit,
    "ResNet": resnet,
    "ConvNeXt": convnext,
    "GPT-2": gpt2,
    "T5 encoder": t5_encoder,
    "Whisper encoder": whisper_encoder,
    "Wav2Vec2": wav2vec2,
    "CLIP text": clip_text,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.inference
def test_model(infer, name):  # noqa: ANN001, ANN201
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    infer(model, **inputs)
