"""The parts of the page, one module each: what a run tells of it, as values for a fragment."""
