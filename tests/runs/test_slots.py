"""Slots: first come, first served; a place that is given up goes to the next."""

import threading

import pytest

from qcore.runs.slots import Slots
from tests.support.configs import eventually


def test_first_come_first_served():
    slots = Slots(1)
    assert slots.request("a")
    assert not slots.request("b")
    assert not slots.request("c")
    assert (slots.position("a"), slots.position("b"), slots.position("c")) == (0, 1, 2)
    slots.release("a")
    assert not slots.request("c")
    assert slots.request("b")
    slots.release("b")
    assert slots.request("c")


def test_several_places_and_release_of_a_waiting_run():
    slots = Slots(2)
    assert [slots.request(name) for name in "abc"] == [True, True, False]
    slots.release("nobody")
    slots.release("b")
    assert slots.request("c")


def test_a_waiting_run_wakes_up():
    slots = Slots(1)
    slots.request("a")
    got = threading.Event()
    thread = threading.Thread(target=lambda: slots.request("b", timeout=20) and got.set())
    thread.start()
    eventually(lambda: slots.position("b") == 1)
    slots.release("a")
    assert got.wait(20)
    thread.join()


def test_no_place_at_all_is_refused():
    with pytest.raises(ValueError, match="limit = 0"):
        Slots(0)
