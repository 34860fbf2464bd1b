"""The simulator: whole nodes over simulated time, network and disk, in one process, from one seed."""
