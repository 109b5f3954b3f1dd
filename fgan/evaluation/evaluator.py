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
from fgan.evaluation.inputs import in_float64
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

    @property
    def best_by(self) -> str:
        """The figure whose smallest value is the best: of images the Fréchet distance, of all
        others the sliced Wasserstein distance, which sees more than means and covariances."""
        if self.features.is_patches:
            return OF_PATCHES
        if not self._is_image:
            return "sliced_wasserstein"
        return "fid" if self.features.is_inception else "frechet_distance"

    @property
    def identity(self) -> str:
        """Equal for evaluators with the same settings, real samples and features.

        The processes of a data-parallel run compare it.
        """
        real = in_float64(self.real.samples).sum()
        identity = f"{self.samples} samples, seed {self.seed}, {len(self.real)} of {real:.6g}"
        if not self.features.is_patches:
            identity += f", {self.features.name} of {self._of_real.abs().sum():.6g}"
        return identity

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

        share: (rank, size) of this process in the default process group, whose processes all call
            this together. Each makes and measures its part of the samples, and all have the
            figures. They are those of one process, up to rounding, where no layer of the generator
            or the features mixes the samples of a batch in evaluation mode.

        Raises ValueError for a population, and for generated samples or features that are not
        finite.
        """
        check_one_run(algorithm)
        conditional = conditional and self.real.labels is not None
        measure = partial(self._measure, algorithm, state, conditional)
        measured = _Measured(*gathered(measure, self.samples, share, state.round.device))
        real = as_generated(self.real.samples, measured.fake)
        if self.features.is_patches:
            found = {OF_PATCHES: of_patches(real, measured.fake, self.seed)[OF_PATCHES]}
        else:
            found = self._in_features(measured)
        device = state.round.device
        labels = conditions(self.real).to(device)
        of_real = scores(algorithm, state, real.to(device), labels, conditional)
        return found | {"critic_distance": float(of_real.mean() - measured.score.mean())}

    def _measure(
        self, algorithm: Algorithm, state: GANState, conditional: bool, rows: slice
    ) -> "_Measured":
        """Make and measure the generated samples `rows`."""
        fake, labels = draw(algorithm, state, self.real, self.samples, self.seed, conditional, rows)
        score = scores(algorithm, state, fake, labels, conditional)
        fake = fake.to(self.real.samples.device)
        features = is_right = fake.new_zeros(len(fake), 0)
        if not self.features.is_patches:
            features = extract(self.features.extract, fake)
        if conditional and self.real.class_names and self.features.classify is not None:
            seen = extract(self.features.classify, fake).argmax(dim=1)
            is_right = (seen == labels.to(seen.device))[:, None].double()
        if not self.features.is_patches and self._mixture is None:
            fake = fake.new_zeros(len(fake), 0)  # nothing else is measured of the samples
        return _Measured(fake, features, is_right, score)

    def _in_features(self, measured: "_Measured") -> dict[str, float]:
        """The figures of samples beside the reference, on its device."""
        of_fake, of_real = measured.features, self._of_real
        found: dict[str, Tensor] = {}
        if min(len(of_real), len(of_fake)) > of_real.shape[1]:
            name = "fid" if self.features.is_inception else "frechet_distance"
            found[name] = frechet_distance(of_real, of_fake)
        near = neighbourhoods(of_real, of_fake)
        found |= {name: values.mean() for name, values in near._asdict().items()}
        if measured.is_right.numel():
            found["label_accuracy"] = measured.is_right.mean()
        if not self._is_image:
            found["sliced_wasserstein"] = sliced_wasserstein(of_real, of_fake, seed=self.seed)
        if self._mixture is not None:
            centres = self._mixture.centres.to(measured.fake)
            at = modes(measured.fake, centres, self._mixture.std)
            found["modes_covered"], found["high_quality"] = at.covered, at.high_quality
        return {name: float(value) for name, value in found.items()}


class _Measured(NamedTuple):
    """What is measured of each generated sample."""

    fake: Tensor
    """The samples [M, ...], on the reference's device; [M, 0] where no figure needs them."""
    features: Tensor
    """[M, F]; [M, 0] where samples are compared by their patches."""
    is_right: Tensor
    """[M, 1]: whether the classifier sees the class asked for; [M, 0] without a classifier."""
    score: Tensor
    """[M]: of the critic."""
