"""The same numbers from two processes as from one.

Each of two processes draws its half of every batch, and one all-reduce an update averages their
gradients, before clipping, moments or the constraint see them. So the rounds are those of one
process, up to the rounding of reordered sums, penalties and second derivatives included.

    python examples/distributed.py                                  # starts the two by itself
    torchrun --nproc-per-node 2 examples/distributed.py             # the same, as on a cluster

On GPUs, call `torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))` first, build the networks with
`.cuda()`, and pass `device="cuda"` to `fgan.data.batches`.
"""

import os
import subprocess
import sys

import torch
import torch.distributed as dist

import fgan
from fgan import tree

ROUNDS, BATCH = 40, 64


def train(parallel: bool) -> fgan.GANState:
    """A conditional WGAN-GP on rings, by this process alone or as one of several."""
    torch.manual_seed(0)
    generator = fgan.models.mlp_generator((2,), 2, hidden=(32, 32), norm="none", num_classes=3)
    critic = fgan.models.mlp_critic((2,), hidden=(32, 32), num_classes=3)
    algorithm = fgan.wgan_gp(generator.double(), critic.double(), n_critic=2, ema_decay=0.9)
    if parallel:
        algorithm = fgan.data_parallel(algorithm)
    state = algorithm.init(seed=0)
    # Batch sizes are those of the whole batch; each process draws its share of data and noise.
    batches = fgan.data.batches("rings", BATCH, n_critic=2, rounds=ROUNDS, share=algorithm.share)
    for i, batch in enumerate(batches):
        noise = algorithm.noise(seed=0, round_index=i, batch_size=BATCH)
        state, _ = algorithm.step(state, batch._replace(real=batch.real.double()), noise)
    return state


def main() -> None:
    """What each process does."""
    dist.init_process_group("gloo")
    state = train(parallel=True)
    if dist.get_rank() == 0:
        pairs = zip(tree.leaves(state), tree.leaves(train(parallel=False)), strict=True)
        difference = max(float((a - b).abs().max()) for a, b in pairs)
        print(f"{dist.get_world_size()} processes and one, after {ROUNDS} rounds:")
        print(f"the largest difference of any number of their states is {difference:.1e}")
        assert difference < 1e-9
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:  # torchrun started this process
        main()
    else:
        starter = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        sys.exit(subprocess.call([sys.executable, *starter, __file__]))
