"""Hosts on one machine that are as good as apart: each with a network address, processes, a
home, /tmp and /dev/shm of its own, and an SSH server."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NETWORK = "10.77.0"
_BRIDGE = "colorhosts"
_MOST = 8  # hosts


def why_none() -> str:
    """Say what this machine lacks for hosts, or nothing."""
    if os.geteuid() != 0:
        return "making namespaces and a bridge needs root"
    needed = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "rsync", "make", "pgrep")
    lacking = [name for name in needed if shutil.which(name) is None]
    lacking += [] if Path("/usr/sbin/sshd").exists() else ["sshd"]
    if lacking:
        return f"missing: {', '.join(lacking)} (`make test-cluster` installs them)"
    tried = subprocess.run(
        ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass
class Host:
    """One of the hosts; it can be killed, and comes back with the disk that it had."""

    name: str
    address: str
    home: Path
    network: "Network"
    _init: subprocess.Popen[bytes] | None = None
    _pid: int = 0  # of its first process, as seen from here

    def boot(self) -> None:
        """Start it; returns once its SSH server answers."""
        assert self._init is None
        script = self.network.folder / "boot.sh"
        log = (self.network.folder / f"{self.name}.log").open("ab")
        self._init = subprocess.Popen(
            [
                *("unshare", "--net", "--pid", "--mount", "--uts", "--ipc", "--fork"),
                *("--kill-child", "--mount-proc", "bash", str(script)),
                *(self.name, str(self.home)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._pid = _wait_for(lambda: _first_child(self._init), f"{self.name}'s first process")
        here, there = f"ch-{self.name}", "eth0"
        # Its hardware address stays its own, as that of a machine that is started again does.
        own = f"02:00:00:00:00:{int(self.address.rpartition('.')[2]):02x}"
        peer = ("peer", "name", there, "address", own, "netns", self._pid)
        _run("ip", "link", "add", here, "type", "veth", *peer)
        _run("ip", "link", "set", here, "master", _BRIDGE, "up")
        inside = ["nsenter", f"--net=/proc/{self._pid}/ns/net"]
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "ip", "address", "add", f"{self.address}/24", "dev", there)
        _run(*inside, "ip", "link", "set", there, "up")
        _wait_for(lambda: self.run("true", check=False).returncode == 0, f"SSH on {self.name}")

    def kill(self) -> None:
        """End it at once, with all that runs on it, as a machine does whose power fails."""
        if self._init is None:
            return
        os.kill(self._pid, signal.SIGKILL)
        self._init.wait()
        self._init = None

    def run(
        self, command: str, *, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command there over SSH, as a login would."""
        words = ["ssh", *self.network.ssh_options, f"root@{self.address}"]
        return subprocess.run(
            [*words, f"bash -lc {shlex.quote(command)}"],
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout,
        )

    def processes(self) -> list[str]:
        """Return the command lines of all that runs there, its own first ones left out."""
        lines = self.run("ps -eo args --no-headers").stdout.splitlines()
        ours = ("bash", "sshd", "ps -eo", "/usr/sbin/sshd", "-bash", "(sd-pam)")
        return [line for line in lines if not line.strip().startswith(ours)]

    def pids(self, pattern: str) -> list[int]:
        """Return the process ids, as seen there, of whose command line matches."""
        found = self.run(f"pgrep -f {shlex.quote(pattern)} | grep -vx $$", check=False).stdout
        return [int(word) for word in found.split()]


@dataclass
class Network:
    """Hosts on a bridge that nothing outside this machine reaches, and a folder they share.

    Each host has the checkout's environment, read only, as if its disk had come with it; the
    checkout itself is hidden by the host's own copy of the project, which `ray up` brings.
    """

    folder: Path  # of homes, keys and logs
    shared: Path
    hosts: list[Host] = field(default_factory=list)

    @property
    def key(self) -> Path:
        """Return the SSH key that opens the hosts."""
        return self.folder / "key"

    @property
    def ssh_options(self) -> list[str]:
        """Return what `ssh` needs to open the hosts, whose keys are new each time."""
        words = ["-i", str(self.key), "-o", "StrictHostKeyChecking=no"]
        words += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return [*words, "-o", "ConnectTimeout=5"]

    def __enter__(self) -> "Network":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shared.mkdir(parents=True, exist_ok=True)
        self._tear_down()  # what a run before that was killed has left
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "address", "add", f"{_NETWORK}.1/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")
        for key in (self.key, self.folder / "host_key"):
            if not key.exists():
                _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        (self.folder / "boot.sh").write_text(self._boot_script())
        return self

    def __exit__(self, *error: object) -> None:
        for host in self.hosts:
            host.kill()
        self._tear_down()

    def host(self, name: str) -> Host:
        """Add a host and start it."""
        home = self.folder / name
        (home / "colorization" / ".venv").mkdir(parents=True, exist_ok=True)
        host = Host(name, f"{_NETWORK}.{len(self.hosts) + 2}", home, self)
        self.hosts.append(host)
        host.boot()
        return host

    def _tear_down(self) -> None:
        for link in (_BRIDGE, *(f"ch-host{n}" for n in range(_MOST))):
            subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)

    def _boot_script(self) -> str:
        environment = Path(sys.prefix).resolve()
        # Where the environment's editable install looks for the project.
        checkout = environment.parent
        names = "\\n".join(f"{_NETWORK}.{n + 2} host{n}" for n in range(_MOST))
        return textwrap.dedent(f"""\
            set -eu
            name=$1 home=$2
            mount --make-rprivate /
            hostname "$name"
            mount -t tmpfs -o mode=755 tmpfs /mnt
            mkdir -p /mnt/colorization-home /mnt/colorization-shared
            mount --bind "$home" /mnt/colorization-home
            mount --bind {self.shared} /mnt/colorization-shared
            mount --bind {environment} /mnt/colorization-home/colorization/.venv
            mount -o remount,bind,ro /mnt/colorization-home/colorization/.venv
            mount --rbind /mnt/colorization-home/colorization {checkout}
            cp {self.folder}/key.pub {self.folder}/host_key /mnt/colorization-home/
            chmod 600 /mnt/colorization-home/host_key
            root=root:x:0:0:root:/mnt/colorization-home:/bin/bash
            sed "s#^root:.*#$root#" /etc/passwd > "$home/passwd"
            mount --bind "$home/passwd" /etc/passwd
            printf '127.0.0.1 localhost\\n{names}\\n' > "$home/hosts"
            mount --bind "$home/hosts" /etc/hosts
            for folder in /tmp /dev/shm /run; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
            mkdir -p /run/sshd
            until ip address show dev eth0 2>/dev/null | grep -q 'inet '; do sleep 0.05; done
            /usr/sbin/sshd -D -f /dev/null -h /mnt/colorization-home/host_key \\
              -o AuthorizedKeysFile=/mnt/colorization-home/key.pub -o StrictModes=no -o UsePAM=no \\
              -o PermitRootLogin=prohibit-password -o PidFile=none -o MaxStartups=100 &
            # The first process adopts what loses its parent, and takes notice of its end.
            while true; do wait -n || sleep 0.2; done
            """)


def _first_child(init: subprocess.Popen[bytes] | None) -> int:
    assert init is not None
    if init.poll() is not None:
        raise RuntimeError(f"a host ended as it started: exit status {init.returncode}")
    children = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()
    return int(children[0]) if children else 0


def _run(*words: object) -> None:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(map(str, words))}: {done.stderr.strip()}")


def _wait_for(found, what: str, patience: float = 30):
    deadline = time.monotonic() + patience
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {patience:g} s")
        time.sleep(0.05)
    return answer


def wait_until(check, what: str, patience: float) -> None:
    """Wait until a check is true; raises RuntimeError, which names it, after `patience` seconds."""
    _wait_for(check, what, patience)


def run_here(
    command: Sequence[str], environment: dict[str, str], folder: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command on the laptop's side."""
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
