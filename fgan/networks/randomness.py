"""Which networks draw random numbers in their forward pass.

A step takes all of its random numbers as data (`fgan.Noise`), so that any round can be computed
again. A forward pass that draws random numbers itself breaks this. `make_functional` refuses the
layers of torch.nn that draw; the check below runs the forward pass and finds every other draw.
"""

import pickle
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch.utils._python_dispatch import TorchDispatchMode, is_in_torch_dispatch_mode

from fgan import tree
from fgan.networks.attributes import is_known
from fgan.networks.functional import Apply, Network, arity, make_functional
from fgan.networks.squash import check_output
from fgan.scores import describe

_SIZE = 2  # of the batch: BatchNorm in training mode needs two samples


def check_deterministic(
    generator: nn.Module,
    critic: nn.Module,
    latent_shape: tuple[int, ...],
    networks: tuple[Network, Network] | None = None,
) -> None:
    """Raise ValueError if the generator or the critic draws random numbers in its forward pass.

    Each network runs twice in training mode on a batch of two: the generator on fixed latents, the
    critic on the samples of the generator. Draws from the global generators of torch, Python and
    NumPy are found, and so are outputs that differ between the two runs. A network is tried without
    a condition, and with the first kind of condition that fits: integer labels, one-hot labels, one
    number a sample. Errors of the forward pass are ignored: an error of shapes belongs to the first
    round, which has the user's data.

    networks: what `make_functional` has made of the two, where that has been done.

    Modules, parameters and all global generators stay as they were. The check is left out within a
    trace or a function transform, for parameters on the meta device, and where every layer is
    torch's, einops' or fgan's own: `make_functional` refuses those of them that draw.

    Example:
        >>> generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
        >>> fgan.networks.check_deterministic(generator, critic, latent_shape=(4,))
    """
    parameters = [*generator.parameters(), *critic.parameters()]
    if is_transformed() or any(parameter.is_meta for parameter in parameters):
        return
    if _has_known_layers(generator) and _has_known_layers(critic):
        return
    latent = torch.linspace(-1, 1, _SIZE * prod(latent_shape)).reshape(_SIZE, *latent_shape)
    latent = latent.to(parameters[0])
    classes = getattr(generator, "num_classes", None) or getattr(critic, "num_classes", None)
    of_generator, of_critic = networks or (make_functional(generator), make_functional(critic))
    samples = _check_network("generator", generator, of_generator, latent, classes)
    if samples is not None:
        _check_network("critic", critic, of_critic, samples, classes)


def _has_known_layers(module: nn.Module) -> bool:
    """Whether every forward method is one that torch, einops or fgan wrote."""
    return all(map(is_known, module.modules()))


def find_randomness(function: Callable[[], Any]) -> str:
    """What `function()` draws random numbers with, or "" if it draws none.

    The answer is the name of an operation of torch, Python's `random`, or `numpy.random`. It is a
    general statement if two calls only give different tensors. All global generators are restored.

    Raises the error of `function`, unless `function` has drawn a number before.

    Example:
        >>> fgan.networks.find_randomness(lambda: torch.zeros(2))
        ''
        >>> "rand" in fgan.networks.find_randomness(lambda: torch.rand(2))
        True
    """
    devices = _accelerators()
    with _restored(devices):
        outputs = []
        for _ in range(2):
            before, operations = _global_states(), _DrawingOperations(devices)
            error: Exception | None = None
            try:
                with operations:
                    outputs.append(function())
            except Exception as raised:
                error = raised
            after = _global_states()
            drawn = [name for name, state in before.items() if after[name] != state]
            if operations.names or drawn:
                return [*operations.names, *drawn][0]
            if error is not None:
                raise error
    return "" if _agree(*outputs) else "a generator of its own, or an attribute that it changes"


def _check_network(
    role: str, module: nn.Module, network: Network, x: Tensor, classes: Any
) -> Tensor | None:
    """Check one network; return the first output that its inputs allow, or None without one."""
    result: Tensor | None = None
    fits = False
    for conditions in _conditions(module, x, classes):
        if conditions and fits:
            break
        before = {name: _version_of(value) for name, value in network.params.items()}
        values = tree.clone(network.params)
        run = _Run(network.apply, (network.params, network.buffers, x, *conditions))
        try:
            source = find_randomness(run)
        except Exception:  # these inputs do not fit this network
            continue
        for name, value in network.params.items():
            if _version_of(value) != before[name] or not torch.equal(value, values[name]):
                raise ValueError(
                    f"the {role} ({type(module).__name__}) writes into its parameter {name!r} in "
                    "the forward pass, so the state that is passed in would change. Compute a new "
                    "tensor from the parameter, or make it a buffer."
                )
        if source:
            when = ", when it is called with a condition" if conditions else ""
            raise ValueError(
                f"the {role} ({type(module).__name__}) draws random numbers in its forward "
                f"pass{when}: it uses {source}. A round could not be computed again. "
                "Feed the random numbers in as data (Noise.extra by the setting critic_noise, or a "
                "part of the latent). Draw "
                "fixed ones once, in __init__, and keep them as a buffer."
            )
        _check_differentiable(role, module, network, run.arguments[2:])
        if role == "critic":
            check_output(run)
        fits = bool(conditions)
        if result is None and isinstance(run.output, Tensor) and run.output.is_floating_point():
            result = run.output.detach()
    return result


def _version_of(tensor: Tensor) -> int:
    """How often torch has written into a tensor: the values may be the same as before."""
    return 0 if tensor.is_inference() else tensor._version


def _check_differentiable(role: str, module: nn.Module, network: Network, inputs: Any) -> None:
    """Raise ValueError where the output does not depend on the parameters, as autograd sees it."""
    with torch.inference_mode(False), torch.enable_grad():
        params = {name: value.clone().requires_grad_() for name, value in network.params.items()}
        output, _ = network.apply(params, network.buffers, *inputs)
    tensors = [leaf for leaf in tree.leaves(output) if isinstance(leaf, Tensor)]
    if isinstance(output, Tensor) and not output.is_floating_point():
        raise ValueError(
            f"the {role} ({type(module).__name__}) gives {describe(output)}, and a tensor of "
            "floating point is expected"
        )
    if tensors and not any(leaf.requires_grad for leaf in tensors):
        raise ValueError(
            f"the output of the {role} ({type(module).__name__}) has no gradient by its "
            "parameters: its forward pass leaves autograd (detach, .data, no_grad, NumPy)"
        )


class _Run:
    """One forward pass of a network, which keeps its last output."""

    def __init__(self, apply: Apply, arguments: tuple[Any, ...]) -> None:
        self.apply, self.arguments, self.output = apply, arguments, None

    def __call__(self) -> Any:
        self.output, _ = self.apply(*self.arguments)
        return self.output


def _conditions(module: nn.Module, x: Tensor, classes: Any) -> Iterator[tuple[Tensor, ...]]:
    """The conditions that a network may be tried with; () stands for none."""
    fewest, most = arity(module)
    if fewest <= 1 <= most:
        yield ()
    if fewest <= 2 <= most:
        labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        yield (labels,)
        if isinstance(classes, int):
            yield (nn.functional.one_hot(labels, classes).to(x.dtype),)
        yield (torch.zeros(len(x), 1, dtype=x.dtype, device=x.device),)


class _DrawingOperations(TorchDispatchMode):
    """Collects the operations of torch that advance a global generator.

    The tag alone is not enough: attention has it without dropout too, when it draws nothing.
    """

    supports_higher_order_operators = True

    def __init__(self, devices: Sequence[torch.device]) -> None:
        super().__init__()
        self.devices = devices
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):
            return func(*args, **(kwargs or {}))
        before = _torch_states(self.devices)
        result = func(*args, **(kwargs or {}))
        after = _torch_states(self.devices)
        if not all(map(torch.equal, before, after)):
            self.names.append(f"torch.ops.{func}")
        return result


def _accelerators() -> list[torch.device]:
    """The devices besides the CPU, if this process uses any."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    return _initialised(accelerator)  # pragma: no cover (needs a GPU)


def _initialised(accelerator: torch.device) -> list[torch.device]:  # pragma: no cover (needs a GPU)
    """Its devices, if this process has initialised them."""
    module = torch.get_device_module(accelerator)
    # Looking at a generator would initialise a GPU that is not used.
    if not getattr(module, "is_initialized", lambda: True)():
        return []
    return [torch.device(accelerator.type, index) for index in range(module.device_count())]


def _torch_states(devices: Sequence[torch.device]) -> list[Tensor]:
    others = [torch.get_device_module(device).get_rng_state(device) for device in devices]
    return [torch.get_rng_state(), *others]


def _global_states() -> dict[str, bytes]:
    """The states of Python's and NumPy's global generators; NumPy's only once it is imported."""
    states = {"Python's random module": pickle.dumps(random.getstate())}
    if "numpy" in sys.modules:  # pragma: no branch (a test process has NumPy)
        states["numpy.random"] = pickle.dumps(sys.modules["numpy"].random.get_state())
    return states


@contextmanager
def _restored(devices: Sequence[torch.device]) -> Iterator[None]:
    """Afterwards the global generators of torch, Python and NumPy are as they were."""
    python, numpy = random.getstate(), sys.modules.get("numpy")
    numpy_state = None if numpy is None else numpy.random.get_state()
    kind = devices[0].type if devices else "cuda"
    try:
        with torch.random.fork_rng(devices, device_type=kind):
            yield
    finally:
        random.setstate(python)
        if numpy is not None:  # pragma: no branch (a test process has NumPy)
            numpy.random.set_state(numpy_state)


def _agree(first: Any, second: Any) -> bool:
    """Whether two outputs agree up to rounding: a GPU may add numbers in another order."""
    if not tree.same_structure(first, second):
        return False
    pairs = zip(tree.leaves(first), tree.leaves(second), strict=True)
    return all(_close(a, b) for a, b in pairs if isinstance(a, Tensor) and isinstance(b, Tensor))


def _close(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or not first.is_floating_point():
        return torch.equal(first, second)
    finite = second[second.isfinite()].abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    tolerance = 1e-6 + scale * max(1e-4, 16 * torch.finfo(first.dtype).eps)
    return torch.allclose(first, second, rtol=0.0, atol=tolerance, equal_nan=True)


def is_transformed() -> bool:
    """Whether this code runs within a trace or a function transform such as `vmap`.

    Nothing can then be run on the side, without becoming part of the trace or the transform.

    Example:
        >>> fgan.networks.is_transformed()
        False
    """
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return True
    return functorch.peek_interpreter_stack() is not None
