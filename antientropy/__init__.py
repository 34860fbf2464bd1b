"""How replicas find out that they differ. Pure: values are opaque bytes and digests."""
