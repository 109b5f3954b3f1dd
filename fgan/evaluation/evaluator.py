"""The figures of a run in training, without confidence intervals."""

from functools import partial
from typing import NamedTuple

from torch import Tensor

from fgan.data import DataSet
from fgan.evaluation.comparison import (
    as_generated,
    check_enough,
    default_features,
    is_image,
    of_patches,
)
from fgan.evaluation.distances import frechet_distance, sliced_wasserstein
from fgan.evaluation.features import Features, extract
from fgan.evaluation.gathering import gathered
from fgan.evaluation.neighbours import neighbourhoods
from fgan.evaluation.patches import OF_PATCHES
from fgan.evaluation.points import mixture_of, modes
from fgan.evaluation.splits import chosen
from fgan.evaluation.trained import FEWEST, check_one_run, conditions, draw, scores
from fgan.scalars import check_count
from fgan.shares import Share
from fgan.types import Algorithm, GANState

SAMPLES = 2000
"""The default number of samples. Distances fall with this number, so compare runs at equal numbers;
`fgan evaluate` takes 5,000."""


class Evaluator:
    """The figures of `evaluate_state` that tell how a run goes on, without intervals.

    The features of the real samples are computed once.

    - `frechet_distance` (`fid` in Inception features), where there are more samples than features;
    - `precision`, `recall`, `density` and `coverage`;
    - `label_accuracy`, for classes as conditions and features with a classifier;
    - for all but images `sliced_wasserstein`; for the points of a known mixture `modes_covered` and
      `high_quality`;
    - `critic_distance`: the critic's mean D(real) - mean D(fake).

    Images without classes have no classifier and are compared by their patches: in place of all
    but the last, `patch_sliced_wasserstein`, as in `compare`.

    Example:
        >>> evaluator = fgan.evaluation.Evaluator(fgan.data.load("rings"), samples=50)
        >>> algorithm = fgan.gan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> figures = evaluator(algorithm, algorithm.init(seed=0), conditional=False)
        >>> evaluator.best_by in figures
        True
    """

    def __init__(
        self,
        reference: DataSet,
        features: Features | None = None,
        *,
        samples: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        """reference: what generated samples are compared with, `samples` of them.

        features: as for `evaluate_state`; needed for images of classes.

        Raises ValueError for images of classes without features, for fewer than six samples, and
        for images in no more samples than features.
        """
        self.samples, self.seed = check_count("samples", samples, FEWEST), seed
        self.real = chosen(reference, self.samples, seed)
        check_count("samples of the reference", len(self.real), FEWEST)
        self._is_image = is_image(reference)
        features = features or default_features(reference, self.real.samples)
        self.features = features
        self._mixture = mixture_of(reference)
        if features.is_patches:
            return
        self._of_real = extract(features.extract, self.real.samples)
        if self._is_image:
            check_enough(features.name, self._of_real.shape[1], len(self.real))

    takes_share = True
    """`fgan.train` lets the processes of a data-parallel run evaluate together."""

    @property
    def best_by(self) -> str:
        """The figure whose smallest value is the best: of images the Fréchet distance, of all
        others the sliced Wasserstein distance, which sees more than means and covariances."""
        if self.features.is_patches:
            return OF_PATCHES
        if not self._is_image:
            return "sliced_wasserstein"
        return "fid" if self.features.is_inception else "frechet_distance"

    def __call__(
        self,
        algorithm: Algorithm,
        state: GANState,
        conditional: bool = True,
        *,
        share: Share | None = None,
    ) -> dict[str, float]:
        """The figures of a state, by name.

        The generator is in evaluation mode, with EMA weights where kept; a conditional one is given
        the conditions of the real samples in turn. The state stays as it is, and no random number
        of the run is used.

        share: (rank, size) of this process among all of the process group, where all call this
            together. Each makes and measures its part of the samples, and all have the figures.

        Raises ValueError for a population, and for generated samples or features that are not
        finite.
        """
        check_one_run(algorithm)
        conditional = conditional and self.real.labels is not None
        device = state.round.device
        each = gathered(
            partial(self._measured, algorithm, state, conditional), self.samples, share, device
        )
        if self.features.is_patches:
            real = as_generated(self.real.samples, each.fake)
            found = {OF_PATCHES: of_patches(real, each.fake, self.seed)[OF_PATCHES]}
        else:
            found = self._in_features(each)
        (of_real,) = gathered(
            partial(self._scores_of_real, algorithm, state, conditional, each.fake),
            len(self.real),
            share,
            device,
        )
        return found | {"critic_distance": float(of_real.mean() - each.score.mean())}

    def _measured(
        self, algorithm: Algorithm, state: GANState, conditional: bool, rows: slice
    ) -> "_Measured":
        """Generated samples, those of some rows."""
        fake, labels = draw(algorithm, state, self.real, self.samples, self.seed, conditional, rows)
        own = fake.to(self.real.samples.device)
        score = scores(algorithm, state, fake, labels, conditional)
        if self.features.is_patches:
            features = own.new_zeros(len(own), 0)
        else:
            features = extract(self.features.extract, own)
        right = own.new_zeros(len(own), 0)
        if conditional and self.real.class_names and self.features.classify is not None:
            seen = extract(self.features.classify, own).argmax(dim=1)
            right = (seen == labels.to(seen.device))[:, None].double()
        return _Measured(own, features, right, score)

    def _scores_of_real(
        self,
        algorithm: Algorithm,
        state: GANState,
        conditional: bool,
        like: Tensor,
        rows: slice,
    ) -> tuple[Tensor]:
        device = state.round.device
        x = as_generated(self.real.samples[rows], like).to(device)
        return (scores(algorithm, state, x, conditions(self.real)[rows].to(device), conditional),)

    def _in_features(self, each: "_Measured") -> dict[str, float]:
        """The figures of samples beside the reference, on its device."""
        of_fake, of_real = each.features, self._of_real
        found: dict[str, Tensor] = {}
        if min(len(of_real), len(of_fake)) > of_real.shape[1]:
            name = "fid" if self.features.is_inception else "frechet_distance"
            found[name] = frechet_distance(of_real, of_fake)
        near = neighbourhoods(of_real, of_fake)
        found |= {name: values.mean() for name, values in near._asdict().items()}
        if each.right.numel():
            found["label_accuracy"] = each.right.mean()
        if not self._is_image:
            found["sliced_wasserstein"] = sliced_wasserstein(of_real, of_fake, seed=self.seed)
        if self._mixture is not None:
            at = modes(each.fake, self._mixture.centres.to(each.fake), self._mixture.std)
            found["modes_covered"], found["high_quality"] = at.covered, at.high_quality
        return {name: float(value) for name, value in found.items()}


class _Measured(NamedTuple):
    """Generated samples, one by one."""

    fake: Tensor
    """[M, ...], on the reference's device"""
    features: Tensor
    """[M, F]; [M, 0] where samples are compared by their patches"""
    right: Tensor
    """[M, 1], whether each was seen as the class asked for; [M, 0] without a classifier"""
    score: Tensor
    """[M], of the critic"""
