"""Train on your own data: a table, signals from a DataLoader, and a folder of pictures.

    python examples/own_data.py                 # half a minute, into runs/own_data
    python examples/own_data.py --rounds 3000   # longer

The data are made here, so that the script needs no files; put yours in their place. Each run leaves
pictures, figures and checkpoints in its folder.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import fgan


def table(rows: int = 4000) -> Tensor:
    """[rows, 3]: height in cm, weight in kg and age, the first two correlated."""
    height = 170 + 10 * torch.randn(rows)
    weight = 70 + 0.9 * (height - 170) + 5 * torch.randn(rows)
    return torch.stack([height, weight, 20 + 60 * torch.rand(rows)], dim=1)


def signals(count: int = 2000) -> tuple[Tensor, Tensor]:
    """[count, 1, 64] sine waves, and the frequency of each as its condition [count, 1]."""
    frequency = 1 + 3 * torch.rand(count, 1)
    time = torch.linspace(0, 1, 64) + torch.rand(count, 1)
    return torch.sin(2 * torch.pi * frequency * time)[:, None], frequency


def pictures(folder: Path, count: int = 200) -> None:
    """Write pictures of 24x16 pixels, a disc each, into a folder without sub-folders."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (x, y) in enumerate(torch.rand(count, 2).tolist()):
        image = Image.new("RGB", (24, 16), (20, 30, 60))
        left, top = 14 * x, 6 * y
        ImageDraw.Draw(image).ellipse([left, top, left + 9, top + 9], fill=(240, 200, 60))
        image.save(folder / f"{number:03d}.png")


class Wave(torch.nn.Module):
    """A network with a number as its condition, beside its input: signals from latents, or scores.

    A module of your own takes `(z, condition)` or `(x, condition)`; fgan asks for no more.
    """

    def __init__(self, inputs: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.latent_dim, self.outputs = inputs, outputs
        size = torch.Size(outputs).numel()
        layers = [torch.nn.Linear(inputs + 1, 128), torch.nn.SiLU(), torch.nn.Linear(128, 128)]
        self.layers = torch.nn.Sequential(*layers, torch.nn.SiLU(), torch.nn.Linear(128, size))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.layers(torch.cat([x.flatten(1), condition], 1)).reshape(-1, *self.outputs)


def main(rounds: int, out: Path) -> None:
    """Three runs."""
    torch.manual_seed(0)
    rate = {name: fgan.adam(1e-3, betas=(0.0, 0.9)) for name in
            ("generator_optimizer", "critic_optimizer")}  # fmt: skip

    rows = table()
    mean, std = rows.mean(0), rows.std(0)  # networks like numbers around 0
    data = fgan.data.DataSet("people", (rows - mean) / std)
    generator = fgan.models.mlp_generator((3,), 8, hidden=(64, 64), norm="none")
    critic = fgan.models.mlp_critic((3,), hidden=(64, 64))
    algorithm = fgan.wgan_gp(generator, critic, n_critic=2, **rate)
    state = fgan.train(algorithm, data, rounds=rounds, out=out / "table", batch_size=128)
    people = algorithm.generate(state, torch.randn(4000, 8)) * std + mean
    real, fake = (float(torch.corrcoef(x.T)[0, 1]) for x in (rows, people))
    print(f"height and weight: correlation {real:.2f} in the table, {fake:.2f} generated")

    loader = DataLoader(TensorDataset(*signals()), batch_size=64, shuffle=True, drop_last=True)
    algorithm = fgan.wgan_gp(Wave(16, (1, 64)), Wave(64, (1,)), n_critic=2, **rate)
    fgan.train(algorithm, loader, rounds=rounds, out=out / "signals")

    pictures(out / "discs")
    generator = fgan.models.conv_generator((3, 16, 24), 16, width=8)
    critic = fgan.models.conv_critic((3, 16, 24), width=8)
    algorithm = fgan.wgan_gp(generator, critic, n_critic=2, **rate)
    fgan.train(algorithm, f"folder:{out / 'discs'}", rounds=rounds, out=out / "folder", flip=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400, help="of each run (default: 400)")
    parser.add_argument("--out", type=Path, default=Path("runs/own_data"), help="of the runs")
    main(**vars(parser.parse_args()))
