"""Metrics in plain numpy: one table of them (`table.py`), and how the click metrics are computed (`clicks.py`).

The ground floor: the configuration checks a metric's name here, evaluation computes its value.
"""
