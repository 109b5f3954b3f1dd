"""What a run from the command line is made of, and how it is written down and read."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fgan.data import Fingerprint
from fgan.run import build, same_data
from fgan.run.history import History
from fgan.run.json_files import read_object, write_object
from fgan.run.settings import MODELS, Config, as_values, check_types
from fgan.types import Algorithm

__all__ = ["MODELS", "Config", "Run"]


@dataclass(frozen=True)
class Run:
    """A configuration and what it was applied to: enough to build the networks without the data.

    Example:
        >>> from fgan.run.configuration import Config, Run
        >>> run = Run(Config(recipe="gan", data="rings", conditional=False), (2,), ())
        >>> algorithm, generator, critic = run.built(torch.device("cpu"))
        >>> generator(torch.zeros(3, 64)).shape
        torch.Size([3, 2])
    """

    config: Config
    sample_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    data: Fingerprint | None = None
    """The data's identity; None until it is known."""

    def save(self, path: Path) -> None:
        """Write as JSON, with the kind of the networks in place of "auto"."""
        content = asdict(self.config) | {"model": self.model}
        content |= (
            {"sample_shape": self.sample_shape, "class_names": self.class_names}
            if self.data is None
            else same_data.as_json(self.data)
        )
        write_object(path, content)

    @staticmethod
    def load(path: Path) -> "Run":
        """Read what `save` wrote; a setting that is missing has the default of its field.

        Raises ValueError where it cannot be read, naming the file, and the key where there is one.
        """
        if not os.path.lexists(path):
            raise ValueError(f"there is no run in {path.parent}: no {path.name}")
        content = read_object(path)
        data = same_data.of_json(content, path)
        for name in ("sample_shape", "class_names", same_data.KEY):
            content.pop(name, None)
        if "recipe" not in content:
            raise ValueError(
                f"{path} has no recipe: a script made the networks of this run, and only a script "
                "can build them again"
            )
        check_types(content, path)
        if content.get("model", "auto") == "auto":  # by version 0.1, whose networks had fewer sizes
            content["model"] = build.model_of_0_1(data.sample_shape)
        try:
            return Run(Config(**as_values(content)), data.sample_shape, data.class_names, data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def is_begun(self, path: Path) -> bool:
        """Whether checkpoints lie beside the configuration at `path`, and it has these settings.

        Raises ValueError as `load` does.
        """
        if not History(path.parent, 0):
            return False
        known = Run.load(path)
        same = replace(self, config=replace(self.config, model=self.model), data=None)
        return replace(known, data=None) == same

    @property
    def model(self) -> str:
        """The networks' kind: as it was set, or chosen by the shape of a sample for "auto"."""
        return build.model_of(self.config, self.sample_shape)

    @property
    def sizes(self) -> tuple[int, int]:
        """The parameters of the generator and of the critic."""
        return build.sizes(self.config, self.sample_shape, len(self.class_names))

    def build(self, device: torch.device | str = "cpu") -> Algorithm:
        """The algorithm with fresh networks on `device`.

        Raises ValueError where the settings, the recipe and the sample's shape do not fit, and
        where the networks cannot be held in memory.
        """
        return self.built(device)[0]

    def built(self, device: torch.device | str = "cpu") -> tuple[Algorithm, nn.Module, nn.Module]:
        """The algorithm with fresh networks on `device`, the generator and the critic.

        Raises ValueError as `build` does.
        """
        count = len(self.class_names)
        generator, critic = build.players(self.config, self.sample_shape, count, device)
        return self.algorithm(generator, critic), generator, critic

    def algorithm(self, generator: nn.Module, critic: nn.Module) -> Algorithm:
        """The algorithm of two networks with the recipe and the settings of this run."""
        return build.algorithm_of(self.config, self.sample_shape, generator, critic)
