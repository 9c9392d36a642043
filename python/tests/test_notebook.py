"""``keepbest.train`` in a notebook: a real kernel of Jupyter, as its pages talk to it."""

from __future__ import annotations

import os
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

SETUP = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from images import SETTINGS, squares
import keepbest
settings = {{**SETTINGS, "progress": "auto"}}
"""


@pytest.fixture
def kernel(tmp_path: pathlib.Path) -> Iterator[Any]:
    """A kernel in a folder of its own, and the client that talks to it."""
    manager, client = start_new_kernel(cwd=str(tmp_path))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def told(client: Any, code: str, on: Any = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a cell answers, and what it shows meanwhile."""
    shown: list[dict[str, Any]] = []

    def show(message: dict[str, Any]) -> None:
        shown.append(message)
        if on is not None:
            on(message)

    reply = client.execute_interactive(code, output_hook=show, timeout=120)
    return reply["content"], shown


def test_the_curve_is_live_and_the_result_is_one(kernel: Any) -> None:
    _, client = kernel
    assert told(client, SETUP)[0]["status"] == "ok"
    content, shown = told(client, "keepbest.train(squares(), runs_dir='runs', **settings)")
    assert content["status"] == "ok", content
    first = [message["content"] for message in shown if message["msg_type"] == "display_data"]
    updates = [message["content"] for message in shown if message["msg_type"] == "update_display_data"]
    result = next(message["content"] for message in shown if message["msg_type"] == "execute_result")
    assert len(first) == 1 and len(updates) >= 2
    assert {update["transient"]["display_id"] for update in updates} == {first[0]["transient"]["display_id"]}
    points = [update["data"]["text/html"].count("<svg") for update in (*updates, result)]
    assert set(points) == {1} and "epoch 2/2" in updates[-1]["data"]["text/html"]
    assert "val/accuracy" in result["data"]["text/plain"]
    # The lines of a terminal are not there as well.
    assert not [message for message in shown if message["msg_type"] == "stream"]


def test_the_stop_button_saves(kernel: Any, tmp_path: pathlib.Path) -> None:
    manager, client = kernel
    told(client, SETUP)
    stopped = threading.Event()

    def stop(message: dict[str, Any]) -> None:
        if message["msg_type"] == "update_display_data" and not stopped.is_set():
            stopped.set()
            manager.interrupt_kernel()

    begun = time.monotonic()
    code = "keepbest.train(squares(2000), runs_dir='runs', name='a', **{**settings, 'epochs': 5000})"
    content, _ = told(client, code, stop)
    assert content["ename"] == "Interrupted" and "keepbest.train(resume='runs/a') goes on" in content["evalue"], content
    assert time.monotonic() - begun < 60
    content, _ = told(client, "keepbest.load('runs/a@last').verify()")
    assert content["status"] == "ok"
