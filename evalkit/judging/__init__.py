"""Judges: what they are asked of answers, how their replies are read, and how far they may be believed.

A judge asks nothing: it makes requests of answers and judgements of replies, and the executor sends them like any
others. So judging is cached, resumed and tested like anything else that is asked.
"""
