"""The benchmark: this package's caches beside others that Python can import, on the machine it runs on.

    python -m sark_cache.bench [--json] [--quick] [--plot FILE]

=================  ====================================================================================
``contestants``    the caches, each behind the few calls that are timed
``scenarios``      what is done with them, case by case
``keys``           the keys, the same for all and made before any clock starts
``neighbours``     who else is at work meanwhile
``measure``        laps, rounds, medians, ratios
``report``         the figures as one JSON object
``table``/``plot`` the same figures for people
``redis_server``   a Redis of our own on a free port
``machine``        what the figures were measured on
``caches``         the command that puts these together; ``__main__`` chooses among commands
``policy``         another command: authorization decisions beside a loopback Redis; shown by ``policy_view``
=================  ====================================================================================

Nothing of the package imports this one, and this one needs the extra ``sark-cache[bench]`` only for what it shows and
compares with: whatever isn't installed is listed as absent.
"""
