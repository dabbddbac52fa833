"""Data-free checks of a checkpoint's weights: arrays in, numbers out.

How a tensor travels: ``weigh`` pairs every tensor of a source with its base's (``pairing``) and streams both in
blocks of rows. One pass measures them (``measuring``: ``elementwise``, ``norms``), holds them against base + adapter
(``merging``) and an adapter's own factors (``updates``, ``low_rank``). Where spectra were asked for, ``spectra``
hands matrices to a ``decomposition`` and its eigenvalues to ``spectrum``, ``tail`` and ``alpha``, its vectors to
``rotation``. ``layers`` looks across tensors, ``checks`` says what is wrong (``integrity``, ``departures``),
``estimates`` makes the scorecard's numbers and ``compare`` holds those of two models together. ``catalogue`` names
every measure and check. ``importance``, ``budget`` and ``selection`` are FROG.
"""
