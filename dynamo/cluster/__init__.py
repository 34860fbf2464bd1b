"""Who is in the cluster, as this node knows it."""
