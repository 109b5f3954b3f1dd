"""The API reference as pages, by pdoc (extra `docs`): python .ci/docs.py [FOLDER].

FOLDER is build/api by default, which git ignores. What pdoc cannot read is an error.
"""

import inspect
import pkgutil
import sys
import typing
import warnings
from importlib import import_module
from pathlib import Path

import pdoc
import pdoc.render

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
PAGES = ("augmented", "networks", "noisy", "recipes", "run", "testing")
"""Below fgan, beside the modules in its `__all__`."""
NO_PAGES = ("population", "networks.synchronized", "testing.critics")
"""Modules that have the name of a public function, which is on the page above them."""


def resolve_named_tuples() -> None:
    """The fields' types are strings, which pdoc would read in the module that shows the class."""
    import fgan

    for found in pkgutil.walk_packages(fgan.__path__, "fgan."):
        if found.name.endswith("__main__"):
            continue
        for kind in vars(import_module(found.name)).values():
            if inspect.isclass(kind) and hasattr(kind, "_fields") and "fgan" in kind.__module__:
                kind.__new__.__annotations__ = typing.get_type_hints(kind)


def main() -> None:
    """Write the pages."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "build" / "api"
    resolve_named_tuples()
    pdoc.render.configure(docformat="google", template_directory=HERE / "pdoc")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        names = ["fgan", *(f"fgan.{name}" for name in PAGES), *(f"!fgan.{n}" for n in NO_PAGES)]
        pdoc.pdoc(*names, output_directory=out)
    print(out)


if __name__ == "__main__":
    main()
