"""Prints what the server takes: latencies and throughput with and without batching, and memory.

8 clients, and one alone, ask without pause for sample photographs of a quarter to two fifths of a
megapixel; each answer must be a picture of its photograph's size. The model is a recipe's generator
with random weights at its size, which takes as long as a trained one. Clients and server share the
machine.

    python benchmarks/serving.py [--recipe NAME] [--requests N] [--long N] [--batch N]
"""

import argparse
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from colorization.data.sample import SampleSource
from colorization.experiment import read_experiment, without_pretrained
from untrained import write_export

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 8
LONG_SIDES = (480, 560, 640)


def photographs() -> list[tuple[bytes, tuple[int, int]]]:
    """Return JPEGs of the sample photographs in several sizes, with the sizes."""
    pictures = SampleSource(scoring_crops=8).open(0).validation
    made = []
    for number in range(len(pictures)):
        image = Image.fromarray(pictures.picture(number)).convert("L")
        for side in LONG_SIDES:
            scale = side / max(image.size)
            resized = image.resize((round(image.width * scale), round(image.height * scale)))
            buffer = BytesIO()
            resized.save(buffer, "JPEG", quality=92)
            made.append((buffer.getvalue(), resized.size))
    return made


@contextmanager
def server(model: Path, place: Path, *words: str) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and the id of its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = ["--port", str(port), "--storage", str(place), *words]
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "ray_jobs" / "serve.py"), "--model", str(model), *said],
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        if not any(re.search("Ctrl-C ends it", line) for line in process.stdout):
            raise SystemExit("the server did not start")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def ask(
    port: int, pictures: list[tuple[bytes, tuple[int, int]]], count: int, clients: int = CLIENTS
) -> list[float]:
    """Send so many requests by clients that ask without pause; return the seconds of each.

    Raises AssertionError for an answer that is no picture of the right size.
    """
    local = threading.local()

    def one(number: int) -> float:
        if not hasattr(local, "line"):
            local.line = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        data, size = pictures[number % len(pictures)]
        start = time.perf_counter()
        local.line.request("POST", "/api/colorize", data, {"Content-Type": "image/jpeg"})
        answer = local.line.getresponse()
        content = answer.read()
        took = time.perf_counter() - start
        assert answer.status == 200, content[:300]
        assert Image.open(BytesIO(content)).size == size
        return took

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(count)))


def replicas(server: int) -> list[psutil.Process]:
    """Return the processes of a server that color, and the one that speaks HTTP."""
    return [
        child
        for child in psutil.Process(server).children(recursive=True)
        if any("ServeReplica:colorization" in word for word in child.cmdline())
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="pix2pix")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--long", type=int, default=2000, help="requests over which memory is read")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    console = Console()
    pictures = photographs()
    table = Table(title=f"{arguments.recipe}, {arguments.replicas} replicas")
    for column in ("batch", "clients", "answered", "p50", "p95", "p99", "pictures/s"):
        table.add_column(column, justify="right")
    memory = Table(title="resident memory of the replicas, MB")
    for column in ("requests", "all processes"):
        memory.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        experiment = without_pretrained(read_experiment(arguments.recipe))
        model = write_export(experiment, place / "model")
        for batch in (1, arguments.batch):
            words = ["--replicas", str(arguments.replicas), "--batch", str(batch)]
            with server(model, place, *words) as (port, pid):
                ask(port, pictures, 3 * CLIENTS)  # warm
                counts = {CLIENTS: arguments.requests}
                if batch == 1:
                    counts[1] = arguments.requests // CLIENTS
                for clients, count in counts.items():
                    start = time.perf_counter()
                    seconds = ask(port, pictures, count, clients)
                    rate = len(seconds) / (time.perf_counter() - start)
                    quantiles = [f"{np.quantile(seconds, q):.2f} s" for q in (0.5, 0.95, 0.99)]
                    numbers = (batch, clients, len(seconds))
                    table.add_row(*map(str, numbers), *quantiles, f"{rate:.2f}")
                if batch < arguments.batch:
                    continue
                processes = replicas(pid)
                done = 3 * CLIENTS + arguments.requests
                for part in range(5):
                    resident = sum(process.memory_info().rss for process in processes) / 1e6
                    memory.add_row(str(done), f"{resident:.0f}")
                    if part < 4:
                        ask(port, pictures, arguments.long // 4)
                        done += arguments.long // 4
    console.print(table)
    console.print(memory)


if __name__ == "__main__":
    main()
