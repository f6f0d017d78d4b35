#!/usr/bin/env bash
# Keeps MLflow's server up on the head, for this machine only, as long as Ray is: one that dies is
# started again. Its log is ~/mlflow.log.
set -euo pipefail

keep_up() {
  server=''
  while pgrep -x gcs_server >/dev/null; do
    if ! kill -0 "$server" 2>/dev/null; then
      [ -z "$server" ] || kill -9 -- "-$server" 2>/dev/null || true  # its own, that hold the port
      setsid mlflow server --backend-store-uri "$MLFLOW_DATABASE" \
        --artifacts-destination "$MLFLOW_ARTIFACTS" --host 127.0.0.1 --port 5000 --workers 1 9>&- &
      server=$!
    fi
    sleep 5
  done
  kill -- "-$server"
}

exec 9> ~/mlflow.lock
flock -n 9 || exit 0  # another one does it already
keep_up > ~/mlflow.log 2>&1 < /dev/null &
