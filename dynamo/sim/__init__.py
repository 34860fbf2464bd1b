"""The simulator: a whole cluster in one process, on a simulated clock, network and disk, by a seed."""
