"""What `scripts/bench` makes of what it measured: ratios, tables, the page, the guard."""

import json

import pytest
from bench import guard
from bench.aims import Aim
from bench.bare_side import TUNED
from bench.figures import Figures, read, rounded, write
from bench.page import BEGIN, END, figures_text, table, with_figures
from bench.rounds import Found, Side, in_turns, ratio
from bench.scenario import Scenario

OURS = "broadcastd"


def _found(ours: list[float], bare: list[float]) -> Found:
    return {
        "HTTP": {
            TUNED: [{"per_s": one, "cpu_us": 1e6 / one} for one in bare],
            OURS: [{"per_s": one, "cpu_us": 1e6 / one} for one in ours],
        }
    }


def test_a_ratio_is_that_within_a_round() -> None:
    # The machine was three times as fast in the first round: the ratio of the medians would be 0.8.
    runs = _found(ours=[9000, 3000, 4000], bare=[10_000, 3000, 5000])["HTTP"]
    assert ratio(runs[OURS], runs[TUNED], "per_s") == pytest.approx(0.9)


def test_every_other_round_goes_the_other_way() -> None:
    seen: list[str] = []

    def measured(name: str) -> dict[str, float]:
        seen.append(name)
        return {"per_s": len(seen)}

    sides = [Side("HTTP", "a", lambda: measured("a")), Side("HTTP", "b", lambda: measured("b"))]
    assert in_turns(sides, 2) == {
        "HTTP": {"a": [{"per_s": 1}, {"per_s": 4}], "b": [{"per_s": 2}, {"per_s": 3}]}
    }
    assert seen == ["a", "b", "b", "a"]


def test_a_table_has_medians_spread_and_ratios() -> None:
    scenario = Scenario("", "", lambda _: {}, ("per_s", "cpu_us", "peak_mb"), TUNED, "per_s")
    found = _found(ours=[8000, 9000, 10_000], bare=[10_000])
    found["HTTP"][TUNED] *= 3
    assert table(scenario, Figures("2026-01-31", {}, found)).splitlines() == [
        f"|  |  | messages/s | CPU µs a message | messages/s ÷ {TUNED} |",
        "|---|---|---|---|---|",
        f"| HTTP | {TUNED} | 10,000 | 100 | 1.00 |",
        f"| HTTP | {OURS} | 9,000 (8,000 to 10,000) | 111 (100 to 125) | 0.90 |",
    ]


def test_the_machine_is_told_once_where_it_was_one() -> None:
    scenario = Scenario("T", "W", lambda _: {}, ("per_s",))
    both = {"a": scenario, "b": scenario}
    here, there = (Figures("", {"cores": cores}, _found([9000], [10_000])) for cores in ("2", "4"))
    assert figures_text({}, both) == ""
    assert figures_text({"a": here, "b": here}, both).count("cores 2") == 1
    text = figures_text({"a": here, "b": there}, both)
    assert text.index("scripts/bench a") < text.index("cores 2") < text.index("scripts/bench b")
    assert text.index("scripts/bench b") < text.index("cores 4")


def test_only_what_is_between_the_marks_is_written_anew() -> None:
    page = f"by hand\n\n{BEGIN}\n\nold\n\n{END}\n\nby hand too\n"
    assert with_figures(page, "new") == f"by hand\n\n{BEGIN}\n\nnew\n\n{END}\n\nby hand too\n"
    assert with_figures(with_figures(page, "new"), "new") == with_figures(page, "new")


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_its_marks_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        with_figures(page, "new")


def test_the_guard_bears_noise_and_finds_what_is_worse() -> None:
    then = _found(ours=[9000], bare=[10_000])
    slower = _found(ours=[8000], bare=[10_000])
    slower["HTTP"][OURS][0]["cpu_us"] = 1e6 / 9000
    assert not any(one.is_worse for one in guard.compare(then, slower))  # 11 % in rate
    slow = guard.compare(then, _found(ours=[7000], bare=[10_000]))
    assert [(one.words.split(", ")[1].split()[0], one.is_worse) for one in slow] == [
        ("rate", True),
        ("CPU", True),
    ]
    assert "WORSE" in guard.report(slow)
    assert not any(one.is_worse for one in guard.compare(then, _found(ours=[20_000], bare=[10_000])))
    assert not any(one.is_worse for one in guard.compare({}, slower)), "nothing was measured before"


def test_a_disturbed_round_is_not_what_the_guard_looks_at() -> None:
    then = _found(ours=[9000, 9000], bare=[10_000, 10_000])
    assert not any(
        one.is_worse for one in guard.compare(then, _found(ours=[2000, 9000], bare=[10_000, 3000]))
    )
    assert all(one.is_worse for one in guard.compare(then, _found(ours=[5000, 4000], bare=[3000, 10_000])))


@pytest.mark.parametrize(
    ("ours", "took_s", "rounds", "worse"),
    [
        ([9000, 9000], 40, 2, False),
        ([5000, 5000, 9000, 9000], 40, 3, False),
        ([5000, 5000, 5000, 5000, 5000], 40, 5, True),
        ([5000, 5000, 9000], 80, 2, True),
    ],
)
def test_what_is_worse_is_measured_again_while_there_is_time(
    ours: list[float], took_s: float, rounds: int, worse: bool
) -> None:
    now_s, left = 0.0, iter(ours)

    def measured(number: int) -> Found:
        nonlocal now_s
        now_s += took_s * number / 2
        return _found(ours=[next(left) for _ in range(number)], bare=[10_000] * number)

    then = _found(ours=[9000], bare=[10_000])
    compared = guard.patient(then, lambda: measured(2), lambda: measured(1), lambda: now_s)
    assert len(ours) - len(list(left)) == rounds
    assert any(one.is_worse for one in compared) is worse


def test_the_guard_compares_frames_with_the_bare_loop_too() -> None:
    then, now = _found(ours=[9000], bare=[10_000]), _found(ours=[4500], bare=[5000])
    then["frames"] = {"50": [{"frames_per_s": 2000, "frame_cpu_us": 400}]}
    now["frames"] = {"50": [{"frames_per_s": 1000, "frame_cpu_us": 800}]}
    assert not any(one.is_worse for one in guard.compare(then, now)), "the machine was half as fast"
    now["frames"]["50"][0]["frame_cpu_us"] = 1100
    assert [one.is_worse for one in guard.compare(then, now)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("aim", "figure", "met"),
    [
        (Aim("", ("s", "HTTP", OURS), "per_s", 0.85, ("s", "HTTP", TUNED), bound="at least"), 0.9, True),
        (Aim("", ("s", "HTTP", OURS), "per_s", 0.95, ("s", "HTTP", TUNED), bound="at least"), 0.9, False),
        (Aim("", ("s", "HTTP", TUNED), "per_s", 500, ("s", "HTTP", OURS), "more than"), 1000, False),
        (Aim("", ("s", "HTTP", OURS), "per_s", 9000), 9000, True),
    ],
)
def test_an_aim_is_met_or_not(aim: Aim, figure: float, met: bool) -> None:
    book = {"s": Figures("", {}, _found(ours=[9000], bare=[10_000]))}
    found = aim.figure(book)
    assert found == pytest.approx(figure)
    assert aim.met(found) is met
    assert aim.figure({}) is None


def test_figures_are_read_as_they_were_written(tmp_path) -> None:
    path = tmp_path / "performance" / "figures.json"
    assert read(path) == {}
    book = {"s": Figures("2026-01-31", {"cores": "2"}, rounded(_found(ours=[8999.6], bare=[10_000])))}
    write(path, book)
    assert read(path) == book
    text = path.read_text(encoding="utf-8")
    assert '{ "per_s": 9000.0, "cpu_us": 111.1 }' in text, "a run is a line"
    json.loads(text)
