# The environment of everything that runs on a node of a cluster: sourced by ~/.bashrc there, so that
# `ray exec`, `ray down` and a shell of your own find the same programs, token and record.
_project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case ":$PATH:" in
    *":$_project/.venv/bin:"*) ;;
    *) export PATH="$_project/.venv/bin:$PATH" ;;
esac
export RAY_AUTH_MODE=token          # a head that is started without it is open to everybody
export RAY_USAGE_STATS_ENABLED=0
export MIANET_DATA_DIR="$_project/data"
export MIANET_TRACKING_PORT=${MIANET_TRACKING_PORT:-5000}
if [ -f "$HOME/ray_bootstrap_config.yaml" ]; then  # only a head has it
    export MLFLOW_TRACKING_URI="http://127.0.0.1:$MIANET_TRACKING_PORT"
    export MIANET_AUTOSCALING_CONFIG="$HOME/ray_bootstrap_config.yaml"
fi
unset _project
