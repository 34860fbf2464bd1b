"""Frames, messages and connections between nodes."""
