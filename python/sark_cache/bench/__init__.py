"""The benchmark: compares this package's caches with others that Python can import, on the local machine.

    python -m sark_cache.bench [--json] [--quick] [--plot FILE]

=================  ====================================================================================
``contestants``    the caches, each behind the few calls that are timed
``scenarios``      what is done with them, case by case
``keys``           the keys, the same for all and made before any clock starts
``neighbours``     what else runs in the process meanwhile
``measure``        laps, rounds, medians, ratios
``report``         the figures as one JSON object
``table``/``plot`` the same figures for people
``redis_server``   a Redis server of our own on a free port
``machine``        what the figures were measured on
``caches``         the command that puts these together; ``__main__`` chooses among commands
``policy``         another command: authorization decisions compared with a loopback Redis; shown by ``policy_view``
=================  ====================================================================================

Nothing in the package imports this subpackage. It needs the extra ``sark-cache[bench]`` only for its output
and for the caches that it compares with. Whatever isn't installed is listed as absent.
"""
