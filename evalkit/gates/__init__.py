"""Declarative rules over a scorecard: conditions with three answers, and the verdict they add up to."""
