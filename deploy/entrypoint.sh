#!/bin/sh
# Runs a command in the image. Before it, compiled code and fonts are copied to where libraries look for them: they use
# only a folder that they could write to.
set -eu
for kind in numba matplotlib; do
    target=/tmp/heatmap/$kind
    if [ -d "/opt/heatmap/cache/$kind" ] && [ ! -d "$target" ]; then
        mkdir -p "$target" && cp -R "/opt/heatmap/cache/$kind/." "$target"
    fi
done
exec "$@"
