"""Storage adapters: in memory, and RocksDB."""
