"""The plain loops of published notebooks, as the baseline of every speed claim about two CPU cores.

They are written as notebooks write them and use nothing of aekit: a data set whose items are turned from a PIL
picture into a tensor one by one, eager layers, contiguous memory, a loss that is read after every step. They stay as
they are: a faster plain loop would only make the claims look worse or better than what people run.

Run: `AEKIT_DATA=<folder> python bench/plain.py` prints one line per loop.
"""

import gzip
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Timing(NamedTuple):
    seconds: float  # of the loop alone, without reading the file
    samples: int
    error: float  # mean over the samples; see each function for its unit


def read_idx(path: Path) -> np.ndarray:
    """Array of unsigned bytes in an idx file, gzip or not."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


class Pictures(Dataset[Tensor]):
    """Items (1, H, W) in 0..1, made anew at each access as torchvision's MNIST with ToTensor makes them."""

    def __init__(self, images: np.ndarray):
        self.images = torch.from_numpy(images.copy())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.fromarray(self.images[index].numpy())
        pixels = torch.from_numpy(np.array(picture, np.uint8))
        return pixels.view(picture.size[1], picture.size[0], 1).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def conv_autoencoder() -> nn.Sequential:
    """The `conv` network, (B, 1, 28, 28) -> the same through 20 values: 213,013 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 7),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 20),
        nn.Linear(20, 64),
        nn.ReLU(),
        nn.Unflatten(1, (64, 1, 1)),
        nn.ConvTranspose2d(64, 32, 7),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1),
        nn.Sigmoid(),
    )


def train_conv(model: nn.Module, images: np.ndarray, epochs: int = 1, device: str = "cpu") -> Timing:
    """Batch 64, Adam; the error is the training MSE of the last epoch, the seconds are per epoch."""
    loader = DataLoader(Pictures(images), batch_size=64, shuffle=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    model.train()
    start = time.perf_counter()
    for _ in range(epochs):
        total = 0.0
        for x in (batch.to(device) for batch in loader):
            loss = nn.functional.mse_loss(model(x), x)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(x)
    return Timing((time.perf_counter() - start) / epochs, len(images), total / len(images))


@torch.no_grad()
def score_conv(model: nn.Module, images: np.ndarray) -> Timing:
    """Mean squared error of each sample, in batches of 64; the error is their mean."""
    model.eval()
    start = time.perf_counter()
    batches = DataLoader(Pictures(images), batch_size=64)
    scores = [(model(x) - x).square().mean(dim=(1, 2, 3)) for x in batches]
    mean = torch.cat(scores).mean().item()
    return Timing(time.perf_counter() - start, len(images), mean)


class LSTMAutoencoder(nn.Module):
    """The `lstm` network on one series (T, 1) at a time, embedding 128: 990,465 parameters."""

    def __init__(self, features: int = 1, embedding: int = 128):
        super().__init__()
        self.encode_1 = nn.LSTM(features, 2 * embedding, batch_first=True)
        self.encode_2 = nn.LSTM(2 * embedding, embedding, batch_first=True)
        self.decode_1 = nn.LSTM(embedding, embedding, batch_first=True)
        self.decode_2 = nn.LSTM(embedding, 2 * embedding, batch_first=True)
        self.output = nn.Linear(2 * embedding, features)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.encode_1(x.unsqueeze(0))
        _, (z, _) = self.encode_2(hidden)
        hidden, _ = self.decode_1(z.repeat(1, len(x), 1))
        hidden, _ = self.decode_2(hidden)
        x_hat: Tensor = self.output(hidden.squeeze(0))
        return x_hat


def train_lstm(model: nn.Module, series: Iterable[Tensor], epochs: int = 1) -> Timing:
    """One series (T, 1) a step, Adam; the error is the L1 sum over T in the last epoch, the seconds are per epoch."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    start = time.perf_counter()
    for _ in range(epochs):
        losses = []
        for x in series:
            optimiser.zero_grad()
            loss = nn.functional.l1_loss(model(x), x, reduction="sum")
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return Timing((time.perf_counter() - start) / epochs, len(losses), float(np.mean(losses)))


def main() -> None:
    data = Path(os.environ["AEKIT_DATA"])
    train = read_idx(data / "mnist" / "train-images-idx3-ubyte.gz")
    test = read_idx(data / "mnist" / "t10k-images-idx3-ubyte.gz")
    table = np.loadtxt(data / "ecg5000" / "ECG5000_TRAIN.tsv.gz", dtype=np.float32)
    normal = torch.from_numpy(table[table[:, 0] == 1, 1:]).unsqueeze(-1)  # (292, 140, 1)

    torch.manual_seed(0)
    model = conv_autoencoder()
    timings = {
        "train conv, one epoch": train_conv(model, train),
        "score conv, 60000 images": score_conv(model, train),
        "score conv, 10000 images": score_conv(model, test),
        "train lstm, one epoch": train_lstm(LSTMAutoencoder(), list(normal)),
    }
    for name, timing in timings.items():
        per_sample = 1000 * timing.seconds / timing.samples
        print(f"{name}: {timing.seconds:.2f} s, {per_sample:.3f} ms a sample, error {timing.error:.5f}")


if __name__ == "__main__":
    main()
