"""Modules as pure functions, their initialisation, BatchNorm over processes, and checks."""

from fgan.networks.dropout import NoiseDropout
from fgan.networks.functional import (
    Network,
    make_functional,
    parameters_and_buffers,
    running_statistics,
)
from fgan.networks.initialise import reinitialized
from fgan.networks.latents import of_flat_latents
from fgan.networks.mean_score import MeanScore
from fgan.networks.mismatch import check_module
from fgan.networks.per_sample import (
    ALTERNATIVES,
    batch_dependence,
    check_batch_independent,
    is_per_sample,
    mixing_layers,
)
from fgan.networks.randomness import check_deterministic, find_randomness, is_transformed
from fgan.networks.second_order import no_second_derivative, twice_differentiable
from fgan.networks.squash import check_last_layer
from fgan.networks.synchronized import synchronized

__all__ = [
    "ALTERNATIVES",
    "MeanScore",
    "Network",
    "NoiseDropout",
    "batch_dependence",
    "check_batch_independent",
    "check_deterministic",
    "check_last_layer",
    "check_module",
    "find_randomness",
    "is_per_sample",
    "is_transformed",
    "make_functional",
    "mixing_layers",
    "no_second_derivative",
    "of_flat_latents",
    "parameters_and_buffers",
    "reinitialized",
    "running_statistics",
    "synchronized",
    "twice_differentiable",
]
