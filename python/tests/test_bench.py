"""The benchmark: its arithmetic is right, and its output is complete. Never checks how fast anything is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sark_cache.bench import __main__ as program
from sark_cache.bench import keys
from sark_cache.bench.contestants import CONTESTANTS, OURS, Absent
from sark_cache.bench.measure import Effort, Entrant, Lap, Spread, interleave, ratios
from sark_cache.bench.report import Report
from sark_cache.bench.scenarios import HOT, OPERATIONS, Case, cases

QUICK = ["--quick", "--rounds", "1"]


def lap(nanoseconds: int) -> Lap:
    return Lap(operations=1, elapsed_ns=nanoseconds, loop_ns=0)


class CountingWork:
    """Work that takes a set time per operation, and records what was asked of it."""

    def __init__(self, name: str, log: list[str], ns_per_op: int = 10) -> None:
        self.name, self.log, self.ns_per_op = name, log, ns_per_op

    def run(self, operations: int) -> Lap:
        self.log.append(self.name)
        return Lap(operations, operations * self.ns_per_op, 0)

    def hit_ratio(self) -> float | None:
        return None

    def close(self) -> None:
        pass


def entrant(name: str, log: list[str], ns_per_op: int = 10) -> Entrant:
    return Entrant(name, CountingWork(name, log, ns_per_op), operations=1, threads_owned=0)


def test_the_loop_around_an_operation_is_not_counted() -> None:
    assert Lap(operations=10, elapsed_ns=150, loop_ns=50).ns_per_op == 10
    assert Lap(operations=10, elapsed_ns=50, loop_ns=60).ns_per_op == 0


def test_ratios_are_taken_within_rounds_not_between_medians() -> None:
    # The machine was ten times slower in the second round, for both.
    ours, theirs = [lap(10), lap(100), lap(10)], [lap(20), lap(200), lap(30)]
    assert ratios(theirs, ours) == Spread(median=2.0, min=2.0, max=3.0)


def test_nothing_is_compared_with_what_took_no_time() -> None:
    assert ratios([lap(10)], [lap(0)]) is None


def test_rounds_are_interleaved() -> None:
    log: list[str] = []
    interleave([entrant(name, log) for name in "ABC"], rounds=2)
    assert log == ["A", "B", "C", "A", "B", "C"]


def test_a_contestant_too_slow_for_a_full_lap_does_fewer_operations() -> None:
    effort = Effort(rounds=1, operations=1_000_000, budget=0.05)
    slow, quick = entrant("slow", [], 1_000_000), entrant("quick", [], 10)
    slow.calibrate(effort)
    quick.calibrate(effort)
    assert (slow.operations, slow.full_run) == (50, False)
    assert (quick.operations, quick.full_run) == (1_000_000, True)


def test_keys_are_distinct_all_as_long_and_the_same_each_time() -> None:
    made = keys.texts(5000, "kept")
    assert made == keys.texts(5000, "kept")
    assert len(set(made)) == 5000
    assert {len(key) for key in made} == {keys.LENGTH}
    assert not set(made) & set(keys.texts(5000, "other"))


@pytest.mark.parametrize("fresh", [False, True])
def test_a_supply_goes_round_and_only_fresh_keys_are_other_objects(fresh: bool) -> None:
    stored = keys.texts(7, "kept")
    supply = keys.Supply(stored, fresh=fresh, start=5)
    handed_out = [key for chunk in supply.chunks(10) for key in chunk]
    assert handed_out == [stored[at % 7] for at in range(5, 15)]
    assert all((key is stored[at % 7]) != fresh for at, key in enumerate(handed_out, 5))


@pytest.mark.parametrize("case", [case for case in cases() if case.entries == HOT], ids=str)
@pytest.mark.parametrize("name", [name for name in CONTESTANTS if name != "redis"])
def test_every_contestant_does_every_case_or_says_why_not(name: str, case: Case) -> None:
    try:
        work = case.prepare(CONTESTANTS[name]())
    except Absent as why:
        assert str(why)
        return
    try:
        ran = work.run(250)
        assert ran.operations >= 250
        assert (ran.p95_ns is not None) == (case.operation == "get-busy")
        expected = {"get-hit": 1.0, "get-miss": 0.0, "get-busy": 1.0, "get-many": 1.0}
        assert work.hit_ratio() == expected.get(case.operation)
    finally:
        work.close()


def test_json_is_one_object_with_a_row_or_a_reason_for_everyone(capsys: pytest.CaptureFixture[str]) -> None:
    words = "op=get-hit|get-busy|get-many|async-decorator,keys=1000,key=repeated,ttl=on"
    assert program.main([*QUICK, "--json", "--case", words]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert printed.err == ""
    assert report["scenario"] == "caches"
    assert report["machine"]["cores"] >= 1
    operations = ("get-hit", "get-busy", "get-many", "async-decorator")
    chosen = {str(Case(operation, HOT, fresh=False, ttl=True)) for operation in operations}
    told = {(row["case"], row["contestant"]) for row in report["rows"] + report["absent"]}
    assert told == {(case, name) for case in chosen for name in CONTESTANTS}
    for row in report["rows"]:
        assert row["ns_per_op"]["min"] <= row["ns_per_op"]["median"] <= row["ns_per_op"]["max"]
        assert set(row) >= {"ops_per_s", "ours_ahead", "hit_ratio", "threads_owned"}
        assert (row["p95_ns"] is not None) == ("op=get-busy" in row["case"])


def test_an_import_is_one_fresh_interpreter_in_each_round(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["sark-cache", "cachetools", "dict"]
    assert program.main([*QUICK, "--json", "--case", "op=import", "--contestants", ",".join(names)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["contestant"] for row in report["rows"]] == names[:2]
    assert all(row["operations"] == 1 and row["ns_per_op"]["min"] > 0 for row in report["rows"])
    assert [missing["contestant"] for missing in report["absent"]] == ["dict"]


def test_what_is_not_installed_is_absent_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # This is what `import` does with a module that it is told not to find.
    monkeypatch.setitem(sys.modules, "cachebox", None)
    monkeypatch.setenv("PATH", "")
    arguments = [
        *QUICK,
        "--json",
        "--contestants",
        "dict,cachebox,redis",
        "--case",
        "op=get-hit,ttl=off,key=fresh,keys=1000",
    ]
    assert program.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["contestant"] for row in report["rows"]] == ["dict"]
    reasons = {missing["contestant"]: missing["why"] for missing in report["absent"]}
    assert set(reasons) == {"cachebox", "redis"}
    assert "cachebox" in reasons["cachebox"]
    assert reasons["redis"] == "redis-server is not installed"


@pytest.mark.parametrize(("library", "asked"), [("rich", []), ("matplotlib", ["--json", "--plot", "x.png"])])
def test_what_is_needed_to_show_the_figures_is_missed_before_anything_is_measured(
    library: str, asked: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for module in ("table", "plot"):
        monkeypatch.delitem(sys.modules, f"sark_cache.bench.{module}", raising=False)
    assert program.main(asked) == 1
    printed = capsys.readouterr()
    assert library in printed.err
    assert "sark-cache[bench]" in printed.err
    assert printed.out == ""


def test_people_get_a_table_and_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "caches.png"
    arguments = [
        *QUICK,
        "--contestants",
        "dict,lru-dict,functools.lru_cache",
        "--case",
        "op=get-hit|decorator,keys=1000,ttl=off",
    ]
    assert program.main([*arguments, "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    for text in ("op=get-hit keys=1000 key=repeated ttl=off", "dict", "lru-dict", "it is for functions only"):
        assert text in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--contestants", "nobody"], "'nobody' is none of"),
        (["--rounds", "0"], "'0' is not a whole number"),
        (["--case", "op"], "'op' is not of the form"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        program.main(arguments)
    assert exit.value.code == 2
    assert told in capsys.readouterr().err


def test_a_case_that_does_not_exist_is_answered_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--case", "op=nothing"]) == 2
    told = capsys.readouterr().err
    for operation in OPERATIONS:
        assert f"op={operation}" in told


def test_rows_compare_with_ours_and_with_nobody_where_ours_did_not_run() -> None:
    for names, expected in [((OURS, "other"), Spread(2.0, 2.0, 2.0)), (("other",), None)]:
        entrants = [entrant(name, [], 10 if name == OURS else 20) for name in names]
        interleave(entrants, rounds=2)
        report = Report("caches", [], rounds=2)
        report.take("case", entrants, OURS)
        assert report.rows[-1].ours_ahead == expected
