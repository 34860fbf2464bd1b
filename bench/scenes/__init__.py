"""Scenarios as files, found by `bench.scene_files`."""
