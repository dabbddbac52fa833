"""Runs in the forms of other tools: theirs read as ours, ours written as theirs."""
