"""Feature networks that are kept on disk: the classifier of a data set, and Inception."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgan.data import DataSet, to_uint8
from fgan.data.files import replacing
from fgan.data.real import default_root
from fgan.evaluation.classifier import (
    UPDATES,
    TrainedClassifier,
    build_classifier,
    train_classifier,
)
from fgan.evaluation.features import INCEPTION, Features

_FORMAT = "fgan classifier 1"
"""Counts up with every change of the classifier or its training."""


def cached_classifier(
    training: DataSet,
    test: DataSet,
    folder: Path | None = None,
    updates: int = UPDATES,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> TrainedClassifier:
    """The classifier of `training` from `folder`, or else trained and left there for the next time.

    The folder (default: `$FGAN_DATA/classifiers`, or `~/.cache/fgan/classifiers`) has one file for
    each data set, by its content, and for each seed. A file that cannot be read is replaced. `say`
    is told what takes time, and that the folder cannot be written to, which is no error.

    Raises ValueError as `fgan.evaluation.train_classifier` does.
    """
    module = build_classifier(training)
    folder = default_root() / "classifiers" if folder is None else folder
    path = folder / f"{_fingerprint(training, test, updates, seed)}.pt"
    device = training.samples.device
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        module.load_state_dict(content["weights"])
        say(f"classifier {path}")
        module = module.to(device).eval().requires_grad_(False)
        return TrainedClassifier(module, float(content["accuracy"]))
    except Exception:  # absent or damaged; torch raises half a dozen kinds for a damaged file
        pass
    say(f"classifier is trained on {len(training)} images of {training.name}, once for all runs")
    found = train_classifier(training, test, seed, updates)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.cpu() for name, tensor in found.module.state_dict().items()}
        content = io.BytesIO()  # torch.save turns a full disk into errors of its own
        torch.save({"weights": weights, "accuracy": found.accuracy}, content)
        with replacing(path) as temporary:
            temporary.write_bytes(content.getbuffer())
    except OSError as error:
        say(f"classifier is not kept: {error}")
    return found


def _fingerprint(training: DataSet, test: DataSet, updates: int, seed: int) -> str:
    """A name for all that a classifier depends on."""
    seeded = f"seed {seed} " if seed else ""
    digest = hashlib.sha256(f"{_FORMAT} {updates} {seeded}{training.class_names}".encode())
    for tensor in (training.samples, training.class_labels, test.samples, test.class_labels):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def inception(weights: Path | None = None, device: torch.device | str = "cpu") -> Features:
    """The 2048 pooled features of the Inception network, in which distances are FID and KID.

    Network, resizing and weights are those of torch-fidelity (extra `metrics`), which reproduces
    the TensorFlow network of Heusel et al. 2017 (arXiv 1706.08500). Images of one channel are
    repeated to three. `weights` is the path to the file of the weights; without it torch-fidelity
    downloads them.

    Raises ValueError where torch-fidelity is not installed, where the weights are not there, cannot
    be read or cannot be downloaded, and, for images, unless they have one channel or three.
    """
    network = _inception_network(weights).to(device)

    def features(images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                f"Inception features are of images with 1 or 3 channels, got "
                f"{list(images.shape[1:])}: use the classifier, or features of your own"
            )
        (found,) = network(to_uint8(images).expand(-1, 3, -1, -1))
        return found

    return Features(INCEPTION, features)


def _inception_network(weights: Path | None) -> Any:
    """torch-fidelity's module: uint8 [B, 3, H, W] -> a tuple of features [B, 2048]."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ValueError(
            "Inception features need torch-fidelity: pip install 'fgan[metrics]', or use "
            "the classifier (--features classifier)"
        ) from error
    if weights is not None:
        _check_weights(weights)
    try:
        return FeatureExtractorInceptionV3(
            INCEPTION, ["2048"], None if weights is None else str(weights)
        )
    except OSError as error:
        raise ValueError(
            "the weights of the Inception network could not be downloaded: "
            f"{' '.join(str(error).split())}. Fetch weights-inception-2015-12-05-6726825d.pth from "
            "torch-fidelity's releases elsewhere and name the file (--inception-weights PATH), or "
            "use the classifier (--features classifier)"
        ) from error
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{weights} does not hold the weights of torch-fidelity's Inception network: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _check_weights(path: Path) -> None:
    """Raise ValueError unless the file holds tensors alone: torch-fidelity would run its code."""
    if not path.is_file():
        raise ValueError(f"there is no file {path} with the weights of the Inception network")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise ValueError(
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors "
            f"({type(error).__name__})"
        ) from error
