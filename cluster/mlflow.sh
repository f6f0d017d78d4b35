#!/usr/bin/env bash
# Keeps MLflow's server up on the head, for this machine only, as long as Ray is: one that dies is
# started again, one of an earlier start, perhaps with other settings, is ended. Log: ~/mlflow.log.
set -euo pipefail

keep_up() {
  server=''
  trap 'kill -- "-$server"; exit' TERM
  while pgrep -x gcs_server >/dev/null; do
    if ! kill -0 "$server" 2>/dev/null; then
      [ -z "$server" ] || kill -9 -- "-$server" 2>/dev/null || true  # its own, that hold the port
      # Not as an argument: the address may hold a password, and anybody may see those.
      MLFLOW_BACKEND_STORE_URI=$MLFLOW_DATABASE setsid mlflow server \
        --artifacts-destination "$MLFLOW_ARTIFACTS" --host 127.0.0.1 --port 5000 --workers 1 &
      server=$!
    fi
    sleep 5 &
    wait $! || true
  done
  kill -- "-$server"
}

earlier=$(cat ~/mlflow.pid 2>/dev/null || true)
if [ -n "$earlier" ] && grep -q mlflow.sh "/proc/$earlier/cmdline" 2>/dev/null; then
  kill "$earlier"
  while kill -0 "$earlier" 2>/dev/null; do sleep 0.2; done
fi
keep_up > ~/mlflow.log 2>&1 < /dev/null &
echo $! > ~/mlflow.pid
