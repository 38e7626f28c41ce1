"""A small convolutional recurrent net that hears letters: logits over time for CTC, from waveforms of any length.

What it says of a recording does not depend on the batch: padding is masked after every convolution, and the recurrent
layer never sees it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

RATE, WINDOW, HOP, BANDS, STRIDE = 8000, 256, 80, 40, 2
VOCABULARY = ["<blank>", " ", *"efghinorstuvwxz"]


def mel_bands() -> Tensor:
    """Triangles on the mel scale, shape (bands, frequencies)."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequencies = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


class Net(nn.Module):
    def __init__(self, width: int = 96):
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("bands", mel_bands(), persistent=False)
        self.first = nn.Conv1d(BANDS, width, 5, stride=STRIDE, padding=2)
        self.second = nn.Conv1d(width, width, 5, padding=2)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.over_time = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, len(VOCABULARY))

    def forward(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """waves: (batch, samples) in [-1, 1]. lengths: samples of each before the padding."""
        around = nn.functional.pad(waves, (WINDOW // 2, WINDOW // 2))
        spectrum = torch.stft(around, WINDOW, HOP, window=self.window, center=False, return_complex=True)
        frames = lengths // HOP + 1
        states = self._masked((self.bands @ spectrum.abs().square() + 1e-6).log() / 3, frames)
        states = (
            states - states.sum(2, keepdim=True) / frames[:, None, None]
        )  # what is the same all the time is the line
        if self.training:
            states = self._some_bands_lost(states)
        states = self._masked(states, frames)
        for layer, norm in zip((self.first, self.second), self.norms, strict=True):
            frames = (frames - 1) // layer.stride[0] + 1
            states = nn.functional.gelu(norm(layer(states).transpose(1, 2))).transpose(1, 2)
            states = self._masked(states, frames)
        packed = pack_padded_sequence(states.transpose(1, 2), frames.cpu(), batch_first=True, enforce_sorted=False)
        heard, _ = pad_packed_sequence(self.over_time(packed)[0], batch_first=True, total_length=states.shape[2])
        return {"logits": self.head(heard), "lengths": frames}

    @staticmethod
    def _some_bands_lost(states: Tensor) -> Tensor:
        """Of each recording up to eight neighbouring bands are silent, elsewhere in each."""
        first, number = torch.randint(0, BANDS, (2, len(states), 1, 1))
        bands = torch.arange(BANDS)[:, None]
        return states * ~((bands >= first) & (bands < first + number % 9))

    @staticmethod
    def _masked(states: Tensor, frames: Tensor) -> Tensor:
        return states * (torch.arange(states.shape[2], device=states.device) < frames[:, None])[:, None, :]


def build() -> Net:
    return Net()
