"""Fixtures that several test files share; the modules themselves are in `networks.py`."""

import gc
import logging
import os
import signal
import sys

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: processes side by side, a thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from helpers import RECIPES, pair

# pytest gives its log handler to loggers that do not propagate, and torch, finding one here, would
# write out every graph that it traces, which takes as long as compiling it.
logging.getLogger("torch.__trace").propagate = True

# cuBLAS reads this when its handle is made; deterministic algorithms need it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


# A shell ignores Ctrl-C in what it starts in the background, and nohup SIGHUP. So would every run
# of the tests.
for _signal, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (getattr(signal, "SIGHUP", signal.SIGINT), signal.SIG_DFL),
):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _handler)


def pytest_collectstart(collector):
    """Modules and tensors that a file makes when it is imported have the same bits in every run."""
    torch.manual_seed(0)


def pytest_collection_finish():
    """Collect garbage less often: a compiler makes many small objects, and few that are garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


SLOW_FOLDERS = ["distributed", "examples", "reliability", "compiler", "run"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file in one process, and so all of tests/distributed, which share their processes."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            folder = "tests/distributed"
            return folder if nodeid.startswith(f"{folder}/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    """Long files go first, so that processes side by side end together.

    Skip the tests marked `gpu` where there is no CUDA device.
    """
    order = {name: place for place, name in enumerate(SLOW_FOLDERS)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(params=list(RECIPES))
def recipe(request):
    """Every recipe, one test each."""
    return RECIPES[request.param]


@pytest.fixture(params=[False, True], ids=["plain", "conditional"])
def conditional(request):
    """Without labels, and with them."""
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    """The dtypes that models are trained in."""
    return request.param


@pytest.fixture
def normed_pair(conditional):
    """A generator with BatchNorm, whose buffers move, and a plain critic; float64."""
    return pair(conditional=conditional, norm=True)


@pytest.fixture(autouse=True)
def seeded():
    """The global generator begins every test at the same place, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_programs_left():
    """Dynamo keeps at most eight programs of one function, and every algorithm has the same."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
