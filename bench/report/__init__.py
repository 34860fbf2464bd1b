"""An analysis for people: one HTML file, a summary, tables."""
