"""A place to print to that may go away, as a terminal or the reader of a pipe does."""

import io
import os
import sys
from typing import Any, TextIO


class Outlet:
    """A text stream that is written to no more after the first write that fails.

    What a run prints is not the run: `fgan train | head -1` and a terminal that closes leave it
    running. Everything but writing is the stream's own.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """stream: standard output, if it is not given."""
        chosen = sys.stdout if stream is None else stream
        self._gone = chosen is None  # Python was started with a closed output
        self._stream: Any = io.StringIO() if chosen is None else chosen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if there is anybody to read it."""
        if self._gone:
            return len(text)
        try:
            try:
                return int(self._stream.write(text))
            except UnicodeEncodeError as error:  # a letter that the stream's encoding lacks
                known = text.encode(error.encoding, "replace").decode(error.encoding)
                return int(self._stream.write(known))
        except (OSError, ValueError):  # ValueError: the stream has been closed
            self._gone = True
            return len(text)

    def flush(self) -> None:
        """Flush, if there is anybody to read it."""
        try:
            if not self._gone:
                self._stream.flush()
        except (OSError, ValueError):
            self._gone = True


def release_stdout() -> None:
    """Write out what standard output still holds, or drop it where nobody reads it any more.

    Python would otherwise try it when it ends, and end with an error.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
