"""Metrics: one file per family; families do not know one another."""
