#!/usr/bin/env bash
# Mounts the folder that all machines share, unless it is there.
set -euo pipefail
. ~/cluster.env
root=()
[ "$(id -u)" = 0 ] || root=(sudo)

if [[ "$STORAGE_SERVER" == *fs-00000000000000000* ]]; then
  echo "STORAGE_SERVER: found the example's $STORAGE_SERVER; name your file system in the cluster's file" >&2
  exit 1
fi
if [ -n "$STORAGE_SERVER" ] && ! mountpoint -q "$STORAGE"; then
  "${root[@]}" mkdir -p "$STORAGE"
  # A server that is away for a while holds trials up; it does not make them fail.
  "${root[@]}" timeout 120 mount -t nfs4 -o hard,noresvport,timeo=600,retrans=2 \
    "$STORAGE_SERVER" "$STORAGE" || {
    echo "STORAGE_SERVER: $STORAGE_SERVER does not answer: is its port 2049 open to this machine?" >&2
    exit 1
  }
fi
[ -w "$STORAGE" ] || "${root[@]}" install -d -o "$(id -un)" "$STORAGE"
