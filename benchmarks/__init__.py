"""Measurements side by side in one run: ``python -m benchmarks.NAME`` from the checkout."""
