"""Measuring: what a request costs, how fast the store is, how stale its reads are."""
