"""Crashes and faults, by hand in large numbers and in the tests in small ones.

``PYTHONPATH=tests python -m faults.power_cuts --count 1000``
    Power loss: what was not synced is lost, whole or in part, in any order.
``PYTHONPATH=tests python -m faults.kills --count 1000``
    ``kill -9`` at random moments of the full screen and of the line mode.

Both print what was tried, what was acknowledged, and what was lost; they end with 1 if anything was.
"""
