"""What clients do: one module a workload."""
