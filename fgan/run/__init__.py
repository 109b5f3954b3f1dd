"""The edge: runs on disk, what they print, and their configuration.

`__all__` has the modules with parts for users; `fgan.train` and `fgan.load` are from here.
"""

__all__ = ["configuration", "export", "loggers", "loop", "replay", "trained"]
