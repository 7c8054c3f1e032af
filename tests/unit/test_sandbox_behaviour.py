import pytest

from broadcastd.sandbox.behaviour import Behaviour, Kind

NOW = 1_700_000_000.0


def changed(**change):
    behaviour = Behaviour(seed=1)
    behaviour.change(change, NOW)
    return behaviour


def test_well_behaved_at_first():
    behaviour = Behaviour()
    assert behaviour.outage("custom", NOW) == ""
    assert behaviour.error("custom", NOW) == 0
    assert behaviour.latency_s() == 0
    assert behaviour.refused_until(NOW) == 0


def test_each_error_keeps_its_share():
    behaviour = changed(errors={"-1": 0.2, "45011": 0.3})
    answers = [behaviour.error("template", NOW) for _ in range(10_000)]
    assert answers.count(-1) == pytest.approx(2000, rel=0.1)
    assert answers.count(45011) == pytest.approx(3000, rel=0.1)
    assert answers.count(0) == pytest.approx(5000, rel=0.1)


def test_the_same_seed_is_the_same_chance():
    first, second = changed(errors={"-1": 0.5}), changed(errors={"-1": 0.5})
    assert [first.error("custom", NOW) for _ in range(100)] == [
        second.error("custom", NOW) for _ in range(100)
    ]


def test_errors_strike_the_sends_unless_an_endpoint_is_named():
    behaviour = changed(errors={"-1": 1, "token:40164": 1})
    assert behaviour.error("custom", NOW) == -1
    assert behaviour.error("token", NOW) == 40164
    assert behaviour.error("stable_token", NOW) == 0


def test_count_and_duration():
    behaviour = changed(errors={"-1": {"count": 2}}, outages=[{"kind": "hang", "duration_s": 5}])
    assert [behaviour.error("custom", NOW) for _ in range(3)] == [-1, -1, 0]
    assert behaviour.outage("custom", NOW + 4.9) == "hang"
    assert behaviour.outage("custom", NOW + 5) == ""
    assert behaviour.describe(NOW + 5) == {"latency_ms": [0, 0], "errors": [], "outages": []}


def test_outages_strike_every_call_unless_an_endpoint_is_named():
    assert changed(outages=["reset"]).outage("token", NOW) == "reset"
    behaviour = changed(outages=[{"kind": "empty", "endpoint": "template"}])
    assert behaviour.outage("custom", NOW) == ""
    assert behaviour.outage("template", NOW) == "empty"


def test_refuse_is_for_the_port_not_for_a_call():
    behaviour = changed(outages=["refuse"])
    assert behaviour.refused_until(NOW) == float("inf")
    assert behaviour.outage("custom", NOW) == ""
    behaviour.change({"outages": [{"kind": "refuse", "duration_s": 2}]}, NOW)
    assert behaviour.refused_until(NOW + 1) == NOW + 2
    assert behaviour.refused_until(NOW + 2) == 0


def test_what_is_not_named_stays():
    behaviour = changed(latency_ms=(10, 20), errors={"-1": 1})
    behaviour.change({"outages": ["hang"]}, NOW)
    behaviour.add_outage({"kind": "reset"}, NOW)
    assert [outage["name"] for outage in behaviour.describe(NOW)["outages"]] == ["hang", "reset"]
    assert behaviour.error("custom", NOW) == -1
    assert 0.01 <= behaviour.latency_s() <= 0.02


ANSWERED = {Kind.SLOW, Kind.TRICKLE, Kind.WRONG_TYPE}


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in {Kind.REFUSE, *ANSWERED}])
def test_every_kind_that_takes_the_answer_has_its_after_send(kind):
    assert changed(outages=[f"{kind}_after_send"]).outage("custom", NOW) == f"{kind}_after_send"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"latency_ms": -1}, "latency_ms"),
        ({"latency_ms": [20, 10]}, "latency_ms"),
        ({"latency": 1}, "latency"),
        ({"errors": {"-1": 2}}, "errors"),
        ({"errors": {"x": 1}}, "x is not an errcode"),
        ({"errors": {"0": 1}}, "0 is not an error"),
        ({"errors": {"sms:-1": 1}}, "sms"),
        ({"outages": ["flood"]}, "flood"),
        ({"outages": ["refuse_after_send"]}, "refuse"),
        ({"outages": ["slow_after_send"]}, "slow"),
        ({"outages": [{"kind": "slow", "seconds": 0}]}, "seconds"),
        ({"errors": {"-1": {"share": 1, "endpoint": "sms"}}}, "there are token"),
        ({"outages": [{"kind": "refuse", "share": 0.5}]}, "refuse"),
        ({"outages": [{"kind": "hang", "count": 0}]}, "count"),
    ],
)
def test_a_wrong_change_is_named_in_one_line(wrong, named):
    with pytest.raises(ValueError, match=named) as caught:
        changed(**wrong)
    assert "\n" not in str(caught.value)
