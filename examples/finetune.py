"""Fine-tune: from a state that was trained on much data to a task with little.

    python examples/finetune.py                 # twenty seconds, into runs/finetune

`fgan.train(..., state=...)` starts from a state. Here the rings are learnt first, then 60 points of
rings that are turned into ellipses and moved; the same rounds from weights that are drawn anew come
less far. The distance is the sliced Wasserstein distance to 4,000 points that neither run saw.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import fgan


def ellipses(points: Tensor) -> Tensor:
    """The task with little data: rings [N, 2], squeezed and moved."""
    return points * torch.tensor([1.0, 0.6]) + torch.tensor([0.8, 0.0])


def main(rounds: int, out: Path) -> None:
    """Train, fine-tune, and train the same rounds from scratch."""
    rings = fgan.data.load("rings")
    generator = fgan.models.mlp_generator((2,), 2, hidden=(64,) * 3, norm="none")
    critic = fgan.models.mlp_critic((2,), hidden=(64,) * 3)
    rate = fgan.adam(1e-3, betas=(0.5, 0.99))
    algorithm = fgan.r3gan(
        generator,
        critic,
        gamma=0.2,
        generator_optimizer=rate,
        critic_optimizer=rate,
        ema_decay=0.99,
    )
    few = fgan.data.DataSet("ellipses", ellipses(rings.samples[:60]))
    unseen = ellipses(rings.samples[-4000:])

    settings = {"conditional": False, "batch_size": 128}
    trained = fgan.train(algorithm, rings, rounds=rounds, out=out / "rings", **settings)
    short = {"rounds": rounds // 16, "batch_size": 32}
    tuned = fgan.train(algorithm, few, out=out / "tuned", state=trained, **short)
    scratch = fgan.train(algorithm, few, out=out / "scratch", **short)

    latent = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    distances = {}
    for name, state in {"not yet": trained, "tuned": tuned, "from scratch": scratch}.items():
        points = algorithm.generate(state, latent)
        distances[name] = float(fgan.evaluation.sliced_wasserstein(points, unseen))
        print(f"{name:12} {distances[name]:.3f} away from the ellipses")
    assert distances["tuned"] < min(distances["not yet"], distances["from scratch"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000, help="on the rings (default: 1000)")
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"), help="of the runs")
    main(**vars(parser.parse_args()))
