"""Compiled rounds: tracing, graph passes, donation and CUDA graphs."""
