"""Who leads, and whether it may be said."""

from __future__ import annotations

from growkernels.race.ranking import Curve, rank_at_flops, rank_at_steps, warnings_of


def curve(*losses: float, start: float = 10.0, each: float = 10.0) -> Curve:
    steps = tuple(100 * i for i in range(len(losses)))
    return Curve(steps, tuple(start + each * i for i in range(len(losses))), losses)


def test_a_leader_whose_seeds_all_win_is_clear_and_chance_is_named() -> None:
    ranking = rank_at_steps({"a": [curve(5, 3.0), curve(5, 3.2)], "b": [curve(5, 2.0), curve(5, 2.9)]})
    assert ranking.leader == "b" and ranking.clear and "one in 6 orders" in ranking.reason
    assert [(row.name, row.best, row.worst) for row in ranking.standings] == [("b", 2.0, 2.9), ("a", 3.0, 3.2)]


def test_ranges_that_overlap_and_single_seeds_say_nothing() -> None:
    overlapping = rank_at_steps({"a": [curve(5, 3.0), curve(5, 3.2)], "b": [curve(5, 2.0), curve(5, 3.1)]})
    assert overlapping.leader == "b" and not overlapping.clear
    assert "overlap; b is ahead in 2 of 2 seeds" in overlapping.reason
    alone = rank_at_steps({"a": [curve(5, 3.0)], "b": [curve(5, 2.0)]})
    assert not alone.clear and "one seed shows no spread" in alone.reason


def test_at_equal_flops_the_cheaper_one_may_win_although_it_loses_at_equal_steps() -> None:
    curves = {"small": [curve(5, 4, 3)], "large": [curve(5, 3.5, 2, each=40)]}
    assert rank_at_steps(curves).leader == "large"
    ranking = rank_at_flops(curves)
    assert ranking is not None and ranking.value == 30 and ranking.leader == "small"
    # Between 10 and 50 FLOPs, along their logarithm.
    large = next(row for row in ranking.standings if row.name == "large")
    assert 3.5 < large.mean < 5


def test_what_never_spends_as_much_as_others_began_with_is_left_out_and_said() -> None:
    curves = {
        "a": [curve(5, 4, 3, start=100)],
        "b": [curve(5, 4, 2, start=100)],
        "scratch": [curve(9, 8, 7, start=0)],
    }
    ranking = rank_at_flops(curves)
    assert ranking is not None and {row.name for row in ranking.standings} == {"a", "b"}
    assert any("scratch cannot be compared" in text for text in warnings_of(curves, 10, True))
    assert rank_at_flops({"a": curves["a"], "scratch": curves["scratch"]}) is None


def test_warnings() -> None:
    steady = {"a": [curve(5, 4, 3.0, 2.5, 2.2)], "b": [curve(5, 4, 3.1, 2.6, 2.3)]}
    assert warnings_of(steady, 100, True) == []
    texts = warnings_of(steady, 400, False)
    assert any("end before the warm-up of 400" in text for text in texts)
    assert any("not counted" in text for text in texts)
    changing = {"a": [curve(5, 4, 3.0, 2.5, 2.4)], "b": [curve(5, 4, 3.1, 2.6, 2.3)]}
    assert any("from a to b" in text for text in warnings_of(changing, 100, True))
    short = {"a": [curve(5, 4)], "b": [curve(5, 3)]}
    assert any("100 steps are few" in text for text in warnings_of(short, 10, True))
