"""Voice activity detection in frames of 32 ms. The weights are those of the package silero-vad."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from infergate_examples.packages import folder

SAMPLE_RATE = 16_000
FRAME = 512
"""New samples per frame."""
CONTEXT = 64
"""Samples of the previous frame that precede the new ones in the input of the network."""

State = tuple[Tensor, Tensor]


class VoiceActivity(nn.Module):
    """A short-time spectrum, four convolutions, and an LSTM cell that keeps state between frames."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, kernel_size=256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, kernel_size=3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, kernel_size=3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, kernel_size=3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, kernel_size=1)

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map frames (batch, CONTEXT + FRAME) to the probability of speech (batch, 1) and the new state."""
        padded = functional.pad(frames, (0, CONTEXT), "reflect").unsqueeze(1)
        real, imaginary = self.stft_conv(padded).chunk(2, dim=1)
        hidden = (real.square() + imaginary.square()).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            hidden = layer(hidden).relu()
        state = self.lstm_cell(hidden.squeeze(-1), state)
        logit = self.final_conv(state[0].unsqueeze(-1).relu())
        return logit.squeeze(-1).sigmoid(), state

    def listen(self, recording: Tensor) -> Iterator[Tensor]:
        """Yield the probability of speech for each frame of a recording (batch, samples)."""
        state = None
        padded = functional.pad(recording, (CONTEXT, 0))
        for frame in padded.unfold(1, CONTEXT + FRAME, FRAME).unbind(1):
            probability, state = self(frame, state)
            yield probability


def load_voice_activity() -> VoiceActivity:
    """Load the network with the 16 kHz weights of silero-vad."""
    model = VoiceActivity()
    model.load_state_dict(load_file(folder("silero_vad") / "data" / "silero_vad_16k.safetensors"))
    return model.eval()


def frames(batch_size: int, seed: int = 0) -> Tensor:
    """Return frames of noise, with their context."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch_size, CONTEXT + FRAME, generator=generator)


def babble(seconds: float, pitch: float = 120.0) -> Tensor:
    """Return nonsense syllables (1, samples): a buzz of this pitch in Hz, shaped into vowels a, i and u."""
    syllables_per_second = 4
    time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    melody = pitch * (1 + 0.15 * torch.sin(2 * torch.pi * 0.7 * time))
    phase = 2 * torch.pi * torch.cumsum(melody, 0) / SAMPLE_RATE
    syllable = time * syllables_per_second
    formants = torch.tensor(((730.0, 1090.0, 2440.0), (270.0, 2290.0, 3010.0), (300.0, 870.0, 2240.0)))
    centre = formants[syllable.long() % 3].unbind(1)
    wave = torch.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = harmonic * melody
        first, second, third = (1 / (1 + ((frequency - peak) / 100) ** 2) for peak in centre)
        wave += (first + 0.5 * second + 0.3 * third) * torch.sin(harmonic * phase)
    wave *= torch.sin(torch.pi * (syllable % 1)).clamp(min=0).sqrt()
    return (0.3 * wave / wave.abs().max()).unsqueeze(0)
