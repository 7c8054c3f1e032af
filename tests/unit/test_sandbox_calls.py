from broadcastd.sandbox.calls import Calls, Entry, Texts

NOW = 1_700_000_000.0


def recorded(*entries):
    calls = Calls()
    for entry in entries:
        calls.add(entry)
    return calls


def test_an_entry_comes_back_as_it_was():
    entries = [
        Entry(NOW, "custom", row=3, token_ok=True, delivered=True, text="求購信息"),
        Entry(NOW + 1, "template", row=4, token_ok=True, repeat=True, text="{}", client_msg_id="j1-r4"),
        Entry(NOW + 2, "custom", outage="hang", row=3, processed=False),
        Entry(NOW + 3, "unknown", errcode=40066),
        Entry(NOW + 4, "template", errcode=-1, row=70_000, client_msg_id="j1-r5"),
    ]
    calls = recorded(*entries)
    assert [calls.entry(number) for number in range(len(calls))] == entries


def test_calls_of_one_follower_in_order():
    calls = recorded(*(Entry(NOW, "custom", row=number % 3) for number in range(10)))
    assert calls.numbers(0, 100, row=1) == [1, 4, 7]
    assert calls.numbers(2, 1, row=1) == [4]
    assert calls.numbers(8, 100) == [8, 9]
    assert calls.numbers(50, 100) == []
    assert calls.numbers(50, 100, row=1) == []


def test_who_was_reached_and_who_twice():
    calls = recorded(*(Entry(NOW, "custom", row=row, delivered=True) for row in (5, 100_000, 5, 7, 5)))
    deliveries = calls.deliveries
    assert (deliveries.total, deliveries.reached, deliveries.repeated) == (5, 3, 1)
    assert deliveries.first_repeated == [5]
    assert dict(deliveries) == {5: 3, 7: 1, 100_000: 1}
    assert deliveries.count(1_000_000) == 0


def test_counted_by_what_the_caller_met():
    calls = recorded(
        Entry(NOW, "custom", delivered=True, row=0, outage="reset_after_send"),
        Entry(NOW, "custom", errcode=45015),
        Entry(NOW, "custom", errcode=45015),
    )
    assert calls.counts == {("custom", "reset_after_send"): 1, ("custom", "45015"): 2}
    assert calls.delivered == {"custom": 1}


def test_texts_beyond_the_room_are_digests():
    texts = Texts(max_bytes=10)
    kept, later, again = texts.number("12345678"), texts.number("too long now"), texts.number("too long now")
    assert texts.text(kept) == "12345678"
    assert texts.text(later) == texts.text(again)
    assert texts.text(later).startswith("digest:")
    assert len(texts.text(later)) == len("digest:") + 16


def test_when_calls_were_answered():
    calls = recorded(*(Entry(NOW, "custom") for _ in range(4)))
    assert calls.entry(0).answered_at == 0
    for number, late in ((0, 0.1), (2, 0.2), (3, 0.3)):
        calls.answer(number, NOW + late)
    assert calls.entry(2).answered_at == NOW + 0.2
    assert calls.answered(NOW + 0.1, NOW + 0.2) == 2
    assert calls.answered(NOW + 0.25, NOW + 9) == 1
    assert calls.answered(NOW + 0.4, NOW + 9) == 0


def test_who_got_a_message_with_a_certain_text():
    first, second = "order 1. 求購", '{"data":{"keyword2":{"value":"order 2."}}}'
    calls = recorded(
        Entry(NOW, "custom", row=4, delivered=True, text=first),
        Entry(NOW, "template", row=5, delivered=True, text=second),
        Entry(NOW, "template", row=5, delivered=True, text=second),
        Entry(NOW, "custom", row=6, errcode=45015, text=first),
    )
    assert dict(calls.deliveries_with("order 1.")) == {4: 1}
    assert dict(calls.deliveries_with("order 2.")) == {5: 2}
    assert dict(calls.deliveries_with("order 3.")) == {}
    assert dict(calls.deliveries_with("order")) == dict(calls.deliveries) == {4: 1, 5: 2}
