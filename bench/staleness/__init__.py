"""How stale a history is: one module a metric, pure functions of operations."""
