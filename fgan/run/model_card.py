"""The model card of an exported run: what it is, how it was trained, how its files are used."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fgan.run import same_data
from fgan.run.evaluate import EVALUATION, EVALUATION_OF_BEST
from fgan.run.json_files import parse_object, read_object
from fgan.run.loop import CONFIG, METRICS
from fgan.run.trained import Trained
from fgan.types import EMA

CARD = "model-card.md"


def model_card(trained: Trained, run: Path, files: Sequence[Path]) -> str:
    """The card as Markdown: settings and figures of the run in `run`, and how to read `files`.

    Raises ValueError for figures or settings that cannot be read.
    """
    settings = read_object(run / CONFIG)
    shape = settings.pop("sample_shape", [])
    settings.pop(same_data.KEY, None)
    settings.pop("class_names", None)
    done = int(trained.state.round)
    average = "the EMA of the weights" if isinstance(trained.state.ema, EMA) else "the weights"
    kind = "conditional " if trained.config.conditional else ""
    recipe = settings.get("recipe", "a script")
    parts = [
        f"# A {kind}generator of {settings.get('data')}",
        f"Trained by fgan {import_module('fgan').__version__} ({recipe}) for {done} rounds. The "
        f"generator has {average} after that round, "
        f"{_count(trained.state.generator.params)} parameters.",
        "## Inputs and outputs",
        *_inputs(trained, shape),
        "## Use",
        *(_USE[path.name].format(arguments=_arguments(trained, path)) for path in files),
        "## Settings",
        _table(("setting", "value"), {k: v for k, v in settings.items() if v is not None}),
    ]
    figures = _last_figures(run / METRICS, done)
    if figures:
        parts += [
            f"## Figures of round {figures.pop('round')}",
            _table(("figure", "value"), figures),
        ]
    found = (_evaluated(run / name, done) for name in (EVALUATION, EVALUATION_OF_BEST))
    parts += next(filter(None, found), [])
    return "\n\n".join(parts) + "\n"


def _inputs(trained: Trained, shape: Sequence[int]) -> list[str]:
    sizes = ", ".join(map(str, ["B", *shape]))
    lines = [
        f"- `latent` [B, {trained.algorithm.latent_dim}], standard normal numbers",
        f"- `samples` [{sizes}]" + (", images in [-1, 1]" if len(shape) == 3 else ""),
    ]
    if trained.config.conditional:
        numbered = ", ".join(f"{i} {name}" for i, name in enumerate(trained.class_names))
        lines.insert(1, "- `condition` [B], int64" + (f": {numbered}" if numbered else ""))
    return ["\n".join(lines)]


def _arguments(trained: Trained, path: Path) -> str:
    """The inputs as the snippet of a file writes them: a batch of four."""
    arrays = path.suffix == ".onnx"
    latent = f"randn(4, {trained.algorithm.latent_dim})"
    latent = f"np.random.{latent}.astype(np.float32)" if arrays else f"torch.{latent}"
    labels = "np.zeros(4, np.int64)" if arrays else "torch.zeros(4, dtype=torch.int64)"
    names = ("latent", "condition") if trained.config.conditional else ("latent",)
    if arrays:
        return ", ".join(f'"{n}": {v}' for n, v in zip(names, (latent, labels), strict=False))
    return ", ".join((latent, labels)[: len(names)])


_USE = {
    "generator.safetensors": """\
`generator.safetensors` and `critic.safetensors` hold the weights by their names in the modules.
With fgan, this folder is read as a whole (a script's networks are handed in):

```python
import fgan

trained = fgan.load("FOLDER")
samples = trained.sample(64)
```""",
    "critic.safetensors": """\
Without fgan:

```python
from safetensors.torch import load_file

module.load_state_dict(load_file("generator.safetensors"))
```""",
    "generator.pt2": """\
`generator.pt2` is a program of torch.export, on the CPU:

```python
import torch

generator = torch.export.load("generator.pt2").module()
samples = generator({arguments})
```""",
    "generator.onnx": """\
`generator.onnx`, by onnxruntime:

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("generator.onnx")
(samples,) = session.run(None, {{{arguments}}})
```""",
}


def _last_figures(path: Path, done: int) -> dict[str, Any]:
    """The last logged figures up to round `done`; {} where there are none."""
    if not path.is_file():
        return {}
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(parse_object(line))
        except ValueError:  # a line that a crash cut short
            continue
    kept = [row for row in rows if isinstance(row.get("round"), int) and row["round"] <= done]
    return kept[-1] if kept else {}


def _evaluated(path: Path, done: int) -> list[str]:
    """The figures of `fgan evaluate`, where the run was evaluated after this round."""
    if not path.is_file():
        return []
    content = read_object(path)
    figures = content.get("generated")
    if content.get("round") != done or not isinstance(figures, dict):
        return []
    about = (
        f"{content.get('generated_samples')} generated samples beside "
        f"{content.get('real_samples')} real ones ({content.get('compared_with')}), in features: "
        f"{content.get('features')}."
    )
    rows = {k: v.get("value") for k, v in figures.items() if isinstance(v, dict)}
    return ["## Evaluation", about, _table(("measure", "value"), rows)]


def _table(head: tuple[str, str], rows: Mapping[str, Any]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    for name, value in rows.items():
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        lines.append(f"| {name} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def _count(params: Mapping[str, Any]) -> str:
    return f"{sum(tensor.numel() for tensor in params.values()):,}"
