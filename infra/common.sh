# What the scripts share; sourced.
fail() { echo "error: $*" >&2; exit 2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
state=$HOME/.mianet  # what a node's services leave: process ids, logs
