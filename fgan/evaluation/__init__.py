"""How good generated samples are: distances, precision and recall, modes. No files, no printing."""

from fgan.evaluation.classifier import TrainedClassifier, train_classifier
from fgan.evaluation.comparison import Evaluation, compare
from fgan.evaluation.distances import frechet_distance, kernel_distance, sliced_wasserstein
from fgan.evaluation.evaluator import Evaluator
from fgan.evaluation.features import Features, module_features
from fgan.evaluation.neighbours import density_coverage, precision_recall
from fgan.evaluation.patches import BY_PATCHES, patch_distances
from fgan.evaluation.points import modes, wasserstein_distance
from fgan.evaluation.resampling import Interval, bootstrap
from fgan.evaluation.splits import held_out, load_parts
from fgan.evaluation.trained import evaluate, evaluate_state

__all__ = [
    "BY_PATCHES",
    "Evaluation",
    "Evaluator",
    "Features",
    "Interval",
    "TrainedClassifier",
    "bootstrap",
    "compare",
    "density_coverage",
    "evaluate",
    "evaluate_state",
    "frechet_distance",
    "held_out",
    "kernel_distance",
    "load_parts",
    "modes",
    "module_features",
    "patch_distances",
    "precision_recall",
    "sliced_wasserstein",
    "train_classifier",
    "wasserstein_distance",
]
