"""A small classifier, trained on a data set itself: features that need no download."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgan.data import DataSet, batches
from fgan.evaluation.features import Features, extract
from fgan.networks.initialise import reinitialized
from fgan.seeds import mix_seed

WIDTH = 64  # features
UPDATES = 1500  # of 128 images: 3.2 epochs of 60,000
_BATCH = 128
_RATE = 4e-3
_INITIAL = 0xE4  # keeps the weights' seed apart from the shuffling's


class Classifier(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> logits [B, num_classes].

    Convolutions of stride 2 until the image is at most 7 x 7, global average pooling, and a linear
    layer. `features(images)` [B, 64], the pooled activations, are what the distances are computed
    in. Each has mean 0 and standard deviation 1 over the images of the accuracy. Without that,
    their scales would be an accident of the training: the linear layer can undo any of them.

    Raises ValueError for images of another shape.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, image_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        channels, *sides = image_shape
        layers: list[nn.Module] = [*_block(channels, 32, stride=2 if max(sides) > 7 else 1)]
        size, width = -(-max(sides) // 2), 32
        while size > 7:
            layers += _block(width, WIDTH, stride=2)
            size, width = -(-size // 2), WIDTH
        self.layers = nn.Sequential(*layers, *_block(width, WIDTH), *_block(WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, num_classes)
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("std", torch.ones(WIDTH))

    def features(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 64]"""
        return (self.pooled(images) - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pooled(images))
        return logits

    def pooled(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 64], the input of the linear layer."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"the classifier was trained on images {list(self.image_shape)}, got "
                f"{list(images.shape[1:])}: train one on images of this shape"
            )
        activations: Tensor = self.layers(images).mean(dim=(2, 3))
        return activations


def _block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


class TrainedClassifier(NamedTuple):
    """A classifier and what is known about it.

    Example:
        >>> images = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)
        >>> data = fgan.data.DataSet("noise", images, torch.arange(16) % 2, ("even", "odd"))
        >>> 0 <= fgan.evaluation.train_classifier(data, data, updates=4).accuracy <= 1
        True
    """

    module: Classifier
    """In evaluation mode."""
    accuracy: float
    """The share of images of another split that it classifies correctly."""

    def as_features(self) -> Features:
        """For `evaluate`."""
        return Features("classifier", self.module.features, self.module, self.accuracy)


def build_classifier(data: DataSet) -> Classifier:
    """An untrained classifier for a data set.

    Raises ValueError for samples that are no images, and for fewer than two classes.
    """
    if data.samples.ndim != 4 or data.samples.dtype != torch.uint8:
        raise ValueError(
            f"the classifier takes uint8 images [N, C, H, W], and {data.name} has "
            f"{str(data.samples.dtype).removeprefix('torch.')} samples {list(data.sample_shape)}: "
            "give features of your own"
        )
    if data.num_classes < 2:
        raise ValueError(
            f"a classifier needs at least two classes, and {data.name} has {data.num_classes}: use "
            "fgan.evaluation.BY_PATCHES, Inception features, or features of your own (on the "
            "command line: --features patches or inception)"
        )
    # The layers draw their first weights from the global generator of the CPU.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        module = Classifier(data.sample_shape, data.num_classes)
    return module.to(memory_format=torch.channels_last)  # a fifth faster on a CPU


def train_classifier(
    training: DataSet, test: DataSet, seed: int = 0, updates: int = UPDATES
) -> TrainedClassifier:
    """Train on `training`, and measure the accuracy on `test`, which should share no image with it.

    Cross-entropy, AdamW with a rate that rises and falls (Smith and Topin 2018, arXiv 1708.07120).
    On one machine with one number of threads the result is a function of the data and the seed.
    The global generator does not change. On the device of the data.

    Raises ValueError as `build_classifier` does.

    Example:
        >>> images = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)
        >>> data = fgan.data.DataSet("noise", images, torch.arange(16) % 2, ("even", "odd"))
        >>> trained = fgan.evaluation.train_classifier(data, data, updates=4)
        >>> trained.as_features().extract(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 64])
    """
    device = training.samples.device
    module = reinitialized(build_classifier(training), mix_seed(seed, _INITIAL)).to(device)
    assert isinstance(module, Classifier)
    optimizer = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=updates)
    with torch.enable_grad():
        for batch in batches(training, _BATCH, rounds=updates, seed=mix_seed(seed)):
            assert batch.condition is not None
            loss = F.cross_entropy(module(batch.real[0]), batch.condition[0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    module.eval().requires_grad_(False)
    pooled = extract(module.pooled, test.samples)
    std = pooled.std(dim=0)
    module.mean.copy_(pooled.mean(dim=0))
    module.std.copy_(torch.where(std > 0, std, 1.0))
    return TrainedClassifier(module, accuracy(module, test))


def accuracy(classifier: nn.Module, data: DataSet) -> float:
    """The share of samples whose largest logit is that of their label."""
    logits = extract(classifier, data.samples)
    return float((logits.argmax(dim=1).cpu() == data.class_labels.cpu()).float().mean())
