"""Growths that a signal ends at a random moment leave the destination as it was or as it should be; the next run works."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

from tests.executors.support import grow, plan, snapshot, write_source
from tests.executors.test_interrupts import remove, server
from tests.torture.fuzz import Findings

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def kill(folder: Path, count: int, seed: int, time_left: Callable[[], bool] = lambda: True) -> Findings:
    """So many growths, each ended by one of the signals or done before it came."""
    src, dst = write_source(folder / "src"), folder / "work" / "dst"
    dst.parent.mkdir()
    wanted = []
    for noise in (10, 11):
        grow(src, dst, plan(snr_db=float(noise)), overwrite=True, max_shard_size=20_000)
        wanted.append(snapshot(dst))
    chance, findings = random.Random(seed), Findings()
    with server(src) as children:
        _, seconds = children.grow(dst, 10)
        for turn in range(count):
            if not time_left():
                break
            old = snapshot(dst)
            if chance.random() < 0.5:
                remove(dst)
                old = {}
            # What an earlier SIGKILL left stays where a signal comes before the run has begun to clean up.
            known = {path.name for path in dst.parent.iterdir()}
            number, which = chance.choice(SIGNALS), chance.randrange(2)
            code, took = children.grow(dst, 10 + which, number.value, chance.uniform(0, 1.1 * seconds))
            now = snapshot(dst)
            if code == 0:
                findings.read += 1
                seconds = min(seconds, took)
            else:
                findings.refused += 1
            right = (wanted[which],) if code == 0 else (old, wanted[which])
            left = [path.name for path in dst.parent.iterdir() if path != dst and path.name not in known]
            if now not in right or code not in (0, -number, 128 + number) or (left and number != signal.SIGKILL):
                findings.failures.append(
                    f"turn {turn} of seed {seed}: {number.name} gave {code}, DST {sorted(now)}, left {left}"
                )
        code, _ = children.grow(dst, 10)
        if code or snapshot(dst) != wanted[0] or [path.name for path in dst.parent.iterdir()] != ["dst"]:
            findings.failures.append(f"the run after all of them gave {code}")
    return findings
