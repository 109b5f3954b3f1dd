"""Break the code on purpose, one way at a time, and see each break fail a test.

    python tests/mutants.py            # all of them, some minutes each core
    python tests/mutants.py ema clip   # those whose names contain one of the words

Works on a temporary copy; the tree it is run from is only read. Prints a markdown table and exits
with 1 if a break survives. Not collected by pytest: nothing here is named test_*.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from breaks import BREAKS

ROOT = Path(__file__).resolve().parent.parent


def broken(text, old, new):
    """`text` with `old` replaced, which has to be there exactly once."""
    if text.count(old) != 1:
        raise SystemExit(f"this stands {text.count(old)} times in the file, not once: {old!r}")
    return text.replace(old, new)


def first_failure(output):
    """The id of the first test that failed, or "" if none did."""
    found = re.search(r"^(?:FAILED|ERROR) (?:tests/\w+/)?(.+?)(?: - .*)?$", output, re.MULTILINE)
    return found.group(1) if found else ""


def run(copy, tests):
    """(exit status, output) of pytest on some test files of the copy."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    for name in tests.split():
        command += [str(path) for path in sorted(copy.glob(f"tests/**/test_{name}.py"))]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def try_all(words):
    """Yield (name, what killed it or "") for every break that is asked for."""
    chosen = {k: v for k, v in BREAKS.items() if not words or any(w in k for w in words)}
    # Every anchor is checked before anything runs.
    for file, old, new, _ in chosen.values():
        broken((ROOT / "fgan" / file).read_text(), old, new)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("fgan", "tests"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, copy / part, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        # A test that fails anyway would seem to kill everything.
        files = sorted({test for *_, tests in chosen.values() for test in tests.split()})
        status, output = run(copy, " ".join(files))
        if status:
            raise SystemExit(f"the unbroken code fails: {first_failure(output)}\n{output[-2000:]}")
        for name, (file, old, new, tests) in chosen.items():
            path = copy / "fgan" / file
            whole = path.read_text()
            path.write_text(broken(whole, old, new))
            status, output = run(copy, tests)
            path.write_text(whole)
            # 1: a test failed. 2 is an interrupted collection: a break must not be a typing error.
            if status not in (0, 1):
                raise SystemExit(f"{name}: pytest exited with {status}\n{output[-2000:]}")
            yield name, first_failure(output) if status else ""


def main():
    """Print the table as it grows."""
    print("| break | killed by |\n|---|---|", flush=True)
    survivors = 0
    for name, killer in try_all(sys.argv[1:]):
        survivors += not killer
        print(f"| {name} | {f'`{killer}`' if killer else '**survived**'} |", flush=True)
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main())
