"""A leaderless replicated key-value store in the style of Amazon's Dynamo."""
