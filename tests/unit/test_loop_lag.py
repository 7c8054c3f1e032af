"""How late the event loop is."""

from bed.fakes import FakeClock

from broadcastd.delivery.loop_lag import EVERY_S, LoopLag


def look(lag: LoopLag, clock: FakeClock, late_s: float) -> None:
    """One look, so late."""
    lag.wait()
    clock.advance(EVERY_S + late_s)
    lag.note()


def test_the_last_look_and_the_longest_of_a_minute():
    clock = FakeClock()
    lag = LoopLag(clock)
    for late_s in (0.1, 2.0, 0.5, 0.0):
        look(lag, clock, late_s)
    assert (round(lag.last_s, 6), round(lag.most_s, 6)) == (0.0, 2.0)
    for at_s, most_s in ((58, 2.0), (60, 0.5), (62, 0.0)):
        while clock.monotonic_s() < 1000 + at_s + 3.1:
            look(lag, clock, 0.0)
        assert round(lag.most_s, 6) == most_s


def test_a_loop_that_is_held_up_just_now_is_late_already():
    """Whoever asks may come before the sampler."""
    clock = FakeClock()
    lag = LoopLag(clock)
    lag.wait()
    clock.advance(EVERY_S + 9)
    assert round(lag.most_s, 6) == 9.0


def test_it_keeps_little():
    clock = FakeClock()
    lag = LoopLag(clock)
    for _ in range(10_000):
        look(lag, clock, 0.001)
    assert lag.kept < 300
