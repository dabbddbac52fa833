"""Puts this folder on the path, so that the tests of the page find its miniature runs."""
