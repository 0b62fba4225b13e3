"""Tests of `sark_cache.policy`."""
