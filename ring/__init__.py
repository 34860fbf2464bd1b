"""Where a key lives: tokens, partitions, members, placement and preference lists. Pure."""
