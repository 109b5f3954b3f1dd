"""GAN training as pure functions: models are parameter trees, a training round is `state -> state`.

algorithm = fgan.wgan_gp(generator, critic)
state = algorithm.init(seed=0)
state, info = algorithm.step(state, batch, algorithm.noise(seed=0, round_index=0, batch_size=64))
"""

# First: the imports below take seconds, and Ctrl-C is to end a command in them without a traceback.
import fgan.run.signals  # noqa: F401

# isort: split
from fgan import (
    augment,
    data,
    evaluation,
    losses,
    measures,
    models,
    objectives,
    optim,
    penalties,
    tree,
)
from fgan.accumulation import accumulate
from fgan.algorithm import make_algorithm
from fgan.compiler.compile import compile
from fgan.distributed import data_parallel
from fgan.networks import Network, make_functional
from fgan.nonfinite import skip_nonfinite
from fgan.optim import adam, adamw, rmsprop, sgd
from fgan.population import population
from fgan.recipes import dragan, gan, hinge_gan, lsgan, r3gan, wgan, wgan_div, wgan_gp
from fgan.run.loop import train
from fgan.run.trained import load
from fgan.types import Algorithm, Batch, GANInfo, GANState, Noise

__version__ = "0.2.0"

__all__ = [
    "Algorithm",
    "Batch",
    "GANInfo",
    "GANState",
    "Network",
    "Noise",
    "__version__",
    "accumulate",
    "adam",
    "adamw",
    "augment",
    "compile",
    "data",
    "data_parallel",
    "dragan",
    "evaluation",
    "gan",
    "hinge_gan",
    "load",
    "losses",
    "lsgan",
    "make_algorithm",
    "make_functional",
    "measures",
    "models",
    "objectives",
    "optim",
    "penalties",
    "population",
    "r3gan",
    "rmsprop",
    "sgd",
    "skip_nonfinite",
    "train",
    "tree",
    "wgan",
    "wgan_div",
    "wgan_gp",
]
