"""Drives a workload at a target, by a schedule that waits for nobody, and notes what comes."""
