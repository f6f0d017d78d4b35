"""Warns Ray when AWS takes this spot machine back: `python ray_jobs/spot_watch.py &` beside Ray.

AWS says so two minutes before, in the machine's metadata. Ray asks nobody for that; told by `ray
drain-node`, it places nothing here any more, and a group of workers that is lost here counts no
failure. Ends with status 0 once Ray knows, 1 where no metadata answer: not on AWS, or they are
switched off.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

# AWS's own name for another address of the metadata, as its SDKs read it.
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
_ENDPOINT = "http://169.254.169.254"
_ANSWER = 5.0  # seconds for an answer of what is on the machine itself
_TRIES = 12  # before metadata that have never answered are given up
_START = 10  # seconds that the `ray` command itself takes, in which the machine's end draws near
_WARNING = 120  # seconds of AWS's warning, where it does not say when


class Notice(NamedTuple):
    """That the machine is taken back."""

    action: str  # terminate, stop, hibernate
    seconds: int  # until then, from when it was read

    @classmethod
    def of(cls, text: str, now: datetime) -> "Notice":
        """Read `{"action": "terminate", "time": "2026-01-01T12:00:00Z"}`."""
        said = json.loads(text)
        if "time" not in said:
            return cls(said["action"], _WARNING)
        left = (datetime.fromisoformat(said["time"]) - now).total_seconds()
        return cls(said["action"], max(0, int(left)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait for the notice and tell Ray; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="spot_watch.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--every", type=float, default=5.0, help="seconds between questions (5)")
    parser.add_argument("--node-id", help="of the Ray node to warn (the one that runs here)")
    options = parser.parse_args(arguments)
    endpoint = os.environ.get(ENDPOINT_VARIABLE, _ENDPOINT).rstrip("/")
    answered, failures, last = False, 0, None
    while answered or failures < _TRIES:
        try:
            notice = read_notice(endpoint)
        except OSError as error:  # of the connection, or an answer that is an error
            failures += 1
            last = error
        else:
            answered = True  # what fails from now on passes
            if notice is not None:
                return drain(notice, options.node_id)
        time.sleep(options.every)
    print(f"no metadata at {endpoint}: {last}", file=sys.stderr)
    return 1


def read_notice(endpoint: str) -> Notice | None:
    """Ask the metadata (version 2, with a token) for the notice; None while there is none."""
    ask = Request(
        f"{endpoint}/latest/api/token",
        method="PUT",
        headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"},
    )
    with urlopen(ask, timeout=_ANSWER) as answer:
        token = answer.read().decode()
    ask = Request(
        f"{endpoint}/latest/meta-data/spot/instance-action",
        headers={"X-aws-ec2-metadata-token": token},
    )
    try:
        with urlopen(ask, timeout=_ANSWER) as answer:
            return Notice.of(answer.read().decode(), datetime.now(UTC))
    except HTTPError as error:
        if error.code == 404:
            return None
        raise


def drain(notice: Notice, node: str | None) -> int:
    """Tell Ray that this node will be gone; tries again, while there is time."""
    command = [str(Path(sys.executable).with_name("ray")), "drain-node"]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", f"AWS takes this spot machine back: {notice.action}"]
    if node:
        command += ["--node-id", node]
    gone = time.monotonic() + notice.seconds
    while True:
        left = max(1, int(gone - time.monotonic() - _START))
        words = [*command, "--deadline-remaining-seconds", str(left)]
        print(f"{notice.action} in {left} s: telling Ray", flush=True)
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        except subprocess.TimeoutExpired:
            print("Ray has not answered for 60 s", file=sys.stderr, flush=True)
        else:
            if done.returncode == 0:
                return 0
            print(done.stdout + done.stderr, file=sys.stderr, flush=True)
        if time.monotonic() >= gone:
            return 1
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
