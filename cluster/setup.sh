#!/usr/bin/env bash
# Sets up a machine of a cluster: system libraries, the shared storage, the pinned environment.
# Once more, it changes nothing.
set -euo pipefail
. ~/cluster.env
cd "$(dirname "$0")/.."
root=()
[ "$(id -u)" = 0 ] || root=(sudo)

lacks() {
  ! command -v make >/dev/null || ! python3 -c 'import ensurepip' 2>/dev/null ||
    ! ldconfig -p | grep -q libGL.so.1 || ! ldconfig -p | grep -q libgthread-2.0.so.0 ||
    { [ -n "$STORAGE_SERVER" ] && ! command -v mount.nfs4 >/dev/null; }
}
if PATH=$PATH:/sbin:/usr/sbin lacks; then
  # A machine that has just come up updates itself, and holds apt's lock for a while.
  for _ in 1 2 3 4 5 6; do
    "${root[@]}" apt-get update -q && break
    sleep 20
  done
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -q -y \
    make python3-venv libgl1 libglib2.0-0 nfs-common
fi

bash cluster/storage.sh
make setup

# Ray's own commands (`ray down`, `ray exec`) and people who log in find `ray` and the settings.
line='. ~/colorization/cluster/environment.sh'
grep -qxF "$line" ~/.bashrc 2>/dev/null || echo "$line" >> ~/.bashrc
