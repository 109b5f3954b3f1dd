"""Milliseconds per round: fgan eager and compiled against the imperative way, JAX and the limit.

    python bench/rounds.py                          # every recipe on every workload
    python bench/rounds.py --workloads mlp --recipes wgan-gp
    python bench/rounds.py --contestants imperative jax fgan.compile

Every contestant first plays the same two rounds from the same weights and must find the same critic
losses; the second one tells whether the generator moved alike. The generator's own loss cannot: the
last bias of a Wasserstein critic has no gradient but rounding, and Adam makes full steps of that.
Then they play in turn, two rounds each with the second one timed, so that a drift of the machine
meets all of them alike.
"""

import argparse
import copy
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from imperative import captured_step, imperative_step
from limits import (
    Rates,
    flops,
    measured_rates,
    optimizer_bytes_of_round,
    products_of_round,
    seconds_alone,
)
from peers import peer_steps
from rich.console import Console
from rich.table import Table
from workloads import RECIPES, WORKLOADS, Workload

import fgan
from fgan.objectives import Penalty, adversarial, adversarial_generator
from fgan.penalties import gradient_penalty, input_gradients, w_divergence_penalty
from fgan.recipes import RECIPES as REGISTRY

Play = Callable[[fgan.Batch, fgan.Noise], tuple[torch.Tensor, torch.Tensor]]


def contestants(
    recipe: str, work: Workload, device: str, wanted: set[str], autocast: torch.dtype | None
) -> dict[str, Play]:
    """The wanted ways to play the round, each on its own copy of the same weights."""
    torch.manual_seed(0)
    generator, critic = work.generator().to(device), work.critic().to(device)
    algorithm = RECIPES[recipe](generator, critic, n_critic=work.n_critic, autocast=autocast)

    def jax() -> Play:
        from jax_round import jax_step

        return jax_step(recipe, copy.deepcopy(generator), copy.deepcopy(critic))

    ways: dict[str, Callable[[], Play]] = {
        "imperative": lambda: imperative_step(
            recipe, copy.deepcopy(generator), copy.deepcopy(critic), autocast
        ),
        "imperative-cuda-graph": lambda: captured_step(
            recipe, copy.deepcopy(generator), copy.deepcopy(critic), autocast
        ),
        "eager": lambda: functional(algorithm),
        "torch.compile": lambda: functional(
            algorithm._replace(step=torch.compile(algorithm.step, fullgraph=True))
        ),
        "fgan.compile": lambda: functional(fgan.compile(algorithm)),
        "fgan.compile-no-cuda-graph": lambda: functional(fgan.compile(algorithm, cuda_graph=False)),
        "vmap(grad)": lambda: functional(fgan.compile(per_sample(recipe, generator, critic, work))),
        "jax": jax,
    }
    missing = set() if recipe in PENALTIES else {"vmap(grad)"}
    if device != "cuda":
        missing |= {"imperative-cuda-graph", "fgan.compile-no-cuda-graph"}
    if autocast is not None:  # the others have no such option
        missing |= {"vmap(grad)", "jax", "peers"}
    if importlib.util.find_spec("jax") is None or importlib.util.find_spec("optax") is None:
        missing.add("jax")
    plays = {way: make() for way, make in ways.items() if way in wanted - missing}
    if "peers" in wanted - missing:
        plays |= peer_steps(recipe, generator, critic)
    return plays


CONTESTANTS = [
    "imperative",
    "imperative-cuda-graph",
    "eager",
    "torch.compile",
    "fgan.compile",
    "fgan.compile-no-cuda-graph",
    "vmap(grad)",
    "jax",
    "peers",
]
PENALTIES = {
    "wgan-gp": Penalty(partial(gradient_penalty, gradients=input_gradients), 10.0),
    "wgan-div": Penalty(
        partial(w_divergence_penalty, gradients=input_gradients), at="real_and_fake"
    ),
}


def per_sample(
    recipe: str, generator: torch.nn.Module, critic: torch.nn.Module, work: Workload
) -> fgan.Algorithm:
    """The recipe with its penalty's gradients taken sample by sample, as they are defined."""
    known = REGISTRY[recipe]
    return fgan.make_algorithm(
        generator,
        critic,
        adversarial(fgan.losses.wasserstein_critic_loss, PENALTIES[recipe]),
        adversarial_generator(fgan.losses.wasserstein_generator_loss),
        generator_optimizer=known.optimizer(known.lr),
        critic_optimizer=known.optimizer(known.lr),
        n_critic=work.n_critic,
    )


def functional(algorithm: fgan.Algorithm) -> Play:
    """A functional step that carries its state along."""
    state = algorithm.init()

    def play(batch: fgan.Batch, noise: fgan.Noise) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal state
        state, info = algorithm.step(state, batch, noise)
        return info.critic_loss, info.generator_loss

    return play


def first_rounds(
    ways: dict[str, Play], batch: fgan.Batch, noises: list[fgan.Noise], narrow: bool = False
) -> dict[str, float]:
    """Seconds of every way's first round; an error if the critic losses of two do not agree.

    narrow: whether there are operands of fewer than float32's digits (bfloat16, TF32).
    """
    seconds, losses = {}, {}
    for way, play in ways.items():
        begin = time.perf_counter()
        first = numbers(play(batch, noises[0])[0])
        seconds[way] = time.perf_counter() - begin
        losses[way] = torch.stack([first, numbers(play(batch, noises[1])[0])])
    expected = next(iter(losses.values()))
    rtol, atol = (5e-2, 5e-2) if narrow else (2e-3, 2e-4)
    for way, found in losses.items():
        torch.testing.assert_close(
            found, expected, rtol=rtol, atol=atol, msg=lambda m, w=way: f"{w}: {m}"
        )
    return seconds


def numbers(loss: object) -> torch.Tensor:
    """Of whatever library."""
    return torch.tensor(loss.tolist() if hasattr(loss, "tolist") else loss)


def in_turn(
    ways: dict[str, Play],
    batch: fgan.Batch,
    noises: list[fgan.Noise],
    rounds: int,
    device: str,
    warm_up: int = 5,
) -> dict[str, list[float]]:
    """Milliseconds of every way's rounds, a turn of each and again, after the warm-up."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for index in range(rounds + warm_up):
        for way, play in ways.items():
            # Training finds in the caches what its own last round has left there.
            play(batch, noises[index % len(noises)])
            synchronize(device)
            begin = time.perf_counter()
            play(batch, noises[index % len(noises)])
            synchronize(device)
            if index >= warm_up:
                times[way].append(1e3 * (time.perf_counter() - begin))
    return times


def measure(
    recipe: str,
    name: str,
    work: Workload,
    device: str,
    rounds: int,
    wanted: set[str],
    autocast: torch.dtype | None,
) -> dict[str, object]:
    """First-call seconds, agreement and interleaved round times of every contestant."""
    ways = contestants(recipe, work, device, wanted | {"imperative"}, autocast)
    drawer = RECIPES[recipe](
        work.generator(), work.critic(), n_critic=work.n_critic, autocast=autocast
    )
    shape = (work.n_critic, work.batch_size, *work.sample_shape)
    real = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = fgan.Batch(real.to(device))
    noises = [drawer.noise(0, index, work.batch_size, device) for index in range(4)]

    # cuDNN's convolutions use TF32.
    tf32 = device == "cuda" and any(weight.ndim > 2 for weight in work.critic().parameters())
    first_call = first_rounds(ways, batch, noises, autocast is not None or tf32)
    rows = {}
    for way, values in in_turn(ways, batch, noises, rounds, device).items():
        low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
        rows[way] = {"median_ms": middle, "quartiles_ms": [low, high], "first_s": first_call[way]}
    return {
        "workload": name,
        "title": work.title,
        "recipe": recipe,
        "batch_size": work.batch_size,
        "rounds": rounds,
        "rows": rows,
    }


def limit(
    recipe: str, work: Workload, device: str, rates: Rates, autocast: torch.dtype | None
) -> dict[str, float | None]:
    """What the hardware allows for a round."""
    pair = work.generator(), work.critic()
    drawer = RECIPES[recipe](*pair, n_critic=work.n_critic, autocast=autocast)
    products = products_of_round(drawer, work)
    work_done = sum(map(flops, products))
    traffic = optimizer_bytes_of_round(drawer, work.n_critic)
    alone = 1e3 * sum(map(seconds_alone, products)) if device == "cpu" else None
    return {
        "gflop": work_done / 1e9,
        "optimizer_gb": traffic / 1e9,
        "limit_ms": 1e3 * (work_done / rates.flops + traffic / rates.bytes),
        "products_ms": alone,
    }


def synchronize(device: str) -> None:
    """Wait for the device; nothing to do on the CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def machine(device: str) -> dict[str, object]:
    """Where the figures come from."""
    processor = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    return {
        "device": device,
        "name": torch.cuda.get_device_name() if device == "cuda" else processor,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def table(result: dict, console: Console) -> None:
    """Print one recipe on one workload."""
    caption = f"{result['gflop']:.2f} GFLOP; the limit is {result['limit_ms']:.3g} ms a round"
    if result["products_ms"] is not None:
        caption += f", and its products, each alone, take {result['products_ms']:.1f}"
    picture = Table(
        title=f"{result['recipe']} on {result['workload']}: {result['title']}", caption=caption
    )
    for heading in (
        "contestant",
        "ms per round",
        "quartiles",
        "imperative / it",
        "limit / it",
        "first call, s",
    ):
        picture.add_column(heading, justify="left" if heading == "contestant" else "right")
    base = result["rows"]["imperative"]["median_ms"]
    for way, row in result["rows"].items():
        low, high = row["quartiles_ms"]
        picture.add_row(
            way,
            f"{row['median_ms']:.3g}",
            f"{low:.3g} to {high:.3g}",
            f"{base / row['median_ms']:.2f}",
            f"{result['limit_ms'] / row['median_ms']:.2f}",
            f"{row['first_s']:.1f}",
        )
    console.print(picture)


def main() -> None:
    """Run the table and write it to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["mlp", "conv", "toy"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument(
        "--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS, metavar="WAY"
    )
    parser.add_argument("--rounds", type=int, default=30, help="timed rounds of each contestant")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, help="(default: the workload's own)")
    parser.add_argument("--autocast", action="store_true", help="networks in bfloat16")
    parser.add_argument(
        "--out", type=Path, help="default: bench/results/rounds-DEVICE[-bf16][-part].json"
    )
    options = parser.parse_args()
    console = Console(width=110)
    where = machine(options.device)
    autocast = torch.bfloat16 if options.autocast else None
    rates = measured_rates(options.device, autocast or torch.float32)
    where |= {"gemm_gflops": rates.flops / 1e9, "copy_gb_per_s": rates.bytes / 1e9}
    console.print(where)
    results: list[dict[str, object]] = []
    folder = Path(__file__).parent / "results"
    # Tables of one run belong together: a part of them does not take the place of all.
    chosen = ("workloads", "recipes", "contestants", "batch_size")
    is_part = any(getattr(options, name) != parser.get_default(name) for name in chosen)
    suffix = "-bf16" * options.autocast + "-part" * is_part
    out = options.out or folder / f"rounds-{options.device}{suffix}.json"
    out.parent.mkdir(exist_ok=True, parents=True)
    for name in options.workloads:
        for recipe in options.recipes:
            torch.compiler.reset()
            work = WORKLOADS[name]
            if options.batch_size:
                work = work._replace(batch_size=options.batch_size)
            wanted = set(options.contestants)
            found = measure(recipe, name, work, options.device, options.rounds, wanted, autocast)
            results.append(found | limit(recipe, work, options.device, rates, autocast))
            table(results[-1], console)
            # After each, so that an interrupted run keeps what it has.
            out.write_text(json.dumps({"machine": where, "results": results}, indent=1) + "\n")
    console.print(f"written to {out}")


if __name__ == "__main__":
    main()
