#!/usr/bin/env bash
# Sets up a machine of a cluster: system libraries, the pinned environment, the shared storage.
# Once more, it changes nothing.
set -euo pipefail
. ~/cluster.env
cd "$(dirname "$0")/.."
root=()
[ "$(id -u)" = 0 ] || root=(sudo)

packages=(make python3-venv libgl1 libglib2.0-0)
[ -z "$STORAGE_SERVER" ] || packages+=(nfs-common)
if ! dpkg-query -W "${packages[@]}" >/dev/null 2>&1; then
  "${root[@]}" apt-get update -q
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y "${packages[@]}"
fi

make setup

if [ -n "$STORAGE_SERVER" ] && ! mountpoint -q "$STORAGE"; then
  "${root[@]}" mkdir -p "$STORAGE"
  # A server that is away for a while holds trials up; it does not make them fail.
  "${root[@]}" mount -t nfs4 -o hard,noresvport,timeo=600,retrans=2 "$STORAGE_SERVER" "$STORAGE"
fi
[ -w "$STORAGE" ] || "${root[@]}" install -d -o "$(id -un)" "$STORAGE"

# Ray's own commands (`ray down`, `ray exec`) and people who log in find `ray` and the settings.
line='. ~/colorization/cluster/environment.sh'
grep -qxF "$line" ~/.bashrc 2>/dev/null || echo "$line" >> ~/.bashrc
