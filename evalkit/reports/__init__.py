"""From scorecard and verdict to what people read. Formatters return text; only the command line prints."""
