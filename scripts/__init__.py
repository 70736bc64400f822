"""Benchmarks and upkeep, run from a checkout (`python -m scripts.bench dataset=ml-1m`), no part of the package."""
