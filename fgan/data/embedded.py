"""Data sets that need no download: points in the plane and drawn digits.

Each function returns `(samples, labels, class_names)`, the same on every call. Sample i has class
`i % num_classes`, so that classes are balanced and any slice shows all of them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fgan.seeds import mix_seed

POINTS = 12_000  # divides evenly into 3 rings, 25 modes and 4 quarters
GLYPHS_PER_CLASS = 2_000

_RADII = (0.5, 1.0, 1.5)
_STROKES = (0, 3, 6, 9)  # pixels added around the outline, at eight times the final resolution

# The random change of one glyph, each drawn uniformly from (low, high). Rotation in radians, slant
# as a tangent (more to the right than to the left, as in handwriting), shifts in half image widths.
_CHANGES = {
    "rotation": (-0.2, 0.2),
    "slant": (-0.15, 0.3),
    "width": (0.7, 1.15),
    "height": (0.75, 1.0),
    "right": (-0.1, 0.1),
    "down": (-0.1, 0.1),
}


def rings() -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Three concentric circles of radius 0.5, 1 and 1.5 with noise of 0.05; class = circle."""
    generator = _generator(1)
    labels = torch.arange(POINTS) % len(_RADII)
    angle = 2 * math.pi * torch.rand(POINTS, generator=generator)
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)  # [N, 2]
    noise = 0.05 * torch.randn(POINTS, 2, generator=generator)
    samples = torch.tensor(_RADII)[labels, None] * circle + noise
    return samples, labels, tuple(f"radius {radius}" for radius in _RADII)


def grid() -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """25 Gaussians on a 5 x 5 grid, each axis of unit variance; class = Gaussian.

    The toy set of WGAN-GP (arXiv 1704.00028, section 4 and its code), with wider modes: a standard
    deviation of 0.05 grid steps.
    """
    labels = torch.arange(POINTS) % 25
    centre = torch.stack([labels // 5, labels % 5], dim=-1) - 2.0  # [N, 2], from -2 to 2
    noise = 0.05 * torch.randn(POINTS, 2, generator=_generator(2))
    names = tuple(f"column {i // 5}, row {i % 5}" for i in range(25))
    return (centre + noise) / math.sqrt(2), labels, names  # 2 is the variance of {-2, ..., 2}


def swiss_roll() -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """A spiral of one and a half turns, radius 0.6 to 1.9; class = quarter of its angle.

    The toy set of WGAN-GP (arXiv 1704.00028, code), with its scale of 1 / 7.5 and noise of 0.25.
    """
    generator = _generator(3)
    labels = torch.arange(POINTS) % 4
    along = (labels + torch.rand(POINTS, generator=generator)) / 4  # in [0, 1)
    angle = 1.5 * math.pi * (1 + 2 * along)
    spiral = torch.stack([angle * angle.cos(), angle * angle.sin()], dim=-1)  # [N, 2]
    noise = 0.25 * torch.randn(POINTS, 2, generator=generator)
    return (spiral + noise) / 7.5, labels, tuple(f"quarter {i + 1}" for i in range(4))


def glyphs() -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Digits in the manner of MNIST, white on black, 2000 of each: uint8 [20000, 1, 28, 28].

    Pillow's bundled font at four stroke widths, under random rotation, slant, scale and shift.
    Raises ImportError where Pillow was built without FreeType.
    """
    low, high = torch.tensor(list(_CHANGES.values())).T
    generator = _generator(4)
    stroke = torch.arange(GLYPHS_PER_CLASS) % len(_STROKES)
    columns = []
    for digit in range(10):
        change = low + (high - low) * torch.rand(GLYPHS_PER_CLASS, len(low), generator=generator)
        theta = _inverse_affine(*change.unbind(-1))
        drawn = torch.stack([_draw(str(digit), width) for width in _STROKES])  # [S, 1, 56, 56]
        where = F.affine_grid(theta, [GLYPHS_PER_CLASS, 1, 28, 28], align_corners=False)
        columns.append(F.grid_sample(drawn[stroke], where, align_corners=False))
    pixels = torch.stack(columns, dim=1).flatten(0, 1)  # [2000 * 10, 1, 28, 28]
    labels = torch.arange(len(pixels)) % 10
    return pixels.mul(255).round().to(torch.uint8), labels, tuple("0123456789")


def _generator(stream: int) -> Generator:
    return Generator().manual_seed(mix_seed(stream))


def _draw(text: str, stroke: int) -> Tensor:
    """`text` in white, centred and 20 / 28 of the height, as in MNIST: float [1, 56, 56]."""
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    font = ImageFont.load_default(size=228)
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("L", (224, 224))
    corner = ((224 - left - right) / 2, (224 - top - bottom) / 2)
    ImageDraw.Draw(canvas).text(corner, text, fill=255, font=font, stroke_width=stroke)
    # Blurred by one pixel of the final 28 x 28, so that sampling it there is free of aliasing.
    small = canvas.filter(ImageFilter.BoxBlur(3.5)).reduce(4)
    return torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(1, 56, 56) / 255


def _inverse_affine(
    rotation: Tensor, slant: Tensor, width: Tensor, height: Tensor, right: Tensor, down: Tensor
) -> Tensor:
    """The [N, 2, 3] maps, from places in the changed image to places in the drawn one.

    The change takes x to A x + shift with A = rotation @ slant @ scale; `affine_grid` asks, for
    each output pixel, where it comes from: A^-1 (x - shift).
    """
    zero, one = torch.zeros_like(slant), torch.ones_like(slant)
    cos, sin = rotation.cos(), rotation.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=-1).view(-1, 2, 2)
    shear = torch.stack([one, -slant, zero, one], dim=-1).view(-1, 2, 2)  # y points down
    scale = torch.stack([width, zero, zero, height], dim=-1).view(-1, 2, 2)
    inverse = torch.linalg.inv(turn @ shear @ scale)
    shift = torch.stack([right, down], dim=-1).unsqueeze(-1)  # [N, 2, 1]
    return torch.cat([inverse, -inverse @ shift], dim=-1)
