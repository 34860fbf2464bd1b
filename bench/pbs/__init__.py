"""Predictions: how stale reads would be (PBS, the WARS model)."""
