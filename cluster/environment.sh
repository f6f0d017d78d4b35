# What Ray, MLflow and jobs are told on every machine of a cluster; sourced before they start.
# What the cluster's file says of it stands in ~/cluster.env.
set -a
HEAD_RESOURCES='' WORKER_RESOURCES=''  # more words for `ray start`
. ~/cluster.env
PATH=$HOME/colorization/.venv/bin:$PATH
COLORIZATION_STORAGE=$STORAGE
# Jobs run on the head, and only they talk to MLflow.
MLFLOW_TRACKING_URI=http://127.0.0.1:5000
MLFLOW_DATABASE=${MLFLOW_DATABASE:-sqlite:///$HOME/mlflow.db}
MLFLOW_ARTIFACTS=${MLFLOW_ARTIFACTS:-$STORAGE/mlflow}
MLFLOW_DISABLE_TELEMETRY=true
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false  # of language models: processes that nothing here needs
RAY_AUTH_MODE=token
# A study that `ray job stop` ends closes its trials and its runs first.
RAY_JOB_STOP_WAIT_TIME_S=120
RAY_USAGE_STATS_ENABLED=0
set +a
ulimit -n 65536 2>/dev/null || true
