"""Measurements, each against a floor of the same run; `python -m benchmarks` lists them."""
