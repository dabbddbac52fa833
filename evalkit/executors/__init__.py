"""Whoever sends many requests well."""
