"""Two ranks under torchrun."""

from __future__ import annotations

import pathlib
import subprocess
import sys



def test_two_ranks_get_one_verdict_and_store_what_is_sharded(run: str) -> None:
    script = str(pathlib.Path(__file__).with_name("ranks.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, run]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "rank 0 agrees" in done.stdout and "rank 1 agrees" in done.stdout
