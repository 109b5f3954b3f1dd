"""The interface of the example networks, and labels."""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange, repeat
from einops.layers.torch import Rearrange
from torch import Tensor, nn
from torch._C import _functorch as functorch

from fgan.scores import ConditionError, describe


class Layers(nn.Sequential):
    """A sequence in which layers with an attribute `takes_label` get the one-hot label too."""

    takes_label = True

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        for layer in self:
            x = call(layer, x, label)
        return x


class Sum(nn.Module):
    """shortcut(x) + residual(x): a residual block (He 2016, arXiv 1603.05027)."""

    per_sample = True  # see `fgan.networks.is_per_sample`
    takes_label = True

    def __init__(self, shortcut: nn.Module, residual: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.residual = residual

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return call(self.shortcut, x, label) + call(self.residual, x, label)


def call(layer: nn.Module, x: Tensor, label: Tensor | None) -> Tensor:
    """layer(x, label) where the layer takes a one-hot label, else layer(x)."""
    output: Tensor = layer(x, label) if getattr(layer, "takes_label", False) else layer(x)
    return output


class Generator(nn.Module):
    """G(z) or G(z, y): latent `[B, latent_dim]`, labels `[B]` -> samples `[B, *sample_shape]`.

    `conditioning` is one of

    - `one_hot`: the one-hot label is concatenated with the latent (Mirza and Osindero 2014, arXiv
      1411.1784)
    - `batch_norm`: the label chooses the scale and shift of every `ConditionalBatchNorm`, and
      `layers` is a `Layers`

    Raises ValueError for a latent of another shape, for missing labels, for labels of a model
    without classes, and for labels that are no integers. On the CPU labels out of range raise
    ValueError too, in eager mode and in rounds of `fgan.compile`.

    Example:
        >>> layers = torch.nn.Linear(4, 2)
        >>> generator = fgan.models.Generator(layers, sample_shape=(2,), latent_dim=4)
        >>> generator(torch.randn(8, 4)).shape
        torch.Size([8, 2])
    """

    def __init__(
        self,
        layers: nn.Module,
        sample_shape: Sequence[int],
        latent_dim: int,
        num_classes: int | None = None,
        conditioning: str = "one_hot",
    ) -> None:
        super().__init__()
        check_conditioning(conditioning, ("one_hot", "batch_norm"), num_classes)
        self.sample_shape = tuple(sample_shape)
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.conditioning = conditioning
        self.layers = layers

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        _check_shape("a latent", z, (self.latent_dim,))
        label = _label("generator", condition, self.num_classes, z)
        if self.conditioning == "batch_norm":
            return call(self.layers, z, label)
        samples: Tensor = self.layers(join(z, label))
        return samples


class Critic(nn.Module):
    """D(x) or D(x, y): samples `[B, *sample_shape]`, labels `[B]` -> scores `[B]`, logits.

    `stem(x, label)` is the first layer and `layers` all others, of which the last is linear. With
    φ(x) `[B, F]` the input of the last layer and ψ the last layer, `conditioning` is one of

    - `one_hot`: the stem concatenates the one-hot label with the sample, as constant channels of an
      image or as further features (Mirza and Osindero 2014, arXiv 1411.1784)
    - `projection`: ψ(φ(x)) + <embed(y), φ(x)>, with a learned vector for each class, in a linear
      layer `embed` (Miyato and Koyama 2018, arXiv 1802.05637, eq. 3)
    - `classifier`: D(x) does not use the label. It returns (scores `[B]`, logits `[B, num_classes]`
      of a linear layer `classifier` on φ(x)), for the class losses of AC-GAN (Odena 2017, arXiv
      1610.09585): an objective with a `fgan.objectives.Head`. The labels may be left out.

    Raises ValueError for samples of another shape, and for labels as `Generator` does.

    Example:
        >>> critic = fgan.models.mlp_critic((2,), num_classes=3, hidden=(8,))
        >>> isinstance(critic, fgan.models.Critic)
        True
        >>> critic(torch.randn(8, 2), torch.zeros(8, dtype=torch.int64)).shape
        torch.Size([8])
    """

    def __init__(
        self,
        stem: Callable[[Tensor, Tensor | None], Tensor],
        layers: nn.Module,
        sample_shape: Sequence[int],
        num_classes: int | None = None,
        conditioning: str = "one_hot",
    ) -> None:
        super().__init__()
        check_conditioning(conditioning, ("one_hot", "projection", "classifier"), num_classes)
        self.sample_shape = tuple(sample_shape)
        self.num_classes = num_classes
        self.conditioning = conditioning
        self.stem = stem
        # See `fgan.networks.is_per_sample`. Of other functions it is not known.
        self.per_sample = isinstance(stem, nn.Module) or stem in (join, join_flat)
        self.layers = layers
        if conditioning != "one_hot":
            assert isinstance(layers, nn.Sequential)
            assert num_classes is not None
            last = layers[-1]
            assert isinstance(last, nn.Linear)
            if conditioning == "projection":
                self.embed = nn.Linear(num_classes, last.in_features, bias=False)
            else:
                self.classifier = nn.Linear(last.in_features, num_classes)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        _check_shape("samples", x, self.sample_shape)
        if self.conditioning == "one_hot":
            scores: Tensor = self.layers(
                self.stem(x, _label("critic", condition, self.num_classes, x))
            )
            return rearrange(scores, "b 1 -> b")
        if self.conditioning == "classifier" and condition is None:
            label = None
        else:
            label = _label("critic", condition, self.num_classes, x)
        features, scores = self._features_and_scores(x)
        if self.conditioning == "classifier":
            logits: Tensor = self.classifier(features)
            return scores, logits
        return scores + (self.embed(label) * features).sum(dim=1)

    def _features_and_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """φ(x) [B, F] and ψ(φ(x)) [B]."""
        assert isinstance(self.layers, nn.Sequential)
        features = scores = self.stem(x, None)
        for layer in self.layers:
            features, scores = scores, layer(scores)
        return features, rearrange(scores, "b 1 -> b")


def check_conditioning(conditioning: str, known: Sequence[str], num_classes: int | None) -> None:
    """Raise ValueError for an unknown conditioning, and for one that needs classes without any."""
    if conditioning not in known:
        raise ValueError(f"unknown conditioning {conditioning!r}: choose one of {', '.join(known)}")
    if conditioning != "one_hot" and num_classes is None:
        raise ValueError(
            f"conditioning={conditioning!r} needs classes: pass num_classes=..., or leave the "
            "conditioning out"
        )


def join(x: Tensor, label: Tensor | None) -> Tensor:
    """`[B, C, ...]` and a one-hot label `[B, n]` -> `[B, C + n, ...]`, n constant channels."""
    if label is None:
        return x
    for size in x.shape[2:]:
        label = repeat(label, "b n ... -> b n ... size", size=size)
    return torch.cat([x, label], dim=1)


def join_flat(x: Tensor, label: Tensor | None) -> Tensor:
    """`[B, ...]` of any rank and a one-hot label `[B, n]` -> `[B, features + n]`."""
    return join(rearrange(x, "b ... -> b (...)"), label)


def _label(
    player: str, condition: Tensor | None, num_classes: int | None, x: Tensor
) -> Tensor | None:
    """The one-hot label `[B, num_classes]` of the model's input x, or None without classes."""
    if num_classes is None:
        if condition is not None:
            raise ConditionError(
                f"an unconditional {player} takes no condition: leave the condition out, or build "
                "the model with num_classes=..."
            )
        return None
    if condition is None:
        raise ConditionError(
            f"the {player} has {num_classes} classes and needs labels: call model(x, condition) "
            "with integers [B], or build the model with num_classes=None"
        )
    _check_tensor("labels", condition)
    if condition.shape != x.shape[:1]:
        raise ValueError(f"expected labels {list(x.shape[:1])}, got {list(condition.shape)}")
    return one_hot(condition, num_classes, x.dtype)


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Integers `[...]` -> `[..., num_classes]` of `dtype`, also under vmap, grad and compile.

    Raises ValueError for labels that are no integers, for a number of classes or a dtype that is
    none, and in eager mode on the CPU, outside vmap, for labels outside [0, num_classes).

    Example:
        >>> fgan.models.one_hot(torch.tensor([0, 2]), num_classes=3, dtype=torch.float32)
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """
    _check_tensor("labels", labels)
    if type(num_classes) is not int or num_classes < 1:
        raise ValueError(f"num_classes is a whole number from 1, and {num_classes!r} was given")
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype is one of torch such as torch.float32, and {dtype!r} was given")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers (int64), got {labels.dtype}")
    check_labels(labels, num_classes)
    classes = torch.arange(num_classes, device=labels.device)
    return (labels[..., None] == classes).to(dtype)


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise ValueError for a label outside [0, num_classes), on the CPU and outside vmap.

    Elsewhere the values cannot be read, or not without waiting for the device.
    """
    readable = _readable(labels)
    if readable is not None:
        for label in readable[(readable < 0) | (readable >= num_classes)]:
            raise ValueError(f"label {int(label)} is outside the model's {num_classes} classes")


def _readable(x: Tensor) -> Tensor | None:
    """x, if Python can read its values without a graph break or a GPU sync."""
    if torch.compiler.is_compiling():  # pragma: no cover (traced by Dynamo, not run)
        return None
    while functorch.is_gradtrackingtensor(x):  # has one value, unlike a tensor under vmap
        x = functorch.get_unwrapped(x)
    plain = type(x) is Tensor and not functorch.is_functorch_wrapped_tensor(x)
    return x if plain and x.device.type == "cpu" else None


def _check_tensor(name: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} are a tensor of integers, and {describe(x)} was given")


def _check_shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is a tensor, and {describe(x)} was given")
    if x.shape[1:] != shape or x.ndim == 0:
        expected = ", ".join(["B", *map(str, shape)])
        raise ValueError(f"expected {name} [{expected}], got {list(x.shape)}")


def output_layer(output: str) -> list[nn.Module]:
    """What a generator ends in: `tanh`, for samples in [-1, 1], or nothing for `linear`."""
    if output not in ("tanh", "linear"):
        raise ValueError(f"unknown output {output!r}: choose tanh or linear")
    return [nn.Tanh()] if output == "tanh" else []


def unflatten(sample_shape: Sequence[int]) -> Rearrange:
    """The layer `[B, n]` -> `[B, *sample_shape]`, for samples of any rank."""
    axes = {f"axis{i}": size for i, size in enumerate(sample_shape)}
    names = " ".join(axes)
    return Rearrange(f"b ({names}) -> b {names}", **axes)
