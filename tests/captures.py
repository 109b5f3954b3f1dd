"""A stand-in for CUDA graphs, on any device."""

import torch

import fgan
from fgan import tree

FIGURES = [name for name in fgan.GANInfo._fields if name != "terms"]


class FakeCapture:
    """Captures like a CUDA graph, on any device: the function runs at a launch only."""

    def __init__(self):
        self.captures = self.launches = 0

    def __call__(self, function):
        self.captures += 1
        # The memory of the figures: a capture does not know their values.
        fields = {name: torch.full((), torch.nan, dtype=torch.float64) for name in FIGURES}
        terms = {"gradient_penalty": torch.full((), torch.nan, dtype=torch.float64)}
        info = fgan.GANInfo(**fields, terms=terms)

        def launch():
            self.launches += 1
            tree.map(torch.Tensor.copy_, info, function())

        return launch, info


def in_place(algorithm):
    """A round that writes the new state into the old one's memory, as compiled rounds do."""

    def step(state, batch, noise):
        new, info = algorithm.step(state, batch, noise)
        tree.map(torch.Tensor.copy_, state, new)
        return state, info

    return step
