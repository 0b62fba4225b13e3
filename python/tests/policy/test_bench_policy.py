"""The benchmark of policies: its output is complete. Never checks how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sark_cache.bench import __main__ as program

pytest.importorskip("redis")


def test_it_reports_every_case_quiet_and_busy_as_json_and_as_a_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "policy.png"
    assert program.main(["policy", "--quick", "--json", "--plot", str(picture)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert picture.read_bytes().startswith(b"\x89PNG")
    ours = [row for row in report["rows"] if row["contestant"] == "sark-cache"]
    assert len(ours) == 6 * 2 and {row["beside"] for row in ours} == {"quiet", "busy thread"}
    assert all(0 < row["p50"] <= row["p95"] <= row["p99"] for row in ours)
    redis = [row for row in report["rows"] if row["contestant"] == "redis"]
    if not redis:
        assert report["absent"] == ["redis: redis-server is not installed"]
        pytest.skip("redis-server isn't installed")
    assert {row["case"] for row in redis} == {row["case"] for row in ours}
    for row in redis:
        (own,) = [one for one in ours if (one["case"], one["beside"]) == (row["case"], row["beside"])]
        assert row["ahead_p50"] == pytest.approx(row["p50"] / own["p50"])


def test_it_shows_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    from sark_cache.bench.measure import Spread
    from sark_cache.bench.policy import PolicyReport, Row
    from sark_cache.bench.policy_view import show

    report = PolicyReport([], rounds=1, absent=["redis: not there"])
    for case, contestant in (("json.loads", "python"), ("get, hit", "sark-cache")):
        report.rows.append(Row(case, contestant, "quiet", Spread(1000, 900, 1100), 1000, 2000, 3000, None, None))
    show(report)
    printed = capsys.readouterr().out
    assert "get, hit" in printed and "absent: redis: not there" in printed
