"""`fgan export`: a trained generator as a file for other programs, checked before it is kept."""

from __future__ import annotations

import inspect
import io
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fgan.data.files import make_folder, replacing
from fgan.networks.functional import arity, copied
from fgan.run.loop import CONFIG
from fgan.run.model_card import CARD, model_card
from fgan.run.trained import Trained
from fgan.run.weights import PLAYERS, pack, path_of, unpack, write

__all__ = ["FORMATS", "export"]

FOLDER, FOLDER_OF_BEST = "export", "export-best"
GRAPHS = {"torch-export": "generator.pt2", "onnx": "generator.onnx"}
"""The files of a generator's graph, by format."""
FORMATS = ("safetensors", *GRAPHS)

_SIZES = (1, 2, 5)  # batches on which outputs are compared
_ROUNDING = 1e-4  # of the largest output: other programs sum in another order


class Example(NamedTuple):
    """Inputs of a generator."""

    latent: Tensor
    """[B, Z]"""
    condition: tuple[Tensor, ...]
    """One tensor [B, ...], or none."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.latent, *self.condition)


def export(
    trained: Trained,
    to: str,
    run: str | Path,
    out: str | Path | None = None,
    *,
    condition: Tensor | None = None,
) -> list[Path]:
    """Write the generator of a run as a file, and a model card beside it; returns their paths.

    to: `safetensors` writes the weights of both networks, by their names in the modules, and the
        run's `config.json`: a folder for `fgan.load`. `torch-export` and `onnx` write the graph of
        the generator, latent [B, Z] and condition [B] to samples [B, ...], for batches of any size.
    run: the folder that `trained` was loaded from, whose settings and figures the card tells.
    out: the folder for the files (default: `export` in the run's folder).
    condition: [B, ...], an example for a run whose conditions are no classes.

    The outputs of the written file are compared with those of the module on batches of three sizes
    before the file is kept: of safetensors and torch-export to the last bit, of ONNX, by
    onnxruntime, to 1e-4 of the largest output.

    Raises ValueError for an unknown format, for packages that are not installed (extra `export`),
    for a module that cannot be exported for any batch size, for outputs that differ, and for an
    `out` with the weights of another run.

    Example:
        >>> from fgan.run.export import export
        >>> generator = fgan.models.mlp_generator((2,), latent_dim=4, hidden=(8,))
        >>> critic = fgan.models.mlp_critic((2,), hidden=(8,))
        >>> points = fgan.data.DataSet("points", torch.randn(100, 2))
        >>> state = fgan.train(fgan.gan(generator, critic), points, rounds=1, out="runs/to-export")
        round 1/1 ...
        >>> trained = fgan.load("runs/to-export", generator=generator, critic=critic)
        >>> paths = export(trained, "safetensors", run="runs/to-export")
        >>> sorted(path.name for path in paths)
        ['config.json', 'critic.safetensors', 'generator.safetensors', 'model-card.md']
    """
    check_format(to)
    run = Path(run)
    out = run / FOLDER if out is None else Path(out)
    settings = (run / CONFIG).read_bytes()
    examples = [_example(trained, size, condition) for size in _SIZES]
    if to == "safetensors":
        if (out / CONFIG).exists() and (out / CONFIG).read_bytes() != settings:
            raise ValueError(f"{out} belongs to another run: choose another folder with --out")
        write_files = _weights
    else:
        write_files = _torch_export if to == "torch-export" else _onnx
    make_folder(out)
    written = write_files(trained, out, examples)
    if to == "safetensors":
        write(out / CONFIG, settings)
        written.append(out / CONFIG)
    card = model_card(trained, run, [path for path in _all_files(out) if path.exists()])
    write(out / CARD, card.encode())
    return [*written, out / CARD]


def check_format(to: str) -> None:
    """Raise ValueError unless the format is one of `FORMATS`."""
    if to not in FORMATS:
        raise ValueError(f"unknown format {to!r}; known are {', '.join(FORMATS)}")


def _all_files(out: Path) -> list[Path]:
    return [*(path_of(out, name) for name in PLAYERS), *(out / name for name in GRAPHS.values())]


def _example(trained: Trained, size: int, condition: Tensor | None) -> Example:
    """A batch of inputs of that size, on the device of the module."""
    parameter = next(trained.generator.parameters())
    source = torch.Generator().manual_seed(size)
    latent = torch.randn(size, trained.algorithm.latent_dim, generator=source, device="cpu")
    if condition is not None:
        repeated = torch.cat([condition] * (1 + size // len(condition)))[:size]
        return Example(latent.to(parameter), (repeated.to(parameter.device),))
    labels = trained.conditions(size)
    return Example(latent.to(parameter), () if labels is None else (labels.to(parameter.device),))


def _weights(trained: Trained, out: Path, examples: list[Example]) -> list[Path]:
    done = int(trained.state.round)
    made = [trained.generator(*example.inputs).detach() for example in examples]
    batches = {
        "generator": [example.inputs for example in examples],
        "critic": [(x, *example.condition) for x, example in zip(made, examples, strict=True)],
    }
    for player in PLAYERS:
        module: nn.Module = getattr(trained, player)
        with replacing(path_of(out, player)) as temporary:
            temporary.write_bytes(pack(module, done))
            empty = copied(module, "cpu")
            for tensor in empty.state_dict().values():
                tensor.zero_()
            read = unpack(temporary, empty).eval().to(next(module.parameters()).device)
            _check_equal(module, read, batches[player], path_of(out, player), 0.0)
    return [path_of(out, player) for player in PLAYERS]


def _torch_export(trained: Trained, out: Path, examples: list[Example]) -> list[Path]:
    path, generator = out / GRAPHS["torch-export"], trained.generator
    example = examples[-1]
    with replacing(path) as temporary, _exporting(path):
        program = torch.export.export(
            generator, example.inputs, dynamic_shapes=_dynamic(generator, example)
        )
        content = io.BytesIO()  # torch.export.save wants a name that ends in .pt2
        torch.export.save(program, content)
        temporary.write_bytes(content.getbuffer())
        content.seek(0)
        read = torch.export.load(content).module()
        inputs = [each.inputs for each in examples]
        _check_equal(generator, read, inputs, path, 0.0)
    return [path]


def _onnx(trained: Trained, out: Path, examples: list[Example]) -> list[Path]:
    path, generator = out / GRAPHS["onnx"], trained.generator
    example = examples[-1]
    runtime = _onnxruntime()
    names = ["latent", "condition"][: len(example.inputs)]
    with replacing(path) as temporary, _exporting(path):
        program = torch.onnx.export(
            generator,
            example.inputs,
            dynamo=True,
            dynamic_shapes=_dynamic(generator, example),
            input_names=names,
            output_names=["samples"],
            verbose=False,
        )
        assert program is not None  # with dynamo=True
        program.save(str(temporary), external_data=False)
        providers = ["CPUExecutionProvider"]
        session = runtime.InferenceSession(temporary.read_bytes(), providers=providers)

        def read(*inputs: Tensor) -> Tensor:
            given = {name: x.cpu().numpy() for name, x in zip(names, inputs, strict=True)}
            return torch.from_numpy(session.run(None, given)[0])

        inputs = [each.inputs for each in examples]
        _check_equal(generator, read, inputs, path, _ROUNDING)
    return [path]


def _dynamic(generator: nn.Module, example: Example) -> tuple[Any, ...]:
    """Of each input, the first axis, of one size for all of them."""
    batch = {0: torch.export.Dim("batch")}
    condition: tuple[Any, ...] = (batch,) * len(example.condition)
    if arity(generator)[1] == float("inf"):  # forward(z, *conditions)
        kinds = [p.kind for p in inspect.signature(generator.forward).parameters.values()]
        if kinds[1:] == [inspect.Parameter.VAR_POSITIONAL]:
            return (batch, condition)
    return (batch, *condition)


@contextmanager
def _exporting(path: Path) -> Iterator[None]:
    """Turn what torch raises for a module that has no graph into one line. Raises ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of parts of it that are deprecated
            yield
    except (ValueError, OSError, MemoryError):
        raise
    except ImportError as error:
        raise ValueError(_missing(str(error.name))) from error
    except Exception as error:  # the exporters raise a dozen kinds
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise ValueError(
            f"{path.name} cannot be made of this generator for batches of any size: {reason}"
        ) from error


def _check_equal(
    module: nn.Module,
    read: Callable[..., Tensor],
    batches: list[tuple[Tensor, ...]],
    path: Path,
    tolerance: float,
) -> None:
    """Raise ValueError where the file's outputs differ from those of the module."""
    for inputs in batches:
        with torch.no_grad():
            expected, got = module(*inputs), read(*inputs)
        # Of a critic with heads, the scores.
        expected, got = (x[0] if isinstance(x, tuple | list) else x for x in (expected, got))
        limit = tolerance * max(1.0, float(expected.abs().max()))
        difference = (got.to(expected) - expected).abs().max()
        if got.shape != expected.shape or not difference <= limit:
            raise ValueError(
                f"{path.name} was not kept: for a batch of {len(inputs[0])} its outputs "
                f"{list(got.shape)} differ by {float(difference):.3g} from those of the module, "
                f"{list(expected.shape)}"
            )


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(_missing(str(error.name))) from error
    return onnxruntime


def _missing(name: str) -> str:
    return f"{name} is not installed: pip install 'fgan[export]', or pip install {name}"
