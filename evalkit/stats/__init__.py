"""Intervals and paired tests on plain arrays: closed forms where they hold, resampling where they do not."""
