"""Workloads: what clients do at each arrival. See `protocol`."""

from bench.workloads.registry import Wanted, make, names, wanted

__all__ = ["Wanted", "make", "names", "wanted"]
